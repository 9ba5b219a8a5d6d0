"""The paper's claims, question by question, with effect sizes, intervals and corrected tests."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.cells import REFERENCE, Block, Variant, blocks
from mla_lightning.report.results import Run
from mla_lightning.report.rows import SIGNIFICANT
from mla_lightning.report.significance import Comparison, compare, holm
from mla_lightning.report.table import (
    BEST,
    BLANK,
    Cell,
    Report,
    Row,
    Section,
    Table,
    p_text,
    signed,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Experiments whose runs answer: first part of their names -> what they are.
TABLE1, TABLE3, PRICE, CONFIRM = ("table1",), ("table3",), ("claims/price",), ("claims/confirm",)
CLAIMS = ("claims/hgm", "claims/update", "claims/none")
#: Methods that train all modalities by one loss of the fused answer alone.
JOINT = ("concat", "sum")
COLUMNS = ("difference", "95% interval", "effect size", "p", "p corrected", "seeds")
NOTE = (
    "Paired by seed, two-sided t-test; p corrected by Holm over the whole table; intervals are "
    "not corrected. Effect size: mean difference over its standard deviation. Bold: corrected "
    f"p < {SIGNIFICANT}."
)


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


def claims(runs: Sequence[Run]) -> Report:
    """Answer the questions from runs of Table 1, Table 3 and the claims' own experiments.

    Args:
        runs: The runs.

    Returns:
        The report.

    Raises:
        RunError: If none of these experiments is among them.
    """
    groups = {
        kind: {b.dataset: b for b in blocks(run for run in runs if run.name.startswith(kind))}
        for kind in (TABLE1, TABLE3, CLAIMS, CONFIRM, PRICE)
    }
    if not any(groups.values()):
        raise RunError(
            "The claims need runs of the experiments table1, table3 or claims; see "
            "experiments/claims. `make claims` reads the committed ones."
        )
    first = corrected(_left_behind(groups[TABLE1].values()))
    second = corrected(_cured(groups[TABLE1].values()))
    third = corrected(_modified(groups[CLAIMS].values()))
    confirmed = corrected(_modified(groups[CONFIRM].values()))
    fourth = corrected(_weighted(groups[TABLE3].values()))
    tables = (
        _table(
            "behind",
            "1. Does joint training leave encoders behind? Ridge probe less that of the encoder "
            "trained alone, points",
            first,
            "left behind",
            "ahead",
        ),
        _table(
            "cured",
            "2. Does alternating cure it, and is it more than simpler cures? Multi test accuracy "
            "of MLA less the other's, and probes of MLA less the encoder alone, points",
            second,
            "worse",
            "better",
        ),
        _table(
            "modified",
            "3. Does head gradient modification help? Multi test accuracy less that without any, "
            "points; each at its own rate",
            third,
            "worse",
            "better",
        ),
        _table(
            "confirmed",
            "3, on twenty further seeds: four of them again, less none, points",
            confirmed,
            "worse",
            "better",
        ),
        _forgetting(groups[CLAIMS].values()),
        _table(
            "weighted",
            "4. Does entropy weighting beat equal weights? Multi test accuracy, points, and "
            "calibration error in hundredths",
            fourth,
            "lower",
            "higher",
        ),
        _price(groups[PRICE].values(), groups[TABLE1]),
    )
    figures: dict[str, Callable[[], Figure]] = {
        f"claims-{slug}": partial(forest, lines, title)
        for slug, lines, title in (
            ("1-behind", first, "Probe less alone, points"),
            ("2-cured", second, "MLA less the other, points"),
            ("3-modified", third, "Less no modification, points"),
            ("3-confirmed", confirmed, "Less no modification, points"),
            ("4-weighted", fourth, "Entropy less equal weights"),
        )
        if lines
    }
    return Report(
        "claims", "The paper's claims", tables, (NOTE,), figures=figures, keeps_runs=False
    )


def corrected(lines: Iterable[Line]) -> list[Line]:
    """Correct the comparisons of one question as one family.

    Args:
        lines: The comparisons.

    Returns:
        Those with a common seed, with corrected p.
    """
    kept = [line for line in lines if line.found.mean is not None]
    ps = holm([line.found.p for line in kept])
    return [Line(one.section, one.label, one.found, p) for one, p in zip(kept, ps, strict=True)]


def _left_behind(found: Iterable[Block]) -> Iterable[Line]:
    for block in found:
        alone = block.find(REFERENCE)
        for method in JOINT:
            variant = block.find(method)
            if alone is None or variant is None:
                continue
            for name in block.modalities:
                pair = [block.values(v, name, measure="probe_percent") for v in (variant, alone)]
                yield Line(block.title, f"{method}: {name}", compare(*pair))


def _cured(found: Iterable[Block]) -> Iterable[Line]:
    for block in found:
        mla, alone = block.find("mla"), block.find(REFERENCE)
        if mla is None:
            continue
        for modality in block.modalities if alone else ():
            assert alone is not None
            pair = [block.values(v, modality, measure="probe_percent") for v in (mla, alone)]
            yield Line(block.title, f"{modality}: MLA, alone (probe)", compare(*pair))
        ours = block.values(mla)
        for method in ("concat", "late_fusion", "joint_unimodal"):
            other = block.find(method)
            if other is not None:
                yield Line(block.title, f"MLA, {method}", compare(ours, block.values(other)))


def _modified(found: Iterable[Block]) -> Iterable[Line]:
    for block in found:
        plain = block.find("mla", "no_hgm")
        for variant in _modes(block):
            if plain is not None:
                pair = block.values(variant), block.values(plain)
                yield Line(block.title, _mode(variant), compare(*pair))


def _weighted(found: Iterable[Block]) -> Iterable[Line]:
    measures: tuple[tuple[str, str, float], ...] = (
        ("accuracy", "accuracy_percent", 1.0),
        ("calibration error", "ece", 100.0),
    )
    for block in found:
        for with_df, without, what in (
            ("none", "no_df", "with HGM"),
            ("no_hgm", "no_hgm_no_df", "without HGM"),
        ):
            pair = [block.find("mla", ablation) for ablation in (with_df, without)]
            if None in pair:
                continue
            for label, measure, scale in measures:
                values = [
                    {s: scale * v for s, v in block.values(x, measure=measure).items()}
                    for x in pair
                    if x is not None
                ]
                yield Line(block.title, f"{label}, {what}", compare(*values))


def _modes(block: Block) -> list[Variant]:
    return [v for v in block.variants if v.method == "mla" and v.ablation == "none"]


def _mode(variant: Variant) -> str:
    by_key = dict(variant.overrides)
    mode = by_key.get("method.projection", variant.label)
    return f"{mode} (update)" if "method.project_update" in by_key else mode


def _table(slug: str, title: str, lines: Sequence[Line], down: str, up: str) -> Table:
    sections = []
    for name in dict.fromkeys(line.section for line in lines):
        rows = [_row(line) for line in lines if line.section == name]
        sections.append(Section(name, tuple(rows)))
    num = len(lines)
    low, high = (sum(line.sign == sign for line in lines) for sign in (-1, 1))
    verdict = (
        f"Of {num} comparisons {low} {down}, {high} {up}, {num - low - high} not told from chance."
    )
    return Table(slug, title, "", COLUMNS, tuple(sections), (verdict,))


def _row(line: Line) -> Row:
    found = line.found
    interval = effect = BLANK
    if found.low is not None and found.high is not None:
        interval = f"{signed(found.low)} to {signed(found.high)}"
    if found.sd and found.mean is not None:
        effect = signed(found.mean / found.sd, 2)
    texts = (interval, effect, p_text(found.p), p_text(line.p), str(len(found.seeds)))
    mean = Cell(signed(found.mean), BEST if line.sign else 0)
    return Row(line.label, (mean, *map(Cell, texts)))


def _forgetting(found: Iterable[Block]) -> Table:
    measures: tuple[tuple[str, str, int], ...] = (
        ("others' loss by a step, thousandths", "forgetting", 2),
        ("cosine of head gradients", "gradient_cosine", 3),
        ("mean eigenvalue at the end", "projector_trace", 3),
        ("weight where right less wrong", "weight_gain", 3),
        ("calibration error, multi", "ece", 3),
        ("after temperature scaling", "ece_scaled", 3),
    )
    sections = []
    for block in found:
        plain = block.find("mla", "no_hgm")
        rows = []
        for variant in ([plain] if plain else []) + _modes(block):
            cells = []
            for _, measure, digits in measures:
                summary = block.summary(variant, measure=measure)
                spread = f" ± {summary.sd:.{digits}f}" if summary.num > 1 else ""
                text = f"{summary.mean:.{digits}f}{spread}" if summary.num else BLANK
                cells.append(Cell(text))
            rows.append(Row("none" if variant == plain else _mode(variant), tuple(cells)))
        if rows:
            sections.append(Section(block.title, tuple(rows)))
    return Table(
        "forgetting",
        "What really happens to the shared head: means over epochs and seeds",
        "",
        tuple(label for label, _, _ in measures),
        tuple(sections),
        ("First column: above zero, a step on one modality makes the others worse.",),
    )


def _price(found: Iterable[Block], table1: dict[str, Block]) -> Table:
    sections = []
    for block in found:
        base = block.find("concat")
        if base is None:
            continue
        rows = []
        for variant in block.variants:
            ratios = [_ratio(block, variant, base, "epoch_time_s")]
            # Runs in one process share the most memory that it ever held, so that is Table 1's.
            other = table1.get(block.dataset)
            pair = [other.find(v.method) if other else None for v in (variant, base)]
            memory = None
            if other is not None and pair[0] is not None and pair[1] is not None:
                memory = _ratio(other, pair[0], pair[1], "peak_memory_mb")
            ratios.append(memory)
            cells = [Cell(BLANK if ratio is None else f"{ratio:.2f}") for ratio in ratios]
            rows.append(Row(variant.label, tuple(cells)))
        sections.append(Section(f"{block.title}, relative to concat", tuple(rows)))
    return Table(
        "price",
        "5. What is the price?",
        "",
        ("time per epoch", "peak memory"),
        tuple(sections),
        (
            "Medians over seeds of ratios. Time: one run at a time on one core. Memory: Table 1's "
            "runs, the whole process with its imports.",
        ),
    )


def _ratio(block: Block, variant: Variant, base: Variant, measure: str) -> float | None:
    ours, theirs = (block.values(v, measure=measure) for v in (variant, base))
    ratios = [ours[seed] / theirs[seed] for seed in ours.keys() & theirs.keys() if theirs[seed]]
    return statistics.median(ratios) if ratios else None


def forest(lines: Sequence[Line], title: str) -> Figure:
    """Draw differences with their intervals, a panel per data set.

    Args:
        lines: The comparisons.
        title: What is on the axis.

    Returns:
        The figure.
    """
    from mla_lightning.report.figures import ABOVE, BELOW, GREY, new_figure, style

    names = list(dict.fromkeys(line.section for line in lines))
    most = max(sum(line.section == name for line in lines) for name in names)
    colours: Callable[[int], str] = {1: ABOVE, -1: BELOW, 0: GREY}.__getitem__
    with style():
        figure = new_figure(1.0 + 3.1 * len(names), 1.1 + 0.27 * most)
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            own = [line for line in lines if line.section == name]
            for place, one in enumerate(own):
                colour = colours(one.sign)
                if one.found.low is not None and one.found.high is not None:
                    reach = [one.found.low, one.found.high]
                    axis.plot(reach, [place, place], color=colour, linewidth=1.4)
                axis.plot([one.found.mean], [place], "o", color=colour, markersize=5)
            axis.axvline(0, color="#888888", linewidth=0.8)
            axis.set_yticks(range(len(own)), [one.label for one in own])
            axis.set_ylim(most - 0.4, -0.6)
            axis.set_title(name, loc="left", fontweight="bold")
            axis.grid(axis="x", color="#E5E5E5", linewidth=0.6)
        figure.supxlabel(f"{title}; 95 % interval, coloured: corrected p < {SIGNIFICANT}")
    return figure
