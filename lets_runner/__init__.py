"""Sharpness-aware minimization that learns its perturbation radius while it trains.

optimizer = LETS(ASAM(base, rho=0.5, model=model))
loss = optimizer.step(lambda: loss_of(train_batch), lambda: loss_of(val_batch))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lets_runner.optim import (
        AESAM,
        ASAM,
        ESAM,
        FSAM,
        GSAM,
        LESAM,
        LETS,
        MSAM,
        RST,
        SAM,
        SAMON,
        WSAM,
        AELookSAM,
        CosineRadius,
        FisherSAM,
        FixedRadius,
        GapMatching,
        GraphedStep,
        HorizonLETS,
        Last,
        LearningRateRadius,
        LinearRadius,
        LookSAM,
        LossMatching,
        MomentumSAM,
        NonFiniteError,
        NotGraphableError,
        Observer,
        PiecewiseRadius,
        RadiusRule,
        Ramp,
        SAMPa,
        Step,
        UnperturbedSAM,
        VaSSO,
        frozen_statistics,
    )
    from lets_runner.trained import Trained, load

__version__ = "0.1.0"

__all__ = [
    "AESAM",
    "ASAM",
    "ESAM",
    "FSAM",
    "GSAM",
    "LESAM",
    "LETS",
    "MSAM",
    "RST",
    "SAM",
    "SAMON",
    "WSAM",
    "AELookSAM",
    "CosineRadius",
    "FisherSAM",
    "FixedRadius",
    "GapMatching",
    "GraphedStep",
    "HorizonLETS",
    "Last",
    "LearningRateRadius",
    "LinearRadius",
    "LookSAM",
    "LossMatching",
    "MomentumSAM",
    "NonFiniteError",
    "NotGraphableError",
    "Observer",
    "PiecewiseRadius",
    "RadiusRule",
    "Ramp",
    "SAMPa",
    "Step",
    "Trained",
    "UnperturbedSAM",
    "VaSSO",
    "__version__",
    "frozen_statistics",
    "load",
]
_OF_RUNS = ("Trained", "load")  # what needs the runner


def __getattr__(name: str) -> Any:
    """Load the optimizers, and torch with them, when one is asked for; the runner, and Hydra with it, for its own."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OF_RUNS:
        from lets_runner import trained

        return globals().setdefault(name, getattr(trained, name))
    from lets_runner import optim

    return globals().setdefault(name, getattr(optim, name))


def __dir__() -> list[str]:
    return sorted(__all__)
