"""A table with paths of media, texts, features and numbers, as a source of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.default_encoders import DEFAULTS
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import SPLITS, TRAIN, NamedSplit, from_lists
from mla_lightning.data.stored_inputs import TABULAR_NAME
from mla_lightning.data.targets import TARGETS
from mla_lightning.errors import DataError
from mla_lightning.media.base import BadMedia, Extractor, MediaInput
from mla_lightning.media.survey import Survey
from mla_lightning.prepare.columns import Column, describe_column
from mla_lightning.prepare.import_checks import (
    NONE,
    OWN_SPLIT,
    Labels,
    Task,
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
from mla_lightning.prepare.like_store import like_store
from mla_lightning.prepare.table_cells import Problem, Vectors, input_of, problems_of
from mla_lightning.prepare.table_fit import extractor_of, fit
from mla_lightning.prepare.table_labels import labels_for
from mla_lightning.prepare.table_roles import Roles, Row, chosen_kinds, read_rows
from mla_lightning.prepare.table_vocabulary import (
    TextVocabulary,
    restricted,
    vocabulary_sentence,
)
from mla_lightning.prepare.target_folder import json_digest
from mla_lightning.run_folder.tasks import CLASSIFICATION


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
        vocabulary: int | None = None,
        labels: Labels = "column",
        id: str | None = None,
        label: str | None = None,
        split: str | None = None,
        group: str | None = None,
        folds: int | None = None,
        columns: Mapping[str, str] | None = None,
        like: Path | None = None,
        on_bad: str = "stop",
        task: Task | None = None,
    ) -> None:
        """Read the table and decide what each column holds; no media is opened.

        Args:
            path: The table; see :func:`~mla_lightning.prepare.table_sources.read_source`.
            name: Name of the data set.
            size: Height and width of images and frames, in pixels; None for one that fits.
            num_frames: Number of frames of 10 ms of sounds; None for one that fits.
            num_segments: Number of frames of a film; None for one that fits.
            length: Number of token ids of a text; None for one that fits.
            tokenizer: ``vocab.txt`` or a model folder for WordPiece; ``subwords`` for a vocabulary
                that is learnt from the training texts; None for hashed tokens.
            vocabulary: Largest number of learnt subwords; None for 8000.
            labels: ``none`` for samples whose class is to be predicted; then there is no column
                ``label`` and no ``split``.
            id: Column of the ids, ``id`` by default; without one, ids are the numbers of the rows.
            label: Column of the labels, ``label`` by default; or, for ``task=multilabel``, several
                columns of 0 and 1 with commas between them.
            split: Column of the splits, ``split`` by default; without one, or with ``draw``, a
                split is drawn.
            group: Column of groups, such as speakers, that must not be divided by a split.
            folds: Number of folds of a cross-validation, in place of a split.
            columns: Column -> its kind, one of :data:`~mla_lightning.prepare.kinds.KINDS`.
            like: A store whose kinds, sizes, categories and classes are taken.
            on_bad: ``skip`` to leave out rows that cannot be used.
            task: ``regression`` for a number as label, ``multilabel`` for any number of labels,
                separated by ``;`` or ``|`` or as a list; None for classes.

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
        self._vocabulary = TextVocabulary(tokenizer, vocabulary, labels)
        self.roles = Roles(id, label, split, group, folds, labels, task)
        self.task = task or CLASSIFICATION
        self.chosen = dict(columns or {})
        self.like = None if like is None else like_store(like)
        if self.like is not None:
            fixed = [name for name, value in self.fitted.items() if value is not None]
            self.like.check_options([*(f"columns.{name}" for name in self.chosen), *fixed])
            self.chosen = {"*": "ignore", **self.like.columns}
        if self.roles.draws_split:
            self.chosen[OWN_SPLIT] = "ignore"
        self.all_rows, self.names = read_rows(path, self.roles, self.chosen)
        if self.like is not None:
            self.like.check_names(self.names, str(path))
            self.like.check_task(self.task, is_labelled=labels == "column")
        label_problems: dict[str, str] = {}
        self.labels = labels_for(task, self.roles.label_columns, self.all_rows, str(path))
        if self.labels is not None:
            self.all_rows, label_problems = self.labels.read(self.all_rows)
        kinds = chosen_kinds(self.chosen, self.names, self.roles, str(path))
        self.columns: dict[str, Column] = {
            name: describe_column(
                name,
                [row.cells[name] for row in self.all_rows],
                self.raw or Path(),
                labels=[row.label for row in self.all_rows] if labels == "column" else (),
                chosen=kinds.get(name),
                task=self.task,
                place_of=lambda number: self.all_rows[number].place,
            )
            for name in self.names
            if name not in self.roles.names
        }
        if self.like is not None:
            reason = f"as in {self.like.folder}"
            self.columns = {n: replace(c, reason=reason) for n, c in self.columns.items()}
        self.vectors = Vectors(self.columns, self.all_rows, self.like)
        self.problems = problems_of(
            self.all_rows, self.columns, self.vectors, self.raw or Path(), labels, label_problems
        )
        bad = {problem.row.place for problem in self.problems}
        self.rows = [row for row in self.all_rows if row.place not in bad]
        self.modalities = self.vectors.modalities  # type: ignore[misc]
        self.class_names = (
            self.labels.names(self.rows)
            if self.labels is not None
            else sorted_classes([row.label for row in self.rows if row.label])
        )
        self._own_names = self.class_names
        if self.like is not None and self.like.class_names:
            self.class_names = self.like.class_names
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
        if self.modalities.count(TABULAR_NAME) > 1:
            raise DataError(
                f"{where}: the column {TABULAR_NAME!r} has the name of the modality of all numbers "
                "and categories. Give it another name"
            )
        if self.problems and self.on_bad != "skip":
            raise DataError(Problem.message(self.problems, where, len(self.all_rows)))
        if not self.rows:
            raise DataError(Problem.message(self.problems, where, len(self.all_rows)))
        if self.labels is not None:
            self.labels.check(self.rows, where)
        if self.like is not None and self.like.class_names:
            self._check_like_labels(where)
        elif self.labels is None and self.roles.labels == "column":
            check_labels(
                [row.label for row in self.rows], where, is_told=self.roles.task is not None
            )
        if self.like is not None:
            self.like.check_inputs(self._inputs(), where)
        if self.roles.split is not None:
            check_splits({row.split for row in self.rows}, where)

    def _check_like_labels(self, where: str) -> None:
        """Check that all labels are those of the store that this one is to be like."""
        assert self.like is not None
        if self.task == CLASSIFICATION:
            for row in self.rows if self.roles.labels == "column" else ():
                self.like.check_label(row.label, f"{where}, {row.place}")
        else:
            for name in self._own_names:
                self.like.check_label(name, where)

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
            labels=self.labels,
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
                inputs[modality] = input_of(cell, column)
                if not column.is_path:
                    attributes[modality] = cell
        return Item(row.id, row.label, inputs, attributes)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return an extractor per modality, chosen by the kinds of the columns."""
        return {
            modality: self.vectors.extractor(modality)
            or extractor_of(
                self.columns[modality].kind,
                self.fits[modality].options,
                self.vocabulary.tokenizer,
            )
            for modality in self.modalities
        }

    def _inputs(self) -> dict[str, Any]:
        """Return how the inputs are made, as :func:`stored_inputs` describes those of a store."""
        inputs: dict[str, Any] = {
            name: {"kind": e.kind, "options": e.options(), "shape": e.shape}
            for name, e in self.extractors().items()
        }
        if TABULAR_NAME in self.vectors.names:
            inputs[TABULAR_NAME]["values"] = self.vectors.tabular_names
        return inputs

    @cached_property
    def train_rows(self) -> list[Row]:
        """The rows of train, which sizes and lengths follow; all rows if there is no one train.

        A cross-validation has a train per fold, and samples without labels have none.
        """
        if self.roles.folds is not None or self.roles.labels == "none" or not self.rows:
            return self.rows
        rows = sorted(self.rows, key=lambda row: row.id)
        attributes = [{self.roles.group: row.group} if self.roles.group else {} for row in rows]
        items = [Item(r.id, r.label, {}, a) for r, a in zip(rows, attributes, strict=True)]
        try:
            codes = self._splits(items)[self.default_split].codes
        except DataError:  # the import reports it
            return self.rows
        return [row for row, code in zip(rows, codes.tolist(), strict=True) if code == TRAIN]

    @cached_property
    def fits(self) -> dict[str, Survey]:
        """The options of each column of media or texts that is a modality."""
        fits = {}
        rows, is_train = self.train_rows, len(self.train_rows) < len(self.rows)
        for modality in self.modalities:
            column = self.columns.get(modality)
            if column is None or modality in self.vectors.names:
                continue
            cells = [input_of(cell, column) for row in rows if (cell := row.cells[modality])]
            folder = self.raw or Path()
            if self.like is not None:
                fits[modality] = Survey(self.like.options(modality))
                continue
            try:
                tokenizer = self.vocabulary.tokenizer if column.kind == "text" else None
                fitted = fit(column.kind, cells, folder, self.fitted, tokenizer)
            except BadMedia as error:
                reason = str(error).replace("KIND", f"columns.{modality}")
                raise DataError(f"{self.path}: the column {modality!r} {reason}") from error
            where = " (of train)" if is_train else ""
            sentences = tuple(sentence + where for sentence in fitted.sentences)
            if isinstance(tokenizer, bytes):
                sentences += (vocabulary_sentence(self.vocabulary.description),)
            fits[modality] = replace(fitted, sentences=sentences)
        return fits

    @cached_property
    def vocabulary(self) -> TextVocabulary:
        """The vocabulary of the texts, learnt from the training texts of the default split."""
        if self._vocabulary.size is not None and self.rows:
            names = [m for m in self.modalities if m in self.columns]
            texts = [name for name in names if self.columns[name].kind == "text"]
            items = self.items()
            splits = self._splits(items)
            self._vocabulary.learn(items, splits, self.default_split, texts, self.raw or Path())
        return self._vocabulary

    def write_files(self, folder: Path) -> list[str]:
        """Write the vocabulary, if it was learnt; see :class:`Source`."""
        return self.vocabulary.write(folder)

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Return the split of the table, or random ones that divide classes or targets evenly."""
        if self._vocabulary.size is None:
            return self._splits(items)
        every = self.items()  # no text that was learnt from may become one of test
        return restricted(self._splits(every), every, items)

    def _splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        if self.roles.labels == "none":
            return {NONE: without_split(len(items))}
        texts, name = [item.label for item in items], self.roles.group
        targets = TARGETS[self.task]
        labels = targets.strata(targets.encoded(texts, self.class_names), self.class_names)
        groups = [item.attributes[name] for item in items] if name else None
        if self.roles.folds is not None:
            return fold_splits(labels, groups, self.roles.folds, name=name or "group")
        if self.roles.split is None:
            if name and groups:
                return {"own": group_split(labels, groups, name=name)}
            return {"own": drawn_split(labels, has_own=self.roles.draws_split)}
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
        if self._vocabulary.size is not None:
            options["subwords"] = self.vocabulary.description
        if TABULAR_NAME in self.vectors.names:
            options[TABULAR_NAME] = self.vectors.tabular_names
        return options
