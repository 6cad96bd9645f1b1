"""Steps of an optimizer as functions of batches: closures hide what they depend on, and a CUDA graph must know it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

Loss = Callable[[Any], Tensor]  # of a batch


class EagerStep:
    """Steps as `optimizer.step` takes them.

        step = EagerStep(optimizer, train_loss, val_loss)
        loss = step(train_batch, val_batch)

    Args:
        optimizer: a radius rule or a SAM.
        train_loss, val_loss: (batch, or a part of one) -> its loss; like the closures of `SAM.step` they leave
            `backward` to the optimizer.
        parts, val_parts: microbatches of a training batch and of a validation batch.
        split: (batch, number) -> so many parts; of unequal size, each weighs in its loss what it holds.
        observe: called after every step; what it returns, a tensor, is returned in place of the loss.
        reason: why steps are eager, for logs.
    """

    def __init__(
        self,
        optimizer: Any,
        train_loss: Loss,
        val_loss: Loss | None = None,
        *,
        parts: int = 1,
        val_parts: int = 1,
        split: Callable[[Any, int], Sequence[Any]] | None = None,
        observe: Callable[[], Tensor] | None = None,
        reason: str | None = None,
    ):
        self.optimizer, self.sam = optimizer, optimizer.sam
        self.train_loss, self.val_loss = train_loss, val_loss
        self.parts, self.val_parts = parts, val_parts
        self.split, self.observe, self.reason = split or chunks, observe, reason

    def __call__(self, train_batch: Any, val_batch: Any = None) -> Tensor:
        """Take a step; returns the training loss before the update, detached, 0-dim.

        Args:
            train_batch: what `train_loss` is a function of.
            val_batch: the same for `val_loss`, or a function that makes one, called only in steps that use it.
        """
        return self._take(self.optimizer.step, train_batch, Validation(self, val_batch))

    def _take(self, step: Callable[..., Tensor], train_batch: Any, validation: "Validation") -> Tensor:
        closures = [partial(self.train_loss, part) for part in self.split(train_batch, self.parts)]
        loss = step(closures, validation.closures)
        return loss if self.observe is None else self.observe()


class Validation:
    """The validation batch of one step, made when the optimizer asks for its loss."""

    def __init__(self, step: EagerStep, batch: Any, *, place: Callable[[Any], Any] = lambda batch: batch):
        self._step, self._batch, self._place = step, batch, place
        self._parts: Sequence[Any] = ()
        self.used = False

    @property
    def there(self) -> bool:
        return self._batch is not None and self._step.val_loss is not None

    @property
    def closures(self) -> list[Callable[[], Tensor]] | None:
        """One for every part; None where there is nothing to validate on."""
        if not self.there:
            return None
        return [partial(self._loss, number) for number in range(self._step.val_parts)]

    def make(self) -> Any:
        """The batch itself, made now if it was not before."""
        if callable(self._batch):
            self._batch = self._batch()
        return self._batch

    def _loss(self, number: int) -> Tensor:
        assert self._step.val_loss is not None
        if not self.used:
            self.used = True
            self._parts = self._step.split(self._place(self.make()), self._step.val_parts)
        return self._step.val_loss(self._parts[number])


def chunks(batch: Any, parts: int) -> list[Any]:
    """A batch of tensors, however nested, in so many parts of equal size along their first dimension.

    Raises:
        ValueError: it cannot be cut so.
    """
    if parts == 1:
        return [batch]
    leaves, spec = pytree.tree_flatten(batch)
    if any(len(leaf) % parts for leaf in leaves):
        raise ValueError(f"parts={parts}: a batch of {len(leaves[0])} cannot be cut into so many equal parts")
    pieces = zip(*(leaf.chunk(parts) for leaf in leaves), strict=True)
    return [pytree.tree_unflatten(list(piece), spec) for piece in pieces]
