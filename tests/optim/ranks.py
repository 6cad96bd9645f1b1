"""What two processes compute, for `test_ranks`: started by `torchrun`, it writes a file that the test reads.

Imported, it builds the same problems for one process.
"""

import copy
import itertools
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed.nn  # before there is a group: see processes.py
from torch import distributed, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from optim.test_contract import build_rule, build_sam

from lets_runner import LETS

STEPS, BATCH = 6, 16
BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}
RULES = {
    "exact": lambda sam: LETS(sam, curvature="exact", every=2),
    "clipped": lambda sam: LETS(sam),
}


class Case:
    """A variant, a rule and a base optimizer over a small network, and a way to split its batches.

    Args:
        parts: microbatches that a process sees.
        rank, size: which of how many processes this is.
        norm: with batch norm.
    """

    def __init__(
        self, variant, rule, base, *, parts=1, rank=0, size=1, wrap=lambda model: model, norm=False, **settings
    ):
        torch.manual_seed(0)
        norms = [nn.BatchNorm1d(9)] if norm else [nn.LayerNorm(9)] if variant == "sam_on" else []
        layers = [nn.Linear(5, 9), *norms, nn.Tanh(), nn.Linear(9, 6), nn.Tanh()]
        self.bare = nn.Sequential(*layers, nn.Linear(6, 3)).double()
        self.model = wrap(self.bare)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(STEPS, 2, BATCH, 5, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (STEPS, 2, BATCH), generator=generator)
        self.parts, self.rank, self.size = parts, rank, size
        if rule == "clipped":
            settings["max_grad_norm"] = 0.3
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        sam = build_sam(variant, BASES[base](parameters), self.model, **settings)
        self.optimizer = RULES[rule](sam) if rule in RULES else build_rule(rule, sam)

    def closures(self, number, which):
        own = torch.arange(BATCH).chunk(self.size)[self.rank].chunk(self.parts)

        def closure(rows):
            scores = self.model(self.x[number, which, rows])
            return nn.functional.cross_entropy(scores, self.y[number, which, rows], reduction="none")

        return [lambda rows=rows: closure(rows) for rows in own]

    def run(self, start=0, stop=STEPS):
        """ρ, losses and gradient norms of the steps, and the weights and statistics at the end."""
        numbers = []
        for number in range(start, stop):
            self.optimizer.step(self.closures(number, 0), self.closures(number, 1))
            last = self.optimizer.last
            numbers.append(
                [last.rho, last.loss, last.val_loss, last.hypergradient, last.gradient_norm, last.rho_applied]
            )
        return {
            "numbers": torch.tensor(numbers),
            "weights": [whole(p.detach()) for p in self.bare.parameters()],
            "buffers": [b.double() for b in self.bare.buffers()],
        }


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone()


def whole_state(value):
    if isinstance(value, dict):
        return {key: whole_state(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_state(item) for item in value]
    return whole(value) if isinstance(value, torch.Tensor) else value


VARIANTS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "sam").glob("*.yaml"))
RULES_OF = {"none": ["fixed"], "le_sam": ["fixed"], "momentum_sam": ["fixed", "cosine"], "sampa": ["fixed", "cosine"]}
CASES = {
    f"{variant}-{rule}-{base}": (variant, rule, base)
    for variant in VARIANTS
    for rule, base in (
        itertools.product(RULES_OF[variant], BASES)
        if variant in RULES_OF
        else [("lets", "sgd"), ("lets", "adamw"), ("lets_paper", "sgd"), ("gap_matching", "sgd")]
    )
} | {f"{v}-{r}-sgd": (v, r, "sgd") for v in ("sam", "asam") for r in ("exact", "clipped", "horizon")}
CASES["m_sam-horizon-sgd"] = ("m_sam", "horizon", "sgd")
# What is left for weights in shards: no second derivative, no m-SAM, and the rules once each.
SHARDED = [
    n
    for n, (v, r, _) in CASES.items()
    if v != "m_sam" and (r in ("fixed", "lets") or (n[:4] == "sam-" and r != "exact"))
]
# Not variants that keep gradients from step to step, and not m-SAM, which is local anyway.
LOCAL = [n for n in CASES if not n.startswith(("vasso", "f_sam", "m_sam", "none", "momentum_sam", "sampa"))]


def main(out):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    mesh = distributed.device_mesh.init_device_mesh("cpu", (size,))

    def ddp(model):
        return nn.parallel.DistributedDataParallel(model)

    def fsdp(model):
        from torch.distributed.fsdp import fully_shard

        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh, reshard_after_forward=True)

    results = {}

    def record(name, *case, run=Case.run, **settings):
        built = Case(*case, rank=rank, size=size, **settings)
        results[name] = run(built)

    for name, case in CASES.items():
        record(f"ddp {name}", *case, wrap=ddp)
        if name in SHARDED:
            record(f"fsdp {name}", *case, wrap=fsdp)
    for name in LOCAL:
        record(f"local {name}", *CASES[name], wrap=ddp, perturbation_sync="local")
    for strategy in (ddp, fsdp):
        record(f"{strategy.__name__} in parts", "sam", "lets", "sgd", wrap=strategy, parts=2)
    for steps in (1, STEPS):
        record(
            f"ddp with batch norm {steps}",
            "sam",
            "lets",
            "sgd",
            wrap=ddp,
            norm=True,
            run=lambda c, n=steps: c.run(stop=n),
        )
    record("ddp scaled", "sam", "lets", "sgd", wrap=ddp, loss_scale=256.0)

    def saved(case):
        case.run(stop=STEPS // 2)
        return {
            "model": [whole(p.detach()) for p in case.bare.parameters()],
            "state": whole_state(case.optimizer.state_dict()),
        }

    for strategy in (ddp, fsdp):
        for variant in ("sam", "looksam"):
            for base in BASES:
                record(f"{strategy.__name__} saved {variant} {base}", variant, "lets", base, wrap=strategy, run=saved)

    def resumed(case):
        state = copy.deepcopy(results[f"ddp saved {case.name}"])  # torch's optimizers go on in what they load
        from lets_runner.optim.engine.vector import sharded_like

        with torch.no_grad():
            for param, value in zip(case.bare.parameters(), state["model"], strict=True):
                param.copy_(sharded_like(value, param))
        case.optimizer.load_state_dict(state["state"])
        return case.run(start=STEPS // 2)

    for variant in ("sam", "looksam"):
        for base in BASES:
            case = Case(variant, "lets", base, rank=rank, size=size, wrap=fsdp)
            case.name = f"{variant} {base}"
            results[f"fsdp resumed {variant} {base}"] = resumed(case)

    refused = {}
    for name, build in {
        "view": lambda: Case(
            "sam", "fixed", "sgd", wrap=lambda m: nn.parallel.DistributedDataParallel(m, gradient_as_bucket_view=True)
        ),
        "vasso": lambda: Case("vasso", "fixed", "sgd", wrap=ddp, perturbation_sync="local"),
        "exact": lambda: Case("sam", "exact", "sgd", wrap=fsdp),
        "fsdp": lambda: Case("sam", "fixed", "sgd", wrap=fsdp, perturbation_sync="local"),
    }.items():
        try:
            build()
        except ValueError as error:
            refused[name] = str(error)
    results["refused"] = refused

    torch.save(results, f"{out}/{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(sys.argv[1])
