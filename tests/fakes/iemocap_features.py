"""Small IEMOCAP features in the layouts of GCNet and of MMIN."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from mla_lightning.data.sources.iemocap_features import LAYOUTS
from mla_lightning.data.sources.iemocap_layouts import (
    GCNET_CLASSES,
    GCNET_TABLE,
    MMIN_PARTS,
    MMIN_SCALE,
)

WIDTHS = {"audio": 6, "image": 5, "text": 8}
MMIN_LABELS = ("Angry", "Happy", "Neutral", "Sad")


def fake_gcnet_features(root: Path, *, per_class: int = 6, seed: int = 0) -> Path:
    """Write the table of utterances and a folder of .npy files per modality.

    Audio and text are vectors; image is a folder of frames of both people per utterance, and the
    first utterance has no frame of its speaker.

    Args:
        root: Folder to write into.
        per_class: Utterances per emotion and session.
        seed: Draws the noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    _, places = LAYOUTS["gcnet"]
    ids: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    speakers: dict[str, list[str]] = {}
    for dialog, name, number, speaker in _utterances(per_class):
        ids.setdefault(dialog, []).append(name)
        labels.setdefault(dialog, []).append(number)
        speakers.setdefault(dialog, []).append(speaker)
        for modality, width in WIDTHS.items():
            folder = root / places[modality]
            folder.mkdir(parents=True, exist_ok=True)
            if modality != "image":
                np.save(folder / f"{name}.npy", _vector(number, width, rng))
                continue
            (folder / name).mkdir()
            other = "M" if speaker == "F" else "F"
            for frame in range(3):
                if name != "Ses01F_impro01_F000":
                    own = folder / name / f"{frame:06d}_{speaker}.npy"
                    np.save(own, _vector(number, width, rng))
                np.save(folder / name / f"{frame:06d}_{other}.npy", np.full(width, 99.0))
    test = {dialog for dialog in ids if dialog.startswith("Ses05")}
    sentences = {dialog: ["..."] * len(names) for dialog, names in ids.items()}
    with (root / GCNET_TABLE).open("wb") as file:
        pickle.dump((ids, labels, speakers, sentences, set(ids) - test, test), file, protocol=2)
    return root


def fake_mmin_features(root: Path, *, per_class: int = 6, seed: int = 0) -> Path:
    """Write an .h5 file per modality with sequences of several lengths, and two folds.

    Args:
        root: Folder to write into.
        per_class: Utterances per emotion and session.
        seed: Draws noise and lengths.

    Returns:
        The folder.
    """
    import h5py

    rng = np.random.default_rng(seed)
    _, places = LAYOUTS["mmin"]
    utterances = list(_utterances(per_class))
    for modality, width in WIDTHS.items():
        path = root / places[modality]
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for _, name, number, _ in utterances:
                steps = [_vector(number, width, rng) for _ in range(int(rng.integers(3, 8)))]
                file[name] = np.stack(steps)
    with h5py.File(root / MMIN_SCALE, "w") as file:
        for fold in ("1", "2"):
            file[f"{fold}/mean"] = np.full(WIDTHS["audio"], 0.5)
            file[f"{fold}/std"] = np.full(WIDTHS["audio"], 2.0)
    for number_of_fold in (1, 2):
        folder = root / "target" / str(number_of_fold)
        folder.mkdir(parents=True)
        held_out = f"Ses0{6 - number_of_fold}"
        parts: dict[str, list[tuple[str, int]]] = {part: [] for part in MMIN_PARTS}
        for dialog, name, number, speaker in utterances:
            part = "trn"
            if dialog.startswith(held_out):
                part = "val" if speaker == "F" else "tst"
            parts[part].append((name, number))
        for part, rows in parts.items():
            names = np.array([[name.encode()] for name, _ in rows])
            columns = [MMIN_LABELS.index(GCNET_CLASSES[number]) for _, number in rows]
            np.save(folder / f"{part}_int2name.npy", names)
            np.save(folder / f"{part}_label.npy", np.eye(4)[columns])
    return root


def _utterances(per_class: int) -> list[tuple[str, str, int, str]]:
    """List (dialogue, utterance, class number of GCNet, speaker)."""
    found = []
    for session in "12345":
        for marked in "FM":
            dialog = f"Ses0{session}{marked}_impro01"
            numbers = [n for n in range(4) for _ in range(per_class // 2)]
            for turn, number in enumerate(numbers):
                speaker = "FM"[turn % 2]
                found.append((dialog, f"{dialog}_{speaker}{turn:03d}", number, speaker))
    return found


def _vector(number: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a vector whose entry tells the class, with noise."""
    signal = np.zeros(width)
    signal[number] = 3.0
    return (signal + rng.normal(size=width)).astype(np.float32)
