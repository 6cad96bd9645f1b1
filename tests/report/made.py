"""Run directories as `lets-train` leaves them, made up: no training, and the numbers are known."""

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np

CLASSES = {"sam": "SAM", "asam": "ASAM"}
RULES = {"lets": "LETS", "gm": "GapMatching", "ramp": "Ramp", "lets_paper": "LETS", "horizon": "HorizonLETS"}
COLUMNS = (
    *("epoch", "step", "lr", "train_loss", "train_{0}", "val_loss", "val_{0}"),
    *("gap", "rho", "gradient_evaluations", "seconds"),
)
ALL = ["train", "val", "test"]
# What the summary of a regression says of its columns: the squared error selects.
REGRESSION = [
    {"name": "loss", "unit": "", "better": "lower", "when": ALL, "selects": False},
    {"name": "mse", "unit": "", "better": "lower", "when": ALL, "selects": True},
    {"name": "r2", "unit": "", "better": "higher", "when": ["val", "test"], "selects": False},
]
STEPS = "step,loss,val_loss,gap,hypergradient,rho,gradient_norm,lr\n"


def settings_of(data, model, method, noise, rho, epochs, extra):
    """A configuration, flat, with the keys that tell runs apart and some that never do."""
    rule, _, sam = method.rpartition("_")
    settings = {
        "data._target_": f"lets_runner.data.{data.title()}",
        "data.val_fraction": 0.1,
        "data.label_noise": noise,
        "data.noise": "symmetric",
        "model._target_": f"lets_runner.models.{model.title()}",
        "optimizer._target_": "torch.optim.SGD",
        "optimizer.lr": 0.05,
        "optimizer.momentum": 0.9,
        "schedule._target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
        "schedule.T_max": 17 * epochs,
        "sam._target_": "lets_runner.UnperturbedSAM" if method == "erm" else f"lets_runner.{CLASSES.get(sam, sam)}",
        **({} if method == "erm" else {"sam.rho": rho}),
        "radius._target_": f"lets_runner.{RULES.get(rule, 'FixedRadius')}",
        **({"radius.total_steps": 17 * epochs} if rule else {}),
        **({"radius.curvature": "diag"} if rule == "lets_paper" else {}),
        "epochs": epochs,
        "batch_size": 64,
    }
    return settings | extra


def nested(settings):
    tree = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def make_run(
    root,
    *,
    data="digits",
    model="convnet",
    method="sam",
    seed=0,
    noise=0.0,
    rho=0.05,
    epochs=3,
    accuracy=0.9,
    extra=None,
    steps=0,
    folder=None,
    score="accuracy",
    **summary,
):
    """Write a finished run; `extra` settings, other `summary` values, `folder` in place of the usual one.

    `accuracy` is the value of `score` on the test set, whatever it is called.
    """
    settings = settings_of(data, model, method, noise, rho, epochs, extra or {})
    tree = nested(settings)
    identity = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    directory = Path(root) / (folder or f"{data}-{model}-{method}/{identity[:8]}/seed={seed}")
    directory.mkdir(parents=True)
    tree |= {"seed": seed, "output": str(root), "progress": False, "derived": {"total_steps": 17 * epochs}}
    (directory / "config.yaml").write_text(f"# {identity}\n{json.dumps(tree, indent=1)}\n")
    rows = trajectory(method, rho, epochs, accuracy, noise, seed)
    with open(directory / "epochs.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(
            [
                [name.format(score) for name in COLUMNS],
                *([f"{cell:.9g}" if cell != "" else "" for cell in row] for row in rows),
            ]
        )
    (directory / "steps.csv").write_text(STEPS + "".join(f"{i},2.3,,,,{rho},0.5,0.05\n" for i in range(1, steps + 1)))
    facts = {
        **{"status": "finished", "error": None, "data": data, "model": model, "method": method, "seed": seed},
        **{"rho_start": None if method == "erm" else rho, "device": "cpu, 1 threads", "processes": 1},
        **{"epochs": epochs, "step": 17 * epochs, f"val_{score}": rows[-1][6], "gap": rows[-1][7]},
        "rho": None if method == "erm" else rows[-1][8],
        **{"gradient_evaluations": rows[-1][9], "perturbed_share": float(method != "erm")},
        **{"seconds": 12.5 + seed, "peak_memory": 2**29, "test_loss": 0.4, f"test_{score}": accuracy},
    }
    (directory / "summary.json").write_text(json.dumps(facts | summary, indent=2))
    return directory


def trajectory(method, rho, epochs, accuracy, noise, seed):
    """Rows of `epochs.csv`: learning curves of some shape, with a radius that moves where the method moves it."""
    wobble = np.random.default_rng([seed, len(method)]).normal(0, 0.01, (epochs, 2))
    rows = []
    for epoch in range(1, epochs + 1):
        rise = 1 - math.exp(-5 * epoch / epochs)
        val = accuracy * (1 - noise) * rise + wobble[epoch - 1, 0]
        train = val + 0.3 * noise * epoch / epochs
        moved = rho * (1 + 3 * rise) if "_" in method else rho
        radius = "" if method == "erm" else moved
        loss, val_loss = 2.3 * (1 - train), 2.3 * (1 - val) + wobble[epoch - 1, 1]
        cost = 17 * epoch * (1 if method == "erm" else 2)
        rows.append((epoch, 17 * epoch, 0.05, loss, train, val_loss, val, val_loss - loss, radius, cost, 0.3 * epoch))
    return rows


def make_many(root, *, data, models, noises, methods, seeds, **settings):
    """A run for every combination; returns how many."""
    count = 0
    for name in data:
        for model in models:
            for noise in noises:
                for place, method in enumerate(methods):
                    for seed in range(seeds):
                        spread = np.random.default_rng([seed, place, round(100 * noise)]).normal(0, 0.01)
                        accuracy = 0.97 - noise * (0.6 - 0.06 * place) + spread
                        make_run(
                            root,
                            data=name,
                            model=model,
                            noise=noise,
                            method=method,
                            seed=seed,
                            accuracy=float(accuracy),
                            rho=0.5 if method.endswith("asam") else 0.05,
                            **settings,
                        )
                        count += 1
    return count
