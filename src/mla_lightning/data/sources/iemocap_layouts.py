"""Readers of IEMOCAP's features in the file layouts of GCNet and MMIN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.mapped import open_array
from mla_lightning.data.sources.texts import list_folder
from mla_lightning.errors import DataError, near
from mla_lightning.media.hdf5 import open_hdf5
from mla_lightning.media.pickles import read_pickle
from mla_lightning.paths import check_regular_file, name_problem

#: GCNet's table of utterances, and its classes in the order of their numbers.
GCNET_TABLE = "IEMOCAP_features_raw_4way.pkl"
GCNET_CLASSES = ("Happy", "Sad", "Neutral", "Angry")
MMIN_SPLITS = ("trn", "val", "tst")
MMIN_SCALE = Path("A", "comparE_mean_std.h5")


@dataclass
class Utterance:
    """One utterance.

    Attributes:
        label: Its emotion.
        split: ``trn``, ``val`` or ``tst`` in the fold.
        steps: Modality -> (T, D) float32; absent modalities are left out.
    """

    label: str
    split: str = "trn"
    steps: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """Features of all utterances in a folder.

    Attributes:
        utterances: Name -> utterance.
        label_files: Files that the labels come from, relative to the folder.
    """

    utterances: Mapping[str, Utterance]
    label_files: Sequence[Path]


def read_gcnet(
    raw: Path, paths: Mapping[str, str], *, fold: int | None, labels: Sequence[str]
) -> Features:
    """Read a pickled table of utterances and, per modality, a folder of ``<utterance>.npy``.

    Instead of a file there may be a folder with the name of the utterance and a vector per frame,
    ``*_F.npy`` of the woman and ``*_M.npy`` of the man; those of the speaker are used, as in GCNet.
    Without a frame of the speaker the modality is absent.

    Args:
        raw: The folder.
        paths: Modality -> folder below raw.
        fold: Ignored; the layout has no folds.
        labels: Ignored; the layout has its own order of classes.

    Returns:
        The features.

    Raises:
        DataError: If the table or a file is missing or broken.
    """
    del fold, labels
    table = raw / GCNET_TABLE
    _require(table, raw)
    content = read_pickle(table, encoding="latin1")
    if not isinstance(content, list | tuple) or len(content) != 6:
        raise DataError(
            f"{table} does not hold six tables (ids, labels, speakers, sentences, train, test)"
        )
    ids, numbers, speakers = content[:3]
    utterances: dict[str, Utterance] = {}
    speaker_of: dict[str, str] = {}
    for dialog, names in _mapping(ids, table).items():
        classes, letters = numbers.get(dialog, ()), speakers.get(dialog, ())
        if not len(names) == len(classes) == len(letters):
            raise DataError(
                f"{table}: {dialog} has {len(names)} ids, {len(classes)} labels, "
                f"{len(letters)} speakers"
            )
        for name, number, speaker in zip(names, classes, letters, strict=True):
            if not 0 <= int(number) < len(GCNET_CLASSES):
                raise DataError(f"{table}: {name} has the label {number}; 0 to 3 are expected")
            if problem := name_problem(str(name)):
                raise DataError(f"{table}: the id {name!r} {problem}")
            utterances[str(name)] = Utterance(GCNET_CLASSES[int(number)])
            speaker_of[str(name)] = str(speaker)
    for modality, path in paths.items():
        folder = raw / path
        _require(folder, raw, f"{modality}=")
        for name, utterance in utterances.items():
            steps = _npy_steps(folder, name, speaker_of[name])
            if steps is not None:
                utterance.steps[modality] = steps
        _check_widths(utterances, modality, folder)
    return Features(utterances, [Path(GCNET_TABLE)])


def read_mmin(
    raw: Path, paths: Mapping[str, str], *, fold: int | None, labels: Sequence[str]
) -> Features:
    """Read ``target/<fold>/{trn,val,tst}_{label,int2name}.npy`` and an .h5 file per modality.

    An .h5 file holds an array (T, D) under the name of each utterance. Audio is standardised with
    ``A/comparE_mean_std.h5`` of the fold, or without a fold utterance by utterance.

    Args:
        raw: The folder.
        paths: Modality -> .h5 file below raw.
        fold: 1 to 10; None to read the utterances of the first fold without its splits.
        labels: Emotion of each column of the label files.

    Returns:
        The features.

    Raises:
        DataError: If a file is missing or broken, or an utterance has no features.
    """
    number = str(fold or 1)
    utterances: dict[str, Utterance] = {}
    label_files: list[Path] = []
    for split in MMIN_SPLITS:
        files = [Path("target", number, f"{split}_{kind}.npy") for kind in ("int2name", "label")]
        for file in files:
            _require(raw / file, raw, "fold=")
        names, one_hot = (_npy(raw / file) for file in files)
        if one_hot.ndim != 2 or one_hot.shape[1] != len(labels) or len(names) != len(one_hot):
            raise DataError(
                f"{raw / files[1]}: {one_hot.shape} instead of ({len(names)}, {len(labels)})"
            )
        for name, row in zip(names.reshape(len(names), -1)[:, 0], one_hot, strict=True):
            id_ = name.decode() if isinstance(name, bytes) else str(name)
            if id_ in utterances:
                raise DataError(f"{raw / files[0]}: {id_} occurs twice")
            utterances[id_] = Utterance(labels[int(row.argmax())], split)
        label_files += files
    scale = _scale(raw, number) if fold is not None else None
    for modality, relative in paths.items():
        path = raw / relative
        _require(path, raw, f"{modality}=")
        with open_hdf5(path) as features:
            for id_, utterance in utterances.items():
                if id_ not in features:
                    raise DataError(f"{path} has no utterance {id_}.{near(id_, features.names)}")
                steps = features.array(id_).astype(np.float32)
                if not steps.ndim or not steps.size:
                    raise DataError(f"{path}: {id_} holds no values")
                if modality == "audio":
                    steps = _standardised(steps, scale)
                utterance.steps[modality] = steps.reshape(-1, steps.shape[-1])
        _check_widths(utterances, modality, path)
    return Features(utterances, label_files)


def _standardised(steps: np.ndarray, scale: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    # A single step has no standard deviation; MMIN's has the divisor N - 1.
    if scale is None:
        deviation = steps.std(axis=0, ddof=1) if len(steps) > 1 else np.ones(steps.shape[1])
        scale = steps.mean(axis=0), deviation
    mean, deviation = scale
    return ((steps - mean) / np.where(deviation == 0, 1.0, deviation)).astype(np.float32)


def _scale(raw: Path, fold: str) -> tuple[np.ndarray, np.ndarray]:
    path = raw / MMIN_SCALE
    _require(path, raw)
    with open_hdf5(path) as file:
        if fold not in file:
            raise DataError(f"{path} has no fold {fold}; it has {', '.join(file.names)}")
        return file.array(fold, "mean"), file.array(fold, "std")


def _npy_steps(folder: Path, name: str, speaker: str) -> np.ndarray | None:
    path = folder / f"{name}.npy"
    if path.is_file():
        values = _npy(path).astype(np.float32)
        return values.reshape(-1, values.shape[-1])
    frames = folder / name
    if not frames.is_dir():
        raise DataError(f"Neither {path} nor the folder {frames} exists")
    files = [file for file in sorted(frames.glob("*.npy")) if f"_{speaker}" in f"_{file.stem}"]
    if not files:
        return None
    return np.stack([_npy(file).astype(np.float32).reshape(-1) for file in files])


def _npy(path: Path) -> np.ndarray:
    check_regular_file(path)
    values = np.array(open_array(path))
    if not values.size or not values.ndim:
        raise DataError(f"{path} holds no values")
    return values


def _check_widths(utterances: Mapping[str, Utterance], modality: str, where: Path) -> None:
    widths: dict[int, str] = {}  # width -> first utterance
    for name, utterance in utterances.items():
        steps = utterance.steps.get(modality)
        if steps is None:
            continue
        widths.setdefault(steps.shape[1], name)
        if not np.isfinite(steps).all():
            raise DataError(f"{where}: {modality} of {name} has values that are not finite")
    if len(widths) != 1:
        listed = ", ".join(f"{width} of {name}" for width, name in sorted(widths.items()))
        raise DataError(f"{where}: vectors must have one width, found {listed or 'none'}")


def _mapping(value: Any, table: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{table}: the first table is no mapping of dialogues to ids")
    return value


def _require(path: Path, raw: Path, option: str = "") -> None:
    if not path.exists():
        hint = f" {option} names another one." if option else ""
        raise DataError(f"{path} does not exist; {raw} holds {list_folder(raw)}.{hint}")
