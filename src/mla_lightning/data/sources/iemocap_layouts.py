"""How GCNet and MMIN lay out IEMOCAP's features on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.sources.texts import held
from mla_lightning.errors import DataError, near
from mla_lightning.media.pickles import read_pickle

#: GCNet's table of utterances, and its classes by number.
GCNET_TABLE = "IEMOCAP_features_raw_4way.pkl"
GCNET_CLASSES = ("Happy", "Sad", "Neutral", "Angry")
MMIN_PARTS = ("trn", "val", "tst")
MMIN_SCALE = Path("A", "comparE_mean_std.h5")


@dataclass
class Utterance:
    """One utterance.

    Attributes:
        label: Its emotion.
        part: ``trn``, ``val`` or ``tst`` of the fold that is read.
        steps: Modality -> (T, D) float32; a modality without a file is left out.
    """

    label: str
    part: str = "trn"
    steps: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
        utterances: Name -> utterance.
        label_files: Files that the labels come from, relative to the folder.
    """

    utterances: Mapping[str, Utterance]
    label_files: Sequence[Path]


def read_gcnet(
    raw: Path, places: Mapping[str, str], *, fold: int | None, labels: Sequence[str]
) -> Layout:
    """Read a pickled table of utterances and, by modality, a folder of ``<utterance>.npy``.

    A folder named as the utterance holds a vector per frame instead, ``*_F.npy`` of the woman and
    ``*_M.npy`` of the man; the speaker's are taken, as GCNet does. No frame: no such modality.

    Args:
        raw: The folder.
        places: Modality -> folder below raw.
        fold: None; the layout has no folds.
        labels: Names of the classes that are allowed.

    Returns:
        The utterances.

    Raises:
        DataError: If the table or a file is missing or broken.
    """
    del fold, labels
    table = raw / GCNET_TABLE
    _require(table, raw)
    content = read_pickle(table, encoding="latin1")
    if not isinstance(content, list | tuple) or len(content) != 6:
        raise DataError(
            f"{table} holds no six tables (ids, labels, speakers, sentences, train, test)"
        )
    ids, numbers, speakers = content[:3]
    found: dict[str, Utterance] = {}
    said_by: dict[str, str] = {}
    for dialog, names in _mapping(ids, table).items():
        classes, who = numbers.get(dialog, ()), speakers.get(dialog, ())
        if not len(names) == len(classes) == len(who):
            raise DataError(
                f"{table}: {dialog} has {len(names)} ids, {len(classes)} labels, "
                f"{len(who)} speakers"
            )
        for name, number, speaker in zip(names, classes, who, strict=True):
            if not 0 <= int(number) < len(GCNET_CLASSES):
                raise DataError(f"{table}: {name} has the label {number}; 0 to 3 are expected")
            found[str(name)] = Utterance(GCNET_CLASSES[int(number)])
            said_by[str(name)] = str(speaker)
    for modality, place in places.items():
        folder = raw / place
        _require(folder, raw, f"{modality}=")
        for name, utterance in found.items():
            steps = _npy_steps(folder, name, said_by[name])
            if steps is not None:
                utterance.steps[modality] = steps
        _check_widths(found, modality, folder)
    return Layout(found, [Path(GCNET_TABLE)])


def read_mmin(
    raw: Path, places: Mapping[str, str], *, fold: int | None, labels: Sequence[str]
) -> Layout:
    """Read ``target/<fold>/{trn,val,tst}_{label,int2name}.npy`` and an .h5 file per modality.

    An .h5 file holds a data set (T, D) by name of an utterance. Audio is standardised: by
    ``A/comparE_mean_std.h5`` of the fold, or utterance by utterance without one.

    Args:
        raw: The folder.
        places: Modality -> .h5 file below raw.
        fold: 1 to 10; None to read the utterances of the first fold without its division.
        labels: Emotion of each column of the label files.

    Returns:
        The utterances.

    Raises:
        DataError: If a file is missing or broken, or an utterance has no features.
    """
    import h5py

    number = str(fold or 1)
    found: dict[str, Utterance] = {}
    files: list[Path] = []
    for part in MMIN_PARTS:
        paths = [Path("target", number, f"{part}_{kind}.npy") for kind in ("int2name", "label")]
        for path in paths:
            _require(raw / path, raw, "fold=")
        names, columns = (_npy(raw / path) for path in paths)
        if columns.ndim != 2 or columns.shape[1] != len(labels) or len(names) != len(columns):
            raise DataError(
                f"{raw / paths[1]}: {columns.shape} instead of ({len(names)}, {len(labels)})"
            )
        for name, column in zip(names.reshape(len(names), -1)[:, 0], columns, strict=True):
            id_ = name.decode() if isinstance(name, bytes) else str(name)
            if id_ in found:
                raise DataError(f"{raw / paths[0]}: {id_} is there twice")
            found[id_] = Utterance(labels[int(column.argmax())], part)
        files += paths
    scale = _scale(raw, number) if fold is not None else None
    for modality, place in places.items():
        path = raw / place
        _require(path, raw, f"{modality}=")
        try:
            with h5py.File(path, "r") as file:
                for id_, utterance in found.items():
                    if id_ not in file:
                        raise DataError(f"{path} has no utterance {id_}.{near(id_, file.keys())}")
                    steps = np.asarray(file[id_][()], dtype=np.float32)
                    if modality == "audio":
                        steps = _standardised(steps, scale)
                    utterance.steps[modality] = steps.reshape(-1, steps.shape[-1])
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} cannot be read as HDF5: {error}") from error
        _check_widths(found, modality, path)
    return Layout(found, files)


def _standardised(steps: np.ndarray, scale: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    # One step has no deviation of its own; MMIN divides by that of N - 1.
    if scale is None:
        deviation = steps.std(axis=0, ddof=1) if len(steps) > 1 else np.ones(steps.shape[1])
        scale = steps.mean(axis=0), deviation
    mean, deviation = scale
    return ((steps - mean) / np.where(deviation == 0, 1.0, deviation)).astype(np.float32)


def _scale(raw: Path, fold: str) -> tuple[np.ndarray, np.ndarray]:
    import h5py

    path = raw / MMIN_SCALE
    _require(path, raw)
    with h5py.File(path, "r") as file:
        if fold not in file:
            raise DataError(f"{path} has no fold {fold}; it has {', '.join(sorted(file))}")
        return np.asarray(file[fold]["mean"][()]), np.asarray(file[fold]["std"][()])


def _npy_steps(folder: Path, name: str, speaker: str) -> np.ndarray | None:
    path = folder / f"{name}.npy"
    if path.is_file():
        values = _npy(path).astype(np.float32)
        return values.reshape(-1, values.shape[-1])
    frames = folder / name
    if not frames.is_dir():
        raise DataError(f"Neither {path} nor the folder {frames} exists")
    own = [file for file in sorted(frames.glob("*.npy")) if f"_{speaker}" in f"_{file.stem}"]
    if not own:
        return None
    return np.stack([_npy(file).astype(np.float32).reshape(-1) for file in own])


def _npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, np.ndarray) or not values.size or not values.ndim:
        raise DataError(f"{path} holds no values")
    return values


def _check_widths(found: Mapping[str, Utterance], modality: str, where: Path) -> None:
    widths: dict[int, str] = {}
    for name, utterance in found.items():
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
        more = f" {option} names another one." if option else ""
        raise DataError(f"{path} does not exist; {raw} holds {held(raw)}.{more}")
