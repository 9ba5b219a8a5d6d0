"""Reader of run folders and results tables.

Every report is made from the :class:`~mla_lightning.report.read.run.Run` records that it returns.
Unfinished runs have a record too, with a state and a reason instead of scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import NoRunError, RunError, near
from mla_lightning.report.read.cache import RunCache
from mla_lightning.report.read.columns import (
    diagnostics_columns,
    missing_modality_columns,
    round_optional,
)
from mla_lightning.report.read.metrics import (
    MetricDisplay,
    custom_metrics,
    metric_display,
    package_metrics,
    primary_metric,
)
from mla_lightning.report.read.results_csv import RESULTS, read_csv
from mla_lightning.report.read.run import MULTI, Overrides, Run, Score
from mla_lightning.report.read.scheduler import ask_scheduler, of_task
from mla_lightning.report.read.variant import method_label
from mla_lightning.run_folder import State
from mla_lightning.run_folder.completion import changed_files
from mla_lightning.run_folder.integrity import check_run
from mla_lightning.run_folder.majority import find_majority
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Overrides that have a column of their own or that only name the experiment.
OTHER_COLUMNS = ("seed", "method", "data", "ablation", "experiment", "protocol")
#: Packages whose versions are shown.
PACKAGES = ("mla_lightning", "torch", "lightning")

#: Errors that reading a damaged file raises.
READ_ERRORS = (
    *(RunError, OSError, ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)


def read_runs(paths: Sequence[Path], cache: RunCache | None = None) -> list[Run]:
    """Read all runs below some folders, and those of results tables.

    Args:
        paths: Run folders, folders above them, or ``results.csv`` files (or folders that hold such
            a file and no run).
        cache: Runs that earlier reports read; new ones are added.

    Returns:
        The runs in the order of the paths and of their names, each folder once.

    Raises:
        NoRunError: If a path does not exist or holds no run.
    """
    runs: dict[Path | str, Run] = {}
    for path in paths:
        for run in _read_path(path, cache):
            runs.setdefault(run.path.resolve() if run.path else run.where, run)
    return _complete_data(ask_scheduler(list(runs.values())))


def read_run(folder: Path) -> Run | None:
    """Read one run folder.

    Args:
        folder: The folder.

    Returns:
        The run; None if the folder holds the ``config.yaml`` of another program. A folder with
        damaged files gives a run in state ``unreadable``.
    """
    try:
        run_files = RunFiles(folder)
        if run_files.result is None:
            unfinished = _unfinished(run_files)
            if unfinished is None or not unfinished.is_finished:
                return unfinished
            run_files = RunFiles(folder)  # it finished in the meantime
        return _finished(run_files)
    except READ_ERRORS as error:
        reason = _unreadable_reason(folder, error)
        try:
            run = _unfinished(RunFiles(folder))
        except READ_ERRORS:
            run = None
        if run is None:
            run = Run(run=folder.name, where=str(folder), path=folder, state=State.UNREADABLE)
        return replace(run, state=State.UNREADABLE, reason=reason, retry=_with_overwrite(run.retry))


def _with_overwrite(retry: str) -> str:
    """Add the setting with which training replaces a result that exists."""
    if not retry or any(word.startswith("overwrite=") for word in retry.split()):
        return retry
    return f"{retry} overwrite=true"


def _read_cached(folder: Path, cache: RunCache | None) -> Run | None:
    if cache is None:
        return read_run(folder)
    run = cache.get(folder)
    if run is None:
        run = read_run(folder)
        cache.put(run)
    return run


def _read_path(path: Path, cache: RunCache | None) -> Iterator[Run]:
    if path.is_file() and path.suffix == ".csv":
        yield from read_csv(path)
        return
    if not path.is_dir():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = "is a file, not a run folder" if path.exists() else "does not exist"
        raise NoRunError(
            f"{path} {problem}.{near(path.name, siblings)} Give run folders, folders above them, "
            f"or a {RESULTS}."
        )
    folders = files.find_runs(path)
    runs = [run for folder in folders if (run := _read_cached(folder, cache)) is not None]
    if runs:
        yield from runs
    elif (path / RESULTS).is_file():
        yield from read_csv(path / RESULTS)
    else:
        raise NoRunError(
            f"{path} holds no run: there is neither a folder with a {files.CONFIG} and a "
            f"{files.RESULT} or {files.STATUS} nor {path / RESULTS}. Train first, for example "
            "`mla train -m experiment=table1/openmoji`."
        )


def _finished(run_files: RunFiles) -> Run:
    result, provenance = run_files.result, run_files.provenance
    assert result is not None
    check_run(run_files)
    primary = primary_metric(result.task)
    probes = result.probe_accuracy or result.probe_scores or {}
    metrics = package_metrics() | {
        name: metric_display(name, settings) for name, settings in result.metrics.items()
    }
    scores = {
        split: _scores(by_modality, probes.get(split, {}), metrics, primary)
        for split, by_modality in (("val", result.val), ("test", result.test))
        if by_modality is not None
    }
    majority = find_majority(provenance.get("data") or {})
    for split, accuracy in majority.accuracy.items() if majority else ():
        if MULTI in scores.get(split, {}):
            scores[split][MULTI]["majority_percent"] = round(100 * accuracy, 4)
    return Run(
        run=run_files.folder.name,
        where=str(run_files.folder),
        path=run_files.folder,
        state=State.FINISHED,
        retry=str(provenance.get("command") or ""),
        name=result.name,
        dataset=result.dataset,
        method=result.method,
        ablation=result.ablation or "none",
        overrides=_overrides(result.overrides),
        seed=result.seed,
        protocol=result.protocol,
        data_split=result.split or "",
        num_train=result.num_train,
        num_val=result.num_val,
        num_test=result.num_test,
        unimodal_rule=result.unimodal_rule,
        select_by="" if result.select_by in ("accuracy", primary.name) else result.select_by,
        task=result.task if result.task != CLASSIFICATION else "",
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        lr=result.lr,
        train_time_s=round_optional(result.train_time_s, 3),
        epoch_time_s=round_optional(result.epoch_time_s, 4),
        step_time_s=round_optional(result.step_time_s, 6),
        peak_memory_mb=round_optional(result.peak_memory_mb, 1),
        num_parameters=result.num_parameters,
        train_gflop=round_optional(result.train_gflop, 6),
        identity=result.identity[:16],
        code=(result.code or code_hash(provenance))[:12],
        device=result.device or str(provenance.get("device") or ""),
        threads=result.threads if result.threads is not None else provenance.get("threads"),
        scores=scores,
        method_label=_recorded_label(result.method, provenance),
        stale=", ".join(changed_files(provenance)),
        metrics=custom_metrics(result.metrics),
        **missing_modality_columns(result.missing, primary),
        **_diagnostics(run_files),
        **_provenance_fields(provenance),
    )


def _diagnostics(run_files: RunFiles) -> dict[str, Any]:
    try:
        return diagnostics_columns(run_files)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(f"{files.DIAGNOSTICS} is not as expected: {_problem(error)}") from error


def code_hash(provenance: Mapping[str, Any]) -> str:
    """Return the hash of the code that made a run, empty if it was not recorded.

    Example:
        >>> code_hash({"code": {"hash": "c0de"}}), code_hash({})
        ('c0de', '')
    """
    code = provenance.get("code")
    recorded = code.get("hash") if isinstance(code, Mapping) else None
    return str(recorded or provenance.get("code_fingerprint") or "")


def _unfinished(run_files: RunFiles) -> Run | None:
    status, provenance, config = run_files.status or {}, run_files.provenance, run_files.tree
    choices = config.get("choices")
    if not isinstance(choices, Mapping):
        if not status and not provenance:
            return None  # the config.yaml of another program
        raise ValueError(f"{files.CONFIG} has no choices")
    data = provenance.get("data") or {}
    state = run_files.state
    return Run(
        run=run_files.folder.name,
        where=str(run_files.folder),
        path=run_files.folder,
        state=state,
        reason=_state_reason(state, status),
        retry=str(status.get("retry") or provenance.get("command") or ""),
        name=str(config.get("name") or ""),
        dataset=str(data.get("name") or choices.get("data") or ""),
        method=str(choices.get("method") or ""),
        ablation=str(choices.get("ablation") or "none"),
        overrides=_overrides(status.get("overrides") or {}),
        seed=int(config["seed"]),
        protocol=str(config["protocol"]),
        data_split=str(data.get("split") or ""),
        epochs=(config.get("trainer") or {}).get("max_epochs"),
        lr=(config.get("optimizer") or {}).get("lr"),
        identity=str(provenance.get("identity") or "")[:16],
        code=code_hash(provenance)[:12],
        method_label=_recorded_label(str(choices.get("method") or ""), provenance),
        **_provenance_fields(provenance),
    )


def _recorded_label(method: str, provenance: Mapping[str, Any]) -> str:
    """Return the label that a run recorded of its method, empty if it is the package's own."""
    label = str(provenance.get("method_label") or "")
    return "" if label == method_label(method) else label


