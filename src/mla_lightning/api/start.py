"""Train one run, a sweep of them, or load one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mla_lightning.api.runs import Run, Runs
from mla_lightning.config import Job, compose_jobs
from mla_lightning.config.overrides import spell_value
from mla_lightning.errors import RunError
from mla_lightning.identity.sources import find_source
from mla_lightning.report.read.run_folders import read_runs


def train(
    *overrides: str,
    config_dir: Path | str | None = None,
    allow: Sequence[str] = (),
    folder: Path | str | None = None,
    **choices: Any,
) -> Run:
    """Train one run in this process, or load it where it is finished.

    Args:
        *overrides: As ``mla train`` takes them: ``"method=mla"``, ``"optimizer.lr=0.1"``.
        config_dir: A folder with your own ``method/``, ``data/`` and others.
        allow: Packages of yours that configs may name classes of.
        folder: Where runs go, ``runs`` by default.
        **choices: The same without dots: ``method="mla", seed=3``.

    Returns:
        The finished run.

    Raises:
        ConfigError: If the config is wrong; nothing has started then.
        DataError: If the data are missing or damaged.
        RunError: If training failed; the folder has the reason, and the same call goes on.

    Example:
        >>> run = mla.train("data=synthetic", method="concat", seed=1, folder=tmp,
        ...                 **{"trainer.max_epochs": 1})
        >>> run.config.seed, run.result.method
        (1, 'concat')
        >>> mla.train("method=cncat")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: Unknown method 'cncat'. Did you mean 'concat'? ...
    """
    words = _words(overrides, choices, folder)
    jobs = compose_jobs(words, config_dir=_path(config_dir), allowed=allow)
    _refuse_edited_code(jobs)
    from mla_lightning.run.train import train_job

    with _settings_kept():
        train_job(jobs[0])
    return Run(jobs[0].run_dir)


def sweep(
    *overrides: str,
    config_dir: Path | str | None = None,
    allow: Sequence[str] = (),
    folder: Path | str | None = None,
    check: bool = True,
    **axes: Any,
) -> Runs:
    """Train many runs, as many at a time as there are cores, and wait for them.

    They run in processes of their own, as ``mla train -m`` starts them, so that nothing of this
    process reaches them. Finished jobs are skipped; the same call goes on with the others.

    Args:
        *overrides: As ``mla train -m`` takes them: ``"method=mla,concat"``.
        config_dir: A folder with your own ``method/``, ``data/`` and others.
        allow: Packages of yours that configs may name classes of.
        folder: Where runs go, ``runs`` by default.
        check: Raise if a job did not finish; else the returned runs name it.
        **axes: The same without dots, lists being axes: ``method=["mla", "concat"],
            seed=range(3)``.

    Returns:
        The runs.

    Raises:
        ConfigError: If a config is wrong; nothing has started then.
        RunError: If a job did not finish, naming each with its reason.

    Example:
        >>> runs = mla.sweep("data=synthetic", "trainer.max_epochs=1", seed=range(2), folder=tmp)
        >>> [run.config.seed for run in runs]
        [0, 1]
    """
    words = _words(overrides, axes, folder)
    jobs = compose_jobs(words, multirun=True, config_dir=_path(config_dir), allowed=allow)
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    flags += [word for package in allow for word in ("--allow-target", package)]
    command = [sys.executable, "-m", "mla_lightning.cli.main", "train", "-m", *flags, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, text=True)
    folders = list(dict.fromkeys(job.run_dir for job in jobs))
    rows = (
        {run.path: run for run in read_runs([f for f in folders if f.is_dir()])}
        if any(folder.is_dir() for folder in folders)
        else {}
    )
    unfinished = [
        (job.title, f"{rows[job.run_dir].state}: {rows[job.run_dir].reason}")
        if job.run_dir in rows
        else (job.title, done.stderr.strip() or "not started")
        for job in jobs
        if job.run_dir not in rows or not rows[job.run_dir].is_finished
    ]
    runs = Runs(folders, unfinished)
    if check and (unfinished or done.returncode):
        listed = "".join(f"\n  {title}: {reason}" for title, reason in unfinished)
        raise RunError(
            f"{len(unfinished)} of {len(jobs)} jobs did not finish; the same call goes on with "
            f"them, and check=False returns the others.{listed or done.stderr}"
        )
    return runs


def load(folder: Path | str, **data_options: Any) -> Run:
    """Load a finished run.

    Args:
        folder: The run folder.
        **data_options: Options of its data that changed since, such as ``path``.

    Returns:
        The run.

    Raises:
        RunError: If there is no finished run there.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> mla.load(run.folder).scores == run.scores
        True
        >>> mla.load("nowhere")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: nowhere is no run folder: it has no config.yaml. ...
    """
    from mla_lightning.run.finished import finished_run

    run = Run(folder)
    finished_run(run.folder)
    run._data_options = data_options
    return run


def _words(
    overrides: Sequence[str], choices: Mapping[str, Any], folder: Path | str | None
) -> list[str]:
    words = list(overrides)
    for key, value in choices.items():
        values = value if isinstance(value, list | tuple | range) else [value]
        words.append(f"{key}={','.join(map(spell_value, values))}")
    if folder is not None:
        words.append(f"paths.output_dir={spell_value(str(folder))}")
    return words


def _path(folder: Path | str | None) -> Path | None:
    return None if folder is None else Path(folder)


#: Module -> when its file was last changed, as of its first use in this process.
_first_used: dict[str, float] = {}


def _refuse_edited_code(jobs: Sequence[Job]) -> None:
    """Check that the code that this process imported is still the code on the disk.

    Raises:
        RunError: If a file was edited since: the run would record code that it does not use.
    """
    for module in dict.fromkeys(name for job in jobs for name in job.code.modules):
        found = find_source(module)
        if found is None:
            continue
        changed = found.path.stat().st_mtime
        if changed > _first_used.setdefault(module, changed) and module in sys.modules:
            raise RunError(
                f"{found.path} was changed since this process imported it, so a run would record "
                "code that it does not use. Restart Python (in a notebook, the kernel)."
            )


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Put back what a run sets for its process: threads, determinism, random numbers, warnings."""
    import torch

    threads = torch.get_num_threads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(), warnings.catch_warnings():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(is_deterministic)
