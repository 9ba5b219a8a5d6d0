"""MLflow logger, in the run folder or on a server.

If MLflow is not installed, or the server does not answer or stops during the run, training
continues and ``metrics.csv`` is complete. Each job has one MLflow run, found by a tag, so that a
resumed job continues its run.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.errors import Interrupted, Preempted
from mla_lightning.loggers.base import import_or_warn, print_now
from mla_lightning.loggers.parameters import PROVENANCE, parameters_of, run_name
from mla_lightning.loggers.rows import RowLogger
from mla_lightning.loggers.wandb_result import summary_of
from mla_lightning.run_folder.config import RunConfig

#: Tag of an MLflow run with the id of its job.
ID_TAG = "mla_lightning.run_id"
#: MLflow's own tag of the commit, which its list of runs shows as their version.
COMMIT_TAG = "mlflow.source.git.commit"
#: Folder in the run folder.
FOLDER = "mlflow"
#: MLflow accepts at most so many parameters and metrics in one request.
MAX_PARAMETERS, MAX_METRICS = 100, 1000
#: Longer values of parameters are cut by all versions.
MAX_LENGTH = 500
_FORBIDDEN = re.compile(r"[^\w/. :-]", re.ASCII)


class Mlflow:
    """Factory of MLflow runs, one per job; without a server in the run folder.

    Example:
        >>> Mlflow(tracking_uri="http://localhost:5000").timeout_s
        8
    """

    def __init__(self, *, tracking_uri: str | None = None, timeout_s: int = 8) -> None:
        """Set the place of the runs.

        Args:
            tracking_uri: Address of a server or a store; None for the variable
                ``MLFLOW_TRACKING_URI``, and for a folder in the run folder if it is not set.
            timeout_s: Seconds to wait for each answer of a server.
        """
        self.tracking_uri = tracking_uri
        self.timeout_s = timeout_s

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> MlflowRun | None:
        """Start or continue the MLflow run of a job.

        Args:
            config: The resolved config, sent as parameters with dotted keys, as is the provenance.
            run_dir: The run folder.
            run_id: Id of the job, by which its run is found again.

        Returns:
            The logger; None if MLflow is not installed or cannot start.
        """
        # MLflow reads these when it is imported, and at each request.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # 3.17 would refuse a folder
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(self.timeout_s))
        if import_or_warn("mlflow") is None:
            return None
        local = (run_dir / FOLDER).absolute().as_uri()
        place = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or local
        for uri in dict.fromkeys((place, local)):
            try:
                return self._start(uri, config, run_dir, run_id)
            except Exception as error:  # errors of the service must not end a job
                reason = mask_secrets(str(error).strip().partition("\n")[0])[:300]
                rest = f"continuing in {run_dir / FOLDER}" if uri != local else "metrics.csv only"
                print_now(f"MLflow could not start at {_without_password(uri)} ({reason}); {rest}.")
        return None

    def _start(self, uri: str, config: RunConfig, run_dir: Path, run_id: str) -> MlflowRun:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        (run_dir / FOLDER).mkdir(exist_ok=True)
        client = MlflowClient(uri)
        experiment = _experiment_of(client, config.name)
        filter_string = f"tags.`{ID_TAG}` = '{run_id}'"
        found = [] if config.overwrite else client.search_runs([experiment], filter_string)
        if found:
            run = found[0]
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            values = parameters_of(config, run_dir)
            commit = values.get(f"{PROVENANCE}.git_commit")
            tags = {ID_TAG: run_id} | ({COMMIT_TAG: commit} if commit else {})
            run = client.create_run(experiment, tags=tags, run_name=run_name(config))
            parameters = [
                Param(_FORBIDDEN.sub("_", key), str(value)[:MAX_LENGTH])
                for key, value in values.items()
            ]
            for part in _parts(parameters, MAX_PARAMETERS):
                client.log_batch(run.info.run_id, params=part)
        return MlflowRun(client, run.info.run_id, uri, run_dir, is_new=not found)


class MlflowRun(RowLogger):
    """Logger that writes one row per step to an MLflow run, and no step twice after a resume."""

    service = "MLflow"

    def __init__(
        self, client: Any, mlflow_id: str, uri: str, run_dir: Path, *, is_new: bool
    ) -> None:
        """Read the last logged step.

        Args:
            client: The MLflow client.
            mlflow_id: Id of the MLflow run.
            uri: Address of the server or the store.
            run_dir: The run folder.
            is_new: Whether nothing was logged to the run before.
        """
        super().__init__(run_dir / FOLDER)
        if is_new:
            self._last_step = -1
        self._client = client
        self._id = mlflow_id
        self._uri = uri
        self._run_dir = run_dir

    @property
    def experiment(self) -> Any:
        """The MLflow client."""
        return self._client

    @property
    def name(self) -> str:
        """The service."""
        return FOLDER

    @property
    def version(self) -> str:
        """Id of the MLflow run."""
        return self._id

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._run_dir)

    def send(self, row: Mapping[str, Any], step: int) -> None:
        """Send the metrics of one step."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = [Metric(_metric_name(key), float(value), now, step) for key, value in row.items()]
        for part in _parts(metrics, MAX_METRICS):
            self._client.log_batch(self._id, metrics=part)

    def finish(self, exit_code: int) -> None:
        """Send the last row and the result, and set the status of the run.

        Args:
            exit_code: Exit code of the job: 0 is FINISHED, an interruption or preemption KILLED,
                others FAILED.
        """
        self.send_row()
        if exit_code == 0:
            summary = summary_of(self._run_dir)
            self._row = {k: v for k, v in summary.items() if isinstance(v, int | float)}
            self._step = max(self._step, 0)
            self.send_row()
        if not self._is_broken:
            is_killed = exit_code in (Interrupted.exit_code, Preempted.exit_code)
            status = "FINISHED" if exit_code == 0 else "KILLED" if is_killed else "FAILED"
            self._client.set_terminated(self._id, status)
        if self._uri.startswith("file:"):
            folder = shlex.quote(str(self._run_dir / FOLDER))
            show = f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {folder}"
            print_now(f"MLflow: show it with  {show}")


def _metric_name(key: str) -> str:
    """Return a key without a second slash: a folder cannot hold val/acc and val/acc/image."""
    first, slash, rest = _FORBIDDEN.sub("_", key).partition("/")
    return f"{first}{slash}{rest.replace('/', '.')}"


def _parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _experiment_of(client: Any, name: str) -> str:
    """Return the id of an experiment; make it if there is none."""
    for _ in range(2):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name))
        except Exception as error:  # another job of the sweep may have made it just now
            failure = error
    raise failure


def _without_password(uri: str) -> str:
    """Return an address without the user and password in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
