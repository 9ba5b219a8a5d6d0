"""AV-Digits: real digits, words of a real synthesiser (slow: it is downloaded), nothing shared."""

import gzip
from collections import Counter

import numpy as np
import pytest

from mla_lightning.data.sources import avdigits
from mla_lightning.data.sources.avdigits import AVDigits, digits_file, enlarged, read_digits
from mla_lightning.data.sources.espeak import Utterance, speak, variants
from mla_lightning.data.splits import TEST, TRAIN, VAL
from mla_lightning.errors import DataError
from mla_lightning.media.base import ArrayInput, BadMedia
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.prepare.checks import describe_identity


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    pictures, digit = read_digits(digits_file())
    expected = load_digits()
    assert np.array_equal(pictures, expected.images)
    assert np.array_equal(digit, expected.target)


def test_other_digits_are_refused(tmp_path):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n"))
    with pytest.raises(DataError, match="other digits than expected"):
        read_digits(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_digits(path)


def test_a_picture_grows_from_paper_to_ink():
    picture = np.zeros((8, 8))
    picture[:, 4:] = 16
    found = enlarged(picture)
    assert found.shape == (3, 16, 16)
    assert found.dtype == np.uint8
    assert (found[0] == found[2]).all()
    assert (found[:, :, 0] == 0).all()
    assert (found[:, :, -1] == 255).all()


def test_a_tone_is_loud_in_its_mel_bin_for_as_long_as_it_lasts():
    extractor = ShortLogMel(8000, num_frames=50, num_mels=40, array_rate=8000)
    time_s = np.arange(4000) / 8000
    tone = (16384 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.int16)
    found = extractor(avdigits.Path(), ArrayInput(tone)).astype(float)
    mel = 1127 * np.log1p(np.array([1000.0, 4000.0]) / 700)
    assert abs(int(found[5].argmax()) - (mel[0] / mel[1] * 41 - 1)) <= 1
    # Half of full scale: power 1/4 of a sine's 1/4, at the peak of the window's spectrum.
    assert found[5].max() == pytest.approx(np.log(1 / 16), abs=1.0)
    assert (found[26:] == np.float16(np.log(1e-7))).all()
    assert (found[:24].max(axis=1) > -6).all()
    with pytest.raises(BadMedia, match="no int16 waveform"):
        extractor(avdigits.Path(), ArrayInput(np.zeros(5)))


def test_breathing_variants_are_left_out(tmp_path):
    place = tmp_path / "espeak-ng-data" / "voices" / "!v"
    place.mkdir(parents=True)
    (place / "calm").write_text("name calm\npitch 80 100\n")
    (place / "whisper").write_text("name whisper\nbreath 75 75\n")
    assert variants(tmp_path) == ["calm"]
    with pytest.raises(DataError, match="holds no voice variants"):
        variants(tmp_path / "none")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("mla_lightning.data.sources.espeak.LONGEST_PATH", 1000)
    with pytest.raises(DataError, match=r"none of libespeak-ng\.so"):
        speak(tmp_path, [Utterance("one", "en", 150, 50)])
    monkeypatch.setattr("mla_lightning.data.sources.espeak.LONGEST_PATH", 3)
    with pytest.raises(DataError, match="too long a path"):
        speak(tmp_path, [])
    (tmp_path / "espeak-ng-data").mkdir()
    assert avdigits.speech_folder(tmp_path) == tmp_path
    with pytest.raises(DataError, match=r"holds no espeakng_loader"):
        avdigits.speech_folder(tmp_path / "espeak-ng-data")


@pytest.mark.slow
def test_the_whole_set():
    source = AVDigits()
    items = source.items()
    codes = source.splits(items)["variant"].codes
    assert np.bincount(codes).tolist() == [852, 148, 676]
    counts = Counter(item.label for item in items)
    assert set(counts.values()) == {167, 168}
    for name in ("picture", "variant"):
        values = np.array([item.attributes[name] for item in items])
        assert not set(values[codes == TEST]) & set(values[codes != TEST]), name
    heard = np.array([item.attributes["variant"] for item in items])
    assert not set(heard[codes == TRAIN]) & set(heard[codes == VAL])
    pictures = [item.attributes["picture"] for item in items]
    assert len(set(pictures)) == len(pictures)
    # No word twice: no recording is in two pairs, under whatever name.
    waves = [item.inputs["audio"].values.tobytes() for item in items]
    assert len(set(waves)) == len(waves)
    extractors = source.extractors()
    again = describe_identity(AVDigits(), AVDigits().items(), extractors)
    assert describe_identity(source, items, extractors) == again


@pytest.mark.slow
def test_a_voice_that_espeak_does_not_have_is_refused():
    folder = avdigits.speech_folder(None)
    with pytest.raises(DataError, match=r"has no voice 'en-gb\+f1'"):
        speak(folder, [Utterance("one", "en-gb+f1", 150, 50)])
