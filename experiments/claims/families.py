"""Families of paired comparisons for questions 1, 2, 4 and 5, each corrected as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables.rows import SIGNIFICANT
from mla_lightning.report.tables.significance import Comparison, compare, holm

METHOD, BASE, LATE = "mla", "concat", "late_fusion"
#: Methods that train all modalities by a single loss of the fused logits.
JOINT = (BASE, "sum")
#: Methods that give each modality a loss of its own without alternating.
SIMPLER = (LATE, "joint_unimodal")
#: Data set -> block of runs.
Blocks = Mapping[str, Block]


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        section: The data set.
        label: What is compared with what.
        comparison: The paired differences.
        p: Corrected p.
    """

    section: str
    label: str
    comparison: Comparison
    p: float | None = None

    @property
    def sign(self) -> int:
        """Sign of a significant difference, 1 or -1; 0 where there is none."""
        if self.p is None or self.p >= SIGNIFICANT or self.comparison.mean is None:
            return 0
        return 1 if self.comparison.mean > 0 else -1


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together: one table, and a figure or a share of one.

    Attributes:
        slug: Short name, for file names.
        title: The question, with the measure and its unit.
        figure: Name of its figure; families with the same name are drawn in one.
        axis: Label of the figure's axis.
        down: Word for a difference below zero.
        up: Word for a difference above zero.
        lines: The comparisons.
        notes: What a reader needs to know beyond the verdict.
    """

    slug: str
    title: str
    figure: str
    axis: str
    down: str
    up: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def correct(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Correct the p-values of comparisons as one family, by Holm's method.

    Args:
        lines: The comparisons.

    Returns:
        Those with a common seed, with corrected p.
    """
    tested = [line for line in lines if line.comparison.mean is not None]
    p_values = holm([line.comparison.p for line in tested])
    return tuple(replace(line, p=p) for line, p in zip(tested, p_values, strict=True))


def joint_training_family(blocks: Blocks) -> Family:
    """Compare encoders of joint training with those trained alone, and with Late Fusion's.

    Args:
        blocks: Data set -> block of Table 1.

    Returns:
        The family of question 1, in points of probe accuracy.
    """
    lines = []
    for block in blocks.values():
        for modality in block.modalities:
            pairs = [(method, REFERENCE) for method in (*JOINT, LATE)]
            pairs += [(method, LATE) for method in JOINT]
            lines += [_probe_line(block, modality, *pair) for pair in pairs]
    late = method_label(LATE)
    return Family(
        "behind",
        "1. Does joint training leave encoders behind? Differences of ridge probes, points",
        "1-behind",
        "Probe, points",
        "behind",
        "ahead",
        correct(lines),
        (
            f"{method_label(REFERENCE)} (alone) takes each modality's own best epoch on "
            f"validation; all others, {late} among them, the epoch with the best fused accuracy. "
            f"Alone is what an encoder can reach; {late}, which trains the encoders without each "
            "other as well, is what it reaches by the same rule.",
        ),
    )


def alternation_families(blocks: Blocks, joint_training: Family) -> tuple[Family, ...]:
    """Compare MLA with joint training, with each modality alone, and with simpler methods.

    Args:
        blocks: Data set -> block of Table 1.
        joint_training: The family of question 1. Probes of simpler methods are compared only where
            it shows an encoder significantly below the same encoder trained alone.

    Returns:
        The families of question 2: probes and fused accuracy, against joint training and against
        simpler methods.
    """
    behind = {(line.section, line.label) for line in joint_training.lines if line.sign < 0}
    against_joint, against_simpler = [], []
    for block in blocks.values():
        for modality in block.modalities:
            against_joint += [
                _probe_line(block, modality, METHOD, other) for other in (BASE, REFERENCE)
            ]
            if any((block.title, _label(modality, joint, REFERENCE)) in behind for joint in JOINT):
                against_simpler += [
                    _probe_line(block, modality, METHOD, other) for other in SIMPLER
                ]
    fused = {
        others: [_fused_line(block, METHOD, o) for block in blocks.values() for o in others]
        for others in ((BASE,), SIMPLER)
    }
    joint_title, simpler_title = (
        "2. Does alternating cure it?",
        "2. Is it more than simpler cures do?",
    )
    probes, accuracy = "Differences of ridge probes, points", "Multi test accuracy, points"
    probe_axis, fused_axis = (
        ("2-cured", "Probe, points"),
        ("2-fused", "Multi test accuracy, points"),
    )
    words = ("worse", "better")
    return (
        Family("cured", f"{joint_title} {probes}", *probe_axis, *words, correct(against_joint)),
        Family(
            "cured-fused", f"{joint_title} {accuracy}", *fused_axis, *words, correct(fused[BASE,])
        ),
        Family(
            "simpler",
            f"{simpler_title} {probes}, where question 1 found an encoder behind alone",
            *probe_axis,
            *words,
            correct(against_simpler),
        ),
        Family(
            "simpler-fused",
            f"{simpler_title} {accuracy}",
            *fused_axis,
            *words,
            correct(fused[SIMPLER]),
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
        "4. Does entropy weighting beat equal weights? Multi test accuracy, points, and "
        "calibration error in hundredths",
        "4-weighted",
        "Entropy less equal weights",
        "lower",
        "higher",
        correct(lines),
        ("All four of a set run at the rate that was tuned with HGM and entropy weights.",),
    )


def epoch_time_family(blocks: Blocks) -> Family:
    """Compare the time per epoch of each method with Concat's.

    Args:
        blocks: Data set -> block of runs that were timed one at a time.

    Returns:
        The family of question 5: differences in percent of Concat's time with the same seed.
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
    return Family(
        "price",
        f"5. What is the price? Time per epoch above that of {method_label(BASE)}, percent",
        "5-price",
        f"Time per epoch above that of {method_label(BASE)}, percent",
        "quicker",
        "slower",
        correct(lines),
        ("One run at a time on one core, the methods in turn.",),
    )


def _label(modality: str, method: str, other: str) -> str:
    names = ["alone" if name == REFERENCE else method_label(name) for name in (method, other)]
    return f"{modality}: {' less '.join(names)}"


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
    return Line(block.title, f"{method_label(method)} less {method_label(other)}", comparison)


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
        first: A column, or None if the block has none.
        second: The column that is subtracted, or None.
        modality: A modality or ``multi``.
        measure: A measure as :meth:`Block.values` takes it.

    Returns:
        The comparison, in hundredths for ``ece``; without a common seed if a column is None.
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
    """Collect the comparisons that a figure draws.

    Args:
        families: The families.
        figure: The figure's name.

    Returns:
        The comparisons, in the order of the families.
    """
    return tuple(line for family in families if family.figure == figure for line in family.lines)
