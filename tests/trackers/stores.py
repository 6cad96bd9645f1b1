"""What trackers have written, read back by their own readers: {name: {step: [values]}}."""

import json
import multiprocessing
import os
import signal
import struct
import time
from collections import defaultdict

from conftest import train

SHORT = ("data.val_fraction=0.2", "batch_size=128", "checkpoint.every_steps=3", "model=mlp", "model.width=8")


def every_step(*loggers):
    """Overrides that switch `loggers` on and thin nothing out."""
    return [f"logger=[{','.join(loggers)}]", *(f"logger.{logger}.every_steps=1" for logger in loggers)]


def killed(output, *overrides, step):
    """Train in another process, with a record a step, and die by SIGKILL when `step` is in the csv files."""
    child = multiprocessing.get_context("spawn").Process(target=_train_until, args=(output, step, *overrides))
    child.start()
    child.join(240)
    assert child.exitcode == -signal.SIGKILL


def _train_until(output, step, *overrides):
    from lets_runner import trainer
    from lets_runner.run.directory import Run

    os.environ.pop("WANDB_SERVICE", None)  # the parent's, where a run would outlive the process
    append = Run.append

    def append_and_die(self, record):
        append(self, record)
        if record.step == step:
            ids = self.directory / "trackers.json"
            while not ids.exists() or len(json.loads(ids.read_text())) < 3:
                time.sleep(0.1)
            time.sleep(2)  # for the trackers to get through with the records before
            os.kill(os.getpid(), signal.SIGKILL)

    Run.append, trainer.MIN_RECORD_SECONDS = append_and_die, 0.0
    train(output, *overrides)


def columns(points):
    found = defaultdict(lambda: defaultdict(list))
    for name, step, value in points:
        found[name][step].append(value)
    return found


def tensorboard(directory):
    accumulator = _accumulator(directory)
    return columns(
        (tag, event.step, event.value) for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)
    )


def tensorboard_text(directory, name):
    [event] = _accumulator(directory).Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def tensorboard_image(directory, name):
    [event] = _accumulator(directory).Images(name)
    return event.width, event.height


def _accumulator(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory / "tensorboard"), {"scalars": 0, "tensors": 0, "images": 0})
    return accumulator.Reload()


def mlflow(output, experiment):
    """The client, the one run of `experiment` in the store of `output`, and its metrics."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    metrics = columns(
        (name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    )
    return client, run, metrics


def wandb(folder):
    """The run's record, and its history."""
    records = list(_wandb_records(next(folder.glob("run-*.wandb"))))
    [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    history = columns(
        (item.nested_key[0], record.history.step.num, json.loads(item.value_json))
        for record in records
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    )
    return run, history


def _wandb_records(path):
    """The file is LevelDB's log format behind seven bytes: https://github.com/google/leveldb/blob/main/doc/log_format.md"""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # of a block
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""
