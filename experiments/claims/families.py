"""Families of paired comparisons for questions 1, 2, 4 and 5; p-values are corrected per family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.significance import SIGNIFICANT, Comparison, compare, holm
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label

METHOD, BASE, LATE = "mla", "concat", "late_fusion"
#: Methods with a single loss, on the fused logits.
JOINT = (BASE, "sum")
#: Methods with a loss per modality and without alternating training.
LOSS_PER_MODALITY = (LATE, "joint_unimodal")
#: Units of the differences.
POINTS, HUNDREDTHS = "percentage points", "hundredths"
#: Data set -> block of runs.
Blocks = Mapping[str, Block]


@dataclass(frozen=True)
class Line:
    """A comparison with its label: one line of a table and of a figure.

    Attributes:
        section: The data set.
        label: The minuend and the subtrahend, or what differs.
        comparison: The paired differences.
        p: Corrected p-value.

    Example:
        >>> Line("openmoji", "MLA minus Concat", Comparison((0, 1), mean=1.6, p=0.01), p=0.03).sign
        1
    """

    section: str
    label: str
    comparison: Comparison
    p: float | None = None

    @property
    def sign(self) -> int:
        """Sign of the difference, 1 or -1, if it is significant; otherwise 0."""
        if self.p is None or self.p >= SIGNIFICANT or self.comparison.mean is None:
            return 0
        return 1 if self.comparison.mean > 0 else -1


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together, shown as one table.

    Attributes:
        slug: Short name for file names.
        title: The question, with the measure and its unit.
        figure: Name of its figure, which families with the same name share.
        axis: Label of the figure's axis.
        down: Word for a difference below zero.
        up: Word for a difference above zero.
        lines: The comparisons.
        notes: Footnotes beside the verdict.
        measure: What is compared, in few words, for the answer to the question; empty for a family
            that breaks another one down.
    """

    slug: str
    title: str
    figure: str
    axis: str
    down: str
    up: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    measure: str = ""


