"""Ways to take a step, each on a model of its own: what `benchmarks.step` times side by side."""

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lets_runner import ASAM, LETS, SAM, GapMatching, GraphedStep, HorizonLETS
from lets_runner.optim.graphs.cuda_graph import CudaRecorder
from lets_runner.optim.graphs.eager import EagerStep

Batch = tuple[Tensor, Tensor]


@dataclass
class Contender:
    """`turn` takes a step; of `period` steps in a row one may cost more, and the first ones are not like the others."""

    turn: Callable[[], Any]
    period: int = 1
    first: int = 2


class Bench:
    """A model, batches and an autocast, from which contenders are made.

    Args:
        model: copied for every contender.
        train, val: one batch each, used again and again: a benchmark needs no other.
        dtype: of autocast, None for none.
        graphs: take steps as CUDA graphs, those of the base optimizer too.
        compiled: compile the models.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Batch,
        val: Batch,
        dtype: torch.dtype | None,
        *,
        graphs: bool = False,
        compiled: bool = False,
    ):
        self.model, self.train, self.val, self.dtype = model, train, val, dtype
        self.graphs, self.compiled = graphs, compiled
        self.device = train[0].device

    def fresh(self) -> nn.Module:
        """A model of its own for a contender."""
        model = copy.deepcopy(self.model)
        if self.compiled:
            model.compile()
        return model

    def bare(self, turn: Callable[[], Any]) -> Contender:
        """Without anything of this package, but for the capture."""
        if not self.graphs:
            return Contender(turn)
        recorder = CudaRecorder(self.device)
        with recorder.aside():
            for _ in range(3):
                turn()
        graph = recorder.graph([])
        graph.record(turn)
        return Contender(graph.replay)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            scores = model(batch[0])
        return cross_entropy(scores.float(), batch[1])

    def base(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)

    def forward_backward(self) -> Contender:
        model = self.fresh()

        def turn() -> None:
            model.zero_grad()
            self.loss(model, self.train).backward()

        return self.bare(turn)

    def base_step(self) -> Contender:
        model = self.fresh()
        optimizer = self.base(model)

        def turn() -> None:
            optimizer.zero_grad()
            self.loss(model, self.train).backward()
            optimizer.step()

        return self.bare(turn)

    def ours(self, build: Callable[[torch.optim.Optimizer, nn.Module], Any], period: int = 1) -> Contender:
        model = self.fresh()
        optimizer = build(self.base(model), model)
        loss = partial(self.loss, model)
        step = GraphedStep(optimizer, loss, loss, strict=True) if self.graphs else EagerStep(optimizer, loss, loss)
        # Every kind of step is captured after a few of its kind.
        return Contender(lambda: step(self.train, self.val), period, first=5 * period + 2 if self.graphs else 2)

    def horizon(self, *, every: int = 1) -> Contender:
        return self.ours(lambda base, model: HorizonLETS(SAM(base, model=model), total_steps=1000, every=every), every)

    def lets(self, every: int = 1, **settings: Any) -> Contender:
        return self.ours(lambda base, model: LETS(SAM(base, model=model), every=every, **settings), every)

    def pytorch_optimizer_sam(self) -> Contender:
        """As its documentation has it."""
        import pytorch_optimizer

        model = self.fresh()
        settings: Any = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "fused": True}
        optimizer: Any = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.05, **settings)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(model, self.train)
            loss.backward()
            return loss

        def turn() -> None:
            closure()
            optimizer.step(closure)

        return Contender(turn)

    def all(self) -> dict[str, Callable[[], Contender]]:
        """By name; peers only where they are installed."""
        contenders: dict[str, Callable[[], Contender]] = {
            "forward and backward": self.forward_backward,
            "SGD": self.base_step,
            "SAM": lambda: self.ours(lambda base, model: SAM(base, model=model)),
            "ASAM": lambda: self.ours(lambda base, model: ASAM(base, model=model)),
            "LETS": lambda: self.lets(),
            "LETS, every=10": lambda: self.lets(every=10),
            "horizon LETS": lambda: self.horizon(),
            "horizon LETS, every=4": lambda: self.horizon(every=4),
            "LETS, diag": lambda: self.lets(curvature="diag"),
            "LETS, exact": lambda: self.lets(curvature="exact"),
            "LETS, same batch": lambda: self.lets(upper_batch="same"),
            "LETS, the paper's preset": lambda: self.lets(
                curvature="diag", upper_batch="same", gap_ema=0.0, bounds=(0.0, float("inf")), lr_invariant=False
            ),
            "gap matching": lambda: self.ours(lambda base, model: GapMatching(SAM(base, model=model))),
        }
        if importlib.util.find_spec("pytorch_optimizer") and not self.graphs:
            contenders["pytorch_optimizer's SAM"] = self.pytorch_optimizer_sam
        return contenders
