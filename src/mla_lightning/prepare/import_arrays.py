"""Import of arrays into a store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mla_lightning.data.contents import sha256_of
from mla_lightning.data.default_encoders import DEFAULTS
from mla_lightning.data.splits import SPLITS, NamedSplit
from mla_lightning.data.store import write_store
from mla_lightning.data.store_problems import UNLABELLED
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.array_files import ArrayFile, open_arrays
from mla_lightning.prepare.array_rows import ImportedArray, array_kind, check_kinds
from mla_lightning.prepare.engine import check_on_bad
from mla_lightning.prepare.import_checks import (
    NONE,
    Labels,
    check_names,
    check_splits,
    drawn_split,
    sorted_class_names,
    with_validation_split,
    without_split,
)
from mla_lightning.prepare.import_splits import VAL_NAMES, fold_splits, group_split, split_name
from mla_lightning.prepare.store_config import write_config
from mla_lightning.prepare.target_folder import is_prepared, json_digest

#: Arrays that describe the samples, beside those of the modalities.
SAMPLE_ARRAYS = ("id", "label", "split", "class_names", "group")
#: Texts that stand for a missing label in files written by Python.
_NO_LABEL = ("", "nan", "NaN", "None", "<NA>")
_MAX_LISTED = 20


def import_arrays(
    path: Path,
    target: Path,
    *,
    name: str | None = None,
    labels: Labels = "column",
    folds: int | None = None,
    on_bad: str = "stop",
    kinds: Mapping[str, str] | None = None,
) -> Path:
    """Make a store from arrays: ``label``, one per modality, and optional ones.

    The optional arrays are ``id``, ``split``, ``class_names`` and ``group``, and for a modality
    ``NAME.present`` (N,) bool and, of sequences, ``NAME.lengths`` (N,). A row of NaN alone means
    that the modality is missing for the sample. Arrays are read and written in blocks of rows, so
    they can be larger than memory.

    Args:
        path: An ``.npz`` file, or a folder of ``.npy`` files.
        target: Folder of the store; one of the same files and options is kept.
        name: Name of the data set; the target's by default.
        labels: ``none`` for samples whose class is to be predicted; then there is no array
            ``label`` and no ``split``.
        folds: Number of folds of a cross-validation, whose splits are named ``fold0``, ...
        on_bad: ``stop`` if a sample has wrong values, or ``skip`` such samples.
        kinds: Array -> ``sequence`` or ``spectrogram``, for float arrays (N, T, D).

    Returns:
        The target.

    Raises:
        ConfigError: If an option does not fit the arrays.
        DataError: If there is no ``label`` or modality, lengths differ, a split is unknown, or for
            the reasons of :func:`~mla_lightning.data.store.finish_store`.
    """
    check_on_bad(on_bad)
    files = open_arrays(path)
    samples = _sample_arrays(files, str(path), labels, folds)
    options = {"labels": labels, "folds": folds, "on_bad": on_bad, "kinds": dict(kinds or {})}
    identity = {"files": _file_hashes(path), "name": name or target.name, **options}
    if is_prepared(target, identity):
        print(f"{target} was prepared before from the same files with the same options.")
        return target
    if "split" in samples:
        samples["split"] = _codes(samples["split"], path)
    modalities = _modalities(files, str(path), dict(kinds or {}))
    num = _common_length(samples, modalities, str(path))
    for modality in modalities.values():
        modality.check()
    problems = _problems(samples.get("label"), modalities, num)
    keep = np.ones(num, dtype=bool)
    keep[list(problems)] = False
    if problems and on_bad == "stop":
        raise DataError(_first_message(path, modalities, problems))
    if not keep.any():
        raise DataError(f"{path}: no sample is left: {_first_message(path, modalities, problems)}")
    width = len(str(num))
    ids = _texts(samples.get("id", np.array([f"{n:0{width}d}" for n in range(num)])), "id", path)
    samples = {k: v if k == "class_names" else v[keep] for k, v in samples.items()}
    names, numbers = _numbered(samples, str(path), np.flatnonzero(keep))
    groups = _texts(samples["group"], "group", path) if "group" in samples else None
    present = {m: ~array.is_missing[keep] for m, array in modalities.items()}
    write_store(
        target,
        name=name or target.name,
        class_names=names,
        ids=[text for text, is_kept in zip(ids, keep, strict=True) if is_kept],
        label=numbers,
        arrays={m: array.rows(keep) for m, array in modalities.items()},
        kinds={m: array.store_kind for m, array in modalities.items()},
        splits=_named_splits(samples, groups, folds, path) or {NONE: without_split(len(numbers))},
        present={m: values for m, values in present.items() if not values.all()},
        attributes={} if groups is None else {"group": groups},
        failures=[
            {"id": ids[row], "modality": modality, "file": path.name, "reason": reason}
            for row, (modality, reason) in problems.items()
        ],
        scale="standard",
        options={"identity": json_digest(identity)},
        defaults=DEFAULTS,
        complete=lambda folder: write_config(folder, target) if names else None,
    )
    for array in modalities.values():
        for line in array.summary(keep):
            print(line)
    _print_left_out(ids, problems)
    return target


# ---------------------------------------------------------------------- the arrays of a file


def _file_hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or of each array of a folder, by name."""
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    return {file.name: sha256_of(file) for file in files}


