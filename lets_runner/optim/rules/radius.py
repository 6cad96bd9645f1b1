"""Radius rules: who decides ρ while SAM trains. A rule wraps a SAM variant and overrides the moments it cares for."""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine.wrapper import OptimizerWrapper
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Last, Observer, Step


class RadiusRule(OptimizerWrapper, Observer):
    """A SAM variant whose radius is decided by the hooks of `Observer`; without any of them it stays.

        optimizer = LETS(ASAM(base, rho=0.5, model=model))
        loss = optimizer.step(lambda: loss_of(train_batch), lambda: loss_of(val_batch))

    A rule may move ρ (`self.sam.move_radius`), evaluate the validation loss (`self.sam.evaluate`) or its gradient
    (`self.sam.differentiate`) wherever the weights are, and say what it saw in `step.val_loss`, `step.gap` and
    `step.hypergradient`.

    What it keeps from step to step it names in `remembers`, see `Stateful`. If a CUDA graph may repeat its steps, it
    says `graphable = True`, and that is a promise: all that the host decides by itself is in `branch`, and what follows
    from a step's number comes from `step.planned`.
    """

    moves_radius = True
    planned = False  # whether ρ follows from a step's number or the learning rate alone, whatever steps show
    starts_from_rho = True  # or the variant's ρ is ignored
    graphable = False  # said by every class for itself

    def __init__(self, sam: SAM):
        if not isinstance(sam, SAM):
            name = type(self).__name__
            raise TypeError(f"{name} wraps a SAM variant, as in {name}(SAM(base)), not {type(sam).__name__}")
        if self.moves_radius and sam.own_radius is not None:
            raise ValueError(
                f"{type(self).__name__} cannot choose the radius of {type(sam).__name__}: {sam.own_radius}"
            )
        if self.moves_radius and not self.planned and sam.unlearnable is not None:
            raise ValueError(
                f"{type(self).__name__} cannot learn the radius of {type(sam).__name__}: {sam.unlearnable}; take "
                "radius=fixed, or a planned one such as cosine"
            )
        super().__init__(sam)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, train: Batch | None = None, val: Batch | None = None, *, closure: Batch | None = None
    ) -> Tensor:
        """Take one step and let the rule move ρ; returns the training loss before the update, detached, 0-dim.

        Args:
            train: returns the loss of the training batch; see `SAM` for what a closure does, and m-SAM for several.
            val: returns the loss of a validation batch, augmented and noisy like the training batches; called only
                in steps that use it.
            closure: another name for `train`.
        """
        return self.sam.step(train, val, closure=closure, rule=self)

    @torch.no_grad()
    def advance(self, train: Batch, val: Batch | None = None) -> Tensor:
        """`step` without asking whether an earlier one was bad: what a CUDA graph can repeat."""
        return self.sam.advance(train, val, rule=self)

    def branch(self, number: int) -> Hashable | None:
        """What the rule decides on the host about the step with this number (from 1); None where it cannot say yet.

        Steps that are of one branch here and for the variant, `SAM.branch`, share a CUDA graph.
        """
        return True

    @property
    def sam(self) -> SAM:
        return self.inner  # type: ignore[return-value]

    @property
    def base(self) -> Optimizer:
        return self.sam.base

    @property
    def last(self) -> Last:
        """What the last step left behind."""
        return self.sam.last

    @property
    def rho(self) -> float:
        """The radius as a number. Reading it waits for the device; `last.rho` does not."""
        return self.sam.rho

    @rho.setter
    def rho(self, value: float) -> None:
        self.sam.rho = value

    @property
    def gradient_evaluations(self) -> int:
        """Forward and backward passes so far."""
        return self.sam.gradient_evaluations

    @property
    def needs_validation(self) -> bool:
        """Whether `step` calls its validation closure."""
        return False

    def settle(self) -> None:
        """Wait for the device and raise the NonFiniteError that the steps so far have earned, if any."""
        self.sam.settle()

    def _teaches(self, step: Step) -> Tensor:
        """0-dim bool: the step perturbed by more than zero, and none of its passes was found bad so far.

        Where checks raise, a bad step ends before a rule learns from it; where the verdict stays on the device, the
        rule goes on and must not.
        """
        return self.sam.unless_bad([step.moved], [False])[0]

    def _validation(self, val: Batch | None) -> Batch:
        if val is None:
            raise ValueError(f"{type(self).__name__} needs a validation batch: optimizer.step(train, val)")
        return val


class FixedRadius(RadiusRule):
    """ρ stays as it is: plain SAM, with the interface of a learned radius."""

    moves_radius = False
    graphable = True


def checked_bounds(bounds: Any, default: tuple[float, float]) -> tuple[float, float]:
    """Bounds of ρ as two floats; raises ValueError unless 0 ≤ low < high."""
    low, high = (float(bound) for bound in (default if bounds is None else bounds))
    if not 0 <= low < high:
        raise ValueError(f"bounds=({low}, {high}): needs 0 <= low < high")
    return low, high


def checked_start(sam: SAM, bounds: tuple[float, float]) -> float:
    """The ρ that learning starts from; raises ValueError if it is not inside the bounds."""
    if sam.uses_radius and not (sam.rho > 0 and bounds[0] <= sam.rho <= bounds[1]):
        raise ValueError(
            f"learning starts from the variant's rho, and {sam.rho:g} is not above 0 and within "
            f"bounds=({bounds[0]:g}, {bounds[1]:g}): start inside them or widen them"
        )
    return sam.rho


def checked_every(every: int) -> int:
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every={every}: must be a whole number of at least 1")
    return every
