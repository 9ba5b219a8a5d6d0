"""Columns of a table that are no modality: id, label, split and group; and the rows by these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mla_lightning.data.splits import SPLITS
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.columns import is_number
from mla_lightning.prepare.file_cells import FileCell
from mla_lightning.prepare.import_checks import OWN_SPLIT, Labels, check_names
from mla_lightning.prepare.import_splits import VAL_NAMES, split_name
from mla_lightning.prepare.kinds import KINDS, TABULAR
from mla_lightning.prepare.table_files import EMPTY_LIST
from mla_lightning.prepare.table_sources import read_source, unit_of
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        id: Its id.
        label: Its class; empty without labels.
        split: train, val or test; empty without a split.
        group: Its group; empty without groups.
        place: Its place in the file, such as ``line 3``.
        cells: Column -> text; an empty one is a missing value.
    """

    id: str
    label: str
    split: str
    group: str
    place: str
    cells: Mapping[str, str]


@dataclass
class Roles:
    """The columns of a table that are no modality; None for those that it does not have.

    Attributes:
        id: Column of the ids.
        label: Column of the classes.
        split: Column of the splits; ``draw`` for a new one although the data have one.
        group: Column of the groups.
        folds: Number of folds, in place of a split.
        labels: ``none`` for samples whose class is to be predicted.
        task: The task that the user names; None for none, which means classification.
        label_columns: The columns of the labels: that of ``label``, or those that it lists.
    """

    id: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    folds: int | None = None
    labels: Labels = "column"
    task: str | None = None
    label_columns: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Keep what the user named."""
        keys = ("id", "label", "split", "group", "folds")
        self.label_columns = () if self.label is None else (self.label,)
        self._given = {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    @property
    def draws_split(self) -> bool:
        """Whether a split is drawn although the data may have one."""
        return self._given.get("split") == "draw"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        columns = (self.id, *self.label_columns, self.split, self.group)
        return tuple(column for column in columns if column is not None)

    def options(self) -> dict[str, Any]:
        """Return what the user named; classification is as if no task were named."""
        is_other = self.task not in (None, CLASSIFICATION)
        return self._given | ({"task": self.task} if is_other else {})

    def find(self, names: Sequence[str], where: str) -> None:
        """Find the columns in a table.

        Args:
            names: All columns.
            where: The file, for messages.

        Raises:
            DataError: If one is missing.
            ConfigError: If options contradict each other.
        """
        listed = [text.strip() for text in (self.label or "").split(",")]
        if self.label not in names and len(listed) > 1 and not set(listed) - set(names):
            if self.task != MULTILABEL:
                raise ConfigError(
                    f"label={self.label} names {len(listed)} columns. Columns of 0 and 1, one per "
                    "label, are for task=multilabel"
                )
            self.label_columns = tuple(listed)
        if self.draws_split:
            if OWN_SPLIT not in names:
                raise ConfigError(f"split=draw has no effect: {where} has no {OWN_SPLIT!r}")
            self.split = None
        for role, name in self._given.items():
            is_list = role == "label" and len(self.label_columns) > 1
            is_drawn = role == "split" and self.draws_split
            if role != "folds" and not (is_list or is_drawn) and name not in names:
                raise DataError(
                    f"{where} has no column {name!r}, as {role}={name} says."
                    f"{near(name, names)} It has: {', '.join(names)}"
                )
        for role in ("id", "label", "split"):
            is_left_out = role == OWN_SPLIT and self.draws_split
            if getattr(self, role) is None and role in names and not is_left_out:
                setattr(self, role, role)
        if self.label is not None and len(self.label_columns) < 2:
            self.label_columns = (self.label,)
        if repeated := [name for name in self.names if self.names.count(name) > 1]:
            raise ConfigError(
                f"the column {repeated[0]!r} cannot be two of id, label, split, group"
            )
        if self.labels == "none":
            if self.task is not None:
                raise ConfigError("task has no effect with labels=none; leave one of them out")
            for name in (self.label, self.split):
                if name:
                    hint = ", or write split=draw to leave it out" if name == OWN_SPLIT else ""
                    raise DataError(
                        f"{where} has a column {name}; leave out labels=none to use it{hint}"
                    )
            if self.folds is not None:
                raise ConfigError("folds has no effect with labels=none; leave one of them out")
        elif self.label is None:
            raise DataError(
                f"{where} {'has' if names else 'is empty: it has'} no column 'label'."
                f"{near('label', names)} It has: {', '.join(names) or 'nothing'}. Needed: label "
                "(or label=COLUMN), one column per modality, and id and split if there are any. "
                f"For samples whose class is to be predicted: labels=none{_header_hint(names)}"
            )
        if self.folds is not None and self.split is not None:
            remedy = "write split=draw" if self.split == OWN_SPLIT else "leave out split"
            raise ConfigError(
                f"folds={self.folds} contradicts the column {self.split!r} of {where}. Leave out "
                f"folds, or {remedy}"
            )


def _header_hint(names: Sequence[str]) -> str:
    """Return a sentence for a table whose first line seems to be a sample."""
    odd = next((name for name in names if is_number(name) or len(name.split()) > 3), "")
    if not odd:
        return ""
    return f". {odd!r} looks like a value: does the file have no line with names of its columns?"


def read_rows(path: Path, roles: Roles, chosen: Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """Read a table and find the columns of its roles.

    Args:
        path: The table.
        roles: The roles; their columns are found.
        chosen: Column -> kind that the user names.

    Returns:
        The rows and the columns.

    Raises:
        DataError: If a column is missing or cannot be the name of a modality, an id occurs twice,
            a split is unknown, or there are no rows.
        ConfigError: If options contradict each other.
    """
    where, unit = str(path), unit_of(path)
    table, names = read_source(path)
    no_modality = [name for name, kind in chosen.items() if kind in ("ignore", *TABULAR)]
    is_all_tabular = chosen.get("*") in ("ignore", *TABULAR)
    named = {role: getattr(roles, role) for role in ("id", "label", "split")}
    defaults = [role for role, name in named.items() if name in (None, role)]
    outside = names if is_all_tabular else no_modality
    roles.find(names, where)
    is_csv = path.suffix.lower() in (".csv", ".tsv")
    lists = roles.label_columns if roles.task == MULTILABEL else ()
    emptied = () if is_csv else [name for name in names if name not in lists]
    if repeated := next((name for name in names if names.count(name) > 1), ""):
        raise DataError(f"{where}: {repeated!r} occurs twice. Give each column a name of its own")
    try:
        check_names(names, where, known=(*defaults, *roles.names, *outside))
    except DataError as error:
        raise DataError(
            f"{error}. A column that is no modality may have any name: columns.NAME=ignore, number "
            "or category (or 'columns.*=number' for all that are not named)"
        ) from error
    if "line" in roles.names:
        raise DataError(f"{where}: a column 'line' cannot be used; give it another name")
    if not table:
        raise DataError(f"{path} has no rows")
    first: dict[str, str] = {}
    rows: list[Row] = []
    width = len(str(len(table) - 1))
    for number, cells in enumerate(table):
        place = f"{unit} {cells['line']}"
        cells |= {name: "" for name in emptied if cells[name] == EMPTY_LIST}
        if odd := next((name for name in roles.names if isinstance(cells[name], FileCell)), ""):
            raise DataError(
                f"{where}, {place}: {odd!r} holds bytes, which are no id, label, split or group. "
                "Write the column as texts"
            )
        name = cells[roles.id] if roles.id else f"{number:0{width}d}"
        if name and name in first:
            raise DataError(f"{where}, {place}: the id {name!r} was in {first[name]}")
        first[name] = place
        text = cells[roles.split] if roles.split else ""
        split = split_name(text)
        if roles.split and split is None:
            known = (*SPLITS, *VAL_NAMES)
            raise DataError(
                f"{where}, {place}: the split {text!r} is unknown.{near(text, known)} Known: "
                f"{', '.join(SPLITS)} (or {', '.join(VAL_NAMES)} for val)."
            )
        label = cells[roles.label_columns[0]] if len(roles.label_columns) == 1 else ""
        group = cells[roles.group] if roles.group else ""
        rows.append(Row(name, label, split or "", group, place, cells))
    return rows, names


def chosen_kinds(
    chosen: Mapping[str, str], names: Sequence[str], roles: Roles, where: str
) -> dict[str, str]:
    """Check the kinds that the user names.

    Args:
        chosen: Column -> kind; the column ``*`` stands for all that are not named.
        names: The columns of the table.
        roles: The columns that are no modality.
        where: The file, for messages.

    Returns:
        Column -> kind.

    Raises:
        ConfigError: If a kind is unknown or has no effect.
        DataError: If there is no such column.

    Example:
        >>> chosen = {"*": "number", "b": "text"}
        >>> chosen_kinds(chosen, ["label", "a", "b"], Roles(label="label"), "my.csv")
        {'a': 'number', 'b': 'text'}
    """
    for name, kind in chosen.items():
        option = f"columns.{name}={kind}"
        if kind not in KINDS:
            raise ConfigError(
                f"{option}: unknown kind.{near(kind, KINDS)} Known: {', '.join(KINDS)}"
            )
        if name != "*" and name not in names:
            raise DataError(
                f"{where} has no column {name!r}, as {option} says.{near(name, names)} It has: "
                f"{', '.join(names)}"
            )
        if name in roles.names:
            raise ConfigError(
                f"{option} has no effect: the column is the id, label, split or group"
            )
    others = [name for name in names if name not in roles.names]
    kinds = {name: chosen.get(name, chosen.get("*", "")) for name in others}
    return {name: kind for name, kind in kinds.items() if kind}
