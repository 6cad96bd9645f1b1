"""Passes that leave no trace in weights and running statistics, not even after a value that is not finite."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lets_runner.optim.engine import finite, vector
from lets_runner.optim.engine.batchnorm import statistics
from lets_runner.optim.engine.passes import Passes
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.step import Step


class GuardedPasses(Passes):
    """Passes of a step whose weights come back from a copy, and which a value that is not finite cannot spoil.

    Args:
        nonfinite: "raise" or "skip", as in `SAM`.
    """

    remembers: tuple[str, ...] = (*Passes.remembers, "_guard")

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None,
        *,
        loss_scale: Literal["dynamic"] | float | None,
        nonfinite: Literal["raise", "skip"],
    ):
        super().__init__(base, model, loss_scale=loss_scale)
        if nonfinite not in ("raise", "skip"):
            raise ValueError(f"nonfinite={nonfinite!r}: must be 'raise' or 'skip'")
        self.nonfinite = nonfinite
        self._guard = finite.guard(
            self.device, skip=nonfinite == "skip", scale=self._scale, together=self._ranks.size > 1
        )
        self._buffers: dict[Tensor, Tensor] = {}

    @contextmanager
    def guarded(self, step: Step) -> Iterator[None]:
        """A step inside; a NonFiniteError there takes everything back, and ends here if it is dealt with."""
        self._guard.begin()
        before = [buffer.clone() for buffer in statistics(self.normalisers)] if self._guard.immediate else []
        try:
            yield
        except finite.NonFiniteError:
            recovered = self._guard.close(bad=True, updated=step.updated)
            if not recovered or not step.updated:
                self._roll_back(step, before)
            if not recovered:
                raise
        else:
            self._guard.close(bad=False, updated=True)

    @contextmanager
    def perturbed_weights(self, step: Step) -> Iterator[None]:
        """θ + ρε̂ inside; outside θ again, from a copy, to the bit."""
        with self.moved_weights(step.params, step.epsilon(), aside=step.updated):
            yield

    @contextmanager
    def moved_weights(self, params: Vector, move: Vector, *, aside: bool = False) -> Iterator[None]:
        """`params` plus `move` inside; outside what they were, to the bit. `aside` of what a bad step goes back to."""
        saved = [torch.empty_like(p) if aside else self._buffer(p) for p in params]
        vector.copy_(saved, params)
        try:
            vector.add_(params, move)
            del move  # or it would live as long as the pass
            yield
        finally:
            vector.copy_(params, saved)

    def share_statistics(self) -> None:
        """Every process has seen its own part of the batch: give all of them the mean of the running statistics."""
        if self._ranks.size > 1:
            self._ranks.mean_(buffer for buffer in statistics(self.normalisers) if buffer.is_floating_point())

    def unless_bad(self, values: Vector, otherwise: Sequence[Tensor | float] | None = None) -> Vector:
        """`values`, or zeros or `otherwise` where a pass of this step was not finite and the host does not know it."""
        return self._guard.unless_bad(values, otherwise)

    def is_bad(self) -> bool:
        """Whether a pass of this step was not finite. Waits for the device: for what happens once in a training."""
        return self._guard.is_bad()

    @property
    def skipped(self) -> int:
        """Steps skipped because something was not finite (`nonfinite="skip"`, or an overflow in float16)."""
        return self._guard.skipped

    @property
    def has_updated(self) -> bool:
        """Whether no step waits for the device any more, as the first ones do on an accelerator."""
        return self._guard.has_updated

    def _buffer(self, param: Tensor) -> Tensor:
        if param not in self._buffers:
            self._buffers[param] = torch.empty_like(param)
        return self._buffers[param]

    def _roll_back(self, step: Step, before: Vector) -> None:
        if step.perturbed_loss is not None:  # or the copies are those of an earlier step, and the weights as they were
            vector.copy_(step.params, [self._buffer(p) for p in step.params])
        for buffer, old in zip(statistics(self.normalisers), before, strict=True):
            buffer.copy_(old)