def _sample_arrays(
    files: dict[str, ArrayFile], where: str, labels: Labels, folds: int | None
) -> dict[str, np.ndarray]:
    """Read the arrays that describe the samples, and take them out of the files."""
    if labels == "none":
        odd = [name for name in ("label", "split", "class_names") if name in files]
        if odd:
            raise DataError(f"{where} has {', '.join(odd)}; leave out labels=none to use it")
        if folds is not None:
            raise ConfigError("folds= divides labelled samples; leave it out with labels=none")
    elif "label" not in files:
        raise DataError(
            f"{where} has no array 'label'.{near('label', files)} For samples whose class is to "
            "be predicted: labels=none"
        )
    if folds is not None and "split" in files:
        raise ConfigError(f"{where} has an array 'split', and folds= draws others; give one")
    samples = {name: files.pop(name) for name in SAMPLE_ARRAYS if name in files}
    for name, file in samples.items():
        if name != "label" and len(file.shape) != 1:
            raise DataError(f"{where}: {name!r} has the shape {file.shape}, not (N,)")
    return {name: file.read() for name, file in samples.items()}


def _modalities(
    files: dict[str, ArrayFile], where: str, kinds: dict[str, str]
) -> dict[str, ImportedArray]:
    """Take out what belongs to a modality: its values, where it is present, and its lengths."""
    attached: dict[str, ArrayFile] = {}
    for name in [*files]:
        stem, _, suffix = name.rpartition(".")
        if suffix in ("present", "lengths") and stem in files:
            attached[name] = files.pop(name)
    check_names([*files], where, known=SAMPLE_ARRAYS)
    if not files:
        raise DataError(f"{where} has no array of a modality beside label, id and split")
    check_kinds(kinds, [*files])
    modalities = {}
    for name, file in files.items():
        kind = array_kind(file, kinds, has_lengths=f"{name}.lengths" in attached)
        present, lengths = attached.get(f"{name}.present"), attached.get(f"{name}.lengths")
        if present is not None and (present.dtype != bool or len(present.shape) != 1):
            raise DataError(
                f"{where}: {present.name!r} is {present.dtype} of shape {present.shape}. It must "
                "be (N,) bool, true where the modality is present"
            )
        if lengths is not None and (lengths.dtype.kind not in "iu" or len(lengths.shape) != 1):
            raise DataError(
                f"{where}: {lengths.name!r} is {lengths.dtype} of shape {lengths.shape}. It must "
                "be (N,) whole numbers, the steps of each sequence"
            )
        modalities[name] = ImportedArray(
            file,
            kind,
            None if present is None else present.read(),
            None if lengths is None else lengths.read().astype(np.int64),
        )
    return modalities


def _common_length(
    samples: Mapping[str, np.ndarray], modalities: Mapping[str, ImportedArray], where: str
) -> int:
    """Return the number of samples, which all arrays must have."""
    sizes = {name: len(v) if v.ndim else 0 for name, v in samples.items() if name != "class_names"}
    sizes |= {name: modality.array.shape[0] for name, modality in modalities.items()}
    for name, modality in modalities.items():
        for key, values in (("present", modality.present), ("lengths", modality.lengths)):
            if values is not None:
                sizes[f"{name}.{key}"] = len(values)
    num = next(iter(sizes.values()))
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(f"{where}: the lengths differ: {listed}")
    if not num:
        raise DataError(f"{where} has no rows: the arrays are empty")
    for name, modality in modalities.items():
        if (lengths := modality.lengths) is not None:
            longest = modality.array.shape[1]
            if wrong := np.flatnonzero((lengths < 0) | (lengths > longest)).tolist():
                raise DataError(
                    f"{where}: '{name}.lengths', row {wrong[0]}: {lengths[wrong[0]]} steps, but "
                    f"{name!r} has {longest}"
                )
    return num


# ---------------------------------------------------------------------- samples with problems


def _problems(
    label: np.ndarray | None, modalities: Mapping[str, ImportedArray], num: int
) -> dict[int, tuple[str, str]]:
    """Return row -> array and reason, of the samples that cannot be imported."""
    problems: dict[int, tuple[str, str]] = {}
    if label is not None and label.ndim == 1 and label.dtype.kind == "U":
        for row in np.flatnonzero(np.isin(np.char.strip(label), _NO_LABEL)).tolist():
            problems[row] = ("label", f"the label {str(label[row])!r} is no class")
    for name, modality in modalities.items():
        for row, reason in modality.problems.items():
            problems.setdefault(row, (name, reason))
    is_empty = np.logical_and.reduce([array.is_missing for array in modalities.values()])
    for row in np.flatnonzero(is_empty).tolist():
        problems.setdefault(row, (", ".join(modalities), "no modality is present"))
    return dict(sorted(problems.items()))