def _scores(
    by_modality: Mapping[str, Mapping[str, float | None]],
    probes: Mapping[str, float],
    metrics: Mapping[str, MetricDisplay],
    primary: MetricDisplay,
) -> dict[str, Score]:
    scores = {}
    for modality, values in by_modality.items():
        if values[primary.name] is None:
            continue  # the modality is missing in all samples of the split
        score = {}
        for name, value in values.items():
            metric = metrics.get(name) or metric_display(name, {})
            if value is not None:
                score[metric.column] = metric.column_value(value)
        if (probe := probes.get(modality)) is not None:
            score[primary.probe_column] = primary.column_value(probe)
        scores[str(modality)] = score
    return scores


def _provenance_fields(provenance: Mapping[str, Any]) -> dict[str, Any]:
    versions = provenance.get("versions") or {}
    return {
        "data": str(provenance.get("data_fingerprint") or "")[:12],
        "git_commit": str(provenance.get("git_commit") or "")[:10],
        "versions": ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
    }


def _overrides(values: Mapping[str, Any]) -> Overrides:
    texts = {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
        if key not in OTHER_COLUMNS
    }
    return tuple(sorted(texts.items()))


def _complete_data(runs: list[Run]) -> list[Run]:
    """Set split and task of unfinished runs that lack them, if all others of the set share one."""
    splits: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for run in runs:
        if run.is_finished:
            splits.setdefault(run.dataset, set()).add(run.data_split)
            tasks.setdefault(run.dataset, set()).add(run.task)
    completed = []
    for run in runs:
        known_splits, known_tasks = (known.get(run.dataset, set()) for known in (splits, tasks))
        if not run.is_finished and not run.data_split and len(known_splits) == 1:
            run = replace(run, data_split=next(iter(known_splits)))
        if not run.is_finished and not run.task and len(known_tasks) == 1:
            run = replace(run, task=next(iter(known_tasks)))
        completed.append(run)
    return completed


def _state_reason(state: str, status: Mapping[str, Any]) -> str:
    if state == State.KILLED:
        return "the process is gone without an error message; run the same command to resume"
    if state == State.RUNNING:
        return f"process {status.get('pid', '?')} on {status.get('host', '?')}{of_task(status)}"
    if state == State.QUEUED:
        return f"submitted{of_task(status)}"
    if state == State.MISSING:
        return f"no {files.STATUS}"
    return " ".join(str(status.get("reason") or "").split())


def _unreadable_reason(folder: Path, error: Exception) -> str:
    if isinstance(error, RunError):
        return str(error)
    name = files.RESULT if files.is_finished(folder) else "the run folder"
    return f"{name} is not as expected: {_problem(error)}"


def _problem(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
