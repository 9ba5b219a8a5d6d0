"""Options of an import that follow the lengths and sizes of its files."""

import numpy as np
import pytest
import soundfile
from PIL import Image as PILImage
from tests.media.media_files import grey_frames, tone, write_video

from mla_lightning.media import survey as module
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import FileInput
from mla_lightning.media.survey import Survey, survey


def sounds(folder, seconds, suffix=".wav"):
    paths = [folder / f"{number}{suffix}" for number in range(len(seconds))]
    for path, length in zip(paths, seconds, strict=True):
        soundfile.write(path, tone(length, 8000)[0], 8000)
    return paths


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_the_length_of_sounds_keeps_19_of_20_whole(tmp_path, suffix):
    paths = sounds(tmp_path, [*np.linspace(0.4, 1.9, 96), 4.0, 4.0, 4.0, 4.2], suffix)
    result = survey(paths, "audio")
    lengths = [soundfile.info(path).duration for path in paths]
    kept = result.options["num_frames"] / 100
    assert np.mean([length <= kept + 1e-9 for length in lengths]) == pytest.approx(0.96)
    assert kept == pytest.approx(1.9, abs=0.03)
    assert result.sentences == (
        "sounds of 0.4 to 4.2 s, kept to 1.9 s: 4 % are cut; num_frames=420 keeps all",
    )


def test_sounds_of_similar_lengths_are_kept_whole(tmp_path):
    paths = sounds(tmp_path, [0.5, 0.6, 0.7])
    result = survey(paths, "audio")
    assert result == Survey({"num_frames": 70}, ("sounds of 0.5 to 0.7 s, all kept whole",))
    whole = LogMel(8000, 1000, padding="silence")(tmp_path, FileInput(paths[2]))
    silence = whole[-1]
    num_frames_with_sound = (whole != silence).any(axis=1).sum()
    assert num_frames_with_sound <= result.options["num_frames"] < num_frames_with_sound + 5


def test_long_sounds_are_cut_at_the_bound_and_the_option_is_named(tmp_path):
    result = survey(sounds(tmp_path, [30.0, 30.0]), "audio")
    assert result.options == {"num_frames": 1024}
    assert result.sentences == (
        "sounds of 30.0 s, kept to 10.2 s: 100 % are cut; num_frames=3000 keeps all",
    )


@pytest.mark.parametrize(
    ("sizes", "size", "sentence"),
    [
        ([(28, 28)] * 3, 28, "images of 28 x 28 pixels, read as 28 x 28"),
        ([(4, 4)], 16, "images of 4 x 4 pixels, read as 16 x 16"),
        (
            [(40, 20), (800, 600)],
            224,
            "images of 40 x 20 to 800 x 600 pixels, read as 224 x 224, stretched (up to 2.0 times "
            "longer than wide)",
        ),
        (
            [(64, 64)] * 99 + [(640, 640)],
            64,
            "images of 64 x 64 to 640 x 640 pixels, read as 64 x 64",
        ),
    ],
)
def test_the_size_of_images_follows_the_files_up_to_a_bound(tmp_path, sizes, size, sentence):
    paths = [tmp_path / f"{number}.png" for number in range(len(sizes))]
    for path, shape in zip(paths, sizes, strict=True):
        PILImage.new("L", shape).save(path)
    assert survey(paths, "image") == Survey({"size": size}, (sentence,))


@pytest.mark.parametrize(("num_images", "num_segments"), [(10, 3), (130, 6), (300, 8)])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_films_give_a_frame_per_second(tmp_path, num_images, num_segments, suffix):
    path = write_video(tmp_path / f"a{suffix}", grey_frames([90] * num_images))
    result = survey([path], "video")
    assert result.options == {"size": 48, "num_segments": num_segments}
    assert result.sentences == (
        f"films of {num_images / 25:.1f} s, {num_segments} frames of each at equal distances",
        "films of 64 x 48 pixels, read as 48 x 48, stretched (up to 1.3 times longer than wide)",
    )


def test_damaged_files_and_other_kinds_are_left_out(tmp_path):
    for name in ("a.wav", "a.mp3", "a.png", "a.mp4", "a.aac"):
        (tmp_path / name).write_bytes(b"no media " * 50)
    for kind in ("audio", "image", "video"):
        assert survey([*tmp_path.iterdir(), tmp_path / "missing.wav"], kind) == Survey()
    assert survey(sounds(tmp_path, [1.0]), "text") == Survey()


def test_of_many_files_some_are_read_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 3)
    result = survey(sounds(tmp_path, [0.5] * 9 + [0.6]), "audio")
    assert result.sentences[-1] == "read from the headers of 3 of 10 files"
