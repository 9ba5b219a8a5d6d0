"""P19 to P21: the cost of preparing a data set, and the time that it saves in training."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Measurement, cpu_clock, median_seconds
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.encoders.resnet18 import ResNet18
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import Extractor, FileInput
from mla_lightning.media.image import Image
from mla_lightning.media.video import Frames
from mla_lightning.prepare.engine import prepare

NUM_CLIPS, SECONDS, RATE, FPS, HEIGHT, WIDTH = 64, 2.5, 16000, 30, 360, 480
#: A rate that flv has; the videos' sound is resampled, as that of CREMA-D.
FLV_RATE = 22050
BATCH_SIZE, STEP_BATCH_SIZE = 16, 4
PROCEDURE_PREPARE = (
    f"`prepare` with one job on {NUM_CLIPS} flv videos of {SECONDS} s and {WIDTH}x{HEIGHT} with "
    "sound, as CREMA-D's: log-mel 1024x128 and three frames of 256x256, hashes of sources and "
    "arrays; wall time, start of processes included"
)
PROCEDURE_LOADER = (
    f"Process CPU time per sample of the training loader of a store (batch {BATCH_SIZE}, no "
    "workers) against a DataLoader whose dataset reads wav to log-mel 1024x128 and jpg to 224x224 "
    "at each access, with the same extractors; the files are in the page cache; both return "
    "stored numbers, which are converted to floats on the device"
)
PROCEDURE_STEP = (
    "Process CPU time per sample of that loader against forward and backward of two ResNet-18 on "
    f"1024x128 and 224x224, batch {STEP_BATCH_SIZE}, one frame"
)


class Clips(Source):
    """Clips as files: an flv video each, or a wav and a jpg each."""

    name = "clips"
    class_names = ("a", "b")
    modalities: ClassVar[tuple[str, ...]] = ("audio", "visual")
    how_to_get = "Written by the benchmark."
    default_split = "random"

    def __init__(self, raw: Path, *, are_videos: bool) -> None:
        """Choose the files to read.

        Args:
            raw: Folder of the files.
            are_videos: Whether to read the videos, not a wav and a jpg each.
        """
        super().__init__(raw)
        self.are_videos = are_videos

    def items(self) -> list[Item]:
        """Return the clips."""
        suffixes = ("flv", "flv") if self.are_videos else ("wav", "jpg")
        return [
            Item(
                f"{number:04d}",
                self.class_names[number % 2],
                {
                    modality: FileInput(Path(f"{number:04d}.{suffix}"))
                    for modality, suffix in zip(self.modalities, suffixes, strict=True)
                },
            )
            for number in range(NUM_CLIPS)
        ]

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractors that CREMA-D has."""
        return {"audio": LogMel(), "visual": Frames() if self.are_videos else Image(224)}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Return a random split with 80 % of the clips in train."""
        codes = stratified([item.label for item in items], (0.8, 0.1, 0.1), 0)
        return {"random": NamedSplit(codes, "At random.")}


class FileDataset(Dataset):
    """A data set that reads a sample's files at each access, as public code does."""

    def __init__(self, source: Clips) -> None:
        """Keep the list of files."""
        self.raw, self.items, self.extractors = source.raw, source.items(), source.extractors()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read a sample."""
        inputs = self.items[index].inputs
        return {m: self.extractors[m](self.raw, media) for m, media in inputs.items()}


def measure() -> list[Measurement]:
    """Measure preparing videos, and loading from a store against reading files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(NUM_CLIPS):
            write_clip(folder, number)
        start = time.perf_counter()
        prepare_quietly(Clips(folder, are_videos=True), folder / "videos")
        prepare_s = (time.perf_counter() - start) / NUM_CLIPS
        pairs = Clips(folder, are_videos=False)
        prepare_quietly(pairs, folder / "store")
        store = Prepared(path=folder / "store", batch_size=BATCH_SIZE).train_dataloader()
        files = DataLoader(FileDataset(pairs), BATCH_SIZE, shuffle=True)
        loaders = {"store": partial(read_all, store), "files": partial(read_all, files)}
        seconds = median_seconds(loaders, 5)
        num_train = len(store.dataset)
    store_s, files_s = seconds["store"] / num_train, seconds["files"] / NUM_CLIPS
    step_s = resnet_step_seconds()
    rate = f"{1 / prepare_s:.0f} clips/s per core"
    speeds = f"{1 / files_s:.0f} → {1 / store_s:.0f} samples/s"
    step = f"{step_s * 1e3:.0f} ms of training per sample"
    ratio = store_s / files_s
    return [
        Measurement(
            "P19", "prepare, a video of 2.5 s", prepare_s * 1e3, 100, "ms", PROCEDURE_PREPARE, rate
        ),
        Measurement("P20", "loader, store / files", ratio, 0.05, "x", PROCEDURE_LOADER, speeds),
        Measurement(
            "P21", "loader / ResNet-18 step", store_s / step_s, 1, "x", PROCEDURE_STEP, step
        ),
    ]


def resnet_step_seconds() -> float:
    """Return the process time per sample of a training step of both ResNet-18."""
    encoders = [ResNet18(1), ResNet18(3)]
    inputs = [
        torch.randn(STEP_BATCH_SIZE, 1, 1024, 128),
        torch.randn(STEP_BATCH_SIZE, 3, 224, 224),
    ]
    times = []
    for _ in range(3):
        start = cpu_clock()
        for encoder, x in zip(encoders, inputs, strict=True):
            encoder(x).sum().backward()
        times.append(cpu_clock() - start)
    return min(times) / STEP_BATCH_SIZE


def read_all(loader: DataLoader) -> None:
    """Read all batches."""
    for _ in loader:
        pass


def prepare_quietly(source: Source, target: Path) -> None:
    """Prepare with one job, without messages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(source, target, jobs=1)


def write_clip(folder: Path, number: int) -> None:
    """Write a clip as flv, wav and jpg, with noise on moving stripes and a tone."""
    import av
    import soundfile
    from PIL import Image as pil

    rng = np.random.default_rng(number)
    sound = rng.normal(0, 0.1, round(SECONDS * RATE)).astype(np.float32)
    soundfile.write(folder / f"{number:04d}.wav", sound, RATE)
    stripes = np.sin(np.arange(WIDTH) / (5 + number % 7))[None, :, None]
    values = 120 + 60 * stripes + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    picture = np.clip(values, 0, 255).astype(np.uint8)
    pil.fromarray(picture).save(folder / f"{number:04d}.jpg")
    with av.open(str(folder / f"{number:04d}.flv"), "w") as out:
        video = out.add_stream("flv", rate=FPS)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 10**6
        audio = out.add_stream("libmp3lame", rate=FLV_RATE, layout="mono")
        for step in range(round(SECONDS * FPS)):
            shifted = np.ascontiguousarray(np.roll(picture, step, axis=1))
            out.mux(video.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        out.mux(video.encode(None))
        size = audio.codec_context.frame_size
        for start in range(0, len(sound), size):
            piece = (sound[None, start : start + size] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16p", layout="mono")
            frame.sample_rate, frame.pts = FLV_RATE, start
            frame.time_base = Fraction(1, FLV_RATE)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
