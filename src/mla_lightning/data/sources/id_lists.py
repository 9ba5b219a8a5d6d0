"""Lists of ids that say which sample is in train and test, as MLA, OGM and QMF publish them.

They have no licence, so none ships here; ``lists=DIR`` reads the user's copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.data.sources.texts import held, read_text
from mla_lightning.data.splits import NamedSplit, from_lists, with_validation
from mla_lightning.errors import DataError

#: One line -> the id and the label that it tells; ValueError, saying why, if it is broken.
ReadLine = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class ListKind:
    """How one project names and writes its lists.

    Attributes:
        split: What the split is called here.
        files: ``train``, ``test`` and perhaps ``val`` -> file name.
        read_line: Reads a line.
        may_lack: Share of a list's ids that the official files may not have, for published lists
            that are known to name such.
    """

    split: str
    files: Mapping[str, str]
    read_line: ReadLine
    may_lack: float = 0.0


@dataclass(frozen=True)
class IdLists:
    """Lists of one data set.

    Attributes:
        folder: Where they are.
        name: What the split is called.
        parts: ``train``, ``test`` and perhaps ``val`` -> ids in the order of the file.
        labels: Id -> label, as the lists have it.
        sha256: File name -> hash.
        may_lack: Share of a list's ids that the official files may not have.
    """

    folder: Path
    name: str
    parts: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    sha256: Mapping[str, str]
    may_lack: float = 0.0

    def split(
        self,
        ids: Sequence[str],
        known: Mapping[str, str],
        *,
        rest_is_val: bool = False,
        groups: Sequence[str] | None = None,
    ) -> NamedSplit:
        """Divide by the lists; without one of validation, a tenth of train is that part.

        Args:
            ids: (N,) ids of the samples that could be read.
            known: Id -> label of all samples, readable or not.
            rest_is_val: What is in no list is validation.
            groups: (N,) groups of which validation and train share none; None for no groups.

        Returns:
            The split.

        Raises:
            DataError: If more ids are unknown than may be, or one is twice in the lists or of
                another label.
        """
        for id_, label in self.labels.items():
            if id_ in known and known[id_] != label:
                raise DataError(
                    f"{self.folder}: {id_!r} is of class {label!r} in the lists and of "
                    f"{known[id_]!r} in the data. Are the lists of this data set?"
                )
        unread = known.keys() - set(ids)
        unknown: list[str] = []
        for names in self.parts.values():
            lacking = [id_ for id_ in names if id_ not in known]
            if len(lacking) <= self.may_lack * len(names):
                unknown += lacking
        left_out = unread.union(unknown)
        readable = {
            part: [id_ for id_ in names if id_ not in left_out]
            for part, names in self.parts.items()
        }
        about = f"The lists {', '.join(self.sha256)} of the user."
        if unknown:
            about += f" {len(unknown)} of their ids are not in the official files:"
            about += f" {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}."
        if rest_is_val and "val" not in readable:
            listed = {id_ for names in readable.values() for id_ in names}
            readable["val"] = [id_ for id_ in ids if id_ not in listed]
            about += " Validation is what is in neither."
        codes = from_lists(ids, readable, str(self.folder))
        if "val" not in readable:
            codes = with_validation(codes, [known[id_] for id_ in ids], groups=groups)
            about += " Validation is a tenth of train, by rule."
        if lost := sum(id_ in unread for names in self.parts.values() for id_ in names):
            about += f" {lost} of their ids could not be read."
        return NamedSplit(codes, about)


def read_lists(folder: Path, kinds: Sequence[ListKind]) -> list[IdLists]:
    """Read the lists of a folder.

    Args:
        folder: The folder.
        kinds: The kinds of lists that are known for the data set.

    Returns:
        The lists of each kind that is there.

    Raises:
        DataError: If there are none, one without the other, or a line is broken.
    """
    found = []
    for kind in kinds:
        there = {part: file for part, file in kind.files.items() if (folder / file).is_file()}
        if lacking := [kind.files[part] for part in ("train", "test") if part not in there]:
            if there:
                raise DataError(
                    f"lists={folder} holds {', '.join(there.values())} but not "
                    f"{' and '.join(lacking)}; split {kind.split!r} needs both. Add it, or take "
                    "the other away"
                )
            continue
        found.append(_read(folder, kind, there))
    if not found:
        wanted = " or ".join(f"{k.files['train']} and {k.files['test']}" for k in kinds)
        what = f"holds {held(folder)}" if folder.is_dir() else "is no folder"
        raise DataError(f"lists={folder} {what}; it must hold {wanted}")
    return found


def _read(folder: Path, kind: ListKind, files: Mapping[str, str]) -> IdLists:
    parts: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    for part, file in files.items():
        rows = []
        text = read_text(folder, Path(file), "utf-8")
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                rows.append(kind.read_line(line.strip("\r\n")))
            except ValueError as error:
                where = f"{folder / file}, line {number}"
                raise DataError(f"{where}: {line.strip()[:60]!r} is {error}") from error
        parts[part] = tuple(id_ for id_, _ in rows)
        labels.update(rows)
    sha256 = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files.values()}
    return IdLists(folder, kind.split, parts, labels, sha256, kind.may_lack)


def separated(suffix: str) -> ReadLine:
    """Read lines such as ``<id>.jpg <label>``.

    Args:
        suffix: What separates the two, such as ``.jpg`` and a space.

    Returns:
        The reader.
    """

    def read_line(line: str) -> tuple[str, str]:
        name, found, label = line.partition(suffix)
        if not found or not name or not label.strip():
            raise ValueError(f"not of the form '<id>{suffix}<label>'")
        return name, label.strip()

    return read_line
