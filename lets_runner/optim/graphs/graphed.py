"""A step of an optimizer as one CUDA graph: a thousand small kernels in one launch.

A graph repeats what the device did. What changes from step to step it reads from fixed places (`rehearsal`); its state
goes back to where the next replay reads it, and what the host counts meanwhile is counted for it (`statics`).
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lets_runner.optim.engine.host import Host
from lets_runner.optim.graphs import cuda_graph
from lets_runner.optim.graphs.eager import EagerStep, Loss, Validation
from lets_runner.optim.graphs.rehearsal import (
    Graph,
    NotGraphableError,
    RecordedHost,
    Recorder,
    Rehearsal,
    RehearsedHost,
    StaticBatch,
    StaticPlan,
    form,
)
from lets_runner.optim.graphs.statics import Effects, StaticState
from lets_runner.optim.step import Last

MOST_KINDS = 64  # of steps; where there are more, something that tells them apart changes all the time
LAST = [column.name for column in fields(Last)]


class GraphedStep(EagerStep):
    """Steps of a radius rule or a SAM, captured and replayed as CUDA graphs.

        step = GraphedStep(optimizer, train_loss, val_loss)
        for train_batch, val_batch in batches:
            loss = step(train_batch, val_batch)

    Steps of every kind (LETS that learns every third time has three) are taken eagerly `warmup` times, all of them real
    steps, and captured then. The numbers are those of eager steps, with the learning rate rounded to float32. Learning
    rates may change from step to step, and ρ, the state and the shapes of batches at any time; after a change of
    momentum or weight decay steps are captured anew. Where they cannot be captured they stay eager: `reason` says why.

    The loss functions must do the same whenever they are called, read nothing but the batch and the model, and make the
    host wait for nothing. They are called in the first steps only. After a step `optimizer.last` has float64 tensors.

    Args:
        optimizer: a radius rule or a SAM, around a base with `fused=True`, on a CUDA device, in one process.
        train_loss: (batch) -> its loss.
        val_loss: the same of a validation batch.
        settings: see `EagerStep`; `observe` becomes part of the graph.
        warmup: steps of each kind before its capture, at least 2.
        strict: raise where steps cannot be captured; else a warning says so, once.
        recorder: who makes the graphs; None for the device's own.

    Raises:
        ValueError: a setting out of its range.
        NotGraphableError: with `strict`, steps cannot be captured; here or in a step, which is complete then.
    """

    def __init__(
        self,
        optimizer: Any,
        train_loss: Loss,
        val_loss: Loss | None = None,
        *,
        warmup: int = 3,
        strict: bool = False,
        recorder: Recorder | None = None,
        **settings: Any,
    ):
        super().__init__(optimizer, train_loss, val_loss, **settings)
        if warmup < 2:
            raise ValueError(f"warmup={warmup}: must be at least 2, one step to allocate and one to rehearse")
        self.warmup, self.strict = warmup, strict
        reason = (None if recorder else cuda_graph.why_not(self.sam.device)) or why_not(optimizer)
        if reason is not None:
            self._stay_eager(reason)
            return
        self._recorder = recorder or cuda_graph.CudaRecorder(self.sam.device)
        self._forget()

    def _stay_eager(self, reason: str) -> None:
        self.reason = reason
        if self.strict:
            raise NotGraphableError(reason)
        warnings.warn(f"steps stay eager, no CUDA graphs: {reason}", stacklevel=3)

    def _forget(self) -> None:
        """Know nothing yet, or nothing any more."""
        self._state = StaticState(self.optimizer)
        self._rates = [torch.zeros((), device=self.sam.device) for _ in self.optimizer.param_groups]
        self._seen: dict[Hashable, int] = {}
        self._validating: set[Hashable] = set()  # kinds whose steps have used a validation batch
        self._rehearsals: dict[Hashable, Rehearsal] = {}
        self._recordings: dict[Hashable, Recording] = {}
        self._batches: dict[Hashable, StaticBatch] = {}
        self._weights = self._state.weights()

    @property
    def graphs(self) -> int:
        """How many graphs have been captured."""
        return 0 if self.reason is not None else len(self._recordings)

    def __call__(self, train_batch: Any, val_batch: Any = None) -> Tensor:
        """Take a step; arguments and result as for `EagerStep`."""
        if self.reason is not None:
            return super().__call__(train_batch, val_batch)
        with torch.no_grad():
            kind = self._kind(train_batch)
            if kind is None:
                return self._eager(train_batch, Validation(self, val_batch))
            if kind in self._recordings:
                return self._again(self._recordings[kind], train_batch, val_batch)
            if kind in self._rehearsals:
                return self._record(kind, train_batch, val_batch)
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if self._seen[kind] == self.warmup:
                return self._rehearse(kind, train_batch, val_batch)
            return self._warm_up(kind, train_batch, val_batch)

    def _kind(self, train_batch: Any) -> Hashable | None:
        """Of the coming step: those of one kind share a graph. None where only the step itself can tell."""
        number = self.sam.steps + 1
        branches = self.sam.branch(number), self.optimizer.branch(number)
        if None in branches or not self.sam.has_updated:
            return None
        if self._weights != self._state.weights():
            self._forget()
        if len(self._seen) > MOST_KINDS:
            self._stay_eager(
                f"no two steps are of one kind ({MOST_KINDS} so far): does a setting change in every step?"
            )
            return None
        mode = self.sam.model is None or self.sam.model.training
        settings = tuple(_settings(group) for group in self.optimizer.param_groups)
        return branches, self.sam.radius_is_zero, self._state.structure(), mode, settings, form(train_batch)

    # The ways to take a step.

    def _eager(self, train_batch: Any, validation: Validation) -> Tensor:
        self._state.disturb()
        self._fill_rates()
        with self._recorder.aside(), self._rates_as_tensors():
            result = self._take(self.optimizer.step, train_batch, validation)
            self.sam.last = Last(*_joined(self.sam.last).unbind())  # ρ and others may stand where a graph will write
        return result

    def _warm_up(self, kind: Hashable, train_batch: Any, val_batch: Any) -> Tensor:
        validation = Validation(self, val_batch)
        result = self._eager(train_batch, validation)
        if validation.used:
            self._validating.add(kind)
        return result

    def _rehearse(self, kind: Hashable, train_batch: Any, val_batch: Any) -> Tensor:
        """An eager step that is watched: what would break a capture is found here, where it breaks nothing."""
        notes = Rehearsal()
        validation = Validation(self, val_batch, place=partial(self._placed, "val"))
        if kind in self._validating:
            validation.make()  # unwatched: a loader may wait for the device
        with (
            self._recorder.watch() as reasons,
            self._hosted_by(partial(RehearsedHost, notes=notes, offset=self._recorder.offset)),
        ):
            result = self._eager(self._placed("train", train_batch), validation)
        if notes.reads_number:
            reasons.append("a step reads its number: what follows from it must come from step.planned")
        if validation.used:
            notes.validation = form(validation.make())
        self._state.settle()
        self._rehearsals[kind] = notes
        if reasons:
            self._stay_eager(reasons[0])
        return result

    def _record(self, kind: Hashable, train_batch: Any, val_batch: Any) -> Tensor:
        self.sam.poll()
        notes, validation, device = self._rehearsals[kind], Validation(self, val_batch), self.sam.device
        if not self._fits(notes, validation):
            return self._eager(train_batch, validation)
        train_place, val_place = self._placed_as(notes, train_batch, validation)
        self._state.settle()
        recording = Recording(notes, self._recorder.graph(notes.rewinds), device)
        self._fill_rates()
        recording.fill(self.sam.steps + 1)
        before = self._state.on_host()

        def body() -> None:
            recording.result = self._take(self.optimizer.advance, train_place, Validation(self, val_place))
            recording.last = _joined(self.sam.last)
            self._state.carry()

        host = RecordedHost(recording.plans, recording.graph, device)
        try:
            with self._hosted_by(lambda *_: host), self._capturable(), self._rates_as_tensors():
                recording.graph.record(body)
        except Exception as error:
            before.restore()
            result = self._eager(train_batch, validation)
            self._stay_eager(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return result
        recording.effects = before.effects(self._state.on_host())
        recording.structure = self._state.structure()
        self._recordings[kind] = recording
        if not recording.graph.executes:
            recording.graph.replay()
        return self._result(recording)

    def _again(self, recording: "Recording", train_batch: Any, val_batch: Any) -> Tensor:
        self.sam.poll()
        validation = Validation(self, val_batch)
        if not self._fits(recording.notes, validation):
            return self._eager(train_batch, validation)
        self._placed_as(recording.notes, train_batch, validation)
        self._state.settle()
        self._fill_rates()
        recording.fill(self.sam.steps + 1)
        recording.graph.replay()
        recording.effects.apply()
        self._state.left_by(recording.structure)
        return self._result(recording)

    def _result(self, recording: "Recording") -> Tensor:
        """Copies, for the next replay writes over what a graph gives."""
        self.sam.last = Last(*recording.last.clone().unbind())
        return recording.result.clone()

    # Where a graph finds what changes.

    def _placed(self, role: str, batch: Any) -> Any:
        """The batch in a place of its form."""
        key = role, form(batch)
        if key not in self._batches:
            self._batches[key] = StaticBatch(batch, self.sam.device)
            return self._batches[key].batch
        return self._batches[key].fill(batch)

    def _fits(self, notes: Rehearsal, validation: Validation) -> bool:
        """Whether there is a validation batch as the graph needs it."""
        return notes.validation is None or (validation.there and form(validation.make()) == notes.validation)

    def _placed_as(self, notes: Rehearsal, train_batch: Any, validation: Validation) -> tuple[Any, Any]:
        val = None if notes.validation is None else self._placed("val", validation.make())
        return self._placed("train", train_batch), val

    def _fill_rates(self) -> None:
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            lr = group["lr"]
            rate.copy_(lr) if isinstance(lr, Tensor) else rate.fill_(lr)

    @contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        with replaced(self.optimizer.param_groups, "lr", self._rates):
            yield

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Adam's groups ask for this to be said; it changes nothing that `fused` has not changed already."""
        groups = [group for group in self.optimizer.param_groups if "capturable" in group]
        with replaced(groups, "capturable", [True] * len(groups)):
            yield

    @contextmanager
    def _hosted_by(self, host_of: Callable[[int, torch.device], Host]) -> Iterator[None]:
        usual, self.sam.host_of = self.sam.host_of, host_of
        try:
            yield
        finally:
            self.sam.host_of = usual


