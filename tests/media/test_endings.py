"""Endings of media files: every ending of the table is read by the reader of its kind."""

import av
import numpy as np
import pytest
from PIL import Image as PILImage

from mla_lightning.errors import DataError
from mla_lightning.media.base import FileInput
from mla_lightning.media.endings import KINDS, UNREADABLE, kind_of
from mla_lightning.media.image import Image
from mla_lightning.media.video import Frames
from mla_lightning.prepare.table import Table

GREY = np.full((24, 32, 3), 120, np.uint8)


@pytest.mark.parametrize("ending", [e for e, kind in KINDS.items() if kind == "image"])
def test_every_ending_of_images_is_read(tmp_path, ending):
    path = tmp_path / f"A{ending.upper()}"
    image = PILImage.fromarray(GREY)
    image.convert({".pgm": "L", ".pbm": "1"}.get(ending, "RGB")).save(path)
    pixels = Image(size=8)(tmp_path, FileInput(path.relative_to(tmp_path)))
    assert abs(pixels.mean() - 120) < 8


#: Encoders of the containers that do not take H.264.
CODECS = {
    **dict.fromkeys((".mpg", ".mpeg"), "mpeg1video"),
    ".wmv": "wmv2",
    ".webm": "libvpx",
    ".flv": "flv",
    ".ogv": "libvpx",
}
#: Endings that FFmpeg does not choose a format for when it writes.
FORMATS = {".mts": "mpegts", ".m2ts": "mpegts"}


@pytest.mark.parametrize("ending", [e for e, kind in KINDS.items() if kind == "video"])
def test_every_ending_of_videos_is_read(tmp_path, ending):
    path = tmp_path / f"A{ending.upper()}"
    codec = CODECS.get(ending, "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg cannot write {ending}")
    with av.open(str(path), "w", format=FORMATS.get(ending)) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        image = np.full((48, 64, 3), 120, np.uint8)
        for _ in range(30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    frames = Frames(3, size=16)(tmp_path, FileInput(path.relative_to(tmp_path)))
    assert abs(frames.mean() - 120) < 8


def test_an_ending_is_either_read_or_refused():
    assert not set(KINDS) & set(UNREADABLE)
    assert kind_of("a text that ends in a beach") is None


def test_files_that_no_reader_reads_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    table = tmp_path / "a.csv"
    table.write_text("id,label,photo\n1,x,a.heic\n2,y,a.heic\n")
    with pytest.raises(DataError, match=r"'photo'.* in \.heic: a HEIF photograph.*to JPEG"):
        Table(table, name="a").check()
