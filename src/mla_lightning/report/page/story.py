"""Story of an experiment: chapters of figures, each with a headline computed from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from mla_lightning.report.document.table import Cell, Row, Section, Table, p_text, signed
from mla_lightning.report.figures.training import number_at
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.significance import SIGNIFICANT, compare
from mla_lightning.report.tables.finding import BASELINES, laziness
from mla_lightning.report.tables.verdict import foremost
from mla_lightning.run_folder import columns


class Chapter(NamedTuple):
    """A chapter of the story.

    Attributes:
        title: Its question.
        panels: Short names of its figures, the one that is shown first at the front.
    """

    title: str
    panels: tuple[str, ...]


CHAPTERS = (
    Chapter("Are encoders left behind?", ("laziness", "curves", "contribution")),
    Chapter(
        "What does training one modality at a time change?",
        ("forgetting", "forgetting-epochs", "angles", "projector"),
    ),
    Chapter("What do the fusion weights know?", ("fusion", "fusion-mean", "entropy")),
    Chapter("Are the probabilities calibrated?", ("calibration", "calibration-width")),
    Chapter("What does it cost?", ("cost",)),
)
#: The chapter of all other figures.
REST = Chapter("Further figures", ())


def chapter_of(slug: str) -> Chapter:
    """Return the chapter of a figure.

    Args:
        slug: Short name of the figure's panel.

    Example:
        >>> chapter_of("cost").title, chapter_of("my-panel").title
        ('What does it cost?', 'Further figures')
    """
    return next((chapter for chapter in CHAPTERS if slug in chapter.panels), REST)


def story(block: Block, diagnostics: BlockDiagnostics, slug: str) -> Table:
    """Compute the headlines of a block: a row per chapter with something to say.

    Args:
        block: The runs of one data set, split and protocol.
        diagnostics: Their diagnostics.
        slug: Name of the table's files.

    Returns:
        The table, with one column of sentences.
    """
    tellers: tuple[Callable[[Block, BlockDiagnostics], Iterator[str]], ...] = (
        _encoders,
        _alternating,
        _fusion,
        _calibration,
        _cost,
    )
    rows = []
    for chapter, tell in zip(CHAPTERS, tellers, strict=True):
        text = " ".join(tell(block, diagnostics))
        if text:
            rows.append(Row(chapter.title, (Cell(text),)))
    sections = (Section(block.title, tuple(rows)),) if rows else ()
    return Table(slug, "Findings", "", ("finding",), sections)


def _encoders(block: Block, diagnostics: BlockDiagnostics) -> Iterator[str]:
    hero = foremost(block)
    if hero is not None:
        yield from laziness(block, [hero])


def _alternating(block: Block, diagnostics: BlockDiagnostics) -> Iterator[str]:
    label = _label(block)
    names = diagnostics.modalities
    pairs = [columns.forgetting("loss", a, b) for a in names for b in names if a != b]
    curves = [seeds for key in pairs if (seeds := diagnostics.curve(label, key))]
    if not curves:
        return
    num = min(map(len, curves))
    by_seed = {
        seed: 1000 * fmean(fmean(seeds[seed].values()) for seeds in curves) for seed in range(num)
    }
    comparison = compare(by_seed, dict.fromkeys(by_seed, 0.0))
    mean = fmean(by_seed.values())
    spread = "" if comparison.sd is None else f" ± {comparison.sd:.1f}"
    size = f"{signed(mean, 1)}{spread} thousandths per step, {num} seed{'s' * (num > 1)}"
    if comparison.p is None:
        words, test = f"{'raises' if mean > 0 else 'lowers'} the loss of the others", ""
    elif comparison.p < SIGNIFICANT:
        words = f"significantly {'raises' if mean > 0 else 'lowers'} the loss of the others"
        test = f", p = {p_text(comparison.p)}"
    else:
        words = "does not significantly change the loss of the others"
        test = f", p = {p_text(comparison.p)}"
    yield f"In {label}, a step on one modality {words} ({size}{test})."


def _fusion(block: Block, diagnostics: BlockDiagnostics) -> Iterator[str]:
    label = _label(block)
    parts = []
    for name in diagnostics.modalities:
        right = diagnostics.mean(label, number_at("fusion", name, "when_right"))
        wrong = diagnostics.mean(label, number_at("fusion", name, "when_wrong"))
        if right is not None and wrong is not None:
            where = f"{right:.2f} where it is correct and {wrong:.2f} where it is not"
            parts.append(f"{name} is {where}")
    if parts:
        yield f"In {label}, the mean weight of {', that of '.join(parts)}."


def _calibration(block: Block, diagnostics: BlockDiagnostics) -> Iterator[str]:
    parts = []
    for label in dict.fromkeys([_label(block), *_baselines(block)]):
        before, after = (
            diagnostics.mean(label, number_at("calibration", MULTI, when, "mass", "ece"))
            for when in ("before", "after")
        )
        if before is not None and after is not None:
            parts.append(f"{label} {100 * before:.1f} % ({100 * after:.1f} % with a temperature)")
    if parts:
        yield f"Expected calibration error of the fused prediction: {', '.join(parts)}."


def _cost(block: Block, diagnostics: BlockDiagnostics) -> Iterator[str]:
    measure = "seconds per epoch"
    label = _label(block)
    own = diagnostics.costs.get(label, {}).get(measure)
    for baseline in _baselines(block):
        other = diagnostics.costs.get(baseline, {}).get(measure)
        if own and other and baseline != label:
            yield f"An epoch of {label} takes {own / other:.1f} times as long as one of {baseline}."
            return


def _label(block: Block) -> str:
    hero = foremost(block)
    return "" if hero is None else hero.label


def _baselines(block: Block) -> Sequence[str]:
    found = [block.find(name) for name in BASELINES]
    return [variant.label for variant in found if variant is not None]
