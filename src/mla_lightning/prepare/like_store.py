"""A store that an import imitates, so that a model of the store can predict the new samples."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.data.manifest import read_manifest, task_of
from mla_lightning.data.stored_inputs import TABULAR_NAME, input_differences, stored_inputs
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.table_fit import OPTIONS
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Extractor -> kind of a column.
_KINDS = {
    "image": "image",
    "drawing": "drawing",
    "log_mel": "sound",
    "frames": "film",
    "tokens": "text",
}


@dataclass(frozen=True)
class LikeStore:
    """What an import takes from a store: kinds, sizes, categories and classes.

    Attributes:
        folder: The store.
        class_names: Its classes; empty if it has none.
        inputs: Modality -> how its inputs were made, see
            :func:`~mla_lightning.data.stored_inputs.stored_inputs`.
        chosen: Column -> kind, as the user of the store named them.
        task: Its task.
    """

    folder: Path
    class_names: tuple[str, ...]
    inputs: Mapping[str, Any]
    chosen: Mapping[str, str]
    task: str = CLASSIFICATION

    @property
    def columns(self) -> dict[str, str]:
        """Column of a table -> its kind; the columns of ``tabular`` in their order."""
        kinds: dict[str, str] = {}
        for name, entry in self.inputs.items():
            if name == TABULAR_NAME and "values" in entry:
                kinds |= {c: "number" if v is None else "category" for c, v in self._tabular()}
                continue
            extractor = entry["options"].get("extractor")
            is_sequence = len(entry["shape"]) == 2
            kinds[name] = _KINDS.get(extractor, "sequence" if is_sequence else "features")
        return kinds

    @property
    def categories(self) -> dict[str, list[str]]:
        """Column of categories -> its categories, in their order."""
        return {column: values for column, values in self._tabular() if values is not None}

    def array_kinds(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
        """Return array -> ``sequence`` or ``spectrogram``, of those (N, T, D) that are either."""
        kinds = {"features": "sequence", "spectrogram": "spectrogram"}
        return {
            name: kinds[entry["kind"]]
            for name, entry in self.inputs.items()
            if entry["kind"] in kinds and len(shapes[name]) == 3
        }

    def options(self, modality: str) -> dict[str, Any]:
        """Return the options of a column's extractor, such as its size."""
        entry = self.inputs[modality]
        names = OPTIONS.get(self.columns[modality], ("shape",))
        options = {name: entry["options"].get(name) for name in names}
        return options | ({"shape": tuple(entry["shape"])} if "shape" in options else {})

    def _tabular(self) -> list[tuple[str, list[str] | None]]:
        """Return the columns of numbers (None) and of categories."""
        columns: dict[str, list[str] | None] = {}
        named = sorted((c for c, kind in self.chosen.items() if kind == "category"), key=len)
        for value in self.inputs[TABULAR_NAME]["values"] if TABULAR_NAME in self.inputs else ():
            column = next((c for c in reversed(named) if value.startswith(f"{c}=")), "")
            if not column and self.chosen.get("*") == "category" and value not in self.chosen:
                column = value.partition("=")[0]
            if column:
                codes = columns.setdefault(column, [])
                assert codes is not None
                codes.append(value.removeprefix(f"{column}="))
            else:
                columns[value] = None
        return [*columns.items()]

    def check_options(self, given: Collection[str]) -> None:
        """Check that no option says what the store says already.

        Raises:
            ConfigError: If one does.
        """
        if given:
            raise ConfigError(
                f"{next(iter(given))} has no effect with like={self.folder}, which says it already."
                " Leave one of them out"
            )

    def check_names(self, names: Collection[str], where: str, *, what: str = "column") -> None:
        """Check that new data have all modalities of the store.

        Args:
            names: Columns or arrays.
            where: Their file.
            what: ``column`` or ``array``.

        Raises:
            DataError: If one is missing.
        """
        wanted = self.columns if what == "column" else self.inputs
        if missing := [name for name in wanted if name not in names]:
            raise DataError(
                f"{where} has no {what} {missing[0]!r}, which {self.folder} has."
                f"{near(missing[0], names)} It has: {', '.join(names)}"
            )

    def check_inputs(self, inputs: Mapping[str, Any], where: str) -> None:
        """Check that the inputs of new data are made as those of the store.

        Raises:
            DataError: If they are not.
        """
        if differences := input_differences(self.inputs, json.loads(json.dumps(inputs))):
            hint = ""
            if "sha256" in differences[0]:
                tokens = [e["options"].get("tokens") for e in self.inputs.values()]
                hint = f". Give its vocabulary: tokenizer={next(filter(None, tokens))}"
            raise DataError(f"{where} is not like {self.folder}: {'. '.join(differences)}{hint}")

    def check_task(self, task: str, *, is_labelled: bool) -> None:
        """Check that labels are targets of the store's task; samples without labels have none.

        Raises:
            DataError: If they are not.
        """
        if is_labelled and task != self.task:
            raise DataError(
                f"the labels are understood as {task}, those of {self.folder} are {self.task}: "
                f"write task={self.task}"
            )

    def check_label(self, label: str, where: str) -> None:
        """Check that a label is a class of the store.

        Raises:
            DataError: If it is none.
        """
        if self.class_names and label not in self.class_names:
            raise DataError(
                f"{where}: the label {label!r} is no class of {self.folder}."
                f"{near(label, self.class_names)} Its classes: {', '.join(self.class_names)}. "
                "For samples without labels: labels=none"
            )

    def numbered(
        self, names: Sequence[str], numbers: Sequence[int], where: str
    ) -> tuple[tuple[str, ...], list[int]]:
        """Return the classes of the store, and the labels as numbers of them.

        Args:
            names: The classes of the new data; without any nothing changes.
            numbers: (N,) class numbers of the samples.
            where: The file, for messages.

        Raises:
            DataError: If a class is none of the store.
        """
        if not names or not self.class_names:
            return tuple(names), list(numbers)
        for name in names:
            self.check_label(name, where)
        return self.class_names, [self.class_names.index(names[n]) for n in numbers]


def like_store(folder: Path) -> LikeStore:
    """Read what an import takes from a store.

    Args:
        folder: The store; its arrays are not read.

    Raises:
        DataError: If it is no store.

    Example:
        >>> like_store(tmp / "no")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: .../no does not exist. Make it: ...
    """
    manifest = read_manifest(folder)
    try:
        return LikeStore(
            folder,
            tuple(manifest["class_names"]),
            stored_inputs(manifest, [*manifest["modalities"]]),
            dict(manifest["options"].get("columns") or {}),
            task_of(manifest, str(folder)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{folder}: its manifest is damaged: {error!r}") from error
