"""Import of arrays into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mla_lightning.data.contents import sha256_of
from mla_lightning.data.default_encoders import DEFAULTS
from mla_lightning.data.splits import SPLITS, NamedSplit, Strata
from mla_lightning.data.store import write_store
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.array_files import ArrayFile, open_arrays
from mla_lightning.prepare.array_labels import ArrayLabels, label_problems, read_labels, texts_of
from mla_lightning.prepare.array_plan import array_plan, label_texts
from mla_lightning.prepare.array_rows import ImportedArray, array_kind, check_kinds, kind_reason
from mla_lightning.prepare.engine import check_on_bad
from mla_lightning.prepare.import_checks import (
    NONE,
    OWN_SPLIT,
    Labels,
    Task,
    check_names,
    check_splits,
    drawn_split,
    label_hint,
    with_validation_split,
    without_split,
)
from mla_lightning.prepare.import_splits import VAL_NAMES, fold_splits, group_split, split_name
from mla_lightning.prepare.like_store import LikeStore, like_store
from mla_lightning.prepare.store_config import write_config
from mla_lightning.prepare.target_folder import is_prepared, json_digest
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Arrays that describe the samples, beside those of the modalities.
SAMPLE_ARRAYS = ("id", "label", "split", "class_names", "group")
_MAX_LISTED = 20


def import_arrays(
    path: Path,
    target: Path,
    *,
    name: str | None = None,
    labels: Labels = "column",
    split: Literal["draw"] | None = None,
    folds: int | None = None,
    on_bad: str = "stop",
    kinds: Mapping[str, str] | None = None,
    task: Task | None = None,
    like: Path | None = None,
    plan: bool = False,
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
        split: ``draw`` for a new one although there is an array ``split``.
        folds: Number of folds of a cross-validation, whose splits are named ``fold0``, ...
        on_bad: ``stop`` if a sample has wrong values, or ``skip`` such samples.
        kinds: Array -> ``sequence`` or ``spectrogram``, for float arrays (N, T, D).
        task: ``regression`` for numbers as ``label``, ``multilabel`` for ``label`` (N, L) of 0 and
            1 with the names of labels as ``class_names``; None for classes.
        like: A store whose kinds and classes are taken.
        plan: Whether to print the plan only, and write nothing.

    Returns:
        The target.

    Raises:
        ConfigError: If an option does not fit the arrays.
        DataError: If there is no ``label`` or modality, lengths differ, a split is unknown, or for
            the reasons of :func:`~mla_lightning.data.store.finish_store`.
    """
    check_on_bad(on_bad)
    files = open_arrays(path)
    if split is not None and files.pop(OWN_SPLIT, None) is None:
        raise ConfigError(f"split=draw has no effect: {path} has no array {OWN_SPLIT!r}")
    samples = _sample_arrays(files, str(path), labels, folds, task)
    options = {"labels": labels, "folds": folds, "on_bad": on_bad, "kinds": dict(kinds or {})}
    options |= {"task": task, "like": None if like is None else str(like.absolute())}
    options |= {} if split is None else {"split": split}
    identity = {"files": _file_hashes(path), "name": name or target.name, **options}
    if not plan and is_prepared(target, identity):
        print(f"{target} was prepared before from the same files with the same options.")
        return target
    if "split" in samples:
        samples["split"] = _codes(samples["split"], path)
    imitated = None if like is None else like_store(like)
    if imitated is not None:
        imitated.check_options([f"arrays.{name}" for name in kinds or {}])
        imitated.check_names([*files], str(path), what="array")
        kinds = imitated.array_kinds({name: file.shape for name, file in files.items()})
    modalities = _modalities(files, str(path), dict(kinds or {}))
    num = _common_length(samples, modalities, str(path))
    for modality in modalities.values():
        modality.check()
    problems = _problems(label_problems(samples.get("label"), task), modalities, num)
    unlabelled = [row for row, (name, _) in problems.items() if name == "label"]
    has_classes = task in (None, CLASSIFICATION)
    texts = label_texts(samples, unlabelled) if has_classes else None
    print("\n".join(array_plan(str(path), samples, modalities, texts, len(problems))))
    for modality in modalities.values():
        modality.check_kind()
    keep = np.ones(num, dtype=bool)
    keep[list(problems)] = False
    if problems and on_bad == "stop":
        raise DataError(_first_message(path, modalities, problems))
    if not keep.any():
        raise DataError(f"{path}: no sample is left: {_first_message(path, modalities, problems)}")
    width = len(str(num))
    ids = texts_of(samples.get("id", np.array([f"{n:0{width}d}" for n in range(num)])), "id", path)
    samples = {k: v if k == "class_names" else v[keep] for k, v in samples.items()}
    label = read_labels(samples, task, path, np.flatnonzero(keep))
    for line in label.lines:
        print(line)
    if imitated is not None:
        imitated.check_task(task or CLASSIFICATION, is_labelled=label.strata is not None)
        imitated.check_inputs({m: a.description() for m, a in modalities.items()}, str(path))
        label = _named_like(label, imitated, str(path), has_classes=has_classes)
    if plan:
        return target
    groups = texts_of(samples["group"], "group", path) if "group" in samples else None
    present = {m: ~array.is_missing[keep] for m, array in modalities.items()}
    write_store(
        target,
        name=name or target.name,
        class_names=label.names,
        ids=[text for text, is_kept in zip(ids, keep, strict=True) if is_kept],
        label=label.values,
        arrays={m: array.rows(keep) for m, array in modalities.items()},
        kinds={m: array.store_kind for m, array in modalities.items()},
        splits=_named_splits(
            samples.get("split"), label.strata, groups, folds, path, has_own=split is not None
        )
        or {NONE: without_split(int(keep.sum()))},
        present={m: values for m, values in present.items() if not values.all()},
        attributes={} if groups is None else {"group": groups},
        failures=[
            {"id": ids[row], "modality": modality, "file": path.name, "reason": reason}
            for row, (modality, reason) in problems.items()
        ],
        scale="standard",
        task=task or CLASSIFICATION,
        options={"identity": json_digest(identity)},
        defaults=DEFAULTS,
        complete=lambda folder: write_config(folder, target) if label.strata else None,
    )
    _print_left_out(ids, problems)
    return target


