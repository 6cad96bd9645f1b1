"""What training loops of other libraries ask of an optimizer, and what to answer where they would do harm."""

from typing import ClassVar, Self


class InOtherLoops:
    """An optimizer that runs `backward` itself, in loops that were written for optimizers that do not."""

    # accelerate's `prepare` leaves the optimizer as it is: its own wrapper would hand on one closure. What a prepared
    # scheduler asks of that wrapper it finds here; it steps after skipped steps too.
    _is_accelerate_prepared: ClassVar[bool] = True
    step_was_skipped: ClassVar[bool] = False

    @property
    def optimizer(self) -> Self:
        """Itself: what accelerate's wrappers have under this name."""
        return self

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """GradScaler asks this first of all in its `step`.

        Raises:
            TypeError: always. Losses are scaled for every pass, and a GradScaler sees no more than the last.
        """
        name = type(self).__name__
        raise TypeError(
            f"a GradScaler cannot step {name}, which makes several passes: let SAM scale, with "
            "SAM(..., loss_scale='dynamic'), return plain losses from the closures, and call optimizer.step(train, val)"
        )
