"""P19 to P21: what preparing costs, and what it saves while training."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Row, interleaved
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
#: flv has only such rates; so the films' sound is resampled, as that of CREMA-D.
FLV_RATE = 22050
BATCH, STEP_BATCH = 16, 4
HOW_PREPARE = (
    f"`prepare` with one job on {NUM_CLIPS} flv films of {SECONDS} s and {WIDTH}x{HEIGHT} with "
    "sound, as CREMA-D's: log-mel 1024x128 and three frames of 256x256, hashes of sources and "
    "arrays; wall time, processes and all"
)
HOW_LOADER = (
    f"Process CPU time per sample of the training loader of a store (batch {BATCH}, no workers) "
    "against a DataLoader whose dataset reads wav to log-mel 1024x128 and jpg to 224x224 at each "
    "access, with the same extractors; the files are in the cache; both hand over what is stored, "
    "floats are made of it on the device"
)
HOW_STEP = (
    "Process CPU time per sample of that loader against forward and backward of two ResNet-18 on "
    f"1024x128 and 224x224, batch {STEP_BATCH}, one frame"
)


class Clips(Source):
    """Clips as files: flv films, or a wav and a jpg each."""

    name = "clips"
    class_names = ("a", "b")
    modalities: ClassVar[tuple[str, ...]] = ("audio", "visual")
    how_to_get = "Written by the benchmark."
    default_split = "random"

    def __init__(self, raw: Path, *, films: bool) -> None:
        """Say whether to read films or a wav and a jpg each."""
        super().__init__(raw)
        self.films = films

    def items(self) -> list[Item]:
        """List the clips."""
        suffixes = ("flv", "flv") if self.films else ("wav", "jpg")
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
        """Read as training on CREMA-D does."""
        return {"audio": LogMel(), "visual": Frames() if self.films else Image(224)}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Put nearly all into the training part."""
        codes = stratified([item.label for item in items], (0.8, 0.1, 0.1), 0)
        return {"random": NamedSplit(codes, "At random.")}


class OnTheFly(Dataset):
    """Reads a sample's files whenever it is asked for, as public code does."""

    def __init__(self, source: Clips) -> None:
        """Remember the files."""
        self.raw, self.items, self.extractors = source.raw, source.items(), source.extractors()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read a sample."""
        inputs = self.items[index].inputs
        return {m: self.extractors[m](self.raw, media) for m, media in inputs.items()}


def measure() -> list[Row]:
    """Measure preparing films, and loading from a store against reading files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(NUM_CLIPS):
            write_clip(folder, number)
        begin = time.perf_counter()
        quietly_prepare(Clips(folder, films=True), folder / "films")
        took_s = (time.perf_counter() - begin) / NUM_CLIPS
        quietly_prepare(Clips(folder, films=False), folder / "store")
        loader = Prepared(path=folder / "store", batch_size=BATCH).train_dataloader()
        direct = DataLoader(OnTheFly(Clips(folder, films=False)), BATCH, shuffle=True)
        times = interleaved({"store": lambda: drain(loader), "files": lambda: drain(direct)}, 5)
        num_train = len(loader.dataset)
    store_s, files_s = times["store"] / num_train, times["files"] / NUM_CLIPS
    step_s = resnet_step_s()
    of_step = f"{step_s * 1e3:.0f} ms of training per sample"
    per_second = f"{1 / took_s:.0f} clips/s per core"
    detail = f"{1 / files_s:.0f} → {1 / store_s:.0f} samples/s"
    return [
        Row("P19", "prepare, a film of 2.5 s", took_s * 1e3, 100, "ms", HOW_PREPARE, per_second),
        Row("P20", "loader, store / files", store_s / files_s, 0.05, "x", HOW_LOADER, detail),
        Row("P21", "loader / ResNet-18 step", store_s / step_s, 1, "x", HOW_STEP, of_step),
    ]


def resnet_step_s() -> float:
    """Measure process time per sample of a training step of both ResNet-18."""
    encoders = [ResNet18(1), ResNet18(3)]
    inputs = [torch.randn(STEP_BATCH, 1, 1024, 128), torch.randn(STEP_BATCH, 3, 224, 224)]
    times = []
    for _ in range(3):
        begin = time.process_time()
        for encoder, x in zip(encoders, inputs, strict=True):
            encoder(x).sum().backward()
        times.append(time.process_time() - begin)
    return min(times) / STEP_BATCH


def drain(loader: DataLoader) -> None:
    """Take all batches."""
    for _ in loader:
        pass


def quietly_prepare(source: Source, target: Path) -> None:
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
    still = 120 + 60 * stripes + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    pictures = np.clip(still, 0, 255).astype(np.uint8)
    pil.fromarray(pictures).save(folder / f"{number:04d}.jpg")
    with av.open(str(folder / f"{number:04d}.flv"), "w") as out:
        video = out.add_stream("flv", rate=FPS)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 10**6
        audio = out.add_stream("libmp3lame", rate=FLV_RATE, layout="mono")
        for step in range(round(SECONDS * FPS)):
            shifted = np.ascontiguousarray(np.roll(pictures, step, axis=1))
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
