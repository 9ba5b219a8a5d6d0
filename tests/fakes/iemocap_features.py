"""Small IEMOCAP features in the file layouts of GCNet and MMIN."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from mla_lightning.data.sources.iemocap_features import LAYOUTS
from mla_lightning.data.sources.iemocap_layouts import (
    GCNET_CLASSES,
    GCNET_TABLE,
    MMIN_SCALE,
    MMIN_SPLITS,
)

WIDTHS = {"audio": 6, "image": 5, "text": 8}
MMIN_LABELS = ("Angry", "Happy", "Neutral", "Sad")


def fake_gcnet_features(root: Path, *, per_class: int = 6, seed: int = 0) -> Path:
    """Write the table of utterances and a folder of .npy files per modality.

    Audio and text are vectors; image is a folder of frames of both people per utterance, and the
    first utterance has no frame of its speaker.

    Args:
        root: Folder to write into.
        per_class: Number of utterances per emotion and session.
        seed: Seed of the noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    _, paths = LAYOUTS["gcnet"]
    ids: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    speakers: dict[str, list[str]] = {}
    for dialog, name, number, speaker in _utterances(per_class):
        ids.setdefault(dialog, []).append(name)
        labels.setdefault(dialog, []).append(number)
        speakers.setdefault(dialog, []).append(speaker)
        for modality, width in WIDTHS.items():
            folder = root / paths[modality]
            folder.mkdir(parents=True, exist_ok=True)
            if modality != "image":
                np.save(folder / f"{name}.npy", _vector(number, width, rng))
                continue
            (folder / name).mkdir()
            other = "M" if speaker == "F" else "F"
            for frame in range(3):
                if name != "Ses01F_impro01_F000":
                    file = folder / name / f"{frame:06d}_{speaker}.npy"
                    np.save(file, _vector(number, width, rng))
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
        per_class: Number of utterances per emotion and session.
        seed: Seed of noise and lengths.

    Returns:
        The folder.
    """
    import h5py

    rng = np.random.default_rng(seed)
    _, paths = LAYOUTS["mmin"]
    utterances = list(_utterances(per_class))
    for modality, width in WIDTHS.items():
        path = root / paths[modality]
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for _, name, number, _ in utterances:
                steps = [_vector(number, width, rng) for _ in range(int(rng.integers(3, 8)))]
                file[name] = np.stack(steps)
    with h5py.File(root / MMIN_SCALE, "w") as file:
        for fold in (1, 2):
            file[f"{fold}/mean"] = np.full(WIDTHS["audio"], 0.5)
            file[f"{fold}/std"] = np.full(WIDTHS["audio"], 2.0)
    for fold in (1, 2):
        folder = root / "target" / str(fold)
        folder.mkdir(parents=True)
        held_out = f"Ses0{6 - fold}"
        splits: dict[str, list[tuple[str, int]]] = {split: [] for split in MMIN_SPLITS}
        for dialog, name, number, speaker in utterances:
            split = "trn"
            if dialog.startswith(held_out):
                split = "val" if speaker == "F" else "tst"
            splits[split].append((name, number))
        for split, rows in splits.items():
            names = np.array([[name.encode()] for name, _ in rows])
            columns = [MMIN_LABELS.index(GCNET_CLASSES[number]) for _, number in rows]
            np.save(folder / f"{split}_int2name.npy", names)
            np.save(folder / f"{split}_label.npy", np.eye(4)[columns])
    return root


def _utterances(per_class: int) -> list[tuple[str, str, int, str]]:
    """List (dialogue, utterance, class number of GCNet, speaker)."""
    utterances = []
    for session in "12345":
        for marked in "FM":
            dialog = f"Ses0{session}{marked}_impro01"
            numbers = [n for n in range(4) for _ in range(per_class // 2)]
            for turn, number in enumerate(numbers):
                speaker = "FM"[turn % 2]
                utterances.append((dialog, f"{dialog}_{speaker}{turn:03d}", number, speaker))
    return utterances


def _vector(number: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a noisy vector whose entry of the class is large."""
    signal = np.zeros(width)
    signal[number] = 3.0
    return (signal + rng.normal(size=width)).astype(np.float32)
