"""Import of a table with paths of media, texts and numbers into a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mla_lightning.prepare.import_checks import (
    Labels,
    Task,
)
from mla_lightning.prepare.table import Table


def import_csv(
    path: Path,
    target: Path,
    *,
    name: str | None = None,
    size: int | None = None,
    num_frames: int | None = None,
    num_segments: int | None = None,
    length: int | None = None,
    tokenizer: Path | None = None,
    vocabulary: int | None = None,
    labels: Labels = "column",
    id: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
    folds: int | None = None,
    columns: Mapping[str, str] | None = None,
    like: Path | None = None,
    plan: bool = False,
    on_bad: str = "stop",
    jobs: int | None = None,
    task: Task | None = None,
) -> Path:
    """Make a store from a table, after its plan is printed; see :class:`Table`.

    Args:
        path: The table.
        target: Folder of the store; must not exist.
        name: Name of the data set; the target's by default.
        size: Height and width of images and frames, in pixels; by default one that fits them.
        num_frames: Number of frames of 10 ms of sounds; by default one that fits them.
        num_segments: Number of frames of a film; by default one that fits them.
        length: Number of token ids of a text; by default one that fits them.
        tokenizer: ``vocab.txt`` or a model folder for WordPiece; ``subwords`` for a vocabulary that
            is learnt from the training texts; None for hashed tokens.
        vocabulary: Largest number of learnt subwords; None for 8000.
        labels: ``none`` for samples whose class is to be predicted; see :class:`Table`.
        id: Column of the ids.
        label: Column of the labels, or several columns of 0 and 1; see :class:`Table`.
        split: Column of the splits; ``draw`` for a new one although the data have one.
        group: Column of groups that must not be divided by a split.
        folds: Number of folds of a cross-validation.
        columns: Column -> its kind.
        like: A store whose kinds, sizes, categories and classes are taken.
        plan: Whether to print the plan only, and write nothing.
        on_bad: ``stop`` if rows or files cannot be used, or ``skip`` their samples.
        jobs: Number of processes; None for one per core.
        task: ``regression`` or ``multilabel``; None for classes. See :class:`Table`.

    Returns:
        The target.

    Raises:
        DataError: If the file is wrong, or a file that it names cannot be read.
        ConfigError: If an option is wrong.
    """
    from mla_lightning.prepare.engine import check_on_bad, prepare

    check_on_bad(on_bad)
    table = Table(
        path,
        name=name or target.name,
        size=size,
        num_frames=num_frames,
        num_segments=num_segments,
        length=length,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        labels=labels,
        id=id,
        label=label,
        split=split,
        group=group,
        folds=folds,
        columns=columns,
        like=like,
        on_bad=on_bad,
        task=task,
    )
    print("\n".join(table.plan()))
    table.check()
    return target if plan else prepare(table, target, on_bad=on_bad, jobs=jobs)
