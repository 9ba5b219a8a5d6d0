"""Report on the candidates: the choice on validation, and the answer to one question on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import (
    BLANK,
    Cell,
    Report,
    Row,
    Section,
    Table,
    ranks,
    summary_cell,
)
from mla_lightning.report.figures.benchmark import difference_figure
from mla_lightning.report.read.block import Block, blocks
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.significance import compare, holm
from mla_lightning.report.read.variant import Variant
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.asked import BETTER, WORSE, Answer, margin_of
from mla_lightning.report.tables.benchmark_tables import difference_sections
from mla_lightning.report.tables.rows import COLUMN_LEGEND, COMPARISON_COLUMNS

#: Begin of the names of the runs among which was chosen, and of those that answer.
CHOICE, ASKED = "choice/", "asked/"
#: The methods that the chosen candidate has to beat, each with averaged weights.
REFERENCES = ("concat", "late_fusion", "joint_unimodal", "mla", "ensemble")
#: Number of data sets on which it has to be better.
ENOUGH = 2
COMMAND = "python -m experiments.candidates FOLDER/results.csv --output FOLDER"


def candidates_report(runs: Sequence[Run]) -> Report:
    """Show the choice among the candidates, and whether the chosen one is better.

    Args:
        runs: Runs of the choice and of the question, told apart by their names.

    Returns:
        The report.

    Raises:
        RunError: If there is no run of either, or the question was asked of several candidates.
    """
    runs = [_without_encoder(run) for run in runs]
    chosen_from = blocks(run for run in runs if run.name.startswith(CHOICE))
    asked = blocks(run for run in runs if run.name.startswith(ASKED))
    if not (chosen_from or asked):
        raise RunError(
            "There are no runs of the candidates. Train them: make candidates, and then "
            "make candidates-asked"
        )
    candidate = _candidate(asked)
    found = _answers(asked, candidate) if candidate else []
    order = list(dict.fromkeys(answer.variant for answer in found))
    title = f"each reference, of {candidate.label}" if candidate else ""
    figure = partial(difference_figure, asked, found, order, title)
    return Report(
        kind="candidates",
        title="A method of our own: the choice, and the question",
        warnings=notes.warnings([*chosen_from, *asked]),
        tables=(
            *([_choice_table(chosen_from)] if chosen_from else []),
            *([_answer_table(asked, found)] if found else []),
        ),
        notes=tuple(
            dict.fromkeys(
                note
                for of_kind, split in ((chosen_from, "val"), (asked, "test"))
                for block in of_kind
                for note in notes.block_notes(block, split=split)
            )
        ),
        figures={"candidates": figure} if found else {},
        command=COMMAND,
        texts={"answer.md": f"- {sentence(candidate, found)}\n"} if candidate else {},
    )


def sentence(candidate: Variant, found: Sequence[Answer]) -> str:
    """Return whether the candidate is kept, and why.

    Args:
        candidate: The candidate.
        found: Its comparisons with the references.
    """
    directions: dict[str, list[str]] = {}  # the rule is about significance, however small
    for answer in found:
        directions.setdefault(answer.block.title, []).append(answer.direction)
    better = [title for title, of_set in directions.items() if set(of_set) == {BETTER}]
    worse = [title for title, of_set in directions.items() if WORSE in of_set]
    is_kept = len(better) >= ENOUGH and not worse
    return (
        f"{candidate.label} is significantly better than each of the references on "
        f"{', '.join(better) or 'no data set'}, and significantly worse than one of them on "
        f"{', '.join(worse) or 'none'}: it is {'' if is_kept else 'not '}kept as a method."
    )


def _without_encoder(run: Run) -> Run:
    """Return a run that does not name its encoders, which each data set has its own of."""
    return replace(run, overrides=tuple(pair for pair in run.overrides if pair[0] != "encoder"))


def _candidate(asked: Sequence[Block]) -> Variant | None:
    """Return the method that is no reference; None without runs of the question."""
    methods = dict.fromkeys(v for block in asked for v in block.variants)
    candidates = [variant for variant in methods if variant.method not in REFERENCES]
    if asked and len(candidates) != 1:
        labels = ", ".join(variant.label for variant in candidates) or "none"
        raise RunError(f"The question is about one candidate, and there are {labels}")
    return candidates[0] if asked else None


def _answers(asked: Sequence[Block], candidate: Variant) -> list[Answer]:
    """Compare the candidate with every reference on every data set, a row per reference."""
    found = []
    for block in asked:
        for name in REFERENCES:
            reference = block.find(name)
            if reference is not None and candidate in block.variants:
                values = block.values(candidate), block.values(reference)
                comparison = compare(*block.metric.better_first(*values))
                found.append(Answer(block, reference, name, comparison, None, margin_of(block)))
    corrected = holm([answer.comparison.p for answer in found])
    return [replace(answer, p=p) for answer, p in zip(found, corrected, strict=True)]


def _choice_table(chosen_from: Sequence[Block]) -> Table:
    """Make the table of validation scores, a row per candidate and a column per data set."""
    variants = dict.fromkeys(v for block in chosen_from for v in block.variants)
    columns = []
    for block in chosen_from:
        summaries = [
            block.summary(v, split="val") if v in block.variants else None for v in variants
        ]
        means = [s.mean if s is not None and s.num else None for s in summaries]
        columns.append(
            [
                summary_cell(s, 1, rank) if s is not None else Cell(BLANK)
                for s, rank in zip(summaries, ranks(means), strict=True)
            ]
        )
    rows = [
        Row(v.label, tuple(column[place] for column in columns)) for place, v in enumerate(variants)
    ]
    return Table(
        slug="choice",
        title="The choice: validation accuracy (%), all with averaged weights",
        corner="",
        columns=tuple(block.title for block in chosen_from),
        sections=(Section("", tuple(rows)),),
        notes=(COLUMN_LEGEND,),
    )


def _answer_table(asked: Sequence[Block], found: Sequence[Answer]) -> Table:
    """Make the table of the differences to each reference, a section per data set."""
    return Table(
        slug="answer",
        title="The question: test accuracy of the candidate minus that of each reference",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=difference_sections(asked, found),
        notes=(
            "Two-sided paired t-test over the common seeds; p corrected: Holm correction over all "
            "references and data sets. All with averaged weights.",
        ),
    )
