"""Frames and pictures: which ones, in what order, of which colours, and what is wrong with them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from tests.media.media_files import LFS_POINTER, grey_frames, tone, write_film

from mla_lightning.errors import ConfigError
from mla_lightning.media.image import Image
from mla_lightning.media.parts import BadMedia, FilePart
from mla_lightning.media.video import Frames

LEVELS = np.linspace(20, 230, 90).round().astype(int)


def part(name, start_s=None, end_s=None):
    return FilePart(Path(name), start_s, end_s)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for suffix in ("flv", "mp4", "avi"):
        write_film(folder / f"a.{suffix}", grey_frames(LEVELS), 30)
    write_film(folder / "sound.mp4", None, samples=tone(1.0, 22050))
    return folder


@pytest.mark.parametrize("suffix", ["flv", "mp4", "avi"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [15, 45, 75]),
        ({"num_segments": 1}, [45]),
        ({"frames_per_segment": 3}, [5, 15, 25, 35, 45, 55, 65, 75, 85]),
        ({"choice": "released"}, [0, 30, 60]),
        ({"choice": "released", "num_segments": 2}, [0, 30]),
    ],
)
def test_the_frames_are_those_of_the_rule_in_order(films, suffix, options, expected):
    frames = Frames(size=16, **options)(films, part(f"a.{suffix}"))
    assert frames.shape == (len(expected), 3, 16, 16)
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), LEVELS[expected], atol=4)


@pytest.mark.parametrize("suffix", ["flv", "mp4", "avi"])
def test_a_stretch_is_divided_by_itself(films, suffix):
    frames = Frames(size=8)(films, part(f"a.{suffix}", 1.0, 2.0))
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), LEVELS[[35, 45, 55]], atol=6)


def test_short_films_repeat_frames():
    assert Frames().indices(1) == [0, 0, 0]
    assert Frames().indices(2) == [0, 1, 1]
    assert Frames(choice="released").indices(40, fps=29.97) == [0, 0, 0]
    # 29 is the period, as int(fps) of public code: candidates 0 29 58 87, four of them, segment 1.
    assert Frames(choice="released").indices(90, fps=29.97) == [0, 29, 58]


def test_colours_are_rgb(tmp_path):
    red = np.zeros((20, 48, 64, 3), np.uint8)
    red[..., 0] = 220
    write_film(tmp_path / "red.mp4", red)
    frame = Frames(1, size=8)(tmp_path, part("red.mp4"))[0].mean(axis=(1, 2))
    assert frame[0] > 180
    assert frame[1:].max() < 60


def test_what_is_wrong_with_a_film_is_said(films, tmp_path):
    frames = Frames(size=8)
    with pytest.raises(BadMedia, match="no video stream"):
        frames(films, part("sound.mp4"))
    with pytest.raises(BadMedia, match="before the stretch does"):
        frames(films, part("a.mp4", 1.0, 20.0))
    with pytest.raises(BadMedia, match=r"zero length: no frame after 7.00 s"):
        frames(films, part("a.mp4", 7.0))
    with pytest.raises(BadMedia, match=r"^missing$"):
        frames(films, part("b.mp4"))
    for suffix in ("flv", "mp4", "avi"):
        data = (films / f"a.{suffix}").read_bytes()
        for length in (len(data) // 2, len(data) * 9 // 10):
            (tmp_path / f"a.{suffix}").write_bytes(data[:length])
            with pytest.raises(BadMedia, match="truncated"):
                frames(tmp_path, part(f"a.{suffix}"))
    for content, reason in ((b"", "empty"), (LFS_POINTER.encode(), "Git LFS"), (b"x" * 99, "dama")):
        (tmp_path / "b.flv").write_bytes(content)
        with pytest.raises(BadMedia, match=reason):
            frames(tmp_path, part("b.flv"))


def test_wrong_options_of_frames_are_refused():
    with pytest.raises(ConfigError, match="choice=released takes one frame per segment"):
        Frames(frames_per_segment=2, choice="released")
    with pytest.raises(ConfigError, match="Did you mean 'centre'"):
        Frames(choice="center")
    with pytest.raises(ConfigError, match="size must be at least 1"):
        Frames(size=0)


# ---------------------------------------------------------------------- pictures


def picture(mode, colour, size=(40, 20)):
    return PILImage.new(mode, size, colour)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("a.jpg", picture("RGB", (200, 100, 50)), (200, 100, 50)),
        ("grey.jpg", picture("L", 90), (90, 90, 90)),
        ("cmyk.jpg", picture("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        ("alpha.png", picture("RGBA", (0, 0, 0, 0)), (255, 255, 255)),
        ("half.png", picture("LA", (0, 128)), (127, 127, 127)),
        ("palette.png", picture("RGB", (10, 200, 30)).quantize(4), (10, 200, 30)),
        ("deep.png", PILImage.fromarray(np.full((20, 40), 0x8000, np.uint16)), (128, 128, 128)),
        ("one.png", picture("1", 1), (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, name, image, expected):
    image.save(tmp_path / name)
    found = Image(size=8)(tmp_path, part(name))
    assert found.shape == (3, 8, 8)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.mean(axis=(1, 2)), expected, atol=3)


def test_stretching_keeps_all_and_cropping_keeps_the_aspect(tmp_path):
    values = np.zeros((20, 60, 3), np.uint8)
    values[:, 20:40] = 255
    PILImage.fromarray(values).save(tmp_path / "a.png")
    stretched = Image(size=30, resample="bilinear")(tmp_path, part("a.png"))[0]
    np.testing.assert_array_equal(stretched[5, [2, 15, 27]], [0, 255, 0])
    cropped = Image(size=20, resize="crop")(tmp_path, part("a.png"))
    assert (cropped == 255).all()


def test_the_cameras_note_is_followed_only_if_asked(tmp_path):
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = 255
    image = PILImage.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    ignored = Image(size=20)(tmp_path, part("a.png"))
    applied = Image(size=20, exif="apply")(tmp_path, part("a.png"))
    assert ignored[0, 0, 0] == applied[0, 19, 19] == 255
    assert ignored[0, 19, 0] == applied[0, 0, 0] == 0


def test_the_first_picture_of_an_animation_is_taken(tmp_path):
    first, second = picture("RGB", (255, 0, 0)), picture("RGB", (0, 0, 255))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert Image(size=4)(tmp_path, part("a.gif"))[0].min() > 250


def test_what_is_wrong_with_a_picture_is_said(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    PILImage.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for content, reason in (
        (b"", "^empty"),
        (whole[: len(whole) // 2], "truncated or damaged"),
        (whole[:8], "not a picture|truncated"),
        (b"<html>not found</html>", "not a picture"),
        (LFS_POINTER.encode(), "git lfs pull"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadMedia, match=reason):
            Image()(tmp_path, part("a.jpg"))
    path.unlink()
    with pytest.raises(BadMedia, match=r"^missing$"):
        Image()(tmp_path, part("a.jpg"))
    path.mkdir()
    with pytest.raises(BadMedia, match="not a file"):
        Image()(tmp_path, part("a.jpg"))


def test_wrong_options_of_pictures_are_refused_and_all_pickle(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'crop'"):
        Image(resize="crap")
    picture("RGB", (1, 2, 3)).save(tmp_path / "a.png")
    for extractor in (Image(9, "crop", "apply", "bilinear"), Frames(2, 3, 9)):
        again = pickle.loads(pickle.dumps(extractor))
        assert again.options() == extractor.options()
        assert set(extractor.options().values()) >= {9}
