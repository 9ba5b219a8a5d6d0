"""The plan of an import: what was understood of each column, and what may mislead."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from mla_lightning.data.splits import SPLITS
from mla_lightning.errors import DataError
from mla_lightning.prepare.columns import Column, is_number, written_number
from mla_lightning.prepare.import_checks import sorted_class_names
from mla_lightning.prepare.kinds import UNCLEAR
from mla_lightning.prepare.table_roles import Roles, Row

#: Texts that programs write for a missing value.
_MISSING = ("nan", "none", "null", "na", "n/a", "nat", "<na>", "?", "-")
#: Fewest samples of a class for one in each of train, val and test.
MIN_PER_CLASS = 3
#: Largest numbers of different real and whole numbers that may be classes without a word on it.
MAX_REAL, MAX_WHOLE = 10, 20
_MAX_NAMED = 8
_DOT = "write them with a dot for decimals and nothing else"


class LabelFacts(Protocol):
    """What a plan says of labels that are no classes."""

    def entry(self, column: str, rows: Sequence[Row]) -> str:
        """Return the facts on a column of labels."""

    def warnings(self, rows: Sequence[Row]) -> list[str]:
        """Return sentences on what a careful colleague would look at again."""


def plan_lines(
    where: str,
    names: Sequence[str],
    columns: Mapping[str, Column],
    roles: Roles,
    rows: Sequence[Row],
    num_bad: int,
    notes: Mapping[str, Sequence[str]] | None = None,
    labels: LabelFacts | None = None,
) -> list[str]:
    r"""Return a line per column of a table, then warnings.

    Args:
        where: The file.
        names: All columns, in the order of the file.
        columns: Column -> what it holds, of those that have no role.
        roles: The columns of id, label, split and group.
        rows: All rows.
        num_bad: Number of rows that cannot be used.
        notes: Column -> sentences on the options that were chosen for it.
        labels: How labels that are no classes are read; None for classes.

    Returns:
        The lines.

    Example:
        >>> rows = [Row("", label, "", "", "", {}) for label in ("cat", "dog") * 3]
        >>> columns = {"age": Column("age", "ignore", "numbers", 1, 4, "3 to 9", ("3", "4"))}
        >>> roles = Roles(label="label")
        >>> print("\n".join(plan_lines("my.csv", ["label", "age"], columns, roles, rows, 1)))
        my.csv: 6 rows, 2 columns
          label  label   2 classes: cat 3, dog 3
          age    ignore  5 cells, 1 empty, 4 distinct, 3 to 9, such as '3', '4': numbers
          (no column id: the ids are the numbers of the rows)
        warning: 1 of 6 rows cannot be used
    """
    num_rows = len(rows)
    entries = [(name, *_entry(name, columns, roles, rows, labels)) for name in names]
    width = max(len(name) for name, _, _ in entries)
    kinds = max(len(kind) for _, kind, _ in entries)
    lines = [f"{where}: {num_rows} rows, {len(names)} columns"]
    for name, kind, text in entries:
        lines.append(f"  {name:<{width}}  {kind:<{kinds}}  {text}".rstrip())
        lines += [f"  {'':<{width}}  {'':<{kinds}}  {note}" for note in (notes or {}).get(name, ())]
    if roles.id is None:
        lines.append("  (no column id: the ids are the numbers of the rows)")
    warnings = [warning for column in columns.values() for warning in column.warnings]
    if labels is not None:
        warnings += labels.warnings(rows)
    elif roles.labels == "column":
        classes = [row.label for row in rows if row.label]
        warnings += label_warnings(classes)
        warnings += form_warnings(classes) if roles.task is None else []
    if num_bad:
        warnings.append(f"{num_bad} of {num_rows} rows cannot be used")
    return [*lines, *(f"warning: {warning}" for warning in warnings)]


def _entry(
    name: str,
    columns: Mapping[str, Column],
    roles: Roles,
    rows: Sequence[Row],
    labels: LabelFacts | None,
) -> tuple[str, str]:
    """Return the kind and the description of a column."""
    num_rows = len(rows)
    if name == roles.id:
        return "id", f"{num_rows} names of the samples"
    if labels is not None and name in roles.label_columns:
        return "label", labels.entry(name, rows)
    if name == roles.label:
        counts = Counter(row.label for row in rows if row.label)
        return "label", f"{len(counts)} classes: {listed_counts(sorted_classes(counts), counts)}"
    if name == roles.split:
        counts = Counter(row.split for row in rows)
        return "split", listed_counts([split for split in SPLITS if counts[split]], counts)
    if name == roles.group:
        counts = Counter(row.group for row in rows)
        return "group", f"{len(counts)} groups: {listed_counts(sorted(counts), counts)}"
    column = columns[name]
    facts = [f"{num_rows - column.num_empty} cells"]
    facts += [f"{column.num_empty} empty"] if column.num_empty else []
    facts += [f"{column.num_distinct} distinct", *([column.extent] if column.extent else [])]
    examples = ", ".join(map(repr, column.examples))
    such = f", such as {examples}" if examples else ""
    use = f" -> {column.use}" if column.kind not in ("ignore", UNCLEAR) else ""
    return column.kind, f"{', '.join(facts)}{such}: {column.reason}{use}"


def listed_counts(names: Sequence[str], counts: Counter[str]) -> str:
    """Return the first names with their numbers of rows, as a text.

    Example:
        >>> listed_counts(["cat", "dog"], Counter(["dog", "cat", "dog"]))
        'cat 1, dog 2'
    """
    shown = [f"{name} {counts[name]}" for name in names[:_MAX_NAMED]]
    more = f", and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(shown) + more


def sorted_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the classes in order: by number if all are numbers, else by name.

    Example:
        >>> sorted_classes(["10", "2", "1", "2"]), sorted_classes(["b", "10", "2"])
        (('1', '2', '10'), ('10', '2', 'b'))
    """
    names = set(labels)
    if all(is_number(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def label_warnings(labels: Sequence[str], *, noun: str = "class") -> list[str]:
    """Return sentences on labels that a careful colleague would look at again.

    Args:
        labels: (N,) class of each sample.
        noun: What they are: ``class`` or ``label``.

    Returns:
        On classes that differ only in case, blanks, quotes, invisible or composed characters, or
        the way a number is written, on classes
        that stand for a missing value, and on classes with too few samples for a split.

    Example:
        >>> for warning in label_warnings(["cat", "Cat", "dog", "nan"] * 3 + ["emu"]):
        ...     print(warning)
        the classes 'Cat', 'cat' differ only in spelling: give them one name
        the class 'nan' looks like a missing value: remove its rows, or rename it
        1 class has fewer than 3 samples, too few for train, val and test: 'emu' 1
    """
    counts = Counter(labels)
    nouns = {"class": "classes"}.get(noun, f"{noun}s")
    warnings = []
    spellings = defaultdict(list)
    for name in counts:
        spellings[_spelling(name)].append(name)
    for names in spellings.values():
        if len(names) > 1:
            listed = ", ".join(map(_shown(names), sorted(names)))
            warnings.append(f"the {nouns} {listed} differ only in spelling: give them one name")
    warnings += [
        f"the {noun} {name!r} looks like a missing value: remove its rows, or rename it"
        for name in counts
        if name.strip().lower() in _MISSING
    ]
    if few := [name for name, count in counts.items() if count < MIN_PER_CLASS]:
        verb = f"{noun} has" if len(few) == 1 else f"{nouns} have"
        listed = ", ".join(f"{name!r} {counts[name]}" for name in few[:_MAX_NAMED])
        more = f", and {len(few) - _MAX_NAMED} more" if len(few) > _MAX_NAMED else ""
        warnings.append(
            f"{len(few)} {verb} fewer than {MIN_PER_CLASS} samples, too few for train, val and "
            f"test: {listed}{more}"
        )
    return warnings


def _spelling(name: str) -> str:
    """Return what a name has in common with others that look the same or differ in case only."""
    if is_number(name):
        return f"{float(name):g}"
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf").strip(
        "'\"`\u2018\u2019\u201c\u201d"
    )


def _shown(names: Sequence[str]) -> Callable[[str], str]:
    """Return the function that writes names so that they differ to the eye."""
    composed = {unicodedata.normalize("NFKC", name) for name in names}
    return repr if len(composed) == len(names) else ascii


def form_warnings(labels: Sequence[str]) -> list[str]:
    """Return a sentence on classes that look like quantities or like lists of labels.

    Example:
        >>> form_warnings([str(number % 30) for number in range(300)])
        ['the 30 classes are numbers: if they are quantities, task=regression predicts the number']
        >>> form_warnings(["Drama|War", "War"])
        ["the labels look like lists, such as 'Drama|War': ... task=multilabel"]
    """
    names = set(labels)
    if example := _list_like(sorted(names)):
        return [
            f"the labels look like lists, such as {example!r}: if a sample can have several labels,"
            " task=multilabel"
        ]
    if not all(is_number(name) or written_number(name) for name in names):
        return []
    if len(names) <= MAX_WHOLE and not any(map(_is_real, names)):
        return []
    odd = next(filter(written_number, sorted(names)), "")
    shown, remedy = (f", such as {odd!r}", f"{_DOT}, and ") if odd else ("", "")
    return [
        f"the {len(names)} classes are numbers{shown}: if they are quantities, {remedy}"
        "task=regression predicts the number"
    ]


def check_labels(labels: Sequence[str], where: str, *, is_told: bool = False) -> None:
    """Check that there are two classes, and that labels are neither numbers nor lists of labels.

    Args:
        labels: (N,) class of each sample.
        where: The file, for messages.
        is_told: Whether the user says that they are classes.

    Raises:
        DataError: If they are not.

    Example:
        >>> check_labels(["0.13", "2.7", "1.51", "0.2"], "my.csv")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: my.csv: the labels are real numbers, 4 different ones ...
        >>> check_labels(["Drama|War", "War", "Drama"], "my.csv")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: my.csv: the labels look like lists, such as 'Drama|War', ...
    """
    names = sorted_class_names(labels, where)
    if is_told:
        return
    if example := _list_like(names):
        raise DataError(
            f"{where}: the labels look like lists, such as {example!r}, and each different list "
            "would be a class. If a sample can have several labels: task=multilabel; if these are "
            "classes: task=classification"
        )
    if not all(is_number(name) or written_number(name) for name in names):
        return
    is_real = any(map(_is_real, names))
    is_mostly_different = 2 * len(names) > len(labels)
    if (is_real and (is_mostly_different or len(names) > MAX_REAL)) or (
        is_mostly_different and len(names) > MAX_WHOLE
    ):
        odd = next(filter(written_number, names), "")
        shown, remedy = (f", such as {odd!r}", f"{_DOT}, and ") if odd else ("", "")
        raise DataError(
            f"{where}: the labels are {'real' if is_real else 'whole'} numbers{shown}, "
            f"{len(names)} different ones in {len(labels)} rows, and each would be a class. To "
            f"predict the number: {remedy}task=regression; if these are classes: "
            "task=classification"
        )


def _is_real(name: str) -> bool:
    """Return whether a number is not whole, or written with a comma or a sign."""
    return written_number(name) or not float(name).is_integer()


def _list_like(names: Sequence[str]) -> str:
    """Return a label that looks like a list, some of whose items are in another label, too."""
    if lists := [name for name in names if name.startswith("[") and name.endswith("]")]:
        return lists[0]
    for sign in (";", "|"):
        lists = [name for name in names if sign in name]
        items = Counter(
            item for name in names for item in {text.strip() for text in name.split(sign)}
        )
        for name in lists:
            if any(items[text.strip()] > 1 for text in name.split(sign)):
                return name
    return ""


def check_columns(columns: Sequence[Column], where: str) -> None:
    """Check that it is clear what every column holds.

    Raises:
        DataError: If it is not; the message has the options that decide.

    Example:
        >>> check_columns([Column("scan", "unclear", "holds paths that end in .xyz")], "my.csv")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: my.csv: the column 'scan' holds paths that end in .xyz
    """
    reasons = [f"the column {c.name!r} {c.reason}" for c in columns if c.kind == UNCLEAR]
    if len(reasons) == 1:
        raise DataError(f"{where}: {reasons[0]}")
    if reasons:
        listed = "\n".join(f"  {reason}" for reason in reasons)
        raise DataError(f"{where}: it is not clear what these columns hold:\n{listed}")
