"""Orientation of photographs and films, values of 32 bits, and very large pictures."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from tests.media.media_files import write_video

from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.image import Image
from mla_lightning.media.video import Frames
from mla_lightning.prepare.table import Table

#: The upper left quarter is white.
SCENE = np.zeros((32, 32, 3), np.uint8)
SCENE[:16, :16] = 255
#: EXIF orientation -> what a viewer does to show the picture upright.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: np.rot90(image, 2),
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, 1),
}


def corners(pixels):
    """Return which corner of an image (3, H, W) is white."""
    return (pixels[0, [2, 2, -3, -3], [2, -3, 2, -3]] > 128).tolist()


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photograph_is_turned_as_its_camera_says(tmp_path, orientation):
    image = PILImage.fromarray(SCENE)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = Image(16, exif="apply")(tmp_path, FileInput(Path("a.jpg")))
    assert corners(pixels) == corners(UPRIGHT[orientation](SCENE).transpose(2, 0, 1))
    assert corners(Image(16)(tmp_path, FileInput(Path("a.jpg")))) == [True, False, False, False]


def write_turned_video(path, quarter_turns):
    """Write a film whose header says to turn it clockwise by quarters of a turn."""
    write_video(path, np.stack([SCENE] * 5))
    content = bytearray(path.read_bytes())
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns]
    matrix = [cos * 65536, sin * 65536, 0, -sin * 65536, cos * 65536, 0, 0, 0, 1 << 30]
    start = content.index(b"tkhd") + 44  # ISO 14496-12: the matrix of the track's header
    assert struct.unpack_from(">9i", content, start)[::4] == (65536, 65536, 1 << 30)
    struct.pack_into(">9i", content, start, *matrix)
    path.write_bytes(content)


@pytest.mark.parametrize("quarter_turns", range(4))
def test_a_film_is_turned_as_its_header_says(tmp_path, quarter_turns):
    write_turned_video(tmp_path / "a.mp4", quarter_turns)
    expected = corners(np.rot90(SCENE, -quarter_turns).transpose(2, 0, 1))
    for frame in Frames(3, size=32, rotation="apply")(tmp_path, FileInput(Path("a.mp4"))):
        assert corners(frame) == expected
    for frame in Frames(3, size=32)(tmp_path, FileInput(Path("a.mp4"))):
        assert corners(frame) == [True, False, False, False]


def test_imported_photographs_and_films_are_turned(tmp_path):
    for name in ("a.jpg", "a.mp4"):
        (tmp_path / name).touch()
    table = tmp_path / "a.csv"
    table.write_text("id,label,photo,film\n1,x,a.jpg,a.mp4\n2,y,a.jpg,a.mp4\n")
    extractors = Table(table, name="a").extractors()
    assert extractors["photo"].options()["exif"] == "apply"
    assert extractors["film"].options()["rotation"] == "apply"
    assert "rotation" not in Frames().options()  # of stores that exist


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 200, 64).astype(np.int32),
        np.linspace(0, 4095, 64).astype(np.int32),
        np.linspace(0, 2**32 - 1, 64).astype(np.uint32),
        np.linspace(-500, 500, 64).astype(np.int32),
        np.linspace(0, 1, 64).astype(np.float32),
        np.linspace(-3, 7, 64).astype(np.float32),
    ],
)
def test_values_of_32_bits_go_from_black_to_white(tmp_path, values):
    path = tmp_path / "a.tif"
    PILImage.fromarray(np.tile(values, (64, 1))).save(path)
    if values.dtype == np.uint32:  # Pillow writes the tag of signed integers: 339, a short, one, 2
        signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, value, 0) for value in (2, 1))
        assert signed in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(signed, unsigned))
    pixels = Image(64)(tmp_path, FileInput(Path("a.tif")))
    np.testing.assert_allclose(pixels[1, 5], np.linspace(0, 255, 64), atol=2)


def test_fractions_keep_their_brightness_and_missing_values_are_an_error(tmp_path):
    PILImage.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    assert set(Image(8)(tmp_path, FileInput(Path("a.tif"))).flat) == {128}
    PILImage.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadMedia, match="not finite"):
        Image(8)(tmp_path, FileInput(Path("a.tif")))


@pytest.mark.parametrize("side", [10_000, 14_000])  # a warning and an error of Pillow
def test_a_very_large_picture_names_the_limit_and_the_remedy(tmp_path, side):
    PILImage.new("1", (side, side)).save(tmp_path / "a b.png")
    with pytest.raises(BadMedia, match=rf"{side**2:,} pixels.* limit is 89,478,485.*'a b.png'"):
        Image(8)(tmp_path, FileInput(Path("a b.png")))
