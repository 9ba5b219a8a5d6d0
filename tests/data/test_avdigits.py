"""AV-Digits: real digits, synthesised words (slow: a download), splits that share nothing."""

import gzip
from collections import Counter

import numpy as np
import pytest

from mla_lightning.data.sources import avdigits
from mla_lightning.data.sources.avdigits import AVDigits, digits_file, enlarge, read_digits
from mla_lightning.data.sources.espeak import Utterance, speak, variants
from mla_lightning.data.splits import TEST, TRAIN, VAL
from mla_lightning.errors import DataError
from mla_lightning.media.base import ArrayInput, BadMedia
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.prepare.checks import describe_identity


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, digits = read_digits(digits_file())
    expected = load_digits()
    assert np.array_equal(images, expected.images)
    assert np.array_equal(digits, expected.target)


def test_other_digits_are_an_error(tmp_path):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n"))
    with pytest.raises(DataError, match="other digits than expected"):
        read_digits(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_digits(path)


def test_an_enlarged_image_is_0_for_paper_and_255_for_ink():
    image = np.zeros((8, 8))
    image[:, 4:] = 16
    enlarged = enlarge(image)
    assert enlarged.shape == (3, 16, 16)
    assert enlarged.dtype == np.uint8
    assert (enlarged[0] == enlarged[2]).all()
    assert (enlarged[:, :, 0] == 0).all()
    assert (enlarged[:, :, -1] == 255).all()


def test_a_tone_is_loud_in_its_mel_bin_and_its_frames():
    extractor = ShortLogMel(8000, num_frames=50, num_mels=40, array_rate=8000)
    time_s = np.arange(4000) / 8000
    tone = (16384 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.int16)
    energies = extractor(avdigits.Path(), ArrayInput(tone)).astype(float)
    mel = 1127 * np.log1p(np.array([1000.0, 4000.0]) / 700)
    assert abs(int(energies[5].argmax()) - (mel[0] / mel[1] * 41 - 1)) <= 1
    # Half of full scale: power 1/4 of a sine's 1/4, at the peak of the window's spectrum.
    assert energies[5].max() == pytest.approx(np.log(1 / 16), abs=1.0)
    assert (energies[26:] == np.float16(np.log(1e-7))).all()
    assert (energies[:24].max(axis=1) > -6).all()
    with pytest.raises(BadMedia, match="no int16 waveform"):
        extractor(avdigits.Path(), ArrayInput(np.zeros(5)))


def test_variants_with_breath_are_left_out(tmp_path):
    voices = tmp_path / "espeak-ng-data" / "voices" / "!v"
    voices.mkdir(parents=True)
    (voices / "calm").write_text("name calm\npitch 80 100\n")
    (voices / "whisper").write_text("name whisper\nbreath 75 75\n")
    assert variants(tmp_path) == ["calm"]
    with pytest.raises(DataError, match="holds no voice variants"):
        variants(tmp_path / "none")


def test_a_missing_library_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("mla_lightning.data.sources.espeak.MAX_PATH_LENGTH", 1000)
    with pytest.raises(DataError, match=r"none of libespeak-ng\.so"):
        speak(tmp_path, [Utterance("one", "en", 150, 50)])
    monkeypatch.setattr("mla_lightning.data.sources.espeak.MAX_PATH_LENGTH", 3)
    with pytest.raises(DataError, match="too long a path"):
        speak(tmp_path, [])
    (tmp_path / "espeak-ng-data").mkdir()
    assert avdigits.speech_folder(tmp_path) == tmp_path
    with pytest.raises(DataError, match=r"does not hold espeakng_loader"):
        avdigits.speech_folder(tmp_path / "espeak-ng-data")


@pytest.mark.slow
def test_the_complete_set():
    source = AVDigits()
    items = source.items()
    codes = source.splits(items)["variant"].codes
    assert np.bincount(codes).tolist() == [852, 148, 676]
    counts = Counter(item.label for item in items)
    assert set(counts.values()) == {167, 168}
    for name in ("picture", "variant"):
        values = np.array([item.attributes[name] for item in items])
        assert not set(values[codes == TEST]) & set(values[codes != TEST]), name
    speakers = np.array([item.attributes["variant"] for item in items])
    assert not set(speakers[codes == TRAIN]) & set(speakers[codes == VAL])
    pictures = [item.attributes["picture"] for item in items]
    assert len(set(pictures)) == len(pictures)
    # No recording is in two pairs, even under another name.
    waves = [item.inputs["audio"].values.tobytes() for item in items]
    assert len(set(waves)) == len(waves)
    extractors = source.extractors()
    again = describe_identity(AVDigits(), AVDigits().items(), extractors)
    assert describe_identity(source, items, extractors) == again


@pytest.mark.slow
def test_an_unknown_voice_is_an_error():
    folder = avdigits.speech_folder(None)
    with pytest.raises(DataError, match=r"has no voice 'en-gb\+f1'"):
        speak(folder, [Utterance("one", "en-gb+f1", 150, 50)])
