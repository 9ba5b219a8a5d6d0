"""Predictions of two runs for the same test samples: where they differ, and which is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mla_lightning.report.document.table import Cell, Row, Section, Table
from mla_lightning.report.read.metrics import primary_metric
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.significance import compare, mcnemar
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

if TYPE_CHECKING:
    import numpy as np

#: Largest number of samples that are listed.
MAX_LISTED = 24
#: Function from indices of test samples to their names.
SampleNames = Callable[[Sequence[int]], Sequence[str]]
#: Task -> the test of which a table shows p; none for several labels per sample.
P_NOTES = {
    CLASSIFICATION: "p: exact McNemar test.",
    REGRESSION: "p: two-sided paired t-test of the absolute errors.",
    MULTILABEL: "",
}


@dataclass(frozen=True)
class SamplePairs:
    """Test samples of both runs, A and B.

    Attributes:
        task: The task of the data set.
        logits: Modality -> logits (N, C) of A and B; predicted numbers (N, 1) of regression.
        present: Modality -> whether it is present (N,), in A and B.
        label: Labels (N,), or 0 and 1 for each label (N, L).
        index: Indices in the test split (N,).
        class_names: Names of the classes or labels.
    """

    task: str
    logits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    present: Mapping[str, tuple[np.ndarray, np.ndarray]]
    label: np.ndarray
    index: np.ndarray
    class_names: tuple[str, ...]

    def p_value(self, name: str, rows: np.ndarray) -> float | None:
        """Return the p-value of equal errors in one modality, see :data:`P_NOTES`.

        Args:
            name: The modality or ``multi``.
            rows: The samples that are compared (N,) bool.
        """
        if self.task == MULTILABEL:
            return None
        if self.task == REGRESSION:
            errors = (abs(z[:, 0] - self.label)[rows] for z in self.logits[name])
            a, b = (dict(enumerate(map(float, values))) for values in errors)
            return compare(b, a).p
        a, b = ((z.argmax(axis=1) == self.label)[rows] for z in self.logits[name])
        return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))


@dataclass(frozen=True)
class Disagreement:
    """A test sample for which two runs have different predictions.

    Attributes:
        index: Its index in the test split.
        label: Its class, its labels, or its number.
        predictions: The predictions of A and B, likewise.
        confidences: Their probabilities; None for tasks other than classification.
        has_right: Whether a prediction is right or wrong, as not in regression.
    """

    index: int
    label: str
    predictions: tuple[str, str]
    confidences: tuple[float, float] | None = None
    has_right: bool = True

    @property
    def lines(self) -> list[tuple[str, bool | None]]:
        """Label and predictions, each with whether it is right; None where that is not asked.

        Example:
            >>> Disagreement(3, "cat", ("cat", "dog"), (0.9, 0.6)).lines
            [('cat', None), ('A cat (90%)', True), ('B dog (60%)', False)]
        """
        are_right: tuple[bool | None, bool | None] = (None, None)
        if self.has_right:
            a, b = self.predictions
            are_right = (a == self.label, b == self.label)
        texts = (f"{run} {text}" for run, text in zip("AB", self.prediction_texts, strict=True))
        return [(self.label, None), *zip(texts, are_right, strict=True)]

    @property
    def prediction_texts(self) -> Sequence[str]:
        """The predictions, with their probabilities where there are any.

        Example:
            >>> Disagreement(3, "cat", ("cat", "dog"), (0.9, 0.6)).prediction_texts
            ['cat (90%)', 'dog (60%)']
        """
        if self.confidences is None:
            return self.predictions
        pairs = zip(self.predictions, self.confidences, strict=True)
        return [f"{name} ({share:.0%})" for name, share in pairs]


def disagreements(pairs: SamplePairs) -> Iterator[Disagreement]:
    """Yield the samples with different predictions: for classes, first where one is correct.

    Args:
        pairs: The samples; of regression, all are yielded, by the distance of the predictions.
    """
    by_task = {CLASSIFICATION: _classes, REGRESSION: _numbers, MULTILABEL: _label_sets}
    return by_task[pairs.task](pairs)


def _classes(pairs: SamplePairs) -> Iterator[Disagreement]:
    import numpy as np

    from mla_lightning.counts import predict_classes

    (a, a_confidence), (b, b_confidence) = map(predict_classes, pairs.logits[MULTI])
    is_one_correct = (a == pairs.label) | (b == pairs.label)
    order = sorted(map(int, np.flatnonzero(a != b)), key=lambda n: (not is_one_correct[n], n))
    names = pairs.class_names
    for n in order:
        yield Disagreement(
            int(pairs.index[n]),
            names[int(pairs.label[n])],
            (names[int(a[n])], names[int(b[n])]),
            (float(a_confidence[n]), float(b_confidence[n])),
        )


def _numbers(pairs: SamplePairs) -> Iterator[Disagreement]:
    a, b = (z[:, 0] for z in pairs.logits[MULTI])
    errors = abs(a - pairs.label)
    metric = primary_metric(REGRESSION).at_scale(float(errors.mean()) if len(errors) else 0.0)
    order = sorted(range(len(a)), key=lambda n: (-abs(float(a[n]) - float(b[n])), n))
    for n in order:
        if a[n] != b[n]:
            predictions = (metric.text(float(a[n])), metric.text(float(b[n])))
            label = f"{float(pairs.label[n]):.6g}"
            yield Disagreement(int(pairs.index[n]), label, predictions, has_right=False)


def _label_sets(pairs: SamplePairs) -> Iterator[Disagreement]:
    import numpy as np

    def text(row: np.ndarray) -> str:
        return ", ".join(pairs.class_names[k] for k in np.flatnonzero(row)) or "none"

    a, b = (z > 0 for z in pairs.logits[MULTI])
    is_one_correct = (a == pairs.label).all(axis=1) | (b == pairs.label).all(axis=1)
    different = np.flatnonzero((a != b).any(axis=1))
    for n in sorted(map(int, different), key=lambda n: (not is_one_correct[n], n)):
        predictions = (text(a[n]), text(b[n]))
        yield Disagreement(int(pairs.index[n]), text(pairs.label[n]), predictions)


def agreement_table(pairs: SamplePairs, num_different: int) -> Table:
    """Make the table of how many samples each run predicts correctly, or closer.

    Args:
        pairs: The samples.
        num_different: Number of samples with different predictions.
    """
    notes: tuple[str, ...] = ()
    if pairs.task == REGRESSION:
        a, b = (abs(z[:, 0] - pairs.label) for z in pairs.logits[MULTI])
        counts = {
            "A closer to the true value": int((a < b).sum()),
            "B closer to the true value": int((b < a).sum()),
            "equally close": int((a == b).sum()),
        }
    else:
        a, b = (_is_correct(pairs, z) for z in pairs.logits[MULTI])
        counts = {
            "both correct": int((a & b).sum()),
            "only A correct": int((a & ~b).sum()),
            "only B correct": int((b & ~a).sum()),
            "both incorrect": int((~a & ~b).sum()),
            "different predictions": num_different,
        }
        if pairs.task == MULTILABEL:
            notes = ("Correct: all labels of the sample are predicted, and no other.",)
    rows = tuple(Row(name, (Cell(str(count)),)) for name, count in counts.items())
    title = "Agreement of the predictions (multi)"
    return Table("counts", title, "", ("test samples",), (Section("", rows),), notes)


def _is_correct(pairs: SamplePairs, logits: np.ndarray) -> np.ndarray:
    if pairs.task == MULTILABEL:
        return ((logits > 0) == pairs.label).all(axis=1)
    return logits.argmax(axis=1) == pairs.label


def samples_table(
    pairs: SamplePairs, different: Sequence[Disagreement], sample_names: SampleNames | None
) -> Table:
    """Make the table of the samples with different predictions.

    Args:
        pairs: The samples.
        different: Those with different predictions.
        sample_names: Returns the names of samples; None where only their indices are known.
    """
    listed = different[:MAX_LISTED]
    indices = [sample.index for sample in listed]
    labels = [f"test {index}" for index in indices]
    if sample_names is not None and listed:
        named = zip(labels, sample_names(indices), strict=True)
        labels = [label if name == label else f"{label}: {name}" for label, name in named]
    rows = [
        Row(label, tuple(map(Cell, (sample.label, *sample.prediction_texts))))
        for label, sample in zip(labels, listed, strict=True)
    ]
    title = "Samples with different predictions (multi)"
    corner, note = {
        CLASSIFICATION: ("class", "Predictions with their probabilities."),
        REGRESSION: ("true value", "By the distance of the two predictions, the largest first."),
        MULTILABEL: ("labels", "First the samples that one of the two predicts correctly."),
    }[pairs.task]
    num_more = len(different) - len(listed)
    note += f" {num_more} more samples are not listed." if num_more > 0 else ""
    columns = (corner, "prediction of A", "prediction of B")
    return Table("samples", title, "", columns, (Section("", tuple(rows)),), (note,))
