"""Learning rate of each method, selected from one grid by its mean score on validation."""

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
from mla_lightning.report.read.block import Block, Summary, blocks, runs_without_result
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import MEAN_LEGEND
from mla_lightning.run_folder import State
from mla_lightning.run_folder.ceiling import ADVICE, CEILING, selection_note

KEY = "optimizer.lr"
SPLIT = "val"
#: States that rule a learning rate out; a rate with runs in other states may still be the best.
FINAL_STATES = {State.FAILED}

#: Metric of ``select_by`` as runs hold it -> its column.
SELECTION_COLUMNS = {
    "": "accuracy_percent",
    "macro_f1": "macro_f1_percent",
    "balanced_accuracy": "macro_recall_percent",
}

#: Learning rate -> score on validation over seeds.
Grid = Mapping[float, Summary]


@dataclass(frozen=True)
class Choice:
    """The selected learning rate of a method.

    Attributes:
        lr: The learning rate, None if no rate has a result for every seed.
        at_edge: Whether it is the smallest or largest of the grid.
        is_provisional: Whether runs are missing that could change it.
    """

    lr: float | None
    at_edge: bool = False
    is_provisional: bool = False

    @property
    def remarks(self) -> list[str]:
        """Notes on the choice for readers of the grid."""
        edge = ["at the edge of the grid"] if self.at_edge else []
        return edge + (["provisional: runs are missing"] if self.is_provisional else [])


def choose(grid: Grid) -> Choice:
    """Select the learning rate with the highest mean; the smaller one of equal means.

    Args:
        grid: The grid; only rates with a result for every seed can be selected.

    Example:
        >>> accuracy = {0.05: (60.0, 61.0), 0.1: (62.0, 63.0), 0.2: (50.0, 51.0)}
        >>> choose({lr: Summary(dict(enumerate(a)), (0, 1)) for lr, a in accuracy.items()})
        Choice(lr=0.1, at_edge=False, is_provisional=False)
    """
    complete = {lr: summary.mean for lr, summary in grid.items() if summary.is_complete}
    is_provisional = any(
        set(summary.states) - FINAL_STATES for lr, summary in grid.items() if lr not in complete
    )
    if not complete:
        return Choice(None, is_provisional=is_provisional)
    lr = min(complete, key=lambda rate: (-round(complete[rate], 9), rate))
    return Choice(lr, lr in (min(grid), max(grid)), is_provisional)


def tuning(runs: Sequence[Run]) -> Report:
    """Make the report of a tuning sweep, which does not use the test split.

    Args:
        runs: Runs that differ in ``optimizer.lr``.

    Returns:
        The report, with the selected learning rates as YAML.

    Raises:
        RunError: If no run has a learning rate, or two runs of one variant and seed conflict.
    """
    table_blocks = blocks(run for run in runs if run.lr is not None)
    if not table_blocks:
        raise RunError(
            "Tuning needs runs with a learning rate; there is none. Train them: "
            "mla train -m experiment=tuning/openmoji"
        )
    rates = sorted({float(run.lr) for block in table_blocks for run in block.runs if run.lr})
    sections, texts = [], {}
    for block in table_blocks:
        by_variant = grids(block)
        choices = {variant: choose(grid) for variant, grid in by_variant.items()}
        sections.append(Section(block.title, _rows(by_variant, choices, rates)))
        texts[f"tuned_lr-{block.slug}.yaml"] = _yaml(block, by_variant, choices)
    metric = metric_of([run for block in table_blocks for run in block.runs])
    legend = (
        f"{MEAN_LEGEND}. Bold: selected learning rate, with the highest mean; the smaller one of "
        f"equal means. {method_label(REFERENCE)}: selected by the mean {metric} of its modalities."
    )
    without_result = runs_without_result(table_blocks, runs)
    return Report(
        kind="tuning",
        title="Tuning: learning rate per method, selected on validation",
        warnings=notes.warnings(table_blocks),
        tables=(
            Table(
                slug="",
                title=f"Validation {metric} (multi) in percent, by learning rate",
                corner="",
                columns=(*map(rate_text, rates), "chosen"),
                sections=tuple(sections),
                notes=(legend, *notes.missing_result_notes(without_result)),
            ),
        ),
        notes=tuple(
            note
            for block in table_blocks
            for note in (
                *notes.block_notes(block, split=SPLIT, with_settings=False),
                *ceiling_notes(block),
            )
        ),
        texts=texts,
    )


