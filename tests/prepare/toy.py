"""A small data set with real files: audio in wav and flv, video in mp4, images and texts."""

import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image as PILImage
from tests.media.media_files import grey_frames, tone, write_video, write_wav

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import FileInput, TextInput
from mla_lightning.media.image import Image
from mla_lightning.media.text import Tokens
from mla_lightning.media.video import Frames
from mla_lightning.prepare.engine import prepare

CLASSES = ("high", "low")


class Slow(Tokens):
    """Tokens that sleep, and write the text of each call to a file."""

    seconds, calls = 0.0, None

    def __call__(self, raw, media_input):
        result = super().__call__(raw, media_input)
        time.sleep(self.seconds)
        if self.calls is not None:
            with self.calls.open("a") as file:
                file.write(f"{media_input.text}\n")
        return result


class Toy(Source):
    """High and low tones, light and dark videos."""

    name = "toy"
    class_names = CLASSES
    modalities = ("audio", "visual", "image", "text")
    how_to_get = "Call write_toy()."
    known_bad: ClassVar = {"item03": "hums"}
    default_split = "random"

    def __init__(self, raw, size: int = 12, mels: int = 8) -> None:
        super().__init__(raw)
        self.size, self.mels, self.slow = size, mels, Slow(length=6)

    def items(self):
        return [
            Item(path.stem, path.read_text().split()[0], self._inputs(path), {"speaker": "s1"})
            for path in sorted((self.raw / "labels").glob("*.txt"))
        ]

    def _inputs(self, path):
        name = path.stem
        audio = "wav" if int(name[4:]) % 2 else "flv"
        inputs = {
            "audio": FileInput(Path(f"{audio}/{name}.{audio}")),
            "visual": FileInput(Path(f"mp4/{name}.mp4")),
            "text": TextInput(f"words of {name}"),
        }
        if int(name[4:]) % 5:
            inputs["image"] = FileInput(Path(f"jpg/{name}.jpg"))
        return inputs

    def extractors(self):
        return {
            "audio": LogMel(num_frames=40, num_mels=self.mels),
            "visual": Frames(size=self.size),
            "image": Image(size=self.size),
            "text": self.slow,
        }

    def splits(self, items):
        codes = stratified([item.label for item in items], (0.5, 0.25, 0.25), 0)
        return {"random": NamedSplit(codes, "At random.")}

    def label_files(self):
        return [Path("labels") / path.name for path in sorted((self.raw / "labels").iterdir())]

    def options(self):
        return {"size": self.size}


def write_toy(root, num_items=16):
    """Write the files."""
    (root / "labels").mkdir(parents=True)
    (root / "jpg").mkdir()
    for number in range(num_items):
        name, label = f"item{number:02d}", CLASSES[number % 2]
        (root / "labels" / f"{name}.txt").write_text(f"{label}\n")
        samples = tone(0.5, 16000, 300.0 + 40 * number)
        write_wav(root / "wav" / f"{name}.wav", samples)
        frames = grey_frames(np.arange(12) + 10 * number, 32, 32)
        write_video(root / "flv" / f"{name}.flv", frames, 24, tone(0.5, 22050, 300.0 + 40 * number))
        write_video(root / "mp4" / f"{name}.mp4", frames, 24)
        PILImage.new("RGB", (20, 10), (number * 10, 0, 0)).save(root / "jpg" / f"{name}.jpg")
    return root


if __name__ == "__main__":  # a process for tests to kill
    toy = Toy(Path(sys.argv[1]))
    toy.slow.seconds, toy.slow.calls = float(sys.argv[3]), Path(sys.argv[4])
    prepare(toy, Path(sys.argv[2]), jobs=2)
