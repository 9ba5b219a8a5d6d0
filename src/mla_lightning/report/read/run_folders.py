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
from mla_lightning.report.read.cache import Kept
from mla_lightning.report.read.columns import diagnosed_columns, missing_columns, percent, rounded
from mla_lightning.report.read.damage import require_intact
from mla_lightning.report.read.results_csv import RESULTS, read_csv
from mla_lightning.report.read.run import MULTI, Overrides, Run, Score
from mla_lightning.run_folder import State

SCHEMA = 1
SPLITS = ("val", "test")
#: Overrides that are columns of their own or that only name the experiment.
NAMED_ELSEWHERE = ("seed", "method", "data", "ablation", "experiment", "protocol")
VERSIONS_SHOWN = ("mla_lightning", "torch", "lightning")

#: What reading a broken file raises.
BROKEN = (RunError, OSError, AttributeError, KeyError, TypeError, ValueError)


def read_runs(paths: Sequence[Path], kept: Kept | None = None) -> list[Run]:
    """Read every run below some folders, or those of committed tables.

    Args:
        paths: Folders with run folders below them, run folders, or ``results.csv`` files (or
            folders that hold such a file and no run).
        kept: What earlier reports read; takes what is new.

    Returns:
        The runs in the order of the paths and of their names; a folder met twice counts once.

    Raises:
        RunError: If a path does not exist or holds no run.
    """
    found: dict[Path | str, Run] = {}
    for path in paths:
        for run in _read_path(path, kept):
            found.setdefault(run.path.resolve() if run.path else run.where, run)
    return _with_splits(list(found.values()))


def read_run(folder: Path) -> Run | None:
    """Read one run folder.

    Args:
        folder: The folder.

    Returns:
        The run, or None if the folder holds a config but is no run folder. A folder whose files
        are broken gives a run in state ``unreadable``.
    """
    try:
        result = files.read_json(folder / files.RESULT)
        if result is None:
            run = _read_unfinished(folder)
            if run is None or not run.is_finished:
                return run
            result = files.read_json(folder / files.RESULT) or {}  # it finished just now
        provenance = files.read_json(folder / files.PROVENANCE) or {}
        return _from_result(folder, result, provenance)
    except BROKEN as error:
        reason = _reason(folder, error)
        try:
            run = _read_unfinished(folder)
        except BROKEN:
            run = None
        if run is None:
            run = Run(run=folder.name, where=str(folder), path=folder, state=State.UNREADABLE)
        return replace(run, state=State.UNREADABLE, reason=reason, retry=_afresh(run.retry))


def _afresh(retry: str) -> str:
    """Add what training needs to replace a run that it takes for finished."""
    if not retry or any(word.startswith("overwrite=") for word in retry.split()):
        return retry
    return f"{retry} overwrite=true"


def _read_kept(folder: Path, kept: Kept | None) -> Run | None:
    if kept is None:
        return read_run(folder)
    run = kept.get(folder)
    if run is None:
        run = read_run(folder)
        kept.put(run)
    return run


def _read_path(path: Path, kept: Kept | None) -> Iterator[Run]:
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
    runs = [run for folder in folders if (run := _read_kept(folder, kept)) is not None]
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


