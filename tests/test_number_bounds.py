"""Upper bounds of numbers that would fill the memory or the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError
from mla_lightning.inputs import Images, Spectrograms
from mla_lightning.media.audio import LogMel
from mla_lightning.media.drawing import Drawing
from mla_lightning.media.image import Image
from mla_lightning.media.portrait import Portrait
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.media.text import Tokens
from mla_lightning.media.video import Frames
from mla_lightning.prepare.embed import embed_store
from mla_lightning.prepare.engine import prepare
from mla_lightning.prepare.sample_sheet import class_sheet

SMALL_DATA = partial(Synthetic, batch_size=8)
PREPARE = partial(prepare, None, Path("new"))
EMBED = partial(embed_store, None, Path("new"), {})
SHEET = partial(class_sheet, Path("store"), Path("sheet.png"))
#: What is called, its option, the largest value.
BOUNDS: list[tuple[Callable[..., Any], str, int]] = [
    (LogMel, "sample_rate", 10**6),
    (LogMel, "num_frames", 10**6),
    (LogMel, "num_mels", 1024),
    (ShortLogMel, "sample_rate", 10**6),
    (ShortLogMel, "num_frames", 10**6),
    (ShortLogMel, "num_mels", 1024),
    (ShortLogMel, "array_rate", 10**6),
    (Frames, "num_segments", 10**4),
    (Frames, "frames_per_segment", 10**4),
    (Frames, "size", 8192),
    (Image, "size", 8192),
    (Drawing, "size", 8192),
    (Portrait, "size", 8192),
    (Tokens, "length", 10**5),
    (Tokens, "num_buckets", 10**7),
    (Spectrograms, "freq_mask", 10**6),
    (Spectrograms, "time_mask", 10**6),
    (Images, "size", 8192),
    (Images, "frames_per_segment", 8192),
    (SMALL_DATA, "num_classes", 10**4),
    (SMALL_DATA, "num_features", 10**6),
    (SMALL_DATA, "num_train", 10**8),
    (SMALL_DATA, "num_val", 10**8),
    (SMALL_DATA, "num_test", 10**8),
    (SMALL_DATA, "signal", 10**6),
    (Synthetic, "batch_size", 10**6),
    (SMALL_DATA, "eval_batch_size", 10**6),
    (SMALL_DATA, "num_workers", 1024),
]
#: The same of what does its work when it is called, so that only the refusal is tested.
BOUNDS_OF_WORK: list[tuple[Callable[..., Any], str, int]] = [
    (PREPARE, "jobs", 1024),
    (EMBED, "batch_size", 10**6),
    (SHEET, "per_class", 50),
]
#: What another option needs at the bound.
TOGETHER = {"num_classes": {"num_train": 10**4}, "num_features": {"num_train": 10, "num_test": 1}}
TOGETHER |= {f"num_{split}": {"num_features": 1} for split in ("train", "val", "test")}


def _names(bounds: list[tuple[Callable[..., Any], str, int]]) -> list[str]:
    functions = [getattr(function, "func", function) for function, *_ in bounds]
    return [f"{f.__name__}-{option}" for f, (_, option, _) in zip(functions, bounds, strict=True)]


@pytest.mark.parametrize(
    ("function", "option", "most"),
    [*BOUNDS, *BOUNDS_OF_WORK],
    ids=_names([*BOUNDS, *BOUNDS_OF_WORK]),
)
def test_one_above_the_bound_is_refused_by_the_name_of_the_option(
    function: Callable[..., Any], option: str, most: int, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"\b{option}\b.* at most "):
        function(**{option: most + 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("function", "option", "most"), BOUNDS, ids=_names(BOUNDS))
def test_the_bound_itself_is_allowed(function: Callable[..., Any], option: str, most: int) -> None:
    function(**{**TOGETHER.get(option, {}), option: most})
