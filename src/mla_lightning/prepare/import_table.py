"""Import of a table with paths of media, texts and numbers into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.default_encoders import DEFAULTS
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import SPLITS, NamedSplit, from_lists
from mla_lightning.errors import DataError
from mla_lightning.media.base import BadMedia, Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.survey import Survey
from mla_lightning.prepare.columns import Column, describe_column
from mla_lightning.prepare.import_checks import (
    NONE,
    Labels,
    check_splits,
    drawn_split,
    with_validation_split,
    without_split,
)
from mla_lightning.prepare.import_plan import (
    check_columns,
    check_labels,
    plan_lines,
    sorted_classes,
)
from mla_lightning.prepare.import_splits import fold_splits, group_split
from mla_lightning.prepare.table_cells import TABULAR_NAME, Problem, Vectors, problems_of
from mla_lightning.prepare.table_fit import fit
from mla_lightning.prepare.table_roles import Roles, Row, chosen_kinds, read_rows
from mla_lightning.prepare.target_folder import json_digest


class Table(Source):
    """A table with a label, and columns of paths of media, texts or numbers.

    A cell of a modality is the path of a file, relative to the table, a text, or numbers. If the
    cell is empty, the modality is absent. What each column holds is in ``columns``.
    """

    name = "table"
    modalities: ClassVar[tuple[str, ...]] = ()
    how_to_get = "A file of your own."
    default_split = "own"
    stays_in_raw = False
    scale = "standard"
    defaults = DEFAULTS

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        size: int | None = None,
        num_frames: int | None = None,
        num_segments: int | None = None,
        length: int | None = None,
        tokenizer: Path | None = None,
        labels: Labels = "column",
        id: str | None = None,
        label: str | None = None,
        split: str | None = None,
        group: str | None = None,
        folds: int | None = None,
        columns: Mapping[str, str] | None = None,
        on_bad: str = "stop",
    ) -> None:
        """Read the table and decide what each column holds; no media is opened.

        Args:
            path: The table; see :func:`~mla_lightning.prepare.table_sources.read_source`.
            name: Name of the data set.
            size: Height and width of images and frames, in pixels; None for one that fits.
            num_frames: Number of frames of 10 ms of sounds; None for one that fits.
            num_segments: Number of frames of a film; None for one that fits.
            length: Number of token ids of a text; None for one that fits.
            tokenizer: ``vocab.txt`` or a model folder for WordPiece; None for hashed tokens.
            labels: ``none`` for samples whose class is to be predicted; then there is no column
                ``label`` and no ``split``.
            id: Column of the ids, ``id`` by default; without one, ids are the numbers of the rows.
            label: Column of the classes, ``label`` by default.
            split: Column of the splits, ``split`` by default; without one a split is drawn.
            group: Column of groups, such as speakers, that must not be divided by a split.
            folds: Number of folds of a cross-validation, in place of a split.
            columns: Column -> its kind, one of :data:`~mla_lightning.prepare.columns.KINDS`.
            on_bad: ``skip`` to leave out rows that cannot be used.

        Raises:
            DataError: If a column is missing, an id occurs twice, or a split is unknown; the
                message has the line.
            ConfigError: If an option has no effect.
        """
        super().__init__(path if path.is_dir() else path.parent)
        self.name, self.path, self.on_bad = name, path, on_bad  # type: ignore[misc]
        self.fitted = {
            "size": size,
            "num_frames": num_frames,
            "num_segments": num_segments,
            "length": length,
        }
        self.tokenizer = tokenizer
        self.roles = Roles(id, label, split, group, folds, labels)
        self.chosen = dict(columns or {})
        self.all_rows, self.names = read_rows(path, self.roles, self.chosen)
        kinds = chosen_kinds(self.chosen, self.names, self.roles, str(path))
        self.columns: dict[str, Column] = {
            name: describe_column(
                name,
                [row.cells[name] for row in self.all_rows],
                self.raw or Path(),
                labels=[row.label for row in self.all_rows] if labels == "column" else (),
                chosen=kinds.get(name),
                place_of=lambda number: self.all_rows[number].place,
            )
            for name in self.names
            if name not in self.roles.names
        }
        self.vectors = Vectors(self.columns, self.all_rows)
        self.problems = problems_of(
            self.all_rows, self.columns, self.vectors, self.raw or Path(), labels
        )
        bad = {problem.row.place for problem in self.problems}
        self.rows = [row for row in self.all_rows if row.place not in bad]
        self.modalities = self.vectors.modalities  # type: ignore[misc]
        self.class_names = sorted_classes([row.label for row in self.rows if row.label])
        if folds is not None:
            self.default_split = "fold0"
        if labels == "none":
            self.class_names, self.default_split = (), NONE
        self.skipped_items = [problem.as_failure() for problem in self.problems]

    def check(self) -> None:
        """Check that the rows can be used, before media are opened.

        Raises:
            DataError: If it is unclear what a column holds, there is no modality, a row cannot be
                used (unless ``on_bad`` is ``skip``), there is only one class, or no row for train
                or test.
        """
        where = str(self.path)
        check_columns(list(self.columns.values()), where)
        if not self.modalities:
            names = ", ".join(self.names)
            ignored = [c.name for c in self.columns.values() if c.kind == "ignore"]
            hint = f". Name one: columns.{ignored[0]}=KIND" if ignored else ""
            raise DataError(f"{where} has no column of a modality beside {names}{hint}")
        if self.problems and self.on_bad != "skip":
            raise DataError(Problem.message(self.problems, where, len(self.all_rows)))
        if not self.rows:
            raise DataError(Problem.message(self.problems, where, len(self.all_rows)))
        if self.roles.labels == "column":
            check_labels([row.label for row in self.rows], where)
        if self.roles.split is not None:
            check_splits({row.split for row in self.rows}, where)

    def plan(self) -> list[str]:
        """Return what was understood of the table: a line per column, and warnings."""
        return plan_lines(
            str(self.path),
            self.names,
            self.columns,
            self.roles,
            self.all_rows,
            len(self.problems),
            notes={modality: fitted.sentences for modality, fitted in self.fits.items()},
        )

    def items(self) -> list[Item]:
        """List the samples."""
        items = [self._item(row) for row in self.rows]
        return sorted(items, key=lambda item: item.id)

    def _item(self, row: Row) -> Item:
        inputs: dict[str, MediaInput] = {}
        attributes = {self.roles.group: row.group} if self.roles.group else {}
        for modality in self.modalities:
            column = self.columns.get(modality)
            if (vector := self.vectors.input_of(modality, row)) is not None:
                inputs[modality] = vector
            elif column is None or modality in self.vectors.names:
                continue
            elif cell := row.cells[modality]:
                inputs[modality] = FileInput(Path(cell)) if column.is_path else TextInput(cell)
                if not column.is_path:
                    attributes[modality] = cell
        return Item(row.id, row.label, inputs, attributes)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return an extractor per modality, chosen by the kinds of the columns."""
        from mla_lightning.media.audio import LogMel
        from mla_lightning.media.drawing import Drawing
        from mla_lightning.media.feature_files import FeatureFile
        from mla_lightning.media.image import Image
        from mla_lightning.media.text import Tokens
        from mla_lightning.media.video import Frames

        make: dict[str, Any] = {
            "image": partial(Image, exif="apply"),
            "drawing": Drawing,
            "sound": partial(LogMel, channels="mean", padding="silence"),
            "film": partial(Frames, rotation="apply"),
            "text": partial(Tokens, tokenizer=self.tokenizer),
            "features": FeatureFile,
            "sequence": FeatureFile,
        }
        return {
            modality: self.vectors.extractor(modality)
            or make[self.columns[modality].kind](**self.fits[modality].options)
            for modality in self.modalities
        }

    @cached_property
    def fits(self) -> dict[str, Survey]:
        """The options of each column of media or texts that is a modality."""
        fits = {}
        for modality in self.modalities:
            column = self.columns.get(modality)
            if column is None or modality in self.vectors.names:
                continue
            cells = [
                FileInput(Path(cell)) if column.is_path else TextInput(cell)
                for row in self.rows
                if (cell := row.cells[modality])
            ]
            folder = self.raw or Path()
            try:
                fits[modality] = fit(column.kind, cells, folder, self.fitted, self.tokenizer)
            except BadMedia as error:
                reason = str(error).replace("KIND", f"columns.{modality}")
                raise DataError(f"{self.path}: the column {modality!r} {reason}") from error
        return fits

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Return the split of the table, or random ones within each class."""
        if not self.class_names:
            return {NONE: without_split(len(items))}
        labels, name = [item.label for item in items], self.roles.group
        groups = [item.attributes[name] for item in items] if name else None
        if self.roles.folds is not None:
            return fold_splits(labels, groups, self.roles.folds, name=name or "group")
        if self.roles.split is None:
            if name and groups:
                return {"own": group_split(labels, groups, name=name)}
            return {"own": drawn_split(labels)}
        ids = {item.id: None for item in items}  # of the readable items, in order
        lists = {
            split: [row.id for row in self.rows if row.split == split and row.id in ids]
            for split in SPLITS
        }
        codes = from_lists(list(ids), lists, str(self.path))
        description = f"the column {self.roles.split} of {self.path.name}"
        return {"own": with_validation_split(codes, labels, description, groups, name)}

    def options(self) -> dict[str, Any]:
        """Return what changes the items and their splits: the file, and what the user chose."""
        options: dict[str, Any] = {"path": self.path.name, **self.roles.options()}
        if self.chosen:
            options["columns"] = self.chosen
        if self.roles.split is not None:  # whose values are in no item
            options["split_sha256"] = json_digest({row.id: row.split for row in self.rows})
        if TABULAR_NAME in self.vectors.names:
            options[TABULAR_NAME] = self.vectors.tabular_names
        return options


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
    labels: Labels = "column",
    id: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
    folds: int | None = None,
    columns: Mapping[str, str] | None = None,
    plan: bool = False,
    on_bad: str = "stop",
    jobs: int | None = None,
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
        tokenizer: ``vocab.txt`` or a model folder for WordPiece; None for hashed tokens.
        labels: ``none`` for samples whose class is to be predicted; see :class:`Table`.
        id: Column of the ids.
        label: Column of the classes.
        split: Column of the splits.
        group: Column of groups that must not be divided by a split.
        folds: Number of folds of a cross-validation.
        columns: Column -> its kind.
        plan: Whether to print the plan only, and write nothing.
        on_bad: ``stop`` if rows or files cannot be used, or ``skip`` their samples.
        jobs: Number of processes; None for one per core.

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
        labels=labels,
        id=id,
        label=label,
        split=split,
        group=group,
        folds=folds,
        columns=columns,
        on_bad=on_bad,
    )
    print("\n".join(table.plan()))
    table.check()
    return target if plan else prepare(table, target, on_bad=on_bad, jobs=jobs)
