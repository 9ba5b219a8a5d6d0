"""What the claims compare: families of paired comparisons, each corrected as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mla_lightning.report.read.block import REFERENCE, Block, Variant
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.tables.rows import SIGNIFICANT
from mla_lightning.report.tables.significance import Comparison, compare, holm

METHOD, BASE, LATE = "mla", "concat", "late_fusion"
#: Methods that train all modalities by one loss of the fused answer alone.
JOINT = (BASE, "sum")
#: Methods that give each modality a loss of its own without alternating.
SIMPLER = (LATE, "joint_unimodal")
Found = Mapping[str, Block]


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        section: The data set.
        label: What is compared with what.
        found: The differences.
        p: Corrected p.
    """

    section: str
    label: str
    found: Comparison
    p: float | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the difference is told from chance, 0 else."""
        if self.p is None or self.p >= SIGNIFICANT or self.found.mean is None:
            return 0
        return 1 if self.found.mean > 0 else -1


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together: a table, and a figure or a part of one.

    Attributes:
        slug: Short name, for file names.
        title: The question, with what is measured and its unit.
        figure: Name of its figure; families with the same name are drawn in one.
        axis: What is on the figure's axis.
        down: What a difference below zero is called.
        up: What one above zero is called.
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


def corrected(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Correct comparisons as one family.

    Args:
        lines: The comparisons.

    Returns:
        Those with a common seed, with corrected p.
    """
    kept = [line for line in lines if line.found.mean is not None]
    ps = holm([line.found.p for line in kept])
    return tuple(replace(one, p=p) for one, p in zip(kept, ps, strict=True))


def left_behind(found: Found) -> Family:
    """Compare the encoders of joint training with those trained alone, and with Late Fusion's.

    Args:
        found: Data set -> block of Table 1.

    Returns:
        The family.
    """
    lines = []
    for block in found.values():
        for name in block.modalities:
            pairs = [(method, REFERENCE) for method in (*JOINT, LATE)]
            pairs += [(method, LATE) for method in JOINT]
            lines += [_probe(block, name, *pair) for pair in pairs]
    return Family(
        "behind",
        "1. Does joint training leave encoders behind? Differences of ridge probes, points",
        "1-behind",
        "Probe, points",
        "behind",
        "ahead",
        corrected(lines),
        (
            f"{REFERENCE} (alone) takes each modality's own best epoch on validation; all others, "
            f"{LATE} among them, the epoch with the best fused accuracy. Alone is what an encoder "
            f"can reach; {LATE}, which trains the encoders without each other as well, is what it "
            "reaches by the same rule.",
        ),
    )


def cured(found: Found, behind: Family) -> tuple[Family, ...]:
    """Compare MLA with joint training, with each modality alone, and with simpler cures.

    Args:
        found: Data set -> block of Table 1.
        behind: The answer to question 1: simpler cures are compared where it found an encoder
            behind the same encoder alone.

    Returns:
        The families: probes and fused accuracy, against joint training and against simpler cures.
    """
    ill = {(line.section, line.label) for line in behind.lines if line.sign < 0}
    cure, simpler = [], []
    for block in found.values():
        for name in block.modalities:
            cure += [_probe(block, name, METHOD, other) for other in (BASE, REFERENCE)]
            if any((block.title, _label(name, m, REFERENCE)) in ill for m in JOINT):
                simpler += [_probe(block, name, METHOD, other) for other in SIMPLER]
    fused = {
        others: [_fused(block, METHOD, o) for block in found.values() for o in others]
        for others in ((BASE,), SIMPLER)
    }
    asked, more = "2. Does alternating cure it?", "2. Is it more than simpler cures do?"
    probes, accuracy = "Differences of ridge probes, points", "Multi test accuracy, points"
    drawn = ("2-cured", "Probe, points"), ("2-fused", "Multi test accuracy, points")
    words = ("worse", "better")
    return (
        Family("cured", f"{asked} {probes}", *drawn[0], *words, corrected(cure)),
        Family("cured-fused", f"{asked} {accuracy}", *drawn[1], *words, corrected(fused[BASE,])),
        Family(
            "simpler",
            f"{more} {probes}, where question 1 found an encoder behind alone",
            *drawn[0],
            *words,
            corrected(simpler),
        ),
        Family("simpler-fused", f"{more} {accuracy}", *drawn[1], *words, corrected(fused[SIMPLER])),
    )


