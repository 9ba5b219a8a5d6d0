"""Two runs side by side: settings, numbers with intervals, and the samples they disagree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.config.values import flatten
from mla_lightning.errors import RunError
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
from mla_lightning.report.read.run_folders import code_in
from mla_lightning.report.tables.bootstrap import NUM_DRAWS, gaps
from mla_lightning.report.tables.significance import CONFIDENCE
from mla_lightning.run_folder import PREDICTIONS
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result

if TYPE_CHECKING:
    import numpy as np

#: What two runs' predictions must have alike.
SAME = ("index", "label", "class_names")
REMEDY = "Train it again with overwrite=true; mla report runs tells the command."
#: Samples that are listed.
MOST_LISTED = 24
#: How much a recomputed accuracy may differ from the run's own.
ROUNDING = 1e-6
#: Numbers of a sample in the test split -> what people call it.
Called = Callable[[Sequence[int]], Sequence[str]]
#: Measures of a run that are compared without an interval: label, key.
PLAIN = (
    ("best epoch", "best_epoch"),
    ("training time, s", "train_time_s"),
    ("peak memory, MB", "peak_memory_mb"),
    ("parameters", "num_parameters"),
)


@dataclass(frozen=True)
class Disagreement:
    """A test sample that two runs answer differently.

    Attributes:
        index: Its number in the test split.
        label: Its class.
        answers: What the two runs answer.
        confidences: Their probabilities of that.
    """

    index: int
    label: str
    answers: tuple[str, str]
    confidences: tuple[float, float]

    @property
    def caption(self) -> str:
        """Class and answers in a few words."""
        a, b = self.answers
        return f"{self.label}\nA {a}, B {b}"


def compare_runs(
    first: Path, second: Path, called: Called | None = None
) -> tuple[Report, list[Disagreement]]:
    """Compare two finished runs.

    Args:
        first: Run folder A.
        second: Run folder B.
        called: Tells the names of samples; by default they are told by number alone.

    Returns:
        The report, and the samples that they disagree on, those first where one is right.

    Raises:
        RunError: If one is no finished run, or their test samples are not the same.
    """
    runs = RunFiles(first), RunFiles(second)
    results = [_result(run) for run in runs]
    predictions = [_predictions(run) for run in runs]
    samples = _common(first, second, *predictions)
    found = list(_disagreements(samples)) if samples else []
    tables = [_settings(*runs)]
    notes = [f"A: {first}", f"B: {second}"]
    if samples:
        rows, faults = _rows(samples, results)
        tables += [*_numbers(samples, rows), _counts(samples, found), _listed(found, called)]
        notes += [*_alone(*(one or {} for one in predictions)), *faults]
    tables += [_measures(*results), _origins(*runs)]
    if not samples:
        notes.append("No test samples to compare: a run has evaluate_test=false.")
    return Report("compare", "A and B", tuple(tables), tuple(notes)), found


@dataclass(frozen=True)
class _Samples:
    """Common test samples.

    Attributes:
        logits: Modality -> logits (N, C) of A and B.
        present: Modality -> (N,) bool of A and B; only of those that samples lack.
        label: Classes (N,).
        index: Numbers (N,).
        names: Names of the classes.
    """

    logits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    present: Mapping[str, tuple[np.ndarray, np.ndarray]]
    label: np.ndarray
    index: np.ndarray
    names: tuple[str, ...]


def _result(run: RunFiles) -> Result:
    if not files.is_finished(run.folder):
        near = [str(path) for path in files.find_runs(run.folder)] if run.folder.is_dir() else []
        more = f" Below it: {', '.join(near[:3])}." if near else " See mla report runs."
        raise RunError(f"{run.folder} is no finished run.{more}")
    result: Result = _read(run, "result")
    return result


def _predictions(run: RunFiles) -> dict[str, np.ndarray] | None:
    arrays: dict[str, np.ndarray] | None = _read(run, "predictions")
    lacking = [name for name in (*SAME, f"logits_{MULTI}") if name not in (arrays or {})]
    if arrays is not None and lacking:
        path = run.folder / files.PREDICTIONS
        raise RunError(f"{path} lacks {', '.join(lacking)}. {REMEDY}")
    return arrays


def _read(run: RunFiles, what: str) -> Any:
    """Read a file; an error says of which of the two runs, and what to do."""
    try:
        return getattr(run, what)
    except RunError as error:
        raise RunError(f"{run.folder}: {error}. {REMEDY}") from error


def _common(
    first: Path,
    second: Path,
    a: dict[str, np.ndarray] | None,
    b: dict[str, np.ndarray] | None,
) -> _Samples | None:
    import numpy as np

    if a is None or b is None:
        return None
    for key in SAME:
        if not np.array_equal(a[key], b[key]):
            raise RunError(
                f"{first} and {second} have other test samples ({key} differs), so they cannot be "
                "compared sample by sample. Compare runs of one data set and split."
            )
    shared = [key.removeprefix("logits_") for key in a if key.startswith("logits_") and key in b]
    everything = np.ones(len(a["label"]), dtype=bool)
    has = {name: [one.get(f"present_{name}", everything) for one in (a, b)] for name in shared}
    return _Samples(
        {name: (a[f"logits_{name}"], b[f"logits_{name}"]) for name in shared},
        {name: (of_a, of_b) for name, (of_a, of_b) in has.items()},
        a["label"],
        a["index"],
        tuple(map(str, a["class_names"])),
    )


def _settings(*runs: RunFiles) -> Table:
    trees = (dict(flatten(_read(run, "tree"))) for run in runs)
    old, new = ({key: str(value) for key, value in tree.items()} for tree in trees)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    rows = tuple(
        Row(key, (Cell(old.get(key, BLANK)), Cell(new.get(key, BLANK))))
        for key in keys
        if key.partition(".")[0] not in NOT_IDENTITY
    )
    note = () if rows else ("No setting differs.",)
    return Table("settings", "Settings that differ", "", ("A", "B"), (Section("", rows),), note)


def _alone(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Tell of modalities that one run has and the other has not."""
    logits = [{key for key in one if key.startswith("logits_")} for one in (a, b)]
    for run, has, other in zip("AB", logits, reversed(logits), strict=True):
        for key in sorted(has - other):
            yield f"{key.removeprefix('logits_')} is left out: only {run} has it."


