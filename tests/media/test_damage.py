"""Sounds that were cut off or have the ending of another format are refused with the reason."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from tests.media.media_files import tone

from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.image import Image
from mla_lightning.media.truncation import check_complete
from mla_lightning.media.video import Frames
from mla_lightning.media.waveform import read_waveform

RATE = 44100
#: Name of a file -> encoder, sample format and options of the container.
ENCODED = {
    "a.mp3": ("libmp3lame", "s16p", {}),
    "no_header.mp3": ("libmp3lame", "s16p", {"write_xing": "0"}),
    "no_tag.mp3": ("libmp3lame", "s16p", {"id3v2_version": "0"}),
    "a.aac": ("aac", "fltp", {}),
    "a.m4a": ("aac", "fltp", {}),
    "a.wma": ("wmav2", "fltp", {}),
    "a.opus": ("libopus", "flt", {}),
    "a.mkv": ("libmp3lame", "s16p", {}),
}
#: Name of a file -> format of libsndfile.
WRITTEN = {
    "a.wav": "WAV",
    "a.flac": "FLAC",
    "a.ogg": "OGG",
    "sndfile.mp3": "MP3",
    "a.aiff": "AIFF",
    "a.aifc": "AIFF",
    "a.oga": "OGG",
    "a.au": "AU",
    "a.caf": "CAF",
}


def write_encoded(path, codec, sample_format, options, samples):
    rate = 48000 if codec == "libopus" else RATE
    with av.open(str(path), "w", options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 96_000
        is_integer = sample_format == "s16p"
        values = (samples * 32767).astype(np.int16) if is_integer else samples
        size = stream.codec_context.frame_size or 2048
        for start in range(0, values.shape[1], size):
            piece = np.ascontiguousarray(values[:, start : start + size])
            frame = av.AudioFrame.from_ndarray(piece, format=sample_format, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    samples = tone(3.0, RATE) + np.random.default_rng(0).normal(0, 0.03, 3 * RATE).astype("f4")
    for name, (codec, sample_format, options) in ENCODED.items():
        write_encoded(folder / name, codec, sample_format, options, samples)
    for name, file_format in WRITTEN.items():
        soundfile.write(folder / name, samples[0], RATE, format=file_format)
    return folder


def copy_of(sounds, tmp_path, name, fraction=1.0, new_name=None):
    content = (sounds / name).read_bytes()
    path = tmp_path / (new_name or name)
    path.write_bytes(content[: round(len(content) * fraction)])
    return FileInput(Path(path.name))


@pytest.mark.parametrize("name", [*ENCODED, *WRITTEN])
def test_a_whole_sound_is_read_and_a_cut_one_is_refused(sounds, tmp_path, name):
    samples = read_waveform(sounds, FileInput(Path(name)), 16000)
    assert abs(samples.shape[1] / 16000 - 3.0) < 0.5
    for fraction in (0.5, 0.7):
        with pytest.raises(BadMedia, match="truncated"):
            read_waveform(tmp_path, copy_of(sounds, tmp_path, name, fraction), 16000)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_an_ogg_file_cut_between_two_pages_is_refused(sounds, tmp_path, name):
    content = (sounds / name).read_bytes()
    (tmp_path / name).write_bytes(content[: content.rindex(b"OggS")])
    with pytest.raises(BadMedia, match="not the end of the stream"):
        check_complete(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp3", "no_header.mp3"])
@pytest.mark.parametrize("tag", [b"TAG".ljust(128, b" "), b"APETAGEX" + bytes(40), b"?" * 50])
def test_tags_and_unknown_bytes_after_an_mp3_are_no_damage(sounds, tmp_path, name, tag):
    (tmp_path / name).write_bytes((sounds / name).read_bytes() + tag)
    check_complete(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("a.aac", "b.mp3", r"AAC sound with the ending \.mp3; rename it to \.aac"),
        ("a.m4a", "b.mp3", r"MP4 file with the ending \.mp3; rename it to \.m4a"),
        ("a.wma", "b.wav", r"Windows Media file with the ending \.wav; rename it to \.wma"),
    ],
)
def test_another_format_says_what_it_is(sounds, tmp_path, source, name, reason):
    with pytest.raises(BadMedia, match=reason):
        read_waveform(tmp_path, copy_of(sounds, tmp_path, source, new_name=name), 16000)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.ogg", "a.aac", "a.opus"])
def test_an_html_page_instead_of_a_sound_says_so(tmp_path, name):
    (tmp_path / name).write_text("\n<!DOCTYPE html><html>not found</html>" * 50)
    with pytest.raises(BadMedia, match=r"an HTML page with the ending .*download the file again"):
        read_waveform(tmp_path, FileInput(Path(name)), 16000)


def test_an_html_page_instead_of_a_picture_or_film_says_so(tmp_path):
    for name, extractor in (("a.jpg", Image(8)), ("a.mp4", Frames(size=8))):
        (tmp_path / name).write_text("<html>not found</html>")
        with pytest.raises(BadMedia, match="an HTML page with the ending"):
            extractor(tmp_path, FileInput(Path(name)))
