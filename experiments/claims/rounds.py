"""Rounds of runs with and without head gradient modification, and their families (question 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from experiments.claims.families import (
    HUNDREDTHS,
    METHOD,
    POINTS,
    Blocks,
    Family,
    Line,
    compare_columns,
    correct,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import Variant


@dataclass(frozen=True)
class Round:
    """A set of runs with and without head gradient modification.

    Attributes:
        slug: Short name for file names.
        title: Beginning of the titles of its tables.
        prefixes: Prefixes of the names of its experiments.
        preregistered: Comparisons that its configs fixed before the runs, which form one family:
            data set -> modalities and ``multi``. The fused accuracies on other data sets form
            another family.
    """

    slug: str
    title: str
    prefixes: tuple[str, ...]
    preregistered: Mapping[str, Sequence[str]] = field(default_factory=dict)


#: The rounds of question 3. A round without runs has no table.
ROUNDS = (
    Round(
        "modified",
        "3. Does head gradient modification help? Ten seeds",
        ("claims/hgm", "claims/update", "claims/none"),
    ),
    Round("confirmed", "3. Twenty further seeds", ("claims/confirm",)),
    Round(
        "fresh",
        "3. Twenty fresh seeds",
        ("claims/fresh",),
        {"openmoji": (MULTI, "text", "image"), "tuxstamps": (MULTI, "text", "audio")},
    ),
    Round("sixty", "3. Sixty fresh seeds", ("claims/sixty",)),
    Round("long", "3. Two hundred epochs, ten seeds", ("claims/long",)),
)


def modification_families(round_: Round, blocks: Blocks) -> tuple[Family, ...]:
    """Compare each head gradient modification with none.

    Args:
        round_: The round.
        blocks: Data set -> block of its runs.

    Returns:
        The families: preregistered comparisons, fused accuracy, each modality's accuracy,
        calibration error.
    """
    preregistered: list[Line] = []
    fused: list[Line] = []
    single: list[Line] = []
    calibration: list[Line] = []
    for block in blocks.values():
        plain = block.find(METHOD, "no_hgm")
        for variant in modified_columns(block) if plain else ():
            pair, label = (variant, plain), modification_label(variant)
            lines = {
                name: Line(
                    block.title,
                    f"{label}: {name}",
                    compare_columns(block, *pair, modality=name),
                )
                for name in (*block.modalities, MULTI)
            }
            names = round_.preregistered.get(block.dataset, ())
            preregistered += [lines[name] for name in names]
            fused += [] if names else [replace(lines[MULTI], label=label)]
            single += [lines[name] for name in block.modalities]
            error = compare_columns(block, *pair, measure="ece")
            calibration.append(Line(block.title, label, error))
    figure, reference = f"3-{round_.slug}", "from no modification"
    words = ("lower", "higher")
    period = round_.title.rpartition("? ")[2].removeprefix("3. ").lower()
    multi, single_modality, ece = (
        f"difference in {measure} {reference} ({unit})"
        for measure, unit in (
            ("multi test accuracy", POINTS),
            ("single-modality test accuracy", POINTS),
            ("multi expected calibration error", HUNDREDTHS),
        )
    )
    return (
        Family(
            f"{round_.slug}-asked",
            f"{round_.title}, preregistered comparisons: difference in test accuracy {reference} "
            f"({POINTS})",
            f"{figure}-asked",
            f"Difference in test accuracy {reference} ({POINTS})",
            *words,
            correct(preregistered),
            measure=f"{period}, preregistered",
        ),
        Family(
            round_.slug,
            f"{round_.title}: {multi}",
            figure,
            multi.capitalize(),
            *words,
            correct(fused),
            measure=f"{period}, fused accuracy",
        ),
        Family(
            f"{round_.slug}-single",
            f"{round_.title}: {single_modality}",
            f"{figure}-single",
            single_modality.capitalize(),
            *words,
            correct(single),
        ),
        Family(
            f"{round_.slug}-calibration",
            f"{round_.title}: {ece}",
            f"{figure}-calibration",
            ece.capitalize(),
            "lower (better)",
            "higher (worse)",
            correct(calibration),
        ),
    )


def modified_columns(block: Block) -> list[Variant]:
    """Return the columns of MLA with a head gradient modification."""
    plain = block.find(METHOD, "no_hgm")
    return [v for v in block.variants if v.method == METHOD and v != plain]


def modification_label(variant: Variant) -> str:
    """Return the label of a modification: its projection, then its other settings.

    Args:
        variant: The column.

    Example:
        >>> update = ("method.project_update", "True")
        >>> modification_label(Variant("mla", overrides=(update, ("method.projection", "owm"))))
        'owm (update)'
    """
    settings = dict(variant.overrides)
    name = settings.pop("method.projection", None)
    if name is None:
        return variant.label
    projects_update = settings.pop("method.project_update", "false").lower() == "true"
    parts = [name, *(["(update)"] if projects_update else [])]
    return " ".join(parts + [f"{key.rpartition('.')[2]}={text}" for key, text in settings.items()])