def _rows(samples: _Samples, results: Sequence[Result]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Find the samples that both runs can answer from a modality.

    Returns:
        Modality -> rows (N,) bool, ``multi`` last; and which are left out: where the accuracy is
        not the run's own, its file does not tell which samples lack the modality.
    """
    kept, faults = {}, []
    for name in sorted(samples.logits, key=lambda name: name == MULTI):
        untold = [
            run
            for run, z, has, result in zip(
                "AB", samples.logits[name], samples.present[name], results, strict=True
            )
            if not _is_own(z[has], samples.label[has], result, name)
        ]
        both = samples.present[name][0] & samples.present[name][1]
        if untold:
            faults.append(
                f"{name} is left out: {PREDICTIONS} of {' and '.join(untold)} does not tell which "
                "samples lack it. Runs of this version do: train again."
            )
        elif both.any():
            kept[name] = both
            if not both.all():
                faults.append(f"{name}: on the {int(both.sum())} samples that both runs had it of.")
        else:
            faults.append(f"{name} is left out: there is no sample that both runs had it of.")
    return kept, faults


def _is_own(logits: np.ndarray, label: np.ndarray, result: Result, name: str) -> bool:
    own = (result.test or {})[name]["accuracy"]
    if own is None or not len(label):
        return own is None and not len(label)
    return abs(float((logits.argmax(axis=1) == label).mean()) - own) < ROUNDING


def _numbers(samples: _Samples, rows: Mapping[str, np.ndarray]) -> Iterator[Table]:
    """Write accuracy, F1 and calibration error of A and B with the interval of their gap."""
    found = {
        name: gaps(samples.label[has], (samples.logits[name][0][has], samples.logits[name][1][has]))
        for name, has in rows.items()
    }
    columns = ("A", "B", "B less A", f"{CONFIDENCE:.0%} interval")
    told = (
        f"Interval: paired bootstrap over the test samples ({NUM_DRAWS} draws). It is about these "
        "two trained models on these samples; what another seed would give it cannot tell."
    )
    for slug, title, scale, digits in (
        ("accuracy", "Test accuracy in percent", 100, 1),
        ("macro_f1", "Macro F1 in percent", 100, 1),
        ("ece", "Expected calibration error, 15 bins", 1, 3),
    ):
        lines = []
        for name, by_measure in found.items():
            gap = by_measure[slug]
            texts = [f"{scale * value:.{digits}f}" for value in gap.values]
            texts.append(signed(scale * gap.difference, digits))
            low, high = (signed(scale * end, digits) for end in (gap.low, gap.high))
            texts.append(f"{low} to {high}")
            texts += [p_text(_mcnemar(samples, name, rows[name]))] if slug == "accuracy" else []
            lines.append(Row(name, tuple(map(Cell, texts))))
        is_first = slug == "accuracy"
        yield Table(
            slug,
            title,
            "",
            (*columns, "p") if is_first else columns,
            (Section("", tuple(lines)),),
            (f"{told} p: exact McNemar test.",) if is_first else (),
        )


def _mcnemar(samples: _Samples, name: str, rows: np.ndarray) -> float:
    a, b = ((z.argmax(axis=1) == samples.label)[rows] for z in samples.logits[name])
    return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))


def mcnemar(only_a: int, only_b: int) -> float:
    """Test whether two models are right equally often, on samples where just one is.

    Args:
        only_a: Samples that A alone answers right.
        only_b: Samples that B alone answers right.

    Returns:
        Two-sided p of the exact binomial test; 1 where there is no such sample.
    """
    from scipy.stats import binomtest

    total = only_a + only_b
    return float(binomtest(only_b, total).pvalue) if total else 1.0


def _disagreements(samples: _Samples) -> Iterator[Disagreement]:
    import numpy as np

    a, b = samples.logits[MULTI]
    answers = a.argmax(axis=1), b.argmax(axis=1)
    shares = []
    for logits in (a, b):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares.append((powers / powers.sum(axis=1, keepdims=True)).max(axis=1))
    differ = np.flatnonzero(answers[0] != answers[1])
    one_right = [
        (answers[0][n] == samples.label[n]) | (answers[1][n] == samples.label[n]) for n in differ
    ]
    order = sorted(range(len(differ)), key=lambda k: (not one_right[k], k))
    for n in (int(differ[k]) for k in order):
        yield Disagreement(
            int(samples.index[n]),
            samples.names[int(samples.label[n])],
            (samples.names[int(answers[0][n])], samples.names[int(answers[1][n])]),
            (float(shares[0][n]), float(shares[1][n])),
        )


def _counts(samples: _Samples, found: list[Disagreement]) -> Table:
    a, b = (z.argmax(axis=1) == samples.label for z in samples.logits[MULTI])
    counts = {
        "both right": int((a & b).sum()),
        "A alone right": int((a & ~b).sum()),
        "B alone right": int((b & ~a).sum()),
        "both wrong": int((~a & ~b).sum()),
        "different answers": len(found),
    }
    rows = tuple(Row(name, (Cell(str(count)),)) for name, count in counts.items())
    return Table("counts", "Who is right", "", ("test samples",), (Section("", rows),))


def _listed(found: list[Disagreement], called: Called | None) -> Table:
    shown = found[:MOST_LISTED]
    numbers = [one.index for one in shown]
    names = [f"test {number}" for number in numbers]
    if called is not None and shown:
        told = zip(names, called(numbers), strict=True)
        names = [plain if name == plain else f"{plain}: {name}" for plain, name in told]
    rows = tuple(
        Row(
            name,
            (
                Cell(one.label),
                *(
                    Cell(f"{answer} ({sure:.0%})")
                    for answer, sure in zip(one.answers, one.confidences, strict=True)
                ),
            ),
        )
        for name, one in zip(names, shown, strict=True)
    )
    more = len(found) - len(rows)
    note = (f"And {more} more.",) if more > 0 else ()
    columns = ("class", "A answers", "B answers")
    return Table("samples", "Where they disagree", "", columns, (Section("", rows),), note)


def _measures(a: Result, b: Result) -> Table:
    rows = []
    for label, key in PLAIN:
        values = [getattr(one, key) for one in (a, b)]
        cells = [Cell(BLANK if value is None else f"{value:,.6g}") for value in values]
        rows.append(Row(label, tuple(cells)))
    return Table("measures", "Other measures", "", ("A", "B"), (Section("", tuple(rows)),))


def _origins(*runs: RunFiles) -> Table:
    """Tell where the numbers of both come from."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        about = run.provenance
        versions = about.get("versions") or {}
        texts = {
            "code": code_in(about)[:12],
            "data": str(about.get("data_fingerprint") or "")[:12],
            "commit": str(about.get("git_commit") or "")[:10],
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "machine": str(about.get("platform") or ""),
            "started": str(about.get("started") or ""),
            "command": str(about.get("command") or ""),
        }
        for name, text in texts.items():
            rows.setdefault(name, []).append(text or BLANK)
    lines = tuple(
        Row(name, (Cell(a), Cell("the same" if a == b != BLANK else b)))
        for name, (a, b) in rows.items()
    )
    return Table("origin", "Where they come from", "", ("A", "B"), (Section("", lines),))
