"""Comparison of two runs: settings, results with confidence intervals, different predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.config.values import flatten
from mla_lightning.errors import NoRunError, RunError
from mla_lightning.identity import NOT_IDENTITY
from mla_lightning.report.document.table import (
    BLANK,
    Cell,
    Report,
    Row,
    Section,
    Table,
    p_text,
    signed,
)
from mla_lightning.report.read.metrics import MetricDisplay, package_metrics
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.run_folders import code_hash
from mla_lightning.report.read.significance import CONFIDENCE
from mla_lightning.report.tables.bootstrap import (
    MEASURES,
    NUM_RESAMPLES,
    PairedDifference,
    paired_differences,
)
from mla_lightning.report.tables.sample_pairs import (
    P_NOTES,
    Disagreement,
    SampleNames,
    SamplePairs,
    agreement_table,
    disagreements,
    samples_table,
)
from mla_lightning.run_folder import PREDICTIONS
from mla_lightning.run_folder.completion import UNKNOWN, changed_files
from mla_lightning.run_folder.integrity import TOLERANCE, check_run
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    import numpy as np

#: Arrays that must be equal in the predictions of both runs.
SHARED_ARRAYS = ("index", "label", "class_names")
REMEDY = "Train it again with overwrite=true; mla report runs shows the command."
#: (task, metric) -> title of its table, where it says more than the name of the metric.
TITLES = {
    (CLASSIFICATION, "macro_f1"): "Macro F1 in percent",
    (CLASSIFICATION, "ece"): "Expected calibration error, 15 bins",
}
#: Label and field of measures that are shown without a confidence interval.
OTHER_MEASURES = (
    ("best epoch", "best_epoch"),
    ("training time, s", "train_time_s"),
    ("peak memory, MB", "peak_memory_mb"),
    ("parameters", "num_parameters"),
)


def compare_runs(
    first: Path, second: Path, sample_names: SampleNames | None = None
) -> tuple[Report, list[Disagreement]]:
    """Compare two finished runs.

    Args:
        first: Run folder A.
        second: Run folder B.
        sample_names: Returns the names of samples; by default only their indices are shown.

    Returns:
        The report, and the samples with different predictions; see
        :func:`~mla_lightning.report.tables.sample_pairs.disagreements`.

    Raises:
        RunError: If a run is not finished, or their test samples differ.
    """
    runs = RunFiles(first), RunFiles(second)
    results = [_result(run) for run in runs]
    predictions = [_predictions(run) for run in runs]
    samples = _common_samples((first, second), results, predictions)
    different = list(disagreements(samples)) if samples else []
    tables = [_settings_table(*runs)]
    notes = [f"A: {first}", f"B: {second}"]
    if samples:
        rows, row_notes = _comparable_rows(samples, results)
        tables += [
            *_result_tables(samples, rows),
            agreement_table(samples, len(different)),
            samples_table(samples, different, sample_names),
        ]
        notes += [*_unshared_notes(*(arrays or {} for arrays in predictions)), *row_notes]
    tables += [_other_measures_table(*results), _provenance_table(*runs)]
    if not samples:
        notes.append("No test samples to compare: a run has evaluate_test=false.")
    warnings = [
        f"{name}: changed since the run was made: {', '.join(changed)}."
        for name, run in zip("AB", runs, strict=True)
        if (changed := changed_files(run.provenance)) and changed != (UNKNOWN,)
    ]
    report = Report("compare", "A and B", tuple(tables), tuple(notes), tuple(warnings))
    return report, different


def _result(run: RunFiles) -> Result:
    if not files.is_finished(run.folder):
        below = [str(path) for path in files.find_runs(run.folder)] if run.folder.is_dir() else []
        hint = f" Runs below it: {', '.join(below[:3])}." if below else " See mla report runs."
        kind = RunError if (run.folder / files.CONFIG).is_file() else NoRunError
        raise kind(f"{run.folder} is no finished run.{hint}")
    result: Result = _read(run, "result")
    try:
        check_run(run)
    except RunError as error:
        raise RunError(f"{run.folder}: {error}") from error
    return result


def _predictions(run: RunFiles) -> dict[str, np.ndarray] | None:
    arrays: dict[str, np.ndarray] | None = _read(run, "predictions")
    required = (*SHARED_ARRAYS, f"logits_{MULTI}")
    missing = [name for name in required if name not in (arrays or {})]
    if arrays is not None and missing:
        path = run.folder / files.PREDICTIONS
        raise RunError(f"{path} lacks {', '.join(missing)}. {REMEDY}")
    return arrays


def _read(run: RunFiles, attribute: str) -> Any:
    """Read a file of a run; add the run and a remedy to the message of an error."""
    try:
        return getattr(run, attribute)
    except RunError as error:
        raise RunError(f"{run.folder}: {error}. {REMEDY}") from error


def _common_samples(
    folders: tuple[Path, Path],
    results: Sequence[Result],
    predictions: Sequence[dict[str, np.ndarray] | None],
) -> SamplePairs | None:
    import numpy as np

    (first, second), (a, b) = folders, predictions
    tasks = [result.task for result in results]
    if tasks[0] != tasks[1]:
        raise RunError(
            f"{first} is a run of {tasks[0]} and {second} of {tasks[1]}, so they cannot be "
            "compared. Compare runs of one data set and split."
        )
    if a is None or b is None:
        return None
    for key in SHARED_ARRAYS:
        if not np.array_equal(a[key], b[key]):
            raise RunError(
                f"{first} and {second} have different test samples ({key} differs), so they cannot "
                "be compared sample by sample. Compare runs of one data set and split."
            )
    shared = [key.removeprefix("logits_") for key in a if key.startswith("logits_") and key in b]
    all_samples = np.ones(len(a["label"]), dtype=bool)
    return SamplePairs(
        tasks[0],
        {name: (a[f"logits_{name}"], b[f"logits_{name}"]) for name in shared},
        {
            name: (a.get(f"present_{name}", all_samples), b.get(f"present_{name}", all_samples))
            for name in shared
        },
        a["label"],
        a["index"],
        tuple(map(str, a["class_names"])),
    )


def _settings_table(*runs: RunFiles) -> Table:
    trees = (dict(flatten(_read(run, "tree"))) for run in runs)
    a, b = ({key: str(value) for key, value in tree.items()} for tree in trees)
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    rows = tuple(
        Row(key, (Cell(a.get(key, BLANK)), Cell(b.get(key, BLANK))))
        for key in keys
        if key.partition(".")[0] not in NOT_IDENTITY
    )
    note = () if rows else ("No setting differs.",)
    return Table("settings", "Settings that differ", "", ("A", "B"), (Section("", rows),), note)


def _unshared_notes(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield a note per modality that only one run has."""
    logits = [{key for key in arrays if key.startswith("logits_")} for arrays in (a, b)]
    for run, keys, other_keys in zip("AB", logits, reversed(logits), strict=True):
        for key in sorted(keys - other_keys):
            yield f"{key.removeprefix('logits_')} is left out: only {run} has it."


