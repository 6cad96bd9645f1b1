"""Settings that came after configurations had hashes, and those that are the runner's own among a component's.

At the values of `LATER` a setting changes nothing, and a configuration that has it is the one that it was without: it
has the same hash and the same file. So run directories of earlier versions stay what they are.
"""

from collections.abc import Mapping
from typing import Any

LATER: dict[str, Any] = {
    "init_from": None,
    "ema.decay": None,
    "early_stopping.patience": None,
    "model.freeze": [],
    "model.pretrained": False,
    "optimizer.layer_decay": None,
    "schedule.warmup_epochs": 0,
    "schedule.warmup_steps": 0,
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "data.policy": None,
    "data.policy_ops": 2,
    "data.policy_magnitude": 9,
    "sam.follow": "paper",
    "sam.corrected": False,
}
# Settings of what the runner does with whatever a component's constructor makes, and the functions whose arguments they
# are; a constructor that has an argument of this name gets it instead.
OWN = {
    "model.freeze": "lets_runner.finetune.freeze",
    "optimizer.layer_decay": "lets_runner.optimizers.by_layer",
    "schedule.warmup_epochs": "lets_runner.schedules.warmed_up",
    "schedule.warmup_steps": "lets_runner.schedules.warmed_up",
}


def says_nothing(key: str, value: Any) -> bool:
    """Whether the setting might as well not be there."""
    if key not in LATER:
        return False
    usual = LATER[key]
    return value == usual and isinstance(value, bool) == isinstance(usual, bool)


def without(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings without those that say nothing, nor groups that had no others."""
    kept: dict[str, Any] = {}
    for name, value in plain.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            inner = without(value, f"{key}.")
            if inner or not any(later.startswith(f"{key}.") for later in LATER):
                kept[name] = inner
        elif not says_nothing(key, value):
            kept[name] = value
    return kept
