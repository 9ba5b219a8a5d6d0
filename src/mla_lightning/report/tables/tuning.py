"""Tuning: each method's learning rate, chosen by mean validation accuracy from one grid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    Cell,
    Report,
    Row,
    Section,
    Table,
    summary_cell,
)
from mla_lightning.report.read.block import Block, Summary, blocks, without_number
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import LEGEND
from mla_lightning.run_folder import State

KEY = "optimizer.lr"
SPLIT = "val"
#: A rate whose runs ended in these ways has had its chance; the others may still win.
HAD_ITS_CHANCE = {State.FAILED}


@dataclass(frozen=True)
class Choice:
    """A method's learning rate.

    Attributes:
        lr: The rate, None if no rate has all its seeds.
        at_edge: Whether a rate beyond the grid might be better.
        is_provisional: Whether runs are missing that could change the choice.
    """

    lr: float | None
    at_edge: bool = False
    is_provisional: bool = False

    @property
    def remarks(self) -> list[str]:
        """What is to be said about it."""
        edge = ["at the edge of the grid"] if self.at_edge else []
        return edge + (["provisional: runs are missing"] if self.is_provisional else [])


def choose(grid: Mapping[float, Summary]) -> Choice:
    """Choose the rate with the best mean; of equal ones the smaller.

    Args:
        grid: Rate -> validation accuracy over seeds.

    Returns:
        The choice, among rates that have all their seeds.
    """
    complete = {lr: summary.mean for lr, summary in grid.items() if summary.is_complete}
    is_provisional = any(
        set(summary.states) - HAD_ITS_CHANCE for lr, summary in grid.items() if lr not in complete
    )
    if not complete:
        return Choice(None, is_provisional=is_provisional)
    lr = min(complete, key=lambda rate: (-round(complete[rate], 9), rate))
    return Choice(lr, lr in (min(grid), max(grid)), is_provisional)


def tuning(runs: Sequence[Run]) -> Report:
    """Make the report of a tuning sweep; nothing of the test split enters it.

    Args:
        runs: Runs that differ in ``optimizer.lr``.

    Returns:
        The report, with the chosen rates as YAML.

    Raises:
        RunError: If no run has a learning rate, or a cell was run twice.
    """
    found = blocks(run for run in runs if run.lr is not None)
    if not found:
        raise RunError(
            "Tuning needs runs with a learning rate; there is none. Train them: "
            "mla train -m experiment=tuning/openmoji"
        )
    sections, texts, rates = [], {}, sorted({float(r.lr) for b in found for r in b.runs if r.lr})
    for block in found:
        by_variant = grids(block)
        choices = {variant: choose(grid) for variant, grid in by_variant.items()}
        sections.append(Section(block.title, _rows(by_variant, choices, rates)))
        texts[f"tuned_lr-{block.slug}.yaml"] = _yaml(block, by_variant, choices)
    legend = LEGEND.partition(";")[0] + "; chosen rate bold: best mean, of equal ones the smaller."
    legend += f" {method_label(REFERENCE)} is judged by the mean accuracy of its modalities."
    return Report(
        kind="tuning",
        title="Tuning: learning rate per method, chosen on validation",
        warnings=notes.warnings(found),
        tables=(
            Table(
                slug="",
                title="Validation accuracy (multi) in percent, by learning rate",
                corner="",
                columns=(*map(rate_text, rates), "chosen"),
                sections=tuple(sections),
                notes=(legend, *notes.without_number(without_number(found, runs))),
            ),
        ),
        notes=tuple(
            note for block in found for note in notes.about(block, split=SPLIT, with_settings=False)
        ),
        texts=texts,
    )


def grids(block: Block) -> dict[Variant, dict[float, Summary]]:
    """Collect each method's grid; every method of a block is expected to have had all rates.

    Args:
        block: Runs of a tuning sweep.

    Returns:
        Column without its rate -> rate -> validation accuracy over seeds.
    """
    cells: dict[Variant, dict[float, dict[int, Run]]] = {}
    for variant, by_seed in block.cells.items():
        overrides = tuple(pair for pair in variant.overrides if pair[0] != KEY)
        grid = cells.setdefault(replace(variant, overrides=overrides), {})
        for seed, run in by_seed.items():
            grid.setdefault(float(run.lr or 0), {})[seed] = run
    rates = sorted({rate for grid in cells.values() for rate in grid})
    ordered = sorted(cells, key=lambda variant: variant.order)
    return {v: {rate: _summary(block, cells[v].get(rate, {})) for rate in rates} for v in ordered}


def _summary(block: Block, runs: Mapping[int, Run]) -> Summary:
    values = {
        seed: _judged_by(run)
        for seed, run in sorted(runs.items())
        if run.is_finished and SPLIT in run.scores
    }
    others = [
        runs[seed].state if seed in runs else "missing"
        for seed in block.seeds
        if seed not in values
    ]
    return Summary(values, block.seeds, Counter(others))


def _judged_by(run: Run) -> float:
    """The fused accuracy; for the unimodal reference the mean of what it is a reference for."""
    scores = run.scores[SPLIT]
    own = [scores[name]["accuracy_percent"] for name in run.modalities if name in scores]
    return sum(own) / len(own) if run.method == REFERENCE else scores[MULTI]["accuracy_percent"]


def _rows(
    grids: Mapping[Variant, Mapping[float, Summary]],
    choices: Mapping[Variant, Choice],
    rates: Sequence[float],
) -> tuple[Row, ...]:
    rows = []
    for variant, grid in grids.items():
        choice = choices[variant]
        cells = [
            summary_cell(grid[rate], rank=BEST if rate == choice.lr else 0)
            if rate in grid
            else Cell(BLANK)
            for rate in rates
        ]
        short = {"at the edge of the grid": "edge", "provisional: runs are missing": "provisional"}
        remarks = (
            f" ({', '.join(short[text] for text in choice.remarks)})" if choice.remarks else ""
        )
        chosen = f"{'none' if choice.lr is None else rate_text(choice.lr)}{remarks}"
        rows.append(Row(variant.label, (*cells, Cell(chosen))))
    return tuple(rows)


def _yaml(
    block: Block,
    grids: Mapping[Variant, Mapping[float, Summary]],
    choices: Mapping[Variant, Choice],
) -> str:
    grid = next(iter(grids.values()))
    seeds = ", ".join(map(str, block.seeds))
    lines = [
        f"# {block.title}: best mean validation accuracy over seeds {seeds}",
        f"# grid: {', '.join(map(rate_text, grid))}",
    ]
    for variant, choice in choices.items():
        name = variant.key if variant.key.isidentifier() else json.dumps(variant.key)
        remarks = f"  # {'; '.join(choice.remarks)}" if choice.remarks else ""
        if choice.lr is None:
            lines.append(f"# {name}: no rate has all its seeds{remarks.replace('  #', ';')}")
        else:
            lines.append(f"{name}: {rate_text(choice.lr)}{remarks}")
    return "\n".join(lines) + "\n"


def rate_text(lr: float) -> str:
    """Write a rate so that every YAML reader takes it for a number: 1e-05 is text to some.

    Args:
        lr: The rate.
    """
    mantissa, e, exponent = f"{lr:g}".partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else f"{mantissa}{e}{exponent}"


def rate_notes(used: Block, tuned: Block) -> list[str]:
    """Tell which runs used a rate that tuning did not choose, or one at the edge of its grid.

    Args:
        used: Runs of a table.
        tuned: Runs of the tuning sweep on the same data set.

    Returns:
        At most two sentences.
    """
    found = grids(tuned)
    edge, other = [], []
    for variant in used.variants:
        column = _tuned_as(variant, used, tuned, found)
        rates = {float(run.lr) for run in used.cells[variant].values() if run.lr is not None}
        if column is None or len(rates) != 1:
            continue
        (rate,), grid = rates, found[column]
        chosen = choose(grid).lr
        if rate in (min(grid), max(grid)):
            edge.append(f"{variant.label} {rate_text(rate)}")
        if chosen is not None and chosen != rate:
            other.append(f"{variant.label} {rate_text(rate)} (chosen {rate_text(chosen)})")
    sentences = []
    if edge:
        sentences.append(f"{used.name}: learning rate at the edge of the grid: {', '.join(edge)}.")
    if other:
        sentences.append(
            f"{used.name}: not at the learning rate that validation chose: {', '.join(other)}."
        )
    return sentences


def _tuned_as(
    variant: Variant, used: Block, tuned: Block, found: Iterable[Variant]
) -> Variant | None:
    """Find the column of tuning; where nothing else is set, the only one of its method will do."""
    same = [v for v in found if (v.method, v.ablation) == (variant.method, variant.ablation)]
    own = set(variant.overrides) | used.common
    exact = [v for v in same if set(v.overrides) | tuned.common == own]
    if not exact and not own:
        exact = same
    return exact[0] if len(exact) == 1 else None