def correct(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Correct the p-values of comparisons as one family by Holm's method.

    Args:
        lines: The comparisons.

    Returns:
        The comparisons that have a common seed, with corrected p-values.

    Example:
        >>> pair = [Line("", "", Comparison((0, 1), 1.0, p=p)) for p in (0.01, 0.04)]
        >>> [line.p for line in correct(pair)]
        [0.02, 0.04]
    """
    tested = [line for line in lines if line.comparison.mean is not None]
    p_values = holm([line.comparison.p for line in tested])
    return tuple(replace(line, p=p) for line, p in zip(tested, p_values, strict=True))


def joint_training_family(blocks: Blocks) -> Family:
    """Compare jointly trained encoders with those trained alone and those of Late Fusion.

    Args:
        blocks: Data set -> block of Table 1.

    Returns:
        The family of question 1, in percentage points of probe accuracy.
    """
    lines = []
    for block in blocks.values():
        for modality in block.modalities:
            pairs = [(method, REFERENCE) for method in (*JOINT, LATE)]
            pairs += [(method, LATE) for method in JOINT]
            lines += [_probe_line(block, modality, *pair) for pair in pairs]
    late, reference = method_label(LATE), method_label(REFERENCE)
    return Family(
        "behind",
        "1. Does joint training leave encoders behind? Difference in ridge probe accuracy "
        f"({POINTS})",
        "1-behind",
        f"Difference in probe accuracy ({POINTS})",
        "lower",
        "higher",
        correct(lines),
        (
            f"{reference}: each modality trained alone, at its own best epoch on validation. All "
            f"others, {late} among them, are at the epoch with the best fused validation accuracy. "
            f"{reference} shows what an encoder can reach; {late}, which also trains the encoders "
            "separately, shows what it reaches under the same epoch selection.",
        ),
        measure="probe accuracy",
    )


def alternation_families(blocks: Blocks, joint_training: Family) -> tuple[Family, ...]:
    """Compare MLA with joint training, modalities trained alone, and a loss per modality.

    Args:
        blocks: Data set -> block of Table 1.
        joint_training: The family of question 1. Probes are compared with those of methods with a
            loss per modality only for encoders that are significantly worse under joint training
            than trained alone.

    Returns:
        The families of question 2: probe and fused accuracy, against joint training and against
        methods with a loss per modality.
    """
    behind = {(line.section, line.label) for line in joint_training.lines if line.sign < 0}
    against_joint, against_separate = [], []
    for block in blocks.values():
        for modality in block.modalities:
            against_joint += [
                _probe_line(block, modality, METHOD, other) for other in (BASE, REFERENCE)
            ]
            if any((block.title, _label(modality, joint, REFERENCE)) in behind for joint in JOINT):
                against_separate += [
                    _probe_line(block, modality, METHOD, other) for other in LOSS_PER_MODALITY
                ]
    fused = {
        others: [_fused_line(block, METHOD, o) for block in blocks.values() for o in others]
        for others in ((BASE,), LOSS_PER_MODALITY)
    }
    joint_title = "2. Does alternating training prevent this?"
    separate_title = "2. Does it do more than a loss per modality?"
    probes, accuracy = (
        f"Difference in {measure} accuracy ({POINTS})" for measure in ("ridge probe", "multi test")
    )
    probe_axis = ("2-cured", f"Difference in probe accuracy ({POINTS})")
    fused_axis = ("2-fused", accuracy)
    words = ("lower", "higher")
    return (
        Family(
            "cured",
            f"{joint_title} {probes}",
            *probe_axis,
            *words,
            correct(against_joint),
            measure="probe accuracy",
        ),
        Family(
            "cured-fused",
            f"{joint_title} {accuracy}",
            *fused_axis,
            *words,
            correct(fused[BASE,]),
            measure="fused accuracy",
        ),
        Family(
            "simpler",
            f"{separate_title} {probes}, for encoders significantly behind in question 1",
            *probe_axis,
            *words,
            correct(against_separate),
            measure="probe accuracy compared with a loss per modality",
        ),
        Family(
            "simpler-fused",
            f"{separate_title} {accuracy}",
            *fused_axis,
            *words,
            correct(fused[LOSS_PER_MODALITY]),
            measure="fused accuracy compared with a loss per modality",
        ),
    )


def weighting_family(blocks: Blocks) -> Family:
    """Compare entropy weights with equal weights.

    Args:
        blocks: Data set -> block of Table 3.

    Returns:
        The family of question 4.
    """
    lines = []
    for block in blocks.values():
        for entropy, equal, condition in (
            ("none", "no_df", "with HGM"),
            ("no_hgm", "no_hgm_no_df", "without HGM"),
        ):
            pair = block.find(METHOD, entropy), block.find(METHOD, equal)
            for label, measure in (("accuracy", "accuracy_percent"), ("calibration error", "ece")):
                comparison = compare_columns(block, *pair, measure=measure)
                lines.append(Line(block.title, f"{label}, {condition}", comparison))
    return Family(
        "weighted",
        "4. Does entropy weighting outperform equal weights? Difference in multi test accuracy "
        f"({POINTS}) and in expected calibration error ({HUNDREDTHS})",
        "4-weighted",
        "Entropy weights minus equal weights",
        "lower",
        "higher",
        correct(lines),
        (
            "All four variants of a data set use the learning rate that was tuned with HGM and "
            "entropy weights.",
        ),
        measure="accuracy and calibration error",
    )


def epoch_time_family(blocks: Blocks) -> Family:
    """Compare the time per epoch of each method with that of Concat.

    Args:
        blocks: Data set -> block of runs that were timed one at a time.

    Returns:
        The family of question 5: differences in percent of the time of Concat with the same seed.
    """
    lines = []
    for block in blocks.values():
        base = block.find(BASE)
        base_times = block.values(base, measure="epoch_time_s") if base else {}
        for variant in (v for v in block.variants if v != base):
            times = block.values(variant, measure="epoch_time_s")
            percent = {
                seed: 100 * (times[seed] / base_times[seed] - 1)
                for seed in times
                if base_times.get(seed)
            }
            comparison = compare(percent, dict.fromkeys(percent, 0.0))
            lines.append(Line(block.title, variant.label, comparison))
    title = f"Difference in time per epoch from {method_label(BASE)} (percent)"
    return Family(
        "price",
        f"5. What does it cost? {title}",
        "5-price",
        title,
        "faster",
        "slower",
        correct(lines),
        ("One run at a time on one core, alternating between the methods.",),
        measure="time per epoch in percent of Concat's",
    )


def _difference(method: str, other: str) -> str:
    return f"{method_label(method)} minus {method_label(other)}"


def _label(modality: str, method: str, other: str) -> str:
    return f"{modality}: {_difference(method, other)}"


def _probe_line(block: Block, modality: str, method: str, other: str) -> Line:
    comparison = compare_columns(
        block,
        block.find(method),
        block.find(other),
        modality=modality,
        measure="probe_percent",
    )
    return Line(block.title, _label(modality, method, other), comparison)


def _fused_line(block: Block, method: str, other: str) -> Line:
    comparison = compare_columns(block, block.find(method), block.find(other))
    return Line(block.title, _difference(method, other), comparison)


def compare_columns(
    block: Block,
    first: Variant | None,
    second: Variant | None,
    *,
    modality: str = MULTI,
    measure: str = "accuracy_percent",
) -> Comparison:
    """Compare two columns of a block, paired by seed.

    Args:
        block: The block.
        first: The minuend; None if the block has no such column.
        second: The subtrahend; None if the block has no such column.
        modality: A modality or ``multi``.
        measure: A measure of :meth:`Block.values`.

    Returns:
        The comparison, in hundredths for ``ece``; without seeds if a column is None.
    """
    scale = 100.0 if measure == "ece" else 1.0
    values = [
        {s: scale * v for s, v in block.values(column, modality, measure=measure).items()}
        if column
        else {}
        for column in (first, second)
    ]
    return compare(*values)


def lines_of_figure(families: Sequence[Family], figure: str) -> tuple[Line, ...]:
    """Return the comparisons of a figure, in the order of the families.

    Args:
        families: The families.
        figure: Name of the figure.
    """
    return tuple(line for family in families if family.figure == figure for line in family.lines)
