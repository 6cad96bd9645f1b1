"""What is probed: the mean loss over a fixed set of examples, as a function of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.tasks import Task

Examples = tuple[Any, ...]  # what makes a batch: tensors, however nested, with all examples along the first dimension


class Objective(nn.Module):
    """L(θ): the loss that `model` was trained on (label smoothing included), over all of `examples`.

    The model is put into evaluation mode for good: batch norm normalises by its running statistics, dropout is off.
    So L is a function of the weights alone, and a mean over examples, however they are cut into batches.

    Args:
        examples: inputs (N, ...), or several by name, and labels (N,), on the model's device.
        batch_size: how many go through the model at once; it changes memory and speed, nothing else.
    """

    def __init__(self, model: nn.Module, task: Task, examples: Examples, *, batch_size: int = 250):
        super().__init__()
        self.model, self.task, self.examples, self.batch_size = model.eval(), task, examples, batch_size
        self.params: Vector = [param for param in model.parameters() if param.requires_grad]
        self.batches = split(examples, batch_size)

    def __len__(self) -> int:
        return len(self.examples[-1])

    def forward(self, batch: Examples) -> Tensor:
        """Mean loss of one batch, with gradient."""
        return self.task.loss(self.model, batch).loss

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The loss and the task's scores at the present weights, by the names of their columns."""
        names = self.task.sums
        totals = torch.zeros(1 + len(names), dtype=torch.float64, device=self.params[0].device)
        for batch in self.batches:
            output = self.task.loss(self.model, batch)
            totals += torch.stack([output.loss.double() * output.count, *(output.sums[n].double() for n in names)])
        loss, *sums = totals.tolist()
        return {"loss": loss / len(self), **self.task.scores(dict(zip(names, sums, strict=True)), len(self))}

    def loss(self) -> float:
        return self.measure()["loss"]

    def gradient(self) -> Vector:
        """∇L at the present weights; zero for a parameter that takes no part."""
        total = [torch.zeros_like(param) for param in self.params]
        for batch in self.batches:
            share = len(batch[-1]) / len(self)
            vector.add_(total, torch.autograd.grad(self(batch) * share, self.params, materialize_grads=True))
        return total

    def shards(self, m: int) -> list["Objective"]:
        """The objectives of `m` examples each; a rest that makes no whole shard is left out, unless it is all."""
        pieces = split(self.examples, m)
        whole = [piece for piece in pieces if len(piece[-1]) == m] or pieces
        return [Objective(self.model, self.task, piece, batch_size=self.batch_size) for piece in whole]

    @contextmanager
    def at_origin(self) -> Iterator[Vector]:
        """Copies of the weights as they are now; whatever `move` does, they come back to the bit."""
        origin = [param.detach().clone() for param in self.params]
        try:
            yield origin
        finally:
            self.move(origin)

    @torch.no_grad()
    def move(self, weights: Vector) -> None:
        """θ ← `weights`."""
        vector.copy_(self.params, weights)


def split(examples: Examples, size: int) -> list[Examples]:
    """Batches of so many examples; the last may have fewer."""
    leaves, spec = pytree.tree_flatten(examples)
    return [pytree.tree_unflatten(list(piece), spec) for piece in zip(*(x.split(size) for x in leaves), strict=True)]
