"""MLflow: a local SQLite store beside the runs, or any tracking server."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lets_runner.record import Record
from lets_runner.report.runs import flat
from lets_runner.trackers.tracker import Tracker, numbers

SQLITE = "sqlite:///"
STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # and KILLED, of a run that will go on
METRICS, PARAMS = 1000, 100  # that MLflow takes in one request


class MLflow(Tracker):
    """One MLflow run a run, in the experiment of its data set and model; the configuration as parameters.

    A run that goes on is the same MLflow run. Rows past its checkpoint are logged again, at the same steps, and MLflow
    keeps both; on a CPU they are equal.

    Args:
        tracking_uri: of an SQLite file, whose artefacts go into `.mlflow/` beside it, or of a server.
        settings: those of every `Tracker`.
    """

    packages = ("mlflow", "sqlalchemy", "alembic")
    extra = "mlflow"

    def __init__(self, *, tracking_uri: str, **settings: Any):
        super().__init__(**settings)
        self.tracking_uri = tracking_uri

    def start(
        self, directory: Path, *, experiment: str, name: str, config: dict[str, Any], known_as: str | None, step: int
    ) -> str:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # and standard error, of every table that it makes
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(self.tracking_uri)
        if known_as is not None:
            self.run_id = known_as
            self.client.update_run(self.run_id, status="RUNNING")
            return self.run_id
        tags = {"directory": str(directory.resolve())}
        self.run_id = self.client.create_run(self._experiment(experiment), run_name=name, tags=tags).info.run_id
        self._log_config(flat(config))
        return self.run_id

    def log(self, record: Record) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for step, row in self.points(record) for key, value in row.items()]
        for part in _parts(metrics, METRICS):
            self.client.log_batch(self.run_id, metrics=part)

    def finish(self, summary: dict[str, Any], files: list[Path]) -> None:
        from mlflow.entities import Metric

        now, step = round(time.time() * 1000), summary.get("step", 0)
        metrics = [Metric(key, value, now, step) for key, value in numbers("summary", summary).items()]
        self.client.log_batch(self.run_id, metrics=metrics)
        for path in files:
            self.client.log_artifact(self.run_id, str(path))
        self.client.set_terminated(self.run_id, STATUS.get(summary.get("status", ""), "KILLED"))

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        place = None  # the server's choice
        if self.tracking_uri.startswith(SQLITE):
            store = Path(self.tracking_uri.removeprefix(SQLITE)).resolve()
            place = (store.parent / ".mlflow" / name).as_uri()  # hidden, so that a search for runs finds no copies
        try:
            return self.client.create_experiment(name, artifact_location=place)
        except MlflowException:  # mostly because it is there, and be it that another run of the sweep was quicker
            if (found := self.client.get_experiment_by_name(name)) is None:
                raise
            return found.experiment_id

    def _log_config(self, config: dict[str, Any]) -> None:
        from mlflow.entities import Param

        for part in _parts([Param(key, str(value)) for key, value in config.items()], PARAMS):
            self.client.log_batch(self.run_id, params=part)


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
