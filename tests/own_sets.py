"""Tiny data sets as strangers have them, in real formats, with labels that can be learnt."""

import csv
import wave
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = {"cat": "meows on the sofa", "dog": "barks at the door"}


def write_media(folder: Path, num: int = 24) -> Path:
    """Write a CSV of pictures, sounds and sentences."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num):
        label = ("cat", "dog")[number % 2]
        picture, sound = Path("pictures", f"{number}.png"), Path("sounds", f"{number}.wav")
        for path in (picture, sound):
            (folder / path).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 128, (20, 24, 3), dtype=np.uint8)
        pixels[..., number % 2] += 100
        Image.fromarray(pixels).save(folder / picture)
        tone = np.sin(np.arange(1600) * (0.1 if label == "cat" else 0.7)) * 9000
        with wave.open(str(folder / sound), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((tone + rng.normal(0, 500, 1600)).astype(np.int16).tobytes())
        text = f"Animal number {number} {WORDS[label]} today"
        rows.append({"label": label, "picture": picture, "sound": sound, "text": text})
    return write_csv(folder / "pets.csv", rows)


def write_sequences(folder: Path, num: int = 30) -> Path:
    """Write a folder of two sequences of unequal lengths per sample."""
    rng = np.random.default_rng(1)
    target = folder / "moves"
    target.mkdir()
    label = np.arange(num) % 3
    for name, width in (("acceleration", 3), ("rotation", 2)):
        lengths = rng.integers(4, 10, num)
        values = rng.normal(size=(num, 9, width)).astype(np.float32)
        values[:, :, 0] += label[:, None]
        values[np.arange(9) >= lengths[:, None]] = 0
        np.save(target / f"{name}.npy", values)
        np.save(target / f"{name}.lengths.npy", lengths)
    np.save(target / "label.npy", label)
    return target


def write_wild_arrays(folder: Path, num: int = 40) -> Path:
    """Write two arrays in one .npz, of which one has columns of very different scales."""
    rng = np.random.default_rng(2)
    label = np.arange(num) % 2
    wild = rng.normal(size=(num, 4)) * [1e6, 1e-6, 1.0, 300.0] + [5e6, 0.0, 0.0, -9e3]
    wild[:, 1] += 2e-6 * label
    tame = rng.normal(size=(num, 3)) + label[:, None]
    np.savez(folder / "lab.npz", wild=wild, tame=tame, label=np.array(["no", "yes"])[label])
    return folder / "lab.npz"


def write_grouped(folder: Path, num: int = 60) -> Path:
    """Write a CSV of lists of numbers, a text and the speaker of each sample."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(num):
        emotion = ("angry", "calm", "sad")[number % 3]
        pitch = rng.normal(size=4) + number % 3
        speaker = f"speaker {number // 6}"
        sentence = f"I am {emotion if number % 4 else 'fine'} says person {number}"
        numbers = " ".join(f"{value:.3f}" for value in pitch)
        entry = {"emotion": emotion, "speaker": speaker, "pitch": numbers, "sentence": sentence}
        rows.append(entry)
    return write_csv(folder / "talk.csv", rows)


def write_ratings(folder: Path, num: int = 60) -> Path:
    """Write a CSV of a rating from -3 to 3, a review, and numbers that some rows lack."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(num):
        rating = rng.uniform(-3, 3)
        words = ["poor"] * round(3 - rating) + ["great"] * round(3 + rating)
        face = rng.normal(size=3) + rating
        numbers = " ".join(f"{value:.3f}" for value in face) if number % 10 else ""
        entry = {"rating": f"{rating:.2f}", "review": f"{' '.join(words)} film", "face": numbers}
        rows.append(entry)
    return write_csv(folder / "films.csv", rows)


def write_csv(path: Path, rows: list[dict]) -> Path:
    """Write rows with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path