def _first_message(
    path: Path,
    modalities: Mapping[str, ImportedArray],
    problems: Mapping[int, tuple[str, str]],
) -> str:
    row, (name, reason) = next(iter(problems.items()))
    if name in modalities and row in modalities[name].problems:
        return modalities[name].message()
    num = sum(entry[0] == name for entry in problems.values())
    return (
        f"{path}: {name!r}, row {row}: {reason} (in {num} rows). Correct it, or leave these "
        "samples out with on_bad=skip"
    )


def _print_left_out(ids: Sequence[str], problems: Mapping[int, tuple[str, str]]) -> None:
    if not problems:
        return
    print(f"{len(problems)} of {len(ids)} samples are left out (all are in the manifest):")
    for row, (name, reason) in [*problems.items()][:_MAX_LISTED]:
        print(f"  row {row}, id {ids[row]}, {name}: {reason}")


# ---------------------------------------------------------------------- labels and splits


def _texts(values: np.ndarray, name: str, path: Path) -> list[str]:
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: {name!r} holds bytes that are no UTF-8: {error}") from error
    return [str(value) for value in values.tolist()]


def _numbered(
    samples: Mapping[str, np.ndarray], where: str, rows: np.ndarray
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes and the samples' numbers of them; ``rows`` are theirs in the file."""
    if (label := samples.get("label")) is None:
        return (), [UNLABELLED] * len(rows)
    class_names = samples.get("class_names")
    if label.ndim != 1 or label.dtype.kind not in ("iu" if class_names is not None else "iuU"):
        raise DataError(
            f"{where}: 'label' is {label.dtype} of shape {label.shape}. It must be (N,) whole "
            f"numbers{'' if class_names is not None else ' or names'}, one per sample."
            + _label_remedy(label)
        )
    if class_names is not None:
        num_names = len(class_names)
        if len(label) and not 0 <= label.min() <= label.max() < num_names:
            wrong = int(np.flatnonzero((label < 0) | (label >= num_names))[0])
            raise DataError(
                f"{where}: the label {label[wrong]} of row {rows[wrong]} has no name: "
                f"'class_names' has {num_names} names, for the labels 0 to {num_names - 1}"
            )
        if len(set(class_names.tolist())) < num_names:
            raise DataError(f"{where}: 'class_names' has a name twice: {class_names.tolist()}")
        return tuple(map(str, class_names.tolist())), [int(value) for value in label.tolist()]
    labels = [str(value) for value in label.tolist()]
    is_numeric = all(re.fullmatch(r"-?[0-9]+", text) for text in set(labels))
    names = sorted_class_names(labels, where, is_numeric=is_numeric)
    number_of = {name: number for number, name in enumerate(names)}
    return names, [number_of[text] for text in labels]


def _label_remedy(label: np.ndarray) -> str:
    if label.dtype.kind == "S":
        return " Convert bytes to texts: label.astype(str)"
    if label.dtype.kind == "f" and label.ndim == 1:
        if np.isfinite(label).all() and (label == np.round(label)).all():
            return " Convert whole numbers: label.astype(int)"
        return " Divide real values into classes: np.digitize(label, bounds)"
    if label.ndim == 2 and label.shape[1] > 1:
        return " Convert rows with one 1 to numbers: label.argmax(axis=1)"
    return " Convert one column to (N,): label[:, 0]" if label.ndim == 2 else ""


def _named_splits(
    samples: Mapping[str, np.ndarray],
    groups: list[str] | None,
    folds: int | None,
    path: Path,
) -> dict[str, NamedSplit]:
    if "label" not in samples:
        return {}
    texts = _texts(samples["label"], "label", path)
    if folds is not None:
        return fold_splits(texts, groups, folds)
    if "split" not in samples:
        return {"own": drawn_split(texts) if groups is None else group_split(texts, groups)}
    codes = samples["split"]
    check_splits([name for code, name in enumerate(SPLITS) if (codes == code).any()], str(path))
    description = f"the array split of {path.name}"
    return {"own": with_validation_split(codes, texts, description, groups, "group")}


def _codes(split: np.ndarray, path: Path) -> np.ndarray:
    if split.dtype.kind in "iu":
        unknown = np.flatnonzero(~np.isin(split, (-1, 0, 1, 2)))
        if len(unknown):
            row = unknown[0]
            raise DataError(
                f"{path}, row {row}: the split {split[row]} is unknown. Known: 0 train, 1 val, "
                "2 test, -1 unused."
            )
        return split.astype(np.int8)
    texts = _texts(split, "split", path)
    names = [split_name(text) for text in texts]
    for row, name in enumerate(names):
        if name is None:
            raise DataError(
                f"{path}, row {row}: the split {texts[row]!r} is unknown."
                f"{near(texts[row], (*SPLITS, *VAL_NAMES))} Known: {', '.join(SPLITS)} "
                f"(or {', '.join(VAL_NAMES)} for val)."
            )
    return np.array([SPLITS.index(name) for name in names if name], dtype=np.int8)
