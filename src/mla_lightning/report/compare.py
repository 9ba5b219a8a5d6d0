"""Two runs side by side: settings, numbers with intervals, and the samples they disagree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import RunError
from mla_lightning.report.results import MULTI
from mla_lightning.report.significance import CONFIDENCE
from mla_lightning.report.table import BLANK, Cell, Report, Row, Section, Table, p_text, signed
from mla_lightning.run_folder import (
    CONFIG,
    NOT_IDENTITY,
    PREDICTIONS,
    RESULT,
    find_runs,
    is_finished,
    read_json,
)

if TYPE_CHECKING:
    import numpy as np

#: Draws of the bootstrap, and samples that are listed.
NUM_DRAWS, MOST_LISTED = 2000, 24
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


def compare_runs(first: Path, second: Path) -> tuple[Report, list[Disagreement]]:
    """Compare two finished runs.

    Args:
        first: Run folder A.
        second: Run folder B.

    Returns:
        The report, and the samples that they disagree on, those first where one is right.

    Raises:
        RunError: If one is no finished run, or their test samples are not the same.
    """
    results, predictions = [], []
    for folder in (first, second):
        if not is_finished(folder):
            near = [str(path) for path in find_runs(folder)] if folder.is_dir() else []
            more = f" Below it: {', '.join(near[:3])}." if near else " See mla report runs."
            raise RunError(f"{folder} is no finished run.{more}")
        results.append(read_json(folder / RESULT) or {})
        predictions.append(_predictions(folder))
    samples = _common(first, second, *predictions)
    found = list(_disagreements(samples)) if samples else []
    tables = [_settings(first, second)]
    if samples:
        tables += [_accuracies(samples), _counts(samples, found), _listed(found)]
    tables.append(_measures(*results))
    notes = [f"A: {first}", f"B: {second}"]
    if not samples:
        notes.append("No test samples to compare: a run has evaluate_test=false.")
    return Report("compare", "A and B", tuple(tables), tuple(notes)), found


@dataclass(frozen=True)
class _Samples:
    """Common test samples: modality -> logits (N, C) of A and B; labels, numbers, class names."""

    logits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    label: np.ndarray
    index: np.ndarray
    names: tuple[str, ...]


def _predictions(folder: Path) -> dict[str, np.ndarray] | None:
    import numpy as np

    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _common(
    first: Path,
    second: Path,
    a: dict[str, np.ndarray] | None,
    b: dict[str, np.ndarray] | None,
) -> _Samples | None:
    import numpy as np

    if a is None or b is None:
        return None
    for key in ("index", "label", "class_names"):
        if not np.array_equal(a[key], b[key]):
            raise RunError(
                f"{first} and {second} have other test samples ({key} differs), so they cannot be "
                "compared sample by sample. Compare runs of one data set and split."
            )
    shared = [key.removeprefix("logits_") for key in a if key.startswith("logits_") and key in b]
    return _Samples(
        {name: (a[f"logits_{name}"], b[f"logits_{name}"]) for name in shared},
        a["label"],
        a["index"],
        tuple(map(str, a["class_names"])),
    )


def _settings(first: Path, second: Path) -> Table:
    old, new = (dict(_flat(_config(folder))) for folder in (first, second))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    rows = tuple(
        Row(key, (Cell(old.get(key, BLANK)), Cell(new.get(key, BLANK))))
        for key in keys
        if key.partition(".")[0] not in NOT_IDENTITY
    )
    note = () if rows else ("No setting differs.",)
    return Table("settings", "Settings that differ", "", ("A", "B"), (Section("", rows),), note)


def _config(folder: Path) -> Any:
    import yaml

    return yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))


def _flat(node: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flat(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, str(node)


def _accuracies(samples: _Samples) -> Table:
    import numpy as np

    rows = []
    for name, (a, b) in sorted(samples.logits.items(), key=lambda item: item[0] == MULTI):
        right = [(z.argmax(axis=1) == samples.label) for z in (a, b)]
        gain = right[1].astype(float) - right[0].astype(float)
        draws = np.random.default_rng(0).integers(0, len(gain), (NUM_DRAWS, len(gain)))
        low, high = np.quantile(gain[draws].mean(axis=1), [0.025, 0.975])
        only_a, only_b = int((gain < 0).sum()), int((gain > 0).sum())
        texts = (
            f"{100 * right[0].mean():.1f}",
            f"{100 * right[1].mean():.1f}",
            signed(100 * float(gain.mean())),
            f"{signed(100 * float(low))} to {signed(100 * float(high))}",
            p_text(mcnemar(only_a, only_b)),
        )
        rows.append(Row(name, tuple(map(Cell, texts))))
    return Table(
        "accuracy",
        "Test accuracy in percent",
        "",
        ("A", "B", "B less A", f"{CONFIDENCE:.0%} interval", "p"),
        (Section("", tuple(rows)),),
        (
            f"Interval: bootstrap over the test samples ({NUM_DRAWS} draws). p: exact McNemar "
            "test. Both are about these two trained models on these samples; what another seed "
            "would give they cannot tell.",
        ),
    )


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


def _listed(found: list[Disagreement]) -> Table:
    rows = tuple(
        Row(
            f"test sample {one.index}",
            (
                Cell(one.label),
                *(
                    Cell(f"{answer} ({sure:.0%})")
                    for answer, sure in zip(one.answers, one.confidences, strict=True)
                ),
            ),
        )
        for one in found[:MOST_LISTED]
    )
    more = len(found) - len(rows)
    note = (f"And {more} more.",) if more > 0 else ()
    columns = ("class", "A answers", "B answers")
    return Table("samples", "Where they disagree", "", columns, (Section("", rows),), note)


def _measures(a: Mapping[str, Any], b: Mapping[str, Any]) -> Table:
    rows = []
    for label, key in PLAIN:
        values = [one.get(key) for one in (a, b)]
        cells = [Cell(BLANK if value is None else f"{value:,.6g}") for value in values]
        rows.append(Row(label, tuple(cells)))
    return Table("measures", "Other measures", "", ("A", "B"), (Section("", tuple(rows)),))
