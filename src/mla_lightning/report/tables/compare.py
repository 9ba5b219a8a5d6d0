"""Comparison of two runs: settings, results with confidence intervals, different predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.run_folders import code_hash
from mla_lightning.report.tables.bootstrap import NUM_RESAMPLES, paired_differences
from mla_lightning.report.tables.significance import CONFIDENCE, mcnemar
from mla_lightning.run_folder import PREDICTIONS
from mla_lightning.run_folder.completion import UNKNOWN, changed_files
from mla_lightning.run_folder.integrity import TOLERANCE, check_run
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result

if TYPE_CHECKING:
    import numpy as np

#: Arrays that must be equal in the predictions of both runs.
SHARED_ARRAYS = ("index", "label", "class_names")
REMEDY = "Train it again with overwrite=true; mla report runs shows the command."
#: Largest number of samples that are listed.
MAX_LISTED = 24
#: Function from indices of test samples to their names.
SampleNames = Callable[[Sequence[int]], Sequence[str]]
#: Label and field of measures that are shown without a confidence interval.
OTHER_MEASURES = (
    ("best epoch", "best_epoch"),
    ("training time, s", "train_time_s"),
    ("peak memory, MB", "peak_memory_mb"),
    ("parameters", "num_parameters"),
)


@dataclass(frozen=True)
class Disagreement:
    """A test sample for which two runs predict different classes.

    Attributes:
        index: Its index in the test split.
        label: Name of its class.
        predictions: Names of the predicted classes of A and B.
        confidences: Their probabilities.
    """

    index: int
    label: str
    predictions: tuple[str, str]
    confidences: tuple[float, float]

    @property
    def caption(self) -> str:
        """Class and predictions in two lines.

        Example:
            >>> print(Disagreement(3, "cat", ("cat", "dog"), (0.9, 0.6)).caption)
            cat
            A cat, B dog
        """
        a, b = self.predictions
        return f"{self.label}\nA {a}, B {b}"


def compare_runs(
    first: Path, second: Path, sample_names: SampleNames | None = None
) -> tuple[Report, list[Disagreement]]:
    """Compare two finished runs.

    Args:
        first: Run folder A.
        second: Run folder B.
        sample_names: Returns the names of samples; by default only their indices are shown.

    Returns:
        The report, and the samples with different predictions, those first where one is correct.

    Raises:
        RunError: If a run is not finished, or their test samples differ.
    """
    runs = RunFiles(first), RunFiles(second)
    results = [_result(run) for run in runs]
    predictions = [_predictions(run) for run in runs]
    samples = _common_samples(first, second, *predictions)
    disagreements = list(_disagreements(samples)) if samples else []
    tables = [_settings_table(*runs)]
    notes = [f"A: {first}", f"B: {second}"]
    if samples:
        rows, row_notes = _comparable_rows(samples, results)
        tables += [
            *_result_tables(samples, rows),
            _agreement_table(samples, disagreements),
            _samples_table(disagreements, sample_names),
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
    return report, disagreements


@dataclass(frozen=True)
class _Samples:
    """Test samples of both runs, A and B.

    Attributes:
        logits: Modality -> logits (N, C) of A and B.
        present: Modality -> whether it is present (N,), in A and B.
        label: Classes (N,).
        index: Indices in the test split (N,).
        class_names: Names of the classes.
    """

    logits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    present: Mapping[str, tuple[np.ndarray, np.ndarray]]
    label: np.ndarray
    index: np.ndarray
    class_names: tuple[str, ...]


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
    first: Path,
    second: Path,
    a: dict[str, np.ndarray] | None,
    b: dict[str, np.ndarray] | None,
) -> _Samples | None:
    import numpy as np

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
    return _Samples(
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
    samples: _Samples, results: Sequence[Result]
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
    recorded = (result.test or {})[name]["accuracy"]
    if recorded is None or not len(label):
        return recorded is None and not len(label)
    return abs(float((logits.argmax(axis=1) == label).mean()) - recorded) < TOLERANCE


def _result_tables(samples: _Samples, rows: Mapping[str, np.ndarray]) -> Iterator[Table]:
    """Yield the tables of accuracy, F1 and calibration error, with confidence intervals."""
    by_modality = {
        name: paired_differences(
            samples.label[mask], (samples.logits[name][0][mask], samples.logits[name][1][mask])
        )
        for name, mask in rows.items()
    }
    columns = ("A", "B", "B − A", f"{CONFIDENCE:.0%} confidence interval")
    note = (
        f"Confidence interval of B − A: paired bootstrap over the test samples ({NUM_RESAMPLES} "
        "resamples). It holds for these two trained models and does not include the variation "
        "over seeds. p: exact McNemar test."
    )
    for slug, title, scale, digits in (
        ("accuracy", "Test accuracy in percent", 100, 1),
        ("macro_f1", "Macro F1 in percent", 100, 1),
        ("ece", "Expected calibration error, 15 bins", 1, 3),
    ):
        is_first = slug == "accuracy"
        table_rows = []
        for name, by_measure in by_modality.items():
            result = by_measure[slug]
            texts = [f"{scale * value:.{digits}f}" for value in result.values]
            texts.append(signed(scale * result.difference, digits))
            low, high = (signed(scale * end, digits) for end in (result.low, result.high))
            texts.append(f"{low} to {high}")
            texts += [p_text(_mcnemar(samples, name, rows[name]))] if is_first else []
            table_rows.append(Row(name, tuple(map(Cell, texts))))
        yield Table(
            slug,
            title,
            "",
            (*columns, "p") if is_first else columns,
            (Section("", tuple(table_rows)),),
            (note,) if is_first else (),
        )


def _mcnemar(samples: _Samples, name: str, rows: np.ndarray) -> float:
    a, b = ((z.argmax(axis=1) == samples.label)[rows] for z in samples.logits[name])
    return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))


def _disagreements(samples: _Samples) -> Iterator[Disagreement]:
    import numpy as np

    from mla_lightning.counts import predict_classes

    (a, a_confidence), (b, b_confidence) = map(predict_classes, samples.logits[MULTI])
    is_one_correct = (a == samples.label) | (b == samples.label)
    order = sorted(map(int, np.flatnonzero(a != b)), key=lambda n: (not is_one_correct[n], n))
    names = samples.class_names
    for n in order:
        yield Disagreement(
            int(samples.index[n]),
            names[int(samples.label[n])],
            (names[int(a[n])], names[int(b[n])]),
            (float(a_confidence[n]), float(b_confidence[n])),
        )


def _agreement_table(samples: _Samples, disagreements: Sequence[Disagreement]) -> Table:
    a, b = (z.argmax(axis=1) == samples.label for z in samples.logits[MULTI])
    counts = {
        "both correct": int((a & b).sum()),
        "only A correct": int((a & ~b).sum()),
        "only B correct": int((b & ~a).sum()),
        "both incorrect": int((~a & ~b).sum()),
        "different predictions": len(disagreements),
    }
    rows = tuple(Row(name, (Cell(str(count)),)) for name, count in counts.items())
    title = "Agreement of the predictions (multi)"
    return Table("counts", title, "", ("test samples",), (Section("", rows),))


def _samples_table(
    disagreements: Sequence[Disagreement], sample_names: SampleNames | None
) -> Table:
    listed = disagreements[:MAX_LISTED]
    indices = [sample.index for sample in listed]
    labels = [f"test {index}" for index in indices]
    if sample_names is not None and listed:
        pairs = zip(labels, sample_names(indices), strict=True)
        labels = [label if name == label else f"{label}: {name}" for label, name in pairs]
    rows = []
    for label, sample in zip(labels, listed, strict=True):
        predictions = zip(sample.predictions, sample.confidences, strict=True)
        texts = (sample.label, *(f"{name} ({share:.0%})" for name, share in predictions))
        rows.append(Row(label, tuple(map(Cell, texts))))
    num_more = len(disagreements) - len(listed)
    note = "Predictions with their probabilities."
    note += f" {num_more} more samples are not listed." if num_more > 0 else ""
    title = "Samples with different predictions (multi)"
    columns = ("class", "prediction of A", "prediction of B")
    return Table("samples", title, "", columns, (Section("", tuple(rows)),), (note,))


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
