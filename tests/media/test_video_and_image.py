"""Frames and images: choice, order and colours of frames, image modes, and damaged files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from tests.media.media_files import LFS_POINTER, grey_frames, tone, write_video

from mla_lightning.errors import ConfigError
from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.image import Image
from mla_lightning.media.video import Frames

LEVELS = np.linspace(20, 230, 90).round().astype(int)


def file_input(name, start_s=None, end_s=None):
    return FileInput(Path(name), start_s, end_s)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for suffix in ("flv", "mp4", "avi"):
        write_video(folder / f"a.{suffix}", grey_frames(LEVELS), 30)
    write_video(folder / "sound.mp4", None, samples=tone(1.0, 22050))
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
def test_the_rule_chooses_the_frames_in_the_order_of_time(videos, suffix, options, expected):
    frames = Frames(size=16, **options)(videos, file_input(f"a.{suffix}"))
    assert frames.shape == (len(expected), 3, 16, 16)
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), LEVELS[expected], atol=4)


@pytest.mark.parametrize("suffix", ["flv", "mp4", "avi"])
def test_a_time_range_is_divided_like_a_whole_video(videos, suffix):
    frames = Frames(size=8)(videos, file_input(f"a.{suffix}", 1.0, 2.0))
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), LEVELS[[35, 45, 55]], atol=6)


def test_short_videos_repeat_frames():
    assert Frames().indices(1) == [0, 0, 0]
    assert Frames().indices(2) == [0, 1, 1]
    assert Frames(choice="released").indices(40, fps=29.97) == [0, 0, 0]
    # The period is int(fps) = 29, as in released code: candidates 0 29 58 87, segments of one.
    assert Frames(choice="released").indices(90, fps=29.97) == [0, 29, 58]


def test_colours_are_rgb(tmp_path):
    red = np.zeros((20, 48, 64, 3), np.uint8)
    red[..., 0] = 220
    write_video(tmp_path / "red.mp4", red)
    frame = Frames(1, size=8)(tmp_path, file_input("red.mp4"))[0].mean(axis=(1, 2))
    assert frame[0] > 180
    assert frame[1:].max() < 60


def test_damaged_videos_give_the_reason(videos, tmp_path):
    frames = Frames(size=8)
    with pytest.raises(BadMedia, match="no video stream"):
        frames(videos, file_input("sound.mp4"))
    with pytest.raises(BadMedia, match="before the stretch does"):
        frames(videos, file_input("a.mp4", 1.0, 20.0))
    with pytest.raises(BadMedia, match=r"zero length: no frame after 7.00 s"):
        frames(videos, file_input("a.mp4", 7.0))
    with pytest.raises(BadMedia, match=r"^missing$"):
        frames(videos, file_input("b.mp4"))
    for suffix in ("flv", "mp4", "avi"):
        data = (videos / f"a.{suffix}").read_bytes()
        for length in (len(data) // 2, len(data) * 9 // 10):
            (tmp_path / f"a.{suffix}").write_bytes(data[:length])
            with pytest.raises(BadMedia, match="truncated"):
                frames(tmp_path, file_input(f"a.{suffix}"))
    for content, reason in ((b"", "empty"), (LFS_POINTER.encode(), "Git LFS"), (b"x" * 99, "dama")):
        (tmp_path / "b.flv").write_bytes(content)
        with pytest.raises(BadMedia, match=reason):
            frames(tmp_path, file_input("b.flv"))


def test_wrong_options_of_frames_are_errors():
    with pytest.raises(ConfigError, match="choice=released takes one frame per segment"):
        Frames(frames_per_segment=2, choice="released")
    with pytest.raises(ConfigError, match="Did you mean 'centre'"):
        Frames(choice="center")
    with pytest.raises(ConfigError, match="size must be at least 1"):
        Frames(size=0)


# ---------------------------------------------------------------------- images


def plain_image(mode, colour, size=(40, 20)):
    return PILImage.new(mode, size, colour)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("a.jpg", plain_image("RGB", (200, 100, 50)), (200, 100, 50)),
        ("grey.jpg", plain_image("L", 90), (90, 90, 90)),
        ("cmyk.jpg", plain_image("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        ("alpha.png", plain_image("RGBA", (0, 0, 0, 0)), (255, 255, 255)),
        ("half.png", plain_image("LA", (0, 128)), (127, 127, 127)),
        ("palette.png", plain_image("RGB", (10, 200, 30)).quantize(4), (10, 200, 30)),
        ("deep.png", PILImage.fromarray(np.full((20, 40), 0x8000, np.uint16)), (128, 128, 128)),
        ("one.png", plain_image("1", 1), (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, name, image, expected):
    image.save(tmp_path / name)
    pixels = Image(size=8)(tmp_path, file_input(name))
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), expected, atol=3)


def test_stretching_keeps_everything_and_cropping_keeps_the_aspect_ratio(tmp_path):
    values = np.zeros((20, 60, 3), np.uint8)
    values[:, 20:40] = 255
    PILImage.fromarray(values).save(tmp_path / "a.png")
    stretched = Image(size=30, resample="bilinear")(tmp_path, file_input("a.png"))[0]
    np.testing.assert_array_equal(stretched[5, [2, 15, 27]], [0, 255, 0])
    cropped = Image(size=20, resize="crop")(tmp_path, file_input("a.png"))
    assert (cropped == 255).all()


def test_the_orientation_tag_is_applied_only_on_request(tmp_path):
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = 255
    image = PILImage.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    ignored = Image(size=20)(tmp_path, file_input("a.png"))
    applied = Image(size=20, exif="apply")(tmp_path, file_input("a.png"))
    assert ignored[0, 0, 0] == applied[0, 19, 19] == 255
    assert ignored[0, 19, 0] == applied[0, 0, 0] == 0


def test_an_animation_gives_its_first_frame(tmp_path):
    first, second = plain_image("RGB", (255, 0, 0)), plain_image("RGB", (0, 0, 255))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert Image(size=4)(tmp_path, file_input("a.gif"))[0].min() > 250


def test_damaged_images_give_the_reason(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    PILImage.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for content, reason in (
        (b"", "^empty"),
        (whole[: len(whole) // 2], "truncated or damaged"),
        (whole[:8], "not a picture|truncated"),
        (b"not found", "not a picture"),
        (LFS_POINTER.encode(), "git lfs pull"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadMedia, match=reason):
            Image()(tmp_path, file_input("a.jpg"))
    path.unlink()
    with pytest.raises(BadMedia, match=r"^missing$"):
        Image()(tmp_path, file_input("a.jpg"))
    path.mkdir()
    with pytest.raises(BadMedia, match="not a file"):
        Image()(tmp_path, file_input("a.jpg"))


def test_wrong_options_of_images_are_errors_and_extractors_pickle(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'crop'"):
        Image(resize="crap")
    plain_image("RGB", (1, 2, 3)).save(tmp_path / "a.png")
    for extractor in (Image(9, "crop", "apply", "bilinear"), Frames(2, 3, 9)):
        again = pickle.loads(pickle.dumps(extractor))
        assert again.options() == extractor.options()
        assert set(extractor.options().values()) >= {9}