def grids(block: Block) -> dict[Variant, dict[float, Summary]]:
    """Return the grid of each method; every method is expected to have all rates of the block.

    Args:
        block: Runs of a tuning sweep.

    Returns:
        Variant without its learning rate -> grid.
    """
    runs_of: dict[Variant, dict[float, dict[int, Run]]] = {}
    for variant, by_seed in block.runs_by_variant.items():
        overrides = tuple(pair for pair in variant.overrides if pair[0] != KEY)
        by_rate = runs_of.setdefault(replace(variant, overrides=overrides), {})
        for seed, run in by_seed.items():
            by_rate.setdefault(float(run.lr or 0), {})[seed] = run
    rates = sorted({rate for by_rate in runs_of.values() for rate in by_rate})
    return {
        variant: {rate: _summary(block, runs_of[variant].get(rate, {})) for rate in rates}
        for variant in sorted(runs_of, key=lambda variant: variant.sort_key)
    }


def metric_of(runs: Sequence[Run]) -> str:
    """Return the name of the metric by which learning rates are selected.

    Args:
        runs: The runs; they are compared by the metric that selected their epochs (``select_by``).

    Returns:
        The name, or ``score`` where finished runs have different metrics.

    Example:
        >>> runs = [Run(run="a", where="", state=State.FINISHED, select_by="macro_f1")]
        >>> metric_of(runs), metric_of([])
        ('macro f1', 'accuracy')
    """
    names = dict.fromkeys(run.select_by or "accuracy" for run in runs if run.is_finished)
    return next(iter(names), "accuracy").replace("_", " ") if len(names) < 2 else "score"


def ceiling_notes(block: Block) -> list[str]:
    """Return notes if learning rates were selected where validation cannot select.

    The test split is not looked at, so that the note is about the selection alone.

    Args:
        block: Runs of a tuning sweep.

    Returns:
        A sentence on the methods whose selected rate is at
        :data:`mla_lightning.run_folder.ceiling.CEILING`, and one per method below it all of whose
        rates are equal.
    """
    metric, at_ceiling, sentences = metric_of(block.runs), [], []
    for variant, grid in grids(block).items():
        means = [summary.mean for summary in grid.values() if summary.is_complete]
        if means and max(means) >= 100 * CEILING:
            at_ceiling.append(variant.label)
        elif text := selection_note([mean / 100 for mean in means], "rates with all seeds"):
            sentences.append(f"{block.name}, {variant.label}: {text}.")
    if not at_ceiling:
        return sentences
    return [
        *sentences,
        f"{block.name}: the selected learning rates of {', '.join(at_ceiling)} have a validation "
        f"{metric} of at least {100 * CEILING:g} %, where hardly an error is left to select by. If "
        f"the {metric} on test is far lower: {ADVICE}.",
    ]


def _summary(block: Block, runs: Mapping[int, Run]) -> Summary:
    values = {
        seed: _criterion(run)
        for seed, run in sorted(runs.items())
        if run.is_finished and SPLIT in run.scores
    }
    states = Counter(
        runs[seed].state if seed in runs else "missing"
        for seed in block.seeds
        if seed not in values
    )
    return Summary(values, block.seeds, states)


def _criterion(run: Run) -> float:
    """Return the fused score by the metric that selected the epoch.

    For the unimodal reference it is the mean over its modalities.
    """
    scores, column = run.scores[SPLIT], SELECTION_COLUMNS[run.select_by]
    if run.method == REFERENCE:
        values = [scores[name][column] for name in run.modalities if name in scores]
        return sum(values) / len(values)
    return scores[MULTI][column]


