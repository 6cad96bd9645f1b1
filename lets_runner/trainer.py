"""The training loop. It yields records and writes nothing; its state may be saved between any two."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lets_runner.averaging import Raw
from lets_runner.distributed import ALONE, Processes
from lets_runner.optim.graphs.eager import EagerStep
from lets_runner.patience import Patience
from lets_runner.record import Record
from lets_runner.scoring import Scoring
from lets_runner.tasks.task import Output, Part, Task

MIN_RECORD_SECONDS = 0.5  # of training between two records


class Loader(Protocol):
    """Endless training batches by number, `len` of them in an epoch, and every example once in order."""

    def __len__(self) -> int: ...

    def batch(self, number: int) -> Any: ...

    def in_order(self) -> Iterable[Any]: ...


class Scheduler(Protocol):
    def step(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Trainer:
    """Trains `model` for `epochs` passes over `train`.

    Args:
        optimizer: a radius rule: `step(train, val)`, `settle`, `last`, `gradient_evaluations`, its `sam` with
            `per_sample`, and what an optimizer has.
        scheduler: stepped after every optimizer step.
        train, val: loaders. `val` feeds the radius rule its augmented batches and is measured as it is; None for none.
        test: a loader to measure after every epoch as well; None to leave it alone.
        autocast: makes the context in which every forward pass runs.
        checkpoint_every: steps between checkpoints within an epoch; None for epochs only.
        device: on which running sums live.
        parts: into how many parts a training batch is cut; the optimizer gets a closure for each.
        val_parts: the same for a validation batch.
        processes: those that train together, each on loaders of its own share.
        steps: `EagerStep`, or another way to take steps of the optimizer on batches.
        measured: the weights that are measured and saved beside the trained ones; None for those themselves.
        patience: sees every epoch, and ends training before its time when it is out; None for none that ever is.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        scheduler: Scheduler,
        task: Task,
        train: Loader,
        val: Loader | None,
        test: Loader | None = None,
        epochs: int,
        autocast: Callable[[], AbstractContextManager],
        checkpoint_every: int | None = None,
        device: torch.device,
        parts: int = 1,
        val_parts: int = 1,
        processes: Processes = ALONE,
        steps: Callable[..., EagerStep] = EagerStep,
        measured: Raw | None = None,
        patience: Patience | None = None,
    ):
        self.model, self.optimizer, self.scheduler, self.task = model, optimizer, scheduler, task
        self.parts, self.processes = parts, processes
        self.train, self.val, self.test = train, val, test
        self.epochs, self.autocast, self.checkpoint_every = epochs, autocast, checkpoint_every
        self.device = device
        self.measured = measured or Raw(model)
        self.patience = patience or Patience(task.columns.selected, None)
        self.step = 0
        self.val_batches = 0  # used so far: a rule may do without in most steps, and files are read ahead in sequence
        self.seconds = 0.0
        self.texts: dict[int, str] = {}  # of the examples that were measured last
        self.stopping = False  # all processes have agreed to
        self._asked_to_stop = False
        self._lr = float("nan")  # of the last step
        self.scoring = Scoring(task, autocast=autocast, device=device, processes=processes)
        self._totals = self.scoring.zeros()  # of the present epoch
        self._rows: list[tuple[int, float, Tensor]] = []
        self._seen: list[Output] = []  # in the present step
        self._take = steps(
            optimizer,
            self._train_loss,
            self._val_loss,
            parts=parts,
            val_parts=val_parts,
            split=task.split,
            observe=self._observe,
        )

    @property
    def eager_because(self) -> str | None:
        """Why steps are not captured as CUDA graphs; None if they are."""
        return self._take.reason

    @property
    def total_steps(self) -> int:
        return self.epochs * len(self.train)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.total_steps or self.patience.is_out

    def stop(self) -> None:
        """End after the present step (several processes: after the next), with a record that is worth a checkpoint."""
        self._asked_to_stop = True

    def records(self) -> Iterator[Record]:
        """Train from the present state to the end, or until `stop`; the state is consistent at every record."""
        started = time.perf_counter()
        while not (self.ended or self.stopping):
            try:
                self._step()
                self.stopping = self.processes.agree(self._asked_to_stop)
                ends = self.step % len(self.train) == 0
                due = ends or self.stopping or bool(self.checkpoint_every and self.step % self.checkpoint_every == 0)
                if due:
                    self.optimizer.settle()
            except FloatingPointError:
                yield Record(self._flush(), None, self.step, checkpoint=False)
                raise
            if due or time.perf_counter() - started > MIN_RECORD_SECONDS:
                steps = self._flush()
                epoch = self._end_epoch(started) if ends else None
                self.seconds += time.perf_counter() - started
                yield Record(steps, epoch, self.step, checkpoint=due)
                started = time.perf_counter()

    def measure(self, loader: Loader, part: str = "val") -> dict[str, float]:
        """Mean loss and scores over every example of `loader`, in evaluation mode: those of a `part` of the data set.

        `texts` is then what the model said of the examples of this process.
        """
        model = self.measured.model
        found = self.scoring.measure(model, loader.in_order(), part)
        model.train()
        self.texts = found.texts
        return found.values

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on bit for bit, at any record that is worth a checkpoint.

        To be called by all processes; it is the same in each, and any number of them can go on from it.
        """
        cuda = self.device.type == "cuda"
        return {
            "model": self.processes.whole(self.processes.bare(self.model).state_dict()),
            "optimizer": self.processes.whole(self.optimizer.state_dict()),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "val_batches": self.val_batches,
            "seconds": self.seconds,
            "totals": self.processes.sum(self._totals),
            "random": self.processes.gather(torch.get_rng_state()),
            "random_cuda": self.processes.gather(torch.cuda.get_rng_state(self.device)) if cuda else [],
            **self.measured.state_dict(),
            **self.patience.state_dict(),
        }

    def check(self, state: dict[str, Any]) -> None:
        """That training can go on from `state`, before anything is loaded; for any one of the processes.

        Raises:
            ValueError: it cannot; a few words that go on from the name of the state.
        """
        for name in ("model", "optimizer", "scheduler", "val_batches", "seconds", "totals", "random", "random_cuda"):
            if name not in state:
                raise ValueError(f"has no {name}")
        if not 0 <= state["step"] <= self.total_steps:
            raise ValueError(f"is of step {state['step']}, and training ends at step {self.total_steps}")
        model, found = self.processes.bare(self.model), state["model"]
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if {name: getattr(tensor, "shape", None) for name, tensor in found.items()} != shapes:
            raise ValueError("is of another model")
        if not all(torch.isfinite(found[name]).all() for name, _ in model.named_parameters()):
            raise ValueError("has weights that are not finite")
        self.measured.check(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.processes.restore(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.measured.load_state_dict(state)
        self.patience.load_state_dict(state)
        self.step, self.val_batches, self.seconds = state["step"], state["val_batches"], state["seconds"]
        if self.processes.leads:
            self._totals.copy_(state["totals"])
        rank = self.processes.rank
        if rank < len(state["random"]):  # a process that was not there before goes on with the random numbers it has
            torch.set_rng_state(state["random"][rank])
        if rank < len(state["random_cuda"]) and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"][rank], self.device)

    def _step(self) -> None:
        self.model.train()
        self._seen = []
        self._lr = float(self.optimizer.param_groups[0]["lr"])
        row = self._take(self.train.batch(self.step), None if self.val is None else self._val_batch)
        self.scheduler.step()
        self.measured.update()
        self.step += 1
        self._rows.append((self.step, self._lr, row))

    def _train_loss(self, part: Part) -> Tensor:
        with self.autocast():
            output = self.task.loss(self.model, part.batch, per_sample=self.optimizer.sam.per_sample)
        self._seen.append(output)
        return part.weighted(output.loss)

    def _val_batch(self) -> Any:
        assert self.val is not None
        self.val_batches += 1
        return self.val.batch(self.val_batches - 1)

    def _val_loss(self, part: Part) -> Tensor:
        with self.autocast():
            return part.weighted(self.task.loss(self.model, part.batch).loss)

    def _observe(self) -> Tensor:
        """Add to the totals of the epoch; returns the row of `steps.csv`. On the device alone, like the step itself."""
        for output in self._seen[: self.parts]:  # the first passes over the parts come first
            self._totals += self.scoring.added(output)
        last = self.optimizer.last
        return torch.stack([getattr(last, name).double() for name in STEP_COLUMNS.values()])

    def _flush(self) -> list[dict[str, float]]:
        """The steps since the last flush; here, and nowhere in a step, the host waits for the device."""
        rows, self._rows = self._rows, []
        if not rows:
            return []
        values = torch.stack([row for _, _, row in rows]).tolist()
        return [
            {"step": step, "lr": lr, **dict(zip(STEP_COLUMNS, numbers, strict=True))}
            for (step, lr, _), numbers in zip(rows, values, strict=True)
        ]

    def _end_epoch(self, started: float) -> dict[str, float]:
        train = self.scoring.scores(self._totals, "train")
        self._totals.zero_()
        val = dict.fromkeys(self.scoring.names("val"), float("nan")) if self.val is None else self.measure(self.val)
        test = {} if self.test is None else self.measure(self.test, "test")
        self.patience.see(val[self.task.columns.selects])
        return {
            "epoch": self.step // len(self.train),
            "step": self.step,
            "lr": self._lr,
            **{f"train_{name}": value for name, value in train.items()},
            **{f"val_{name}": value for name, value in val.items()},
            **{f"test_{name}": value for name, value in test.items()},
            "gap": val["loss"] - train["loss"],
            "rho": float(self.optimizer.last.rho),
            "gradient_evaluations": self.optimizer.gradient_evaluations,
            "seconds": self.seconds + time.perf_counter() - started,
        }


# steps.csv's name of a number, and the optimizer's
STEP_COLUMNS = {
    "loss": "loss",
    "val_loss": "val_loss",
    "gap": "gap",
    "hypergradient": "hypergradient",
    "rho": "rho_applied",
    "gradient_norm": "gradient_norm",
}
