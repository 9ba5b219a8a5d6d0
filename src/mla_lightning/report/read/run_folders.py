"""Run folders as rows: what ran, in which state it is, and what it measured.

Every table is made from these rows, whether they come from run folders or from a ``results.csv``.
A run that is not finished has a row too, but never a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError, near
from mla_lightning.report.read.cache import RunCache
from mla_lightning.report.read.columns import (
    diagnosed_columns,
    missing_columns,
    percent,
    rounded,
)
from mla_lightning.report.read.metrics import ShownMetric, package_metrics, recorded, shown
from mla_lightning.report.read.results_csv import RESULTS, read_csv
from mla_lightning.report.read.run import Overrides, Run, Score
from mla_lightning.report.read.variant import method_label
from mla_lightning.run_folder import State
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.standing import changed_files

#: Overrides that are columns of their own or that only name the experiment.
NAMED_ELSEWHERE = ("seed", "method", "data", "ablation", "experiment", "protocol")
VERSIONS_SHOWN = ("mla_lightning", "torch", "lightning")

#: What reading a broken file raises.
BROKEN = (RunError, OSError, AttributeError, KeyError, TypeError, ValueError)


def read_runs(paths: Sequence[Path], cache: RunCache | None = None) -> list[Run]:
    """Read every run below some folders, or those of committed tables.

    Args:
        paths: Folders with run folders below them, run folders, or ``results.csv`` files (or
            folders that hold such a file and no run).
        cache: What earlier reports read; takes what is new.

    Returns:
        The runs in the order of the paths and of their names; a folder met twice counts once.

    Raises:
        RunError: If a path does not exist or holds no run.
    """
    found: dict[Path | str, Run] = {}
    for path in paths:
        for run in _read_path(path, cache):
            found.setdefault(run.path.resolve() if run.path else run.where, run)
    return _with_splits(list(found.values()))


def read_run(folder: Path) -> Run | None:
    """Read one run folder.

    Args:
        folder: The folder.

    Returns:
        The run, or None if the folder holds a config but is no run folder. A folder whose files
        are damaged gives a run in state ``unreadable``.
    """
    try:
        run = RunFiles(folder)
        if run.result is None:
            unfinished = _unfinished(run)
            if unfinished is None or not unfinished.is_finished:
                return unfinished
            run = RunFiles(folder)  # it finished just now
        return _finished(run)
    except BROKEN as error:
        reason = _reason(folder, error)
        try:
            row = _unfinished(RunFiles(folder))
        except BROKEN:
            row = None
        if row is None:
            row = Run(run=folder.name, where=str(folder), path=folder, state=State.UNREADABLE)
        return replace(row, state=State.UNREADABLE, reason=reason, retry=_afresh(row.retry))


def _afresh(retry: str) -> str:
    """Add what training needs to replace a run that it takes for finished."""
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
        what = "is a file, not a run folder" if path.exists() else "does not exist"
        raise RunError(
            f"{path} {what}.{near(path.name, siblings)} Give run folders, folders above them, or "
            f"a {RESULTS}."
        )
    folders = files.find_runs(path)
    runs = [run for folder in folders if (run := _read_cached(folder, cache)) is not None]
    if runs:
        yield from runs
    elif (path / RESULTS).is_file():
        yield from read_csv(path / RESULTS)
    else:
        raise RunError(
            f"No run below {path}: looked for folders with a {files.CONFIG} beside a "
            f"{files.RESULT} or {files.STATUS}, and for {path / RESULTS}. Train first, for example "
            "`mla train -m experiment=table1/openmoji`."
        )


def _finished(run: RunFiles) -> Run:
    result, provenance = run.result, run.provenance
    assert result is not None
    run.check()
    probes = result.probe_accuracy or {}
    shown_metrics = package_metrics() | {n: shown(n, about) for n, about in result.metrics.items()}
    scores = {
        split: _scores(by_modality, probes.get(split, {}), shown_metrics)
        for split, by_modality in (("val", result.val), ("test", result.test))
        if by_modality is not None
    }
    return Run(
        run=run.folder.name,
        where=str(run.folder),
        path=run.folder,
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
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        lr=result.lr,
        train_time_s=rounded(result.train_time_s, 3),
        epoch_time_s=rounded(result.epoch_time_s, 4),
        step_time_s=rounded(result.step_time_s, 6),
        peak_memory_mb=rounded(result.peak_memory_mb, 1),
        num_parameters=result.num_parameters,
        identity=result.identity[:16],
        code=(result.code or code_in(provenance))[:12],
        device=result.device or str(provenance.get("device") or ""),
        threads=result.threads if result.threads is not None else provenance.get("threads"),
        scores=scores,
        method_label=_own_label(result.method, provenance),
        stale=", ".join(changed_files(provenance)),
        metrics=recorded(result.metrics),
        **missing_columns(result.missing),
        **_diagnosed(run),
        **_origin(provenance),
    )


def _diagnosed(run: RunFiles) -> dict[str, Any]:
    try:
        return diagnosed_columns(run)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        lacking = f"no {error}" if isinstance(error, KeyError) else error
        raise RunError(f"{files.DIAGNOSTICS} is not as expected: {lacking}") from error


def code_in(provenance: Mapping[str, Any]) -> str:
    """Return the hash of the code that made a run, empty where it is not recorded."""
    code = provenance.get("code")
    recorded_hash = code.get("hash") if isinstance(code, Mapping) else None
    return str(recorded_hash or provenance.get("code_fingerprint") or "")


def _unfinished(run: RunFiles) -> Run | None:
    status, provenance, config = run.status or {}, run.provenance, run.tree
    choices = config.get("choices")
    if not isinstance(choices, Mapping):
        if not status and not provenance:
            return None  # some other program's config.yaml
        raise ValueError(f"{files.CONFIG} has no choices")
    about = provenance.get("data") or {}
    state = run.state
    return Run(
        run=run.folder.name,
        where=str(run.folder),
        path=run.folder,
        state=state,
        reason=_reason_of_state(state, status),
        retry=str(status.get("retry") or provenance.get("command") or ""),
        name=str(config.get("name") or ""),
        dataset=str(about.get("name") or choices.get("data") or ""),
        method=str(choices.get("method") or ""),
        ablation=str(choices.get("ablation") or "none"),
        overrides=_overrides(status.get("overrides") or {}),
        seed=int(config["seed"]),
        protocol=str(config["protocol"]),
        data_split=str(about.get("split") or ""),
        epochs=(config.get("trainer") or {}).get("max_epochs"),
        lr=(config.get("optimizer") or {}).get("lr"),
        identity=str(provenance.get("identity") or "")[:16],
        code=code_in(provenance)[:12],
        method_label=_own_label(str(choices.get("method") or ""), provenance),
        **_origin(provenance),
    )


def _own_label(method: str, provenance: Mapping[str, Any]) -> str:
    """Return the recorded label of a method where it is not the package's own."""
    label = str(provenance.get("method_label") or "")
    return "" if label == method_label(method) else label