# ---------------------------------------------------------------------- the arrays of a file


def _file_hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or of each array of a folder, by name."""
    entries = path.iterdir() if path.is_dir() else [path]
    files = sorted(file for file in entries if file == path or file.suffix.lower() == ".npy")
    return {file.name: sha256_of(file) for file in files}


def _sample_arrays(
    files: dict[str, ArrayFile], where: str, labels: Labels, folds: int | None, task: str | None
) -> dict[str, np.ndarray]:
    """Read the arrays that describe the samples, and take them out of the files."""
    if labels == "none":
        odd = [name for name in ("label", "split", "class_names") if name in files]
        if odd:
            raise DataError(f"{where} has {', '.join(odd)}; leave out labels=none to use it")
        if folds is not None:
            raise ConfigError("folds= divides labelled samples; leave it out with labels=none")
        if task is not None:
            raise ConfigError("task= says what labels are; leave it out with labels=none")
    elif "label" not in files:
        raise DataError(
            f"{where} has no array 'label'.{label_hint([*files])} For samples whose class is to "
            "be predicted: labels=none"
        )
    if folds is not None and "split" in files:
        raise ConfigError(
            f"{where} has an array 'split', and folds= draws others. Leave out folds, or write "
            "split=draw"
        )
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
            kind_reason(file, kind, kinds),
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
    labels: Mapping[int, str], modalities: Mapping[str, ImportedArray], num: int
) -> dict[int, tuple[str, str]]:
    """Return row -> array and reason, of the samples that cannot be imported."""
    problems = {row: ("label", reason) for row, reason in labels.items()}
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


def _named_like(
    label: ArrayLabels, imitated: LikeStore, where: str, *, has_classes: bool
) -> ArrayLabels:
    """Return labels as numbers of the classes of another store."""
    if has_classes:
        assert not isinstance(label.values, np.ndarray)
        names, numbers = imitated.numbered(label.names, label.values, where)
        return replace(label, names=names, values=numbers)
    if label.names and label.names != imitated.class_names:
        raise DataError(
            f"{where}: the labels are {', '.join(label.names)}, those of {imitated.folder} "
            f"{', '.join(imitated.class_names)}: give class_names and columns in that order"
        )
    return label


def _named_splits(
    codes: np.ndarray | None,
    strata: Strata | None,
    groups: list[str] | None,
    folds: int | None,
    path: Path,
    *,
    has_own: bool,
) -> dict[str, NamedSplit]:
    if strata is None:
        return {}
    if folds is not None:
        return fold_splits(strata, groups, folds)
    if codes is None:
        if groups is not None:
            return {"own": group_split(strata, groups)}
        return {"own": drawn_split(strata, has_own=has_own)}
    check_splits([name for code, name in enumerate(SPLITS) if (codes == code).any()], str(path))
    description = f"the array split of {path.name}"
    return {"own": with_validation_split(codes, strata, description, groups, "group")}


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
    texts = texts_of(split, "split", path)
    names = [split_name(text) for text in texts]
    for row, name in enumerate(names):
        if name is None:
            raise DataError(
                f"{path}, row {row}: the split {texts[row]!r} is unknown."
                f"{near(texts[row], (*SPLITS, *VAL_NAMES))} Known: {', '.join(SPLITS)} "
                f"(or {', '.join(VAL_NAMES)} for val)."
            )
    return np.array([SPLITS.index(name) for name in names if name], dtype=np.int8)