def weighted(found: Found) -> Family:
    """Compare entropy weights with equal weights.

    Args:
        found: Data set -> block of Table 3.

    Returns:
        The family.
    """
    lines = []
    for block in found.values():
        for with_df, without, what in (
            ("none", "no_df", "with HGM"),
            ("no_hgm", "no_hgm_no_df", "without HGM"),
        ):
            pair = block.find(METHOD, with_df), block.find(METHOD, without)
            for label, measure in (("accuracy", "accuracy_percent"), ("calibration error", "ece")):
                difference = differ(block, *pair, measure=measure)
                lines.append(Line(block.title, f"{label}, {what}", difference))
    return Family(
        "weighted",
        "4. Does entropy weighting beat equal weights? Multi test accuracy, points, and "
        "calibration error in hundredths",
        "4-weighted",
        "Entropy less equal weights",
        "lower",
        "higher",
        corrected(lines),
        ("All four of a set run at the rate that was tuned with HGM and entropy weights.",),
    )


def slower(found: Found) -> Family:
    """Compare the time that methods take for an epoch with Concat's.

    Args:
        found: Data set -> block of runs that had the machine to themselves.

    Returns:
        The family; differences in percent of Concat's time with the same seed.
    """
    lines = []
    for block in found.values():
        base = block.find(BASE)
        times = block.values(base, measure="epoch_time_s") if base else {}
        for variant in (v for v in block.variants if v != base):
            own = block.values(variant, measure="epoch_time_s")
            more = {seed: 100 * (own[seed] / times[seed] - 1) for seed in own if times.get(seed)}
            lines.append(Line(block.title, variant.label, compare(more, dict.fromkeys(more, 0.0))))
    return Family(
        "price",
        f"5. What is the price? Time per epoch above that of {BASE}, percent",
        "5-price",
        f"Time per epoch above that of {BASE}, percent",
        "quicker",
        "slower",
        corrected(lines),
        ("One run at a time on one core, the methods in turn.",),
    )


def _label(modality: str, method: str, other: str) -> str:
    names = ["alone" if name == REFERENCE else name for name in (method, other)]
    return f"{modality}: {' less '.join(names)}"


def _probe(block: Block, modality: str, method: str, other: str) -> Line:
    found = differ(
        block,
        block.find(method),
        block.find(other),
        modality=modality,
        measure="probe_percent",
    )
    return Line(block.title, _label(modality, method, other), found)


def _fused(block: Block, method: str, other: str) -> Line:
    found = differ(block, block.find(method), block.find(other))
    return Line(block.title, f"{method} less {other}", found)


def differ(
    block: Block,
    first: Variant | None,
    second: Variant | None,
    *,
    modality: str = MULTI,
    measure: str = "accuracy_percent",
) -> Comparison:
    """Compare two columns of a block.

    Args:
        block: The block.
        first: A column, None where it is not there.
        second: The one that is taken from it.
        modality: Whose numbers, or ``multi``.
        measure: Which of them.

    Returns:
        The comparison; without a common seed where a column is not there. ECE in hundredths.
    """
    scale = 100.0 if measure == "ece" else 1.0
    values = [
        {s: scale * v for s, v in block.values(one, modality, measure=measure).items()}
        if one
        else {}
        for one in (first, second)
    ]
    return compare(*values)


def all_lines(families: Sequence[Family], figure: str) -> tuple[Line, ...]:
    """Collect what one figure draws.

    Args:
        families: The families.
        figure: The figure's name.

    Returns:
        The lines, in the order of the families.
    """
    return tuple(line for one in families if one.figure == figure for line in one.lines)
