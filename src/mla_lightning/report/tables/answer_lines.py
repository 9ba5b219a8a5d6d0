"""What the benchmark says about each reference, one claim per line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mla_lightning.report.tables.asked import (
    BETTER,
    SLIGHTLY,
    WORSE,
    Answer,
    asked_label,
    by_method,
    is_winner,
)


def winner_lines(
    asked: Mapping[str, Sequence[Answer]], num_sets: int, beginning: str = ""
) -> list[str]:
    """Return which methods are significantly better than each reference, as a Markdown list.

    Args:
        asked: Reference -> answers.
        num_sets: Number of data sets.
        beginning: What the lines begin with, such as a setting that all methods have.
    """
    lines = []
    for name, found in asked.items():
        methods, label = by_method(found), asked_label(name)
        start = f"- {beginning}significantly better than {label}"
        start = start if beginning else start.replace("- s", "- S", 1)
        winners = [v.label for v, of_method in methods.items() if is_winner(of_method, num_sets)]
        where = f" on two or more of {num_sets} data sets and worse on none" if num_sets > 1 else ""
        better = ", ".join(winners) or "none"
        lines.append(f"{start}{where}: {better} (of {len(methods)} methods).")
        single = [
            f"{variant.label} ({_where(of_method, BETTER)})"
            for variant, of_method in methods.items()
            if [a.verdict for a in of_method].count(BETTER) == 1
            and WORSE not in [a.verdict for a in of_method]
        ]
        if num_sets > 1 and single:
            lines.append(f"{start} on one data set and worse on none: {', '.join(single)}.")
    return lines


def other_lines(asked: Mapping[str, Sequence[Answer]], num_sets: int) -> list[str]:
    """Return which methods are worse, and which differ significantly but slightly.

    Args:
        asked: Reference -> answers.
        num_sets: Number of data sets.
    """
    lines = []
    for name, found in asked.items():
        methods, label = by_method(found), asked_label(name)
        losers = [
            variant.label
            for variant, of_method in methods.items()
            if WORSE in [a.verdict for a in of_method]
            and BETTER not in [a.verdict for a in of_method]
        ]
        elsewhere = " somewhere and better nowhere" if num_sets > 1 else ""
        if losers:
            lines.append(f"- Significantly worse than {label}{elsewhere}: {', '.join(losers)}.")
        slight = []
        for verdict in SLIGHTLY.values():
            names = [
                f"{variant.label} ({_where(of_method, verdict)})" if num_sets > 1 else variant.label
                for variant, of_method in methods.items()
                if verdict in [a.verdict for a in of_method]
            ]
            slight += [f"{verdict}: {', '.join(names)}"] if names else []
        if slight:
            lines.append(
                f"- Compared with {label}, significantly, but within the margin of what matters: "
                f"{'; '.join(slight)}."
            )
    return lines


def _where(of_method: Sequence[Answer], verdict: str) -> str:
    """Return the data sets on which a method has a verdict."""
    return ", ".join(answer.block.title for answer in of_method if answer.verdict == verdict)