def _from_result(folder: Path, result: Mapping[str, Any], provenance: Mapping[str, Any]) -> Run:
    if result["schema"] != SCHEMA:
        raise ValueError(f"schema {result['schema']}; this version reads schema {SCHEMA}")
    probes = result.get("probe_accuracy") or {}
    scores = {
        split: _scores(result[split], probes.get(split, {}))
        for split in SPLITS
        if result[split] is not None
    }
    for split in scores:
        lacking = [m for m in (*result["modalities"], MULTI) if m not in result[split]]
        if lacking:
            raise ValueError(f"{split} has no scores of {', '.join(lacking)}")
    require_intact(folder, result.get("num_batches_trained"))
    return Run(
        run=folder.name,
        where=str(folder),
        path=folder,
        state=State.FINISHED,
        retry=str(provenance.get("command") or ""),
        name=str(result["name"]),
        dataset=str(result["dataset"]),
        method=str(result["method"]),
        ablation=str(result["ablation"] or "none"),
        overrides=_overrides(result["overrides"]),
        seed=int(result["seed"]),
        protocol=str(result["protocol"]),
        data_split=str(result["split"] or ""),
        num_train=result["num_train"],
        num_val=result["num_val"],
        num_test=result["num_test"],
        unimodal_rule=str(result["unimodal_rule"]),
        epochs=result["epochs"],
        best_epoch=result["best_epoch"],
        lr=result.get("lr"),
        train_time_s=rounded(result["train_time_s"], 3),
        epoch_time_s=rounded(result["epoch_time_s"], 4),
        step_time_s=rounded(result.get("step_time_s"), 6),
        peak_memory_mb=rounded(result["peak_memory_mb"], 1),
        num_parameters=result["num_parameters"],
        identity=str(result["identity"])[:16],
        code=str(result.get("code") or provenance.get("code_fingerprint") or "")[:12],
        device=str(result.get("device") or provenance.get("device") or ""),
        threads=result.get("threads", provenance.get("threads")),
        scores=scores,
        **missing_columns(result.get("missing")),
        **_diagnosed(folder),
        **_origin(provenance),
    )


def _diagnosed(folder: Path) -> dict[str, Any]:
    try:
        return diagnosed_columns(folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        lacking = f"no {error}" if isinstance(error, KeyError) else error
        raise RunError(f"{files.DIAGNOSTICS} is not as expected: {lacking}") from error


def _read_unfinished(folder: Path) -> Run | None:
    status = files.read_json(folder / files.STATUS)
    provenance = files.read_json(folder / files.PROVENANCE) or {}
    config = _read_config(folder / files.CONFIG)
    choices = config.get("choices")
    if not isinstance(choices, Mapping):
        if status is None and not provenance:
            return None  # some other program's config.yaml
        raise ValueError(f"{files.CONFIG} has no choices")
    about = provenance.get("data") or {}
    state = files.state_of(folder)
    return Run(
        run=folder.name,
        where=str(folder),
        path=folder,
        state=state,
        reason=_reason_of_state(state, status or {}),
        retry=str((status or {}).get("retry") or provenance.get("command") or ""),
        name=str(config.get("name") or ""),
        dataset=str(about.get("name") or choices.get("data") or ""),
        method=str(choices.get("method") or ""),
        ablation=str(choices.get("ablation") or "none"),
        overrides=_overrides((status or {}).get("overrides") or {}),
        seed=int(config["seed"]),
        protocol=str(config["protocol"]),
        data_split=str(about.get("split") or ""),
        epochs=(config.get("trainer") or {}).get("max_epochs"),
        lr=(config.get("optimizer") or {}).get("lr"),
        identity=str(provenance.get("identity") or "")[:16],
        code=str(provenance.get("code_fingerprint") or "")[:12],
        **_origin(provenance),
    )


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times the speed, where it is built
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        raise ValueError(f"no {path.name}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name} is not valid YAML") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path.name} holds no mapping")
    return config


def _scores(
    by_modality: Mapping[str, Mapping[str, float]], probes: Mapping[str, float]
) -> dict[str, Score]:
    return {
        str(name): Score(
            accuracy_percent=round(100 * float(values["accuracy"]), 4),
            macro_f1_percent=round(100 * float(values["macro_f1"]), 4),
            ece=round(float(values["ece"]), 6),
            probe_percent=percent(probes.get(name)),
            macro_recall_percent=percent(values.get("macro_recall")),
            weighted_f1_percent=percent(values.get("weighted_f1")),
        )
        for name, values in by_modality.items()
        if values["accuracy"] is not None  # of a modality that no sample of the split has
    }


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
