"""Weights & Biases: a copy of ``metrics.csv`` that decides nothing.

Whatever the service does (missing, unreachable, wrong key, gone in the middle), training
goes on and ``metrics.csv`` is complete. One run per job: its id is the job's identity, so a resumed
job continues its run.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger

from mla_lightning.config.secrets import is_secret_key, mask_secrets
from mla_lightning.errors import Interrupted, Preempted
from mla_lightning.loggers.base import import_or_say, say
from mla_lightning.loggers.wandb_result import charts_of, summary_of
from mla_lightning.run_folder.config import RunConfig

#: Length of a W&B run id: short enough for its pages, long enough never to collide.
ID_LENGTH = 16
LAST_STEP = ".last_step"
#: W&B refuses longer tags.
LONGEST_TAG = 64


class Wandb:
    """Weights & Biases, one run per job, grouped by experiment; needs no account when offline."""

    #: The second is what every run imports late, half of the time of its start.
    heavy_imports = ("wandb", "wandb.sdk.launch")

    def __init__(
        self,
        *,
        project: str = "mla_lightning",
        entity: str | None = None,
        mode: Literal["offline", "online", "disabled"] = "offline",
        init_timeout_s: float = 8.0,
        finish_timeout_s: float = 60.0,
    ) -> None:
        """Choose where runs go.

        Args:
            project: The W&B project.
            entity: The user or team, None for the account's own.
            mode: ``offline`` writes below the run folder, for ``wandb sync``. ``online`` sends, and
                turns to offline if the server does not answer or does not accept the key.
            init_timeout_s: Seconds that the server has to answer.
            finish_timeout_s: Seconds that it has to take the rest at the end; what it does not take
                stays on disk.
        """
        self.project = project
        self.entity = entity
        self.mode = mode
        self.init_timeout_s = init_timeout_s
        self.finish_timeout_s = finish_timeout_s
        #: What is told to follow where W&B cannot start at all.
        self.otherwise = "going on with metrics.csv alone"

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> WandbRun | None:
        """Start the job's run, or continue it.

        Args:
            config: The resolved config, uploaded once with dotted keys.
            run_dir: The run folder, which W&B writes its files to.
            run_id: The run's id on the server.

        Returns:
            The logger, or None if W&B is disabled, not installed or cannot start.
        """
        if self.mode == "disabled":
            return None
        wandb = import_or_say("wandb")
        if wandb is None:
            return None
        os.environ.pop("WANDB_SERVICE", None)  # another process's service ends with that process
        # No crash reports: who chose offline wants nothing sent, not even about W&B itself.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        choices = config.choices
        variant = [] if choices.get("ablation", "none") == "none" else [choices["ablation"]]
        about = {
            "project": self.project,
            "entity": self.entity,
            "id": run_id[:ID_LENGTH],
            # None replaces the run of the same id, which training again from the start is meant to.
            "resume": None if config.overwrite else "allow",
            "reinit": "finish_previous",  # a forgotten run would swallow this job's metrics
            "group": config.name,
            "tags": [tag] if (tag := config.name.partition("/")[0][:LONGEST_TAG]) else [],
            "job_type": choices["method"],
            "name": " ".join([choices["method"], *variant, f"seed={config.seed}"]),
            "dir": str(run_dir),
            "config": dict(_flat(config.tree)),
            "settings": self._settings(wandb),
        }
        run = None
        if self.mode == "online":
            run = self._start(wandb, about, "online")
            if run is None:
                wandb.teardown()  # its service still holds the id
        run = run or self._start(wandb, about, "offline")
        return None if run is None else WandbRun(wandb, run, run_dir)

    def _start(self, wandb: Any, about: Mapping[str, Any], mode: str) -> Any:
        begun = time.monotonic()
        try:
            return wandb.init(**about, mode=mode)
        except Exception as error:  # whatever the service does must not end a job
            reason = mask_secrets(str(error).strip().partition("\n")[0])
            after = f"after {time.monotonic() - begun:.0f} s"
            then = "going on offline" if mode == "online" else self.otherwise
            say(f"W&B could not start {mode} {after} ({reason}); {then}.")
            return None

    def _settings(self, wandb: Any) -> Any:
        """Keep W&B quiet, quick to give up, and from collecting command lines."""
        wanted = {
            "init_timeout": self.init_timeout_s,
            "finish_timeout": self.finish_timeout_s,
            "silent": True,
            "console": "off",  # the log is in the run folder
            "save_code": False,
            "disable_git": True,
            "x_disable_meta": True,  # would store the command line
            "x_save_requirements": False,
            "x_transaction_log_flush_interval": 1.0,  # what a kill can lose of the offline file
        }
        known = wandb.Settings.model_fields  # not every version that we allow has them all
        return wandb.Settings(**{key: value for key, value in wanted.items() if key in known})


class WandbRun(Logger):
    """Hands metrics to a W&B run: one row per step, and no step twice however often resumed.

    The last step handed over is kept in a file. A job that is killed and goes on from an earlier
    checkpoint computes some steps again, bit for bit; these rows are left out.
    """

    def __init__(self, wandb: Any, run: Any, run_dir: Path) -> None:
        """Take a started run over.

        Args:
            wandb: The module.
            run: The run.
            run_dir: The run folder.
        """
        super().__init__()
        self.is_offline = bool(run.settings._offline)
        self.sync_dir = Path(run.settings.sync_dir)
        self._wandb = wandb
        self._run = run
        self._run_dir = run_dir
        self._last_step_file: Path | None = run_dir / "wandb" / LAST_STEP
        self._last_step = self._read_last_step()
        self._step = -1
        self._row: dict[str, Any] = {}
        self._is_broken = False

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

    def begin_afresh(self) -> None:
        """Take every step, whatever was handed over before, and leave no mark of it: a copy."""
        self._last_step_file, self._last_step = None, -1

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the whole config was uploaded when the run started."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect a step's metrics; a row is handed over when the next step begins.

        Args:
            metrics: Metric -> value.
            step: The step, None for the current one.
        """
        step = max(self._step, 0) if step is None else max(self._step, step)
        if step <= self._last_step:
            return
        if step > self._step:
            self._hand_over()
            self._step = step
        self._row |= metrics

    def finish(self, exit_code: int) -> None:
        """Hand the last row and the result over, and end the run.

        Args:
            exit_code: The job's. A run that was told to stop is shown as preempted, other codes
                than 0 as failed.
        """
        self._hand_over()
        if exit_code == 0:
            self._show_result()
        if exit_code in (Interrupted.exit_code, Preempted.exit_code):
            self._run.mark_preempting()
        self._run.finish(exit_code=exit_code)
        self._wandb.teardown()  # its service process would outlive a forked job
        if self.is_offline:
            say(f"W&B: upload with  wandb sync {shlex.quote(str(self.sync_dir))}")

    def _show_result(self) -> None:
        """Send summary, tables and charts; what goes wrong there ends nothing else."""
        try:
            self._run.summary.update(summary_of(self._run_dir))
            charts = charts_of(self._run_dir, self._wandb)
            if charts and not self._is_broken:
                self._run.log(charts, step=self._run.step, commit=True)
        except Exception as error:
            say(f"W&B takes no result ({mask_secrets(str(error))}); the run folder has it.")

    def _hand_over(self) -> None:
        row, self._row = self._row, {}
        if not row or self._is_broken:
            return
        try:
            self._run.log(row, step=self._step, commit=True)
            if self._last_step_file is not None:
                self._last_step_file.write_text(str(self._step), encoding="ascii")
        except Exception as error:  # a full disk, a dead service: the metrics are in metrics.csv
            self._is_broken = True
            say(f"W&B takes no more metrics ({mask_secrets(str(error))}); metrics.csv goes on.")

    def _read_last_step(self) -> int:
        if self._last_step_file is None:
            return -1
        try:
            return int(self._last_step_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return -1


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten a config to dotted keys; secrets were refused before, and are blotted out here."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif is_secret_key(str(key)):
            yield f"{prefix}{key}", "***"
        else:
            yield f"{prefix}{key}", mask_secrets(value) if isinstance(value, str) else value
