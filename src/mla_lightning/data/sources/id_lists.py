"""Lists of the ids in train and test, as MLA, OGM-GE and QMF publish them.

They have no licence, so the package contains none; ``lists=DIR`` reads the user's copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.data.sources.texts import list_folder, read_text
from mla_lightning.data.splits import NamedSplit, from_lists, with_validation
from mla_lightning.errors import DataError

#: Line -> id and label; raises ValueError with the reason if the line is broken.
LineParser = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class ListFormat:
    """File names and line format of the lists of one project.

    Attributes:
        name: Name of the split that the lists give.
        files: ``train``, ``test`` and optionally ``val`` -> file name.
        parse_line: Parser of a line.
        max_unknown: Largest fraction of a list's ids that may be absent from the official files,
            for published lists that are known to have such ids.
    """

    name: str
    files: Mapping[str, str]
    parse_line: LineParser
    max_unknown: float = 0.0


@dataclass(frozen=True)
class IdLists:
    """Lists of one data set.

    Attributes:
        folder: Their folder.
        name: Name of the split that they give.
        ids: ``train``, ``test`` and optionally ``val`` -> ids in the order of the file.
        labels: Id -> label in the lists.
        sha256: File name -> hash.
        max_unknown: Largest fraction of a list's ids that may be absent from the official files.
    """

    folder: Path
    name: str
    ids: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    sha256: Mapping[str, str]
    max_unknown: float = 0.0

    def split(
        self,
        ids: Sequence[str],
        labels: Mapping[str, str],
        *,
        rest_is_val: bool = False,
        groups: Sequence[str] | None = None,
    ) -> NamedSplit:
        """Divide by the lists; without a list of validation, it is a tenth of train.

        Args:
            ids: (N,) ids of the samples that could be read.
            labels: Id -> label of all samples, readable or not.
            rest_is_val: Whether samples that are in no list are validation.
            groups: (N,) groups that train and validation do not share; None for no groups.

        Returns:
            The split.

        Raises:
            DataError: If too many ids are unknown, an id is listed twice, or its label differs.
        """
        for id_, label in self.labels.items():
            if id_ in labels and labels[id_] != label:
                raise DataError(
                    f"{self.folder}: {id_!r} is of class {label!r} in the lists and of "
                    f"{labels[id_]!r} in the data. Are these lists of this data set?"
                )
        unread = labels.keys() - set(ids)
        unknown: list[str] = []
        for listed in self.ids.values():
            unlabelled = [id_ for id_ in listed if id_ not in labels]
            if len(unlabelled) <= self.max_unknown * len(listed):
                unknown += unlabelled
        left_out = unread.union(unknown)
        readable = {
            split: [id_ for id_ in listed if id_ not in left_out]
            for split, listed in self.ids.items()
        }
        description = f"The lists {', '.join(self.sha256)} of the user."
        if unknown:
            description += f" {len(unknown)} of their ids are not in the official files:"
            description += f" {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}."
        if rest_is_val and "val" not in readable:
            in_lists = {id_ for listed in readable.values() for id_ in listed}
            readable["val"] = [id_ for id_ in ids if id_ not in in_lists]
            description += " Validation is what is in neither."
        codes = from_lists(ids, readable, str(self.folder))
        if "val" not in readable:
            codes = with_validation(codes, [labels[id_] for id_ in ids], groups=groups)
            description += " Validation is a tenth of train, by rule."
        if num_unread := sum(id_ in unread for listed in self.ids.values() for id_ in listed):
            description += f" {num_unread} of their ids could not be read."
        return NamedSplit(codes, description)


def read_lists(folder: Path, formats: Sequence[ListFormat]) -> list[IdLists]:
    """Read the lists in a folder.

    Args:
        folder: The folder.
        formats: The formats of lists that are known for the data set.

    Returns:
        The lists of each format whose files exist.

    Raises:
        DataError: If there are none, only one of train and test, or a line is broken.
    """
    lists = []
    for format_ in formats:
        files = {s: file for s, file in format_.files.items() if (folder / file).is_file()}
        if missing := [format_.files[s] for s in ("train", "test") if s not in files]:
            if files:
                raise DataError(
                    f"lists={folder} holds {', '.join(files.values())} but not "
                    f"{' and '.join(missing)}; split {format_.name!r} needs both. Add it, or "
                    "remove the other"
                )
            continue
        lists.append(_read(folder, format_, files))
    if not lists:
        expected = " or ".join(f"{f.files['train']} and {f.files['test']}" for f in formats)
        content = f"holds {list_folder(folder)}" if folder.is_dir() else "is no folder"
        raise DataError(f"lists={folder} {content}; it must hold {expected}")
    return lists


def _read(folder: Path, format_: ListFormat, files: Mapping[str, str]) -> IdLists:
    ids: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    for split, file in files.items():
        rows = []
        text = read_text(folder, Path(file), "utf-8")
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                rows.append(format_.parse_line(line.strip("\r\n")))
            except ValueError as error:
                where = f"{folder / file}, line {number}"
                raise DataError(f"{where}: {line.strip()[:60]!r} is {error}") from error
        ids[split] = tuple(id_ for id_, _ in rows)
        labels.update(rows)
    sha256 = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files.values()}
    return IdLists(folder, format_.name, ids, labels, sha256, format_.max_unknown)


def separated_by(separator: str) -> LineParser:
    """Return a parser of lines such as ``<id>.jpg <label>``.

    Args:
        separator: Text between id and label, such as ``.jpg`` and a space.

    Returns:
        The parser.
    """

    def parse_line(line: str) -> tuple[str, str]:
        id_, is_separated, label = line.partition(separator)
        if not is_separated or not id_ or not label.strip():
            raise ValueError(f"not of the form '<id>{separator}<label>'")
        return id_, label.strip()

    return parse_line
