"""Kinds of the columns of a table, decided from their cells or by the user, with the reasons."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.media import endings
from mla_lightning.prepare.file_cells import FileCell, guess_bytes
from mla_lightning.prepare.kinds import ENDINGS, FILE_KINDS, TABULAR, UNCLEAR, USES
from mla_lightning.prepare.leaks import leak_of
from mla_lightning.run_folder.tasks import CLASSIFICATION

_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}\S*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
)
_PATH = re.compile(
    r"(\S+|.*/[^/]*)\.(?=\w*[A-Za-z])\w{1,5}|[^\s/]*(/[^\s/]+)+/?|[A-Za-z]:\\.*|https?://\S+"
)
#: Numbers as spreadsheets write them: 1.234,5 and 0,5 and 1,234.5 and 12 %.
_WRITTEN_NUMBER = re.compile(r"[-+]?(\d{1,3}([.,'\u2019 \u00a0\u202f]\d{3})+|\d+)([.,]\d+)?\s?%?")
#: Letters of scripts that are written without blanks: Thai to Khmer, Japanese, Chinese.
_NO_BLANKS = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True)
class Column:
    """A column of a table: its kind, the reason, and facts about its cells.

    Attributes:
        name: Its name.
        kind: One of :data:`~mla_lightning.prepare.kinds.KINDS`, or ``unclear`` if the user must
            decide.
        reason: Why it is of this kind, with the option that decides otherwise.
        num_empty: Number of empty cells.
        num_distinct: Number of different values, without the empty one.
        extent: Range of numbers, number of words, or endings of files.
        examples: Up to two values.
        is_path: Whether the cells are paths of files.
        warnings: Sentences on what may mislead.

    Example:
        >>> Column("age", "number", "columns.age=number", 0, 9, "18 to 80", ("18",)).use
        'a value in the modality tabular'
    """

    name: str
    kind: str
    reason: str
    num_empty: int = 0
    num_distinct: int = 0
    extent: str = ""
    examples: tuple[str, ...] = ()
    is_path: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def use(self) -> str:
        """Return what training reads of the column."""
        return USES.get(self.kind, "not decided")


def describe_column(
    name: str,
    cells: Sequence[str],
    folder: Path,
    *,
    labels: Sequence[str] = (),
    chosen: str | None = None,
    task: str = CLASSIFICATION,
    place_of: Callable[[int], str] = lambda row: f"row {row}",
) -> Column:
    """Return the kind of a column, with the reason and facts about its cells.

    Args:
        name: Name of the column.
        cells: (N,) cells; an empty one is a missing value.
        folder: Folder that paths are relative to.
        labels: (N,) label of each row, to find columns that give it away; empty without labels.
        chosen: The kind that the user names, one of :data:`~mla_lightning.prepare.kinds.KINDS`.
        task: The task of the labels.
        place_of: Row -> its place in the file, for the reasons.

    Returns:
        The column.

    Example:
        >>> describe_column("words", ["a cat", "two dogs here"], Path()).kind
        'text'
        >>> column = describe_column("age", ["21", "40"], Path())
        >>> column.kind, column.extent
        ('ignore', '21 to 40')
        >>> column.reason
        'numbers. To use them: columns.age=number'
        >>> describe_column("age", ["21", "40"], Path(), chosen="number").kind
        'number'
        >>> describe_column("scan", ["a.dcm", "b.dcm"], Path()).kind
        'unclear'
    """
    texts = [cell for cell in cells if cell]
    counts = Counter(texts)
    leak = leak_of(cells, labels, task) if labels else ""
    is_path = False
    is_bytes = any(isinstance(cell, FileCell) for cell in texts)
    if chosen is not None:
        kind, reason = chosen, f"columns.{name}={chosen}"
        is_path = (
            (is_bytes and chosen not in TABULAR)
            or chosen in FILE_KINDS
            or (
                chosen in ("text", "features", "sequence")
                and bool(texts)
                and _are_paths(texts, chosen)
            )
        )
    elif is_bytes:
        kind, reason, is_path = *guess_bytes(name, cells, place_of), True
    else:
        kind, reason, is_path = _guess(name, cells, counts, folder, leak, place_of)
    warnings = []
    if leak and kind not in ("ignore", UNCLEAR) and not is_path:
        sentence = leak.replace("each value", f"each value of {name}", 1)
        warnings.append(f"{sentence}: it may be the label in other words")
    num_distinct = len({c.file.sha256 if isinstance(c, FileCell) else c for c in texts})
    if kind not in ("ignore", UNCLEAR) and num_distinct == 1 and len(texts) > 1:
        warnings.append(f"{name} has one value only, {_short(texts[0])}")
    return Column(
        name,
        kind,
        reason,
        len(cells) - len(texts),
        num_distinct,
        _extent(kind, texts, is_path),
        tuple(_short(text) for text in list(counts)[:2]),
        is_path,
        tuple(warnings),
    )


def numbers_of(cell: str) -> list[float] | list[list[float]] | None:
    """Return the numbers of a cell such as ``[0.1, 0.2]`` or ``0.1 0.2``, None if it holds others.

    Returns:
        A vector (D,), or a sequence of vectors (T, D).

    Example:
        >>> numbers_of("[1, 2.5]"), numbers_of("1 2.5"), numbers_of("[[1, 2], [3, 4]]")
        ([1.0, 2.5], [1.0, 2.5], [[1.0, 2.0], [3.0, 4.0]])
        >>> numbers_of("two 2"), numbers_of("[]")
        (None, None)
    """
    text = cell.strip()
    try:
        if text.startswith("[") and "," in text:
            values = json.loads(text)
        else:
            values = [float(word) for word in re.split(r"[\s,;]+", text.strip("[] "))]
        if values and isinstance(values[0], list):
            return [[float(value) for value in step] for step in values]
        return [float(value) for value in values] or None
    except (ValueError, TypeError, RecursionError):
        return None


def is_number(text: str) -> bool:
    """Return whether a text is a finite number.

    Example:
        >>> [is_number(text) for text in ("-1.5e3", "nan", "1_000", "one")]
        [True, False, False, False]
    """
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def written_number(text: str) -> bool:
    """Return whether a text is a number with a comma, separators of thousands or a percent sign.

    Example:
        >>> [written_number(text) for text in ("0,5", "1.234,5", "12 %", "0.5", "0.1,0.2", "a")]
        [True, True, True, False, False, False]
    """
    return bool(_WRITTEN_NUMBER.fullmatch(text)) and not is_number(text)


# ---------------------------------------------------------------------- the decision


def _guess(
    name: str,
    cells: Sequence[str],
    counts: Mapping[str, int],
    folder: Path,
    leak: str,
    place_of: Callable[[int], str],
) -> tuple[str, str, bool]:
    """Return kind, reason, and whether the cells are paths."""
    texts = [cell for cell in cells if cell]
    choose = f"columns.{name}="
    if not texts:
        return "ignore", "all cells are empty", False
    if (files := _guess_files(name, cells, folder, place_of)) is not None:
        return files
    if len(counts) == 1 and len(texts) > 1:
        return "ignore", f"one value only. To use it: {choose}KIND", False
    if all(is_number(text) or text.lower() == "nan" for text in texts):
        also = f", and {leak}" if leak else ""
        whole = all(re.fullmatch(r"[+-]?\d+", text) for text in texts)
        differ = ", different in every row as an identifier" * (
            whole and len(texts) > 2 and _all_differ(counts, texts)
        )
        return "ignore", f"numbers{also}{differ}. To use them: {choose}number", False
    if all(_DATE.fullmatch(text) for text in texts):
        return "ignore", f"dates or times. To use them as words: {choose}text", False
    if all(is_number(text) or written_number(text) for text in texts):
        odd = next(text for text in texts if not is_number(text))
        reason = f"numbers such as {odd!r}. Write them with a dot for decimals and nothing else"
        return "ignore", f"{reason}, then {choose}number", False
    vectors = [numbers_of(text) for text in texts]
    if all(vector is not None for vector in vectors):
        if not any(re.search(r"[\[.e]", text) for text in texts):  # a telephone number, a date
            return "ignore", f"several whole numbers. To use them: {choose}features", False
        is_sequence = any(isinstance(vector[0], list) for vector in vectors if vector)
        return ("sequence" if is_sequence else "features"), "lists of numbers", False
    num_words = sum(len(text.split()) for text in texts) / len(texts)
    distinct = len(counts) / len(texts)
    num_letters = sum(len(_NO_BLANKS.findall(text)) for text in texts) / len(texts)
    if num_words >= 3 or num_letters >= 4 or (num_words >= 1.5 and distinct >= 0.5):
        return "text", "sentences", False
    if leak:
        reason = f"{leak}: the label in other words?"
        return "ignore", f"{reason} To use it: {choose}category or {choose}text", False
    if _all_differ(counts, texts):
        reason = "one word, different in every row: an identifier?"
        return "ignore", f"{reason} To use it as a text: {choose}text", False
    reason = f"{len(counts)} values that repeat: a speaker, a group or a category?"
    return (
        "ignore",
        f"{reason} To use it: {choose}category, {choose}text, or group={name} for the split",
        False,
    )


def _guess_files(
    name: str, cells: Sequence[str], folder: Path, place_of: Callable[[int], str]
) -> tuple[str, str, bool] | None:
    """Return the kind of a column of paths, None if most of its cells are none."""
    rows = [(row, cell) for row, cell in enumerate(cells) if cell]
    num_paths = sum(_looks_like_path(cell) for _, cell in rows)
    if 2 * num_paths <= len(rows) and not all(exists(folder / cell) for _, cell in rows[:20]):
        # Mostly words: a cell that ends like a file is one only if the file exists.
        odd = [row for row, cell in rows if _ending(cell) in ENDINGS and exists(folder / cell)]
        if not odd:
            return None
        place = place_of(odd[0])
        reason = f"holds different kinds of cells: text, and the path of a file in {place}"
        return UNCLEAR, f"{reason}. Decide: columns.{name}=text or ignore", False
    first_rows: dict[str, int] = {}  # kind of cell -> row
    for row, cell in rows:
        ending = _ending(cell)
        kind = ENDINGS.get(ending, "other" if _looks_like_path(cell) else "text")
        first_rows.setdefault("path of a text" if ending == ".txt" else kind, row)
    if set(first_rows) == {"text"}:
        first_rows = {"other": 0}  # files without an ending
    shown = f"that end in {_endings([cell for _, cell in rows])}"
    shown = "without an ending" if shown.endswith(" no ending") else shown
    choices = f"Decide: columns.{name}=image, sound, film, text, features or ignore"
    if len(first_rows) > 1:
        listed = ", ".join(f"{kind} in {place_of(row)}" for kind, row in first_rows.items())
        return UNCLEAR, f"holds different kinds of cells: {listed}. {choices}", True
    kind = next(iter(first_rows)).removeprefix("path of a ")
    if kind == "other":
        if all("://" in cell for _, cell in rows):
            reason = "holds addresses of the web. Download the files and write their paths"
            return UNCLEAR, f"{reason}, or leave it out: columns.{name}=ignore", True
        if remedy := endings.unreadable_reason(rows[0][1]):
            return UNCLEAR, f"holds paths {shown}: {remedy}", True
        reason = (
            f"holds paths {shown}, which is no known ending of an image, a sound, a film, a text "
            "or features"
        )
        return UNCLEAR, f"{reason}. {choices}", True
    return kind, f"paths {shown}", True


def _looks_like_path(cell: str) -> bool:
    """Return whether a cell is written like a path, not like a sentence or a number."""
    if is_number(cell) or _DATE.fullmatch(cell):
        return False
    is_sentence = len(cell.split()) >= 3 and "/" not in cell
    return (_ending(cell) in ENDINGS and not is_sentence) or bool(_PATH.fullmatch(cell))


def exists(path: Path) -> bool:
    """Return whether a file exists; a text that cannot be a path is none.

    Example:
        >>> exists(Path("x" * 5000))
        False
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _are_paths(texts: Sequence[str], kind: str) -> bool:
    suffixes = [suffix for suffix, kind_of in ENDINGS.items() if kind_of == kind]
    if kind == "sequence":
        suffixes = [".npy", ".npz", ".pt", ".pth"]
    return 2 * sum(_ending(t) in suffixes and _looks_like_path(t) for t in texts) > len(texts)


def _ending(cell: str) -> str:
    match = re.search(r"\.\w{1,5}$", cell)
    return match[0].lower() if match else ""


def _endings(cells: Sequence[str]) -> str:
    counts = Counter(_ending(cell) or "no ending" for cell in cells)
    return ", ".join(ending for ending, _ in counts.most_common(4))


def _all_differ(counts: Mapping[str, int], texts: Sequence[str]) -> bool:
    return len(counts) == len(texts) > 1


def _extent(kind: str, texts: Sequence[str], is_path: bool) -> str:
    if not texts:
        return ""
    if is_path:
        return _endings(texts)
    if kind in ("features", "sequence"):
        lengths = [len(numbers_of(text) or ()) for text in texts]
        unit = "numbers" if kind == "features" else "steps"
        return f"{_range(min(lengths), max(lengths))} {unit}"
    if all(is_number(text) for text in texts):
        values = [float(text) for text in texts]
        return _range(min(values), max(values))
    lengths = [len(text.split()) for text in texts]
    return f"{_range(min(lengths), max(lengths))} words"


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _short(text: str, width: int = 32) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."
