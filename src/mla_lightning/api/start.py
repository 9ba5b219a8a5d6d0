"""Functions that train a run, train many runs, or load one."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning import _imported_at
from mla_lightning.api.process import (
    check_torch_modes,
    folder_errors_reported,
    process_settings_restored,
)
from mla_lightning.api.runs import Run, Runs, packages_allowed, remember_packages
from mla_lightning.config import Job, compose_jobs
from mla_lightning.config.overrides import format_override_value, plain_value
from mla_lightning.config.targets import instantiate, targets_allowed
from mla_lightning.errors import ConfigError, RunError, reason_of
from mla_lightning.identity.sources import find_source
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import CONFIG


def train(
    *overrides: str,
    config_dir: Path | str | None = None,
    allow: Sequence[str] = (),
    folder: Path | str | None = None,
    **choices: Any,
) -> Run:
    """Train one run in this process, or load it if it is already finished.

    Args:
        *overrides: Overrides as ``mla train`` takes them: ``"method=mla"``, ``"optimizer.lr=0.1"``.
        config_dir: A folder with your own ``method/``, ``data/`` and so on.
        allow: Your own packages whose classes configs may name.
        folder: The folder below which runs are written, ``runs`` by default.
        **choices: Overrides as keyword arguments: ``method="mla", seed=3``.

    Returns:
        The finished run.

    Raises:
        ConfigError: If the config is wrong; nothing has started then.
        DataError: If the data are missing or damaged.
        RunError: If training failed. The run folder holds the reason, and the same call continues
            from the last checkpoint.

    Example:
        >>> run = mla.train("data=synthetic", method="concat", seed=1, folder=tmp,
        ...                 **{"trainer.max_epochs": 1})
        >>> run.config.seed, run.result.method
        (1, 'concat')
        >>> mla.train("method=cncat")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: Unknown method 'cncat'. Did you mean 'concat'? ...
        >>> mla.train("method=mla", launcher="slurm")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher=slurm has no effect: mla.train trains in this ...
    """
    check_torch_modes(trains=True)
    values = _axes(choices)
    for key, several in values.items():
        if len(several) > 1:
            raise ConfigError(
                f"{key}={several} has several values. Use mla.sweep to train one run for each; "
                f"for a list as the value, write {key}=[{several}]."
            )
    all_overrides = _all_overrides(overrides, values, folder)
    for word in all_overrides:
        if word.startswith(("launcher=", "launcher.")):
            raise ConfigError(
                f"{word} has no effect: mla.train trains in this process. mla.sweep starts jobs, "
                "also a single one, with a launcher."
            )
    with folder_errors_reported(), process_settings_restored(), targets_allowed():
        (job,) = compose_jobs(all_overrides, config_dir=_path(config_dir), allowed=allow)
        _check_code_is_unchanged([job])
        from mla_lightning.run.preflight import check_before_start
        from mla_lightning.run.train import train_job

        check_before_start([job])

        train_job(job)
    remember_packages(job.run_dir, allow)
    return Run(job.run_dir)


def sweep(
    *overrides: str,
    config_dir: Path | str | None = None,
    allow: Sequence[str] = (),
    folder: Path | str | None = None,
    check: bool = True,
    **axes: Any,
) -> Runs:
    """Train many runs in parallel, one per core, and wait for them.

    Every run has its own process, as with ``mla train -m``, and is independent of the state of this
    process. Finished jobs are skipped; after a failure the same call continues with the others.

    Args:
        *overrides: Overrides as ``mla train -m`` takes them: ``"method=mla,concat"``.
        config_dir: A folder with your own ``method/``, ``data/`` and so on.
        allow: Your own packages whose classes configs may name.
        folder: The folder below which runs are written, ``runs`` by default.
        check: Raise an error if a job did not finish; else ``unfinished`` of the returned runs
            lists it.
        **axes: Overrides as keyword arguments; a list, array or other iterable is an axis of the
            sweep: ``method=["mla", "concat"], seed=range(3)``.

    Returns:
        The runs.

    Raises:
        ConfigError: If a config is wrong; nothing has started then.
        RunError: If a job did not finish; the message lists each with its reason.

    Example:
        >>> runs = mla.sweep("data=synthetic", "trainer.max_epochs=1", seed=range(2), folder=tmp)
        >>> [run.config.seed for run in runs]
        [0, 1]
    """
    all_overrides = _all_overrides(overrides, _axes(axes), folder)
    with folder_errors_reported(), process_settings_restored(), targets_allowed():
        jobs = compose_jobs(
            all_overrides, multirun=True, config_dir=_path(config_dir), allowed=allow
        )
        if getattr(instantiate(jobs[0].config.launcher), "runs_here", True):
            from mla_lightning.run.preflight import check_before_start as check_jobs
        else:
            from mla_lightning.run.submission import check_before_submission as check_jobs
        check_jobs(jobs)
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    flags += [word for package in allow for word in ("--allow-target", package)]
    command = [sys.executable, "-m", "mla_lightning.cli.main", "train", "-m", *flags]
    command += all_overrides
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.run(
        command, env=environment, check=False, stderr=subprocess.PIPE, text=True
    )
    folders = list(dict.fromkeys(job.run_dir for job in jobs))
    for run_dir in folders:
        remember_packages(run_dir, allow)
    with folder_errors_reported():
        unfinished = _unfinished(jobs, process.stderr.strip())
    if check and (unfinished or process.returncode):
        listed = "".join(f"\n  {title}: {reason}" for title, reason in unfinished)
        raise RunError(
            f"{len(unfinished)} of {len(jobs)} jobs did not finish. The same call continues with "
            f"them; check=False returns the other runs.{listed or process.stderr}"
        )
    return Runs(folders, unfinished)


def _unfinished(jobs: Sequence[Job], error: str) -> list[tuple[str, str]]:
    """Return title, state and reason of the jobs that did not finish.

    Args:
        jobs: The jobs of a sweep.
        error: The error message of the sweep, the reason of jobs that have no run folder.
    """
    folders = [f for f in dict.fromkeys(job.run_dir for job in jobs) if (f / CONFIG).is_file()]
    rows = {run.path: run for run in read_runs(folders)} if folders else {}
    unfinished = []
    for job in jobs:
        run = rows.get(job.run_dir)
        if run is None:
            reason = _folder_problem(job.run_dir) or error or "not started"
            unfinished.append((job.title, reason))
        elif not run.is_finished:
            unfinished.append((job.title, f"{run.state}: {run.reason}"))
    return unfinished


def _folder_problem(run_dir: Path) -> str:
    """Return why a run folder cannot be used, in the words of the sweep; empty if it can be."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            return ""
    except OSError as error:
        return f"failed: its folder cannot be used: {reason_of(error)}"