class Recording:
    """A captured step: its graph, where it reads, what it gives, and what it does on the host."""

    result: Tensor
    last: Tensor
    effects: Effects
    structure: int

    def __init__(self, notes: Rehearsal, graph: Graph, device: torch.device):
        self.notes, self.graph = notes, graph
        self.plans = [StaticPlan(plan, value, device) for plan, value in notes.plans]

    def fill(self, number: int) -> None:
        """Make ready for the step with this number."""
        for plan in self.plans:
            plan.fill(number)


@contextmanager
def replaced(groups: Sequence[dict[str, Any]], key: str, values: Sequence[Any]) -> Iterator[None]:
    """Parameter groups with other values inside."""
    usual = [group[key] for group in groups]
    for group, value in zip(groups, values, strict=True):
        group[key] = value
    try:
        yield
    finally:
        for group, value in zip(groups, usual, strict=True):
            group[key] = value


def why_not(optimizer: Any) -> str | None:
    """Why no step of this optimizer can be captured, whatever the device; None if it may."""
    for part in {id(part): part for part in (optimizer.sam, optimizer)}.values():
        if not vars(type(part)).get("graphable", False):
            return f"{type(part).__name__} does not say `graphable = True`"
    if not optimizer.sam.alone:
        return "several processes share the batches"
    if not all(group.get("fused") for group in optimizer.param_groups):
        return f"{type(optimizer.base).__name__} is not fused: build it with fused=True"
    return None


def _joined(last: Last) -> Tensor:
    return torch.stack([getattr(last, name).double() for name in LAST])


def _settings(group: dict[str, Any]) -> Hashable:
    """All of a group but its parameters and its learning rate; a graph has these numbers built in."""
    kept = {key: value for key, value in group.items() if key not in ("params", "lr", "capturable")}
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in kept.items())