def _comparable_rows(
    samples: SamplePairs, results: Sequence[Result]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Find the samples in which a modality is present in both runs.

    Returns:
        Modality -> rows (N,) bool, ``multi`` last; and notes on modalities that are left out or
        compared on some samples only. A modality is left out if the accuracy of its samples
        differs from the recorded one: the file does not state in which samples it is missing.
    """
    rows, notes = {}, []
    for name in sorted(samples.logits, key=lambda name: name == MULTI):
        unclear = [
            run
            for run, z, present, result in zip(
                "AB", samples.logits[name], samples.present[name], results, strict=True
            )
            if not _has_recorded_accuracy(z[present], samples.label[present], result, name)
        ]
        in_both = samples.present[name][0] & samples.present[name][1]
        if unclear:
            notes.append(
                f"{name} is left out: {PREDICTIONS} of {' and '.join(unclear)} does not state in "
                "which samples it is missing. Train again: runs of this version state it."
            )
        elif in_both.any():
            rows[name] = in_both
            if not in_both.all():
                notes.append(f"{name}: on the {int(in_both.sum())} samples that have it in both.")
        else:
            notes.append(f"{name} is left out: no sample has it in both runs.")
    return rows, notes


def _has_recorded_accuracy(
    logits: np.ndarray, label: np.ndarray, result: Result, name: str
) -> bool:
    if result.task != CLASSIFICATION:
        return True  # every such run states in which samples a modality is missing
    recorded = (result.test or {})[name]["accuracy"]
    if recorded is None or not len(label):
        return recorded is None and not len(label)
    return abs(float((logits.argmax(axis=1) == label).mean()) - recorded) < TOLERANCE


def _result_tables(samples: SamplePairs, rows: Mapping[str, np.ndarray]) -> Iterator[Table]:
    """Yield the tables of the metrics of the task, with confidence intervals."""
    by_modality = {
        name: paired_differences(
            samples.label[mask],
            (samples.logits[name][0][mask], samples.logits[name][1][mask]),
            samples.task,
        )
        for name, mask in rows.items()
    }
    p_note = P_NOTES[samples.task]
    note = (
        f"Confidence interval of B − A: paired bootstrap over the test samples ({NUM_RESAMPLES} "
        "resamples). It holds for these two trained models and does not include the variation "
        f"over seeds. {p_note}"
    ).rstrip()
    columns = ("A", "B", "B − A", f"{CONFIDENCE:.0%} confidence interval")
    for slug in MEASURES[samples.task]:
        metric = _metric(slug, by_modality.values())
        is_first = slug == MEASURES[samples.task][0]
        with_p = is_first and bool(p_note)
        table_rows = []
        for name, by_measure in by_modality.items():
            result, scale = by_measure[slug], metric.scale
            texts = [metric.text(scale * value) for value in result.values]
            texts.append(signed(scale * result.difference, metric.digits))
            ends = (signed(scale * end, metric.digits) for end in (result.low, result.high))
            texts.append(" to ".join(ends))
            texts += [p_text(samples.p_value(name, rows[name]))] if with_p else []
            table_rows.append(Row(name, tuple(map(Cell, texts))))
        yield Table(
            slug,
            TITLES.get((samples.task, slug), f"Test {metric.label}{metric.unit}"),
            "",
            (*columns, "p") if with_p else columns,
            (Section("", tuple(table_rows)),),
            (note,) if is_first else (),
        )


def _metric(name: str, compared: Iterable[Mapping[str, PairedDifference]]) -> MetricDisplay:
    """Return how a metric is shown, with decimals that suit its values."""
    values = [value for by_measure in compared for value in by_measure[name].values]
    return package_metrics()[name].at_scale(min(values, default=0.0))


def _other_measures_table(a: Result, b: Result) -> Table:
    rows = []
    for label, field in OTHER_MEASURES:
        values = [getattr(result, field) for result in (a, b)]
        cells = [Cell(BLANK if value is None else f"{value:,.6g}") for value in values]
        rows.append(Row(label, tuple(cells)))
    return Table("measures", "Other measures", "", ("A", "B"), (Section("", tuple(rows)),))


def _provenance_table(*runs: RunFiles) -> Table:
    rows: dict[str, list[str]] = {}
    for run in runs:
        provenance = run.provenance
        versions = provenance.get("versions") or {}
        texts = {
            "code": code_hash(provenance)[:12],
            "data": str(provenance.get("data_fingerprint") or "")[:12],
            "commit": str(provenance.get("git_commit") or "")[:10],
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "machine": str(provenance.get("platform") or ""),
            "processor": str(provenance.get("gpu") or provenance.get("processor") or ""),
            "started": str(provenance.get("started") or ""),
            "command": str(provenance.get("command") or ""),
        }
        for name, text in texts.items():
            rows.setdefault(name, []).append(text or BLANK)
    table_rows = tuple(
        Row(name, (Cell(a), Cell("the same" if a == b != BLANK else b)))
        for name, (a, b) in rows.items()
    )
    return Table("origin", "Provenance", "", ("A", "B"), (Section("", table_rows),))
