"""Question 3: rounds of runs with and without head gradient modification, and their families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from experiments.claims.families import METHOD, Blocks, Family, Line, compare_columns, correct
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import Variant


@dataclass(frozen=True)
class Round:
    """A set of runs with and without head gradient modification.

    Attributes:
        slug: Short name, for file names.
        title: Heading of its tables.
        names: Prefixes of the names of its experiments.
        preregistered: Comparisons that its configs fixed before the runs and that are one family:
            data set -> modalities and ``multi``. Fused accuracies on other data sets are a family
            of their own.
    """

    slug: str
    title: str
    names: tuple[str, ...]
    preregistered: Mapping[str, Sequence[str]] = field(default_factory=dict)


#: The rounds of question 3. A round without runs has no table.
ROUNDS = (
    Round(
        "modified",
        "3. Does head gradient modification help? Ten seeds",
        ("claims/hgm", "claims/update", "claims/none"),
    ),
    Round("confirmed", "3, twenty further seeds", ("claims/confirm",)),
    Round(
        "fresh",
        "3, twenty fresh seeds",
        ("claims/fresh",),
        {"openmoji": (MULTI, "text", "image"), "tuxstamps": (MULTI, "text", "audio")},
    ),
    Round("sixty", "3, sixty fresh seeds", ("claims/sixty",)),
    Round("long", "3, two hundred epochs, ten seeds", ("claims/long",)),
)


def modification_families(stage: Round, blocks: Blocks) -> tuple[Family, ...]:
    """Compare each head gradient modification with none.

    Args:
        stage: The round.
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
            names = stage.preregistered.get(block.dataset, ())
            preregistered += [lines[name] for name in names]
            fused += [] if names else [replace(lines[MULTI], label=label)]
            single += [lines[name] for name in block.modalities]
            error = compare_columns(block, *pair, measure="ece")
            calibration.append(Line(block.title, label, error))
    figure, axis = f"3-{stage.slug}", "less no modification"
    return (
        Family(
            f"{stage.slug}-asked",
            f"{stage.title}, what was asked before the runs: test accuracy less that without any, "
            "points",
            f"{figure}-asked",
            f"Test accuracy {axis}, points",
            "worse",
            "better",
            correct(preregistered),
        ),
        Family(
            stage.slug,
            f"{stage.title}: multi test accuracy less that without any, points",
            figure,
            f"Multi test accuracy {axis}, points",
            "worse",
            "better",
            correct(fused),
        ),
        Family(
            f"{stage.slug}-single",
            f"{stage.title}: single-modality test accuracy less that without any, points",
            f"{figure}-single",
            f"Single-modality test accuracy {axis}, points",
            "worse",
            "better",
            correct(single),
        ),
        Family(
            f"{stage.slug}-calibration",
            f"{stage.title}: multi calibration error less that without any, hundredths",
            f"{figure}-calibration",
            f"Calibration error {axis}, hundredths (below zero: better)",
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
    """Return the name of a modification: its projection, then its other settings."""
    settings = dict(variant.overrides)
    name = settings.pop("method.projection", None)
    if name is None:
        return variant.label
    is_of_update = settings.pop("method.project_update", "false").lower() == "true"
    words = [name, *(["(update)"] if is_of_update else [])]
    return " ".join(words + [f"{key.rpartition('.')[2]}={text}" for key, text in settings.items()])
