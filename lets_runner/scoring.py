"""What a task measures, over all batches and all processes: totals that add up, and the scores that they come to."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lets_runner.distributed import ALONE, Processes
from lets_runner.tasks.task import Output, Task


@dataclass(frozen=True)
class Scores:
    """Of every example: the loss and what its task measures, by the names of the columns.

    `texts` is what the model said of the examples of this process, by their numbers.
    """

    values: dict[str, float]
    texts: dict[int, str] = field(default_factory=dict)


class Scoring:
    """Measures models at one task.

    Args:
        autocast: makes the context in which every forward pass runs.
        device: on which running sums live.
        processes: those that measure together, each on loaders of its own share.
    """

    def __init__(
        self,
        task: Task,
        *,
        autocast: Callable[[], AbstractContextManager],
        device: torch.device,
        processes: Processes = ALONE,
    ):
        self.task, self.autocast, self.device, self.processes = task, autocast, device, processes

    def measure(self, model: nn.Module, batches: Iterable, part: str = "val") -> Scores:
        """Over all of `batches`, which are of a `part` of the data set. The model is left in evaluation mode."""
        measure = self.task.examine if part == "test" else self.task.measure
        model.eval()
        totals, kept = self.zeros(), []
        texts: dict[int, str] = {}
        with torch.no_grad(), self.autocast():
            for batch in batches:
                output = measure(model, batch)
                totals += self.added(output)
                kept.append(output.kept)
                texts.update(output.texts)
        return Scores(self.scores(totals, part, kept), texts)

    def zeros(self) -> Tensor:
        return torch.zeros(2 + len(self.task.sums), dtype=torch.float64, device=self.device)

    def added(self, output: Output) -> Tensor:
        """What adds up over batches and processes: loss · examples, the task's sums, examples."""
        loss = output.loss.detach().mean() * output.count
        zero = torch.zeros_like(loss)
        sums = [output.sums.get(name, zero) for name in self.task.sums]
        count = torch.full_like(loss, output.count, dtype=torch.float64)
        return torch.stack([loss.double(), *(total.double() for total in sums), count])

    def scores(self, totals: Tensor, part: str, kept: Sequence[Sequence[Tensor]] = ()) -> dict[str, float]:
        """What the totals of all processes come to, and what was kept: the mean loss, and the scores of this part."""
        loss, *sums, count = self.processes.sum(totals).tolist()
        scores = self.task.scores(dict(zip(self.task.sums, sums, strict=True)), int(count))
        found = {"loss": loss / count, **scores, **self._pooled(kept)}
        return {name: found[name] for name in self.names(part)}

    def names(self, part: str) -> list[str]:
        """What is measured of this part."""
        return [column.name for column in self.task.columns.all if part in column.when]

    def _pooled(self, kept: Sequence[Sequence[Tensor]]) -> dict[str, float]:
        """What measures of all examples of all processes come to, from what each batch gave them to keep."""
        if not (self.task.pooled and kept):
            return {}
        own = [torch.cat(pieces).cpu() for pieces in zip(*kept, strict=True)]
        return self.task.pooled_scores([torch.cat(parts) for parts in zip(*self.processes.gather(own), strict=True)])
