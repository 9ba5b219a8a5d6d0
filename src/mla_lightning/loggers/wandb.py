"""Weights & Biases logger with a copy of ``metrics.csv``.

If the service is not installed, does not answer, rejects the key or stops during the run, training
continues and ``metrics.csv`` is complete. Each job has one run whose id depends on config, data and
code, so that a resumed job continues its run.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.errors import Interrupted, Preempted
from mla_lightning.loggers.base import import_or_warn, print_now
from mla_lightning.loggers.best import best_value, best_values, directions
from mla_lightning.loggers.parameters import parameters_of, run_name
from mla_lightning.loggers.rows import RowLogger
from mla_lightning.loggers.wandb_artifacts import MODEL, PREDICTIONS, send_artifact
from mla_lightning.loggers.wandb_result import charts_of, summary_of
from mla_lightning.run_folder.columns import EPOCH, STEP
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.reader import RunFiles

#: Length of a W&B run id: short for its pages, long enough to be unique.
ID_LENGTH = 16
#: W&B rejects longer tags.
MAX_TAG_LENGTH = 64


class Wandb:
    """Factory of Weights & Biases runs, one per job; without an account if offline.

    Example:
        >>> Wandb(project="my_project", entity="my_team").mode
        'offline'
    """

    #: W&B imports the second one when a run starts, which takes half of the time of the start.
    heavy_imports = ("wandb", "wandb.sdk.launch")

    def __init__(
        self,
        *,
        project: str = "mla_lightning",
        entity: str | None = None,
        mode: Literal["offline", "online", "disabled"] = "offline",
        init_timeout_s: float = 8.0,
        finish_timeout_s: float = 60.0,
        log_model: bool = False,
        log_predictions: bool = False,
    ) -> None:
        """Set project, mode, time limits and artifacts.

        Args:
            project: The W&B project.
            entity: The user or team; None for the account's default.
            mode: ``offline`` writes files to the run folder, for ``wandb sync``. ``online`` sends
                metrics, and changes to offline if the server does not answer or rejects the key.
                ``disabled`` logs nothing.
            init_timeout_s: Seconds to wait for the server's answer at the start.
            finish_timeout_s: Seconds to send the remaining data at the end; what could not be sent
                stays on disk.
            log_model: Whether a finished run adds an artifact of type ``model``: the selected
                weights with config, provenance and result, from which the run can be loaded.
            log_predictions: Whether it adds one of type ``predictions``: those on test.
        """
        self.project = project
        self.entity = entity
        self.mode = mode
        self.init_timeout_s = init_timeout_s
        self.finish_timeout_s = finish_timeout_s
        self.log_model = log_model
        self.log_predictions = log_predictions
        #: Last words of the message if W&B cannot start.
        self.without_wandb = "metrics are written to metrics.csv only"

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> WandbRun | None:
        """Start or continue the W&B run of a job.

        Args:
            config: The resolved config, uploaded with dotted keys, as is the provenance.
            run_dir: The run folder, in which W&B writes its files.
            run_id: Id of the job; W&B gets its first characters.

        Returns:
            The logger; None if W&B is disabled, not installed or cannot start.
        """
        if self.mode == "disabled":
            return None
        wandb = import_or_warn("wandb")
        if wandb is None:
            return None
        os.environ.pop("WANDB_SERVICE", None)  # the service of another process ends with it
        # No crash reports: with mode=offline nothing must be sent, not even about W&B itself.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        arguments = {
            "project": self.project,
            "entity": self.entity,
            "id": run_id[:ID_LENGTH],
            # None replaces the run with this id, as overwrite=true demands.
            "resume": None if config.overwrite else "allow",
            "reinit": "finish_previous",  # otherwise an unfinished run would get this job's metrics
            "group": config.name,
            "tags": [tag] if (tag := config.name.partition("/")[0][:MAX_TAG_LENGTH]) else [],
            "job_type": config.choices["method"],
            "name": run_name(config),
            "dir": str(run_dir),
            "config": parameters_of(config, run_dir),
            "settings": self._settings(wandb),
        }
        best = directions(config)  # an error in the config comes before the run starts
        run = None
        if self.mode == "online":
            run = self._start(wandb, arguments, "online")
            if run is None:
                wandb.teardown()  # its service still has the run open
        run = run or self._start(wandb, arguments, "offline")
        if run is None:
            return None
        asked = {MODEL: self.log_model, PREDICTIONS: self.log_predictions}
        artifacts = [kind for kind, is_asked in asked.items() if is_asked]
        return WandbRun(wandb, run, run_dir, best=best, artifacts=artifacts)

    def _start(self, wandb: Any, arguments: Mapping[str, Any], mode: str) -> Any:
        """Return a started W&B run; print a message and return None if it cannot start."""
        started = time.monotonic()
        try:
            return wandb.init(**arguments, mode=mode)
        except Exception as error:  # errors of the service must not end a job
            reason = mask_secrets(str(error).strip().partition("\n")[0])
            duration = f"{time.monotonic() - started:.0f} s"
            fallback = "continuing offline" if mode == "online" else self.without_wandb
            print_now(f"W&B could not start {mode} after {duration} ({reason}); {fallback}.")
            return None

    def _settings(self, wandb: Any) -> Any:
        """Return settings with short time limits, without output and without command lines."""
        settings = {
            "init_timeout": self.init_timeout_s,
            "finish_timeout": self.finish_timeout_s,
            "silent": True,
            "console": "off",  # the log is in the run folder
            "save_code": False,
            "disable_git": True,
            "x_disable_meta": True,  # it would store the command line
            "x_save_requirements": False,
            "x_transaction_log_flush_interval": 1.0,  # seconds of data that a kill can lose
        }
        known = wandb.Settings.model_fields  # some supported versions do not have all of them
        return wandb.Settings(**{key: value for key, value in settings.items() if key in known})


class WandbRun(RowLogger):
    """Logger that writes one row per step to a W&B run, and no step twice after a resume."""

    service = "W&B"

    def __init__(
        self,
        wandb: Any,
        run: Any,
        run_dir: Path,
        *,
        best: Mapping[str, str],
        artifacts: Sequence[str] = (),
    ) -> None:
        """Read the last logged step.

        Args:
            wandb: The module ``wandb``.
            run: The started W&B run.
            run_dir: The run folder.
            best: Validation metric -> whether its best value is the ``max`` or the ``min``.
            artifacts: Types of the artifacts to add when the job is finished.
        """
        super().__init__(run_dir / "wandb")
        self.is_offline = bool(run.settings._offline)
        self.sync_dir = Path(run.settings.sync_dir)
        self._wandb = wandb
        self._run = run
        self._run_dir = run_dir
        self._best = best
        self._artifacts = artifacts
        self._defined: set[str] = set()

    @property
    def experiment(self) -> Any:
        """The W&B run."""
        return self._run

    @property
    def name(self) -> str:
        """The run's project."""
        return str(self._run.project)

    @property
    def version(self) -> str:
        """The run's id."""
        return str(self._run.id)

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._run_dir)

    def send(self, row: Mapping[str, Any], step: int) -> None:
        """Send the metrics of one step; those of an epoch are drawn over epochs."""
        if EPOCH in row:
            for key in sorted(row.keys() - self._defined - {EPOCH, STEP}):
                best = best_value(key, self._best)
                summary = f"{best},last" if best else None
                self._run.define_metric(key, step_metric=EPOCH, summary=summary)
            self._defined |= row.keys()
        self._run.log(row, step=step, commit=True)

    def finish(self, exit_code: int) -> None:
        """Send the last row and the result, and finish the run.

        Args:
            exit_code: Exit code of the job. W&B shows a run that was interrupted or preempted as
                preempted, and as failed for other codes than 0.
        """
        self.send_row()
        self._send_best()
        if exit_code == 0:
            self._send_result()
            self._send_artifacts()
        if exit_code in (Interrupted.exit_code, Preempted.exit_code):
            self._run.mark_preempting()
        self._run.finish(exit_code=exit_code)
        self._wandb.teardown()  # its service process must not outlive a forked job
        if self.is_offline:
            print_now(f"W&B: upload with  wandb sync {shlex.quote(str(self.sync_dir))}")

    def _send_best(self) -> None:
        """Send the best value of each metric; W&B has that of the last attempt if it resumed."""
        try:
            self._run.summary.update(best_values(RunFiles(self._run_dir).metrics, self._best))
        except Exception as error:
            print_now(f"W&B accepts no best values ({mask_secrets(str(error))}).")

    def _send_result(self) -> None:
        """Send summary, tables and charts; errors are printed."""
        try:
            self._run.summary.update(summary_of(self._run_dir))
            charts = charts_of(self._run_dir, self._wandb)
            if charts and not self._is_broken:
                self._run.log(charts, step=self._run.step, commit=True)
        except Exception as error:
            print_now(f"W&B accepts no result ({mask_secrets(str(error))}); the run folder has it.")

    def _send_artifacts(self) -> None:
        """Add model and predictions if they were asked for; errors are printed."""
        for kind in self._artifacts:
            try:
                send_artifact(self._run_dir, self._wandb, self._run, kind)
            except Exception as error:
                print_now(f"W&B: {self._run_dir} has no {kind} to send: {mask_secrets(str(error))}")
