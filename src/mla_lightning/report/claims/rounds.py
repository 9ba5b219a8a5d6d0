"""Question 3: rounds of runs with and without head gradient modification, and their families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mla_lightning.report.claims.families import METHOD, Family, Found, Line, corrected, differ
from mla_lightning.report.read.block import Block, Variant
from mla_lightning.report.read.run import MULTI


@dataclass(frozen=True)
class Round:
    """One set of runs with and without head gradient modification.

    Attributes:
        slug: Short name.
        title: What is told of it.
        names: First parts of its experiments' names.
        asked: What its configs asked before the runs, as one family: data set -> modalities and
            ``multi``. The fused answers of other sets are a family of their own.
    """

    slug: str
    title: str
    names: tuple[str, ...]
    asked: Mapping[str, Sequence[str]] = field(default_factory=dict)


#: The rounds of question 3. A round whose runs are not there has no table.
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


def modified(stage: Round, found: Found) -> tuple[Family, ...]:
    """Compare each head gradient modification with none.

    Args:
        stage: The round.
        found: Data set -> block of its runs.

    Returns:
        The families: what was asked, fused accuracy, each modality's accuracy, calibration error.
    """
    of_asked: list[Line] = []
    of_multi: list[Line] = []
    of_single: list[Line] = []
    of_error: list[Line] = []
    for block in found.values():
        plain = block.find(METHOD, "no_hgm")
        for variant in modes(block) if plain else ():
            pair, mode = (variant, plain), mode_label(variant)
            lines = {
                name: Line(block.title, f"{mode}: {name}", differ(block, *pair, modality=name))
                for name in (*block.modalities, MULTI)
            }
            asked = stage.asked.get(block.dataset, ())
            of_asked += [lines[name] for name in asked]
            of_multi += [] if asked else [replace(lines[MULTI], label=mode)]
            of_single += [lines[name] for name in block.modalities]
            of_error.append(Line(block.title, mode, differ(block, *pair, measure="ece")))
    drawn, axis = f"3-{stage.slug}", "less no modification"
    return (
        Family(
            f"{stage.slug}-asked",
            f"{stage.title}, what was asked before the runs: test accuracy less that without any, "
            "points",
            f"{drawn}-asked",
            f"Test accuracy {axis}, points",
            "worse",
            "better",
            corrected(of_asked),
        ),
        Family(
            stage.slug,
            f"{stage.title}: multi test accuracy less that without any, points",
            drawn,
            f"Multi test accuracy {axis}, points",
            "worse",
            "better",
            corrected(of_multi),
        ),
        Family(
            f"{stage.slug}-single",
            f"{stage.title}: single-modality test accuracy less that without any, points",
            f"{drawn}-single",
            f"Single-modality test accuracy {axis}, points",
            "worse",
            "better",
            corrected(of_single),
        ),
        Family(
            f"{stage.slug}-calibration",
            f"{stage.title}: multi calibration error less that without any, hundredths",
            f"{drawn}-calibration",
            f"Calibration error {axis}, hundredths (below zero: better)",
            "lower (better)",
            "higher (worse)",
            corrected(of_error),
        ),
    )


def modes(block: Block) -> list[Variant]:
    """List the columns with a modification: all of MLA but that without any."""
    plain = block.find(METHOD, "no_hgm")
    return [v for v in block.variants if v.method == METHOD and v != plain]


def mode_label(variant: Variant) -> str:
    """Name a modification by its projection, then by whatever else is set."""
    given = dict(variant.overrides)
    name = given.pop("method.projection", None)
    if name is None:
        return variant.label
    is_of_update = given.pop("method.project_update", "false").lower() == "true"
    words = [name, *(["(update)"] if is_of_update else [])]
    return " ".join(words + [f"{key.rpartition('.')[2]}={text}" for key, text in given.items()])