def _scores(
    by_modality: Mapping[str, Mapping[str, float | None]],
    probes: Mapping[str, float],
    shown_metrics: Mapping[str, ShownMetric],
) -> dict[str, Score]:
    scores = {}
    for name, values in by_modality.items():
        if values["accuracy"] is None:
            continue  # of a modality that no sample of the split has
        score = {}
        for metric, value in values.items():
            about = shown_metrics.get(metric) or shown(metric, {})
            if value is not None:
                score[about.column] = about.value(value)
        if (probe := percent(probes.get(name))) is not None:
            score["probe_percent"] = probe
        scores[str(name)] = score
    return scores


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    versions = provenance.get("versions") or {}
    shown = [f"{name} {versions[name]}" for name in VERSIONS_SHOWN if name in versions]
    return {
        "data": str(provenance.get("data_fingerprint") or "")[:12],
        "git_commit": str(provenance.get("git_commit") or "")[:10],
        "versions": ", ".join(shown),
    }


def _overrides(given: Mapping[str, Any]) -> Overrides:
    kept = {str(k): _text(v) for k, v in given.items() if k not in NAMED_ELSEWHERE}
    return tuple(sorted(kept.items()))


def _with_splits(runs: list[Run]) -> list[Run]:
    """Give a run that ended before it met its data the split that all others of its data have."""
    splits: dict[str, set[str]] = {}
    for run in runs:
        if run.is_finished:
            splits.setdefault(run.dataset, set()).add(run.data_split)
    completed = []
    for run in runs:
        known = splits.get(run.dataset, set())
        if not run.is_finished and not run.data_split and len(known) == 1:
            run = replace(run, data_split=next(iter(known)))
        completed.append(run)
    return completed


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _reason_of_state(state: str, status: Mapping[str, Any]) -> str:
    if state == State.KILLED:
        return "the process is gone without a word; run the same command again to go on"
    if state == State.RUNNING:
        return f"process {status.get('pid', '?')} on {status.get('host', '?')}"
    if state == State.MISSING:
        return f"no {files.STATUS}"
    return " ".join(str(status.get("reason") or "").split())


def _reason(folder: Path, error: Exception) -> str:
    if isinstance(error, RunError):
        return str(error)
    lacking = f"no {error}" if isinstance(error, KeyError) else error
    name = files.RESULT if files.is_finished(folder) else "the run folder"
    return f"{name} is not as expected: {lacking}"