def _rows(
    grid_of: Mapping[Variant, Grid], choices: Mapping[Variant, Choice], rates: Sequence[float]
) -> tuple[Row, ...]:
    rows = []
    for variant, grid in grid_of.items():
        choice = choices[variant]
        cells = [
            summary_cell(grid[rate], rank=BEST if rate == choice.lr else 0)
            if rate in grid
            else Cell(BLANK)
            for rate in rates
        ]
        remarks = ["edge"] if choice.at_edge else []
        remarks += ["provisional"] if choice.is_provisional else []
        text = "none" if choice.lr is None else rate_text(choice.lr)
        text += f" ({', '.join(remarks)})" if remarks else ""
        rows.append(Row(variant.label, (*cells, Cell(text))))
    return tuple(rows)


def _yaml(block: Block, grid_of: Mapping[Variant, Grid], choices: Mapping[Variant, Choice]) -> str:
    grid = next(iter(grid_of.values()))
    seeds = ", ".join(map(str, block.seeds))
    lines = [
        f"# {block.title}: best mean validation {metric_of(block.runs)} over seeds {seeds}",
        f"# grid: {', '.join(map(rate_text, grid))}",
    ]
    for variant, choice in choices.items():
        name = variant.key if variant.key.isidentifier() else json.dumps(variant.key)
        remarks = "; ".join(choice.remarks)
        if choice.lr is None:
            problem = "no learning rate has a result for every seed"
            lines.append(f"# {name}: {problem}{f'; {remarks}' if remarks else ''}")
        else:
            lines.append(f"{name}: {rate_text(choice.lr)}{f'  # {remarks}' if remarks else ''}")
    return "\n".join(lines) + "\n"


def rate_text(lr: float) -> str:
    """Format a learning rate as a number for every YAML parser; some read 1e-05 as text.

    Args:
        lr: The learning rate.

    Example:
        >>> rate_text(1e-5), rate_text(0.05)
        ('1.0e-05', '0.05')
    """
    mantissa, e, exponent = f"{lr:g}".partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else f"{mantissa}{e}{exponent}"


def rate_notes(used: Block, tuned: Block) -> list[str]:
    """Return notes on runs whose learning rate was not selected or is at the edge of the grid.

    Args:
        used: Runs of a table.
        tuned: Runs of the tuning sweep on the same data set.

    Returns:
        At most two sentences.
    """
    grid_of = grids(tuned)
    at_edge, not_selected = [], []
    for variant in used.variants:
        tuned_variant = _find_tuned(variant, used, tuned, grid_of)
        runs = used.runs_by_variant[variant].values()
        rates = {float(run.lr) for run in runs if run.lr is not None}
        if tuned_variant is None or len(rates) != 1:
            continue
        (rate,), grid = rates, grid_of[tuned_variant]
        selected = choose(grid).lr
        text = f"{variant.label} {rate_text(rate)}"
        if rate in (min(grid), max(grid)):
            at_edge.append(text)
        if selected is not None and selected != rate:
            not_selected.append(f"{text} (selected: {rate_text(selected)})")
    sentences = []
    if at_edge:
        variants = ", ".join(at_edge)
        sentences.append(f"{used.name}: learning rate at the edge of the grid: {variants}.")
    if not_selected:
        variants = ", ".join(not_selected)
        sentences.append(f"{used.name}: learning rate not selected on validation: {variants}.")
    return sentences


def _find_tuned(
    variant: Variant, used: Block, tuned: Block, tuned_variants: Iterable[Variant]
) -> Variant | None:
    """Return the tuned variant with equal overrides; without any, the only one of the method."""
    same = [
        tuned_variant
        for tuned_variant in tuned_variants
        if (tuned_variant.method, tuned_variant.ablation) == (variant.method, variant.ablation)
    ]
    overrides = set(variant.overrides) | used.common
    exact = [v for v in same if set(v.overrides) | tuned.common == overrides]
    if not exact and not overrides:
        exact = same
    return exact[0] if len(exact) == 1 else None