def load(folder: Path | str, *, allow: Sequence[str] = (), **data_options: Any) -> Run:
    """Load a finished run.

    Args:
        folder: The run folder.
        allow: Your own packages whose classes its config names. It is not needed for runs that
            this process trained.
        **data_options: Options of its data that changed since, such as ``path``.

    Returns:
        The run.

    Raises:
        RunError: If the folder holds no finished run.
        ConfigError: If its data set has no such option.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> mla.load(run.folder).scores == run.scores
        True
        >>> mla.load("nowhere")
        Traceback (most recent call last):
        mla_lightning.errors.NoRunError: nowhere ...config.yaml...
    """
    from mla_lightning.run.finished import finished_run

    with folder_errors_reported():
        finished_run(Path(folder))
    run = Run(folder)
    remember_packages(run.folder, allow)
    run._data_options = _checked_data_options(run, data_options)
    return run


def _checked_data_options(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a run's data as plain values; raise ConfigError if one is wrong."""
    if not options:
        return {}
    from mla_lightning.config.bind import find_signature_problems

    plain = {name: plain_value(f"data.{name}", value) for name, value in options.items()}
    with packages_allowed([run.folder]):
        problems = find_signature_problems({"data": {**run.config.data, **plain}})
    wrong = [text for text in problems for name in plain if re.match(rf"data\.{name}\b", text)]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return plain


def _all_overrides(
    overrides: Sequence[str], choices: Mapping[str, Sequence[Any]], folder: Path | str | None
) -> list[str]:
    """Return overrides, keyword arguments and the output folder as words of the command line."""
    for text in overrides:
        if not isinstance(text, str):
            raise ConfigError(
                f"Overrides are texts such as 'seed=1', not {text!r} ({type(text).__name__}). "
                "Write key=value as a keyword argument, or *list for a list of texts."
            )
    texts = list(overrides)
    for key, values in choices.items():
        texts.append(f"{key}={','.join(map(format_override_value, values))}")
    if folder is not None:
        texts.append(f"paths.output_dir={format_override_value(str(folder))}")
    return texts


def _axes(choices: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each keyword argument, several if it is an axis of a sweep.

    Raises:
        ConfigError: If a value cannot be in a config, or an axis is empty.
    """
    axes = {}
    for key, value in choices.items():
        plain = plain_value(key, value)
        axes[key] = plain if isinstance(plain, list) else [plain]
        if not axes[key]:
            raise ConfigError(
                f"{key}=[] is an axis of a sweep without values: give at least one. "
                f"For an empty list as the value, write {key}=[[]]."
            )
    return axes


def _path(folder: Path | str | None) -> Path | None:
    return None if folder is None else Path(folder)


#: Module -> modification time of its file, as of its first use in this process.
_first_times: dict[str, float] = {}


def _check_code_is_unchanged(jobs: Sequence[Job]) -> None:
    """Check that the code that this process imported is still the code on the disk.

    Raises:
        RunError: If a file was edited since: the run would record code that it does not use.
    """
    for module in dict.fromkeys(name for job in jobs for name in job.code.modules):
        source = find_source(module)
        if source is None:
            continue
        time = source.path.stat().st_mtime
        is_edited = time > _first_times.setdefault(module, time) or _is_newer_than_import(module)
        if is_edited and module in sys.modules:
            raise RunError(
                f"{source.path} was changed since this process imported it, so a run would record "
                "code that it does not use. Restart Python (in a notebook, the kernel)."
            )


def _is_newer_than_import(module: str) -> bool:
    """Return whether a file was edited in this process, after Python had written its bytecode."""
    loaded = sys.modules.get(module)
    source, cached = getattr(loaded, "__file__", None), getattr(loaded, "__cached__", None)
    try:
        flags, time, size = struct.unpack("<3I", Path(cached or "").read_bytes()[4:16])
        status = Path(source or "").stat()
    except (OSError, struct.error):
        return False  # no bytecode was written
    now = int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF
    is_edited = status.st_mtime > _imported_at
    return is_edited and flags == 0 and (time, size) != now
