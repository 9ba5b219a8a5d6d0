"""Log-mel energies and STFTs against independent implementations, on real files."""

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.media.media_files import LFS_POINTER, grey_frames, tone, write_film, write_wav

from mla_lightning.errors import ConfigError
from mla_lightning.media.audio import LogMel, Stft
from mla_lightning.media.parts import BadMedia, FilePart
from mla_lightning.media.sound import read_sound


@pytest.fixture
def without_torchaudio(monkeypatch):
    """Let transformers compute with numpy, also where torchaudio is there or is broken."""
    for place in ("transformers.utils", "transformers.utils.import_utils"):
        for name in ("is_torchaudio_available", "is_speech_available"):
            monkeypatch.setattr(f"{place}.{name}", lambda: False)
    for name in [name for name in sys.modules if "audio_spectrogram" in name]:
        monkeypatch.delitem(sys.modules, name)


def noise(num_samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples)


def part(path, start_s=None, end_s=None):
    return FilePart(Path(path.name), start_s, end_s)


# The lowest of 128 bins are narrower than the FFT resolves; so it is in all public models.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize(("rate", "num_mels", "size"), [(16000, 128, 512), (8000, 40, 256)])
def test_log_mel_is_kaldis_as_transformers_computes_it(without_torchaudio, rate, num_mels, size):
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    samples = noise(rate * 2)
    samples -= samples.mean()
    filters = mel_filter_bank(
        num_frequency_bins=size // 2 + 1,
        num_mel_filters=num_mels,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    expected = spectrogram(
        samples,
        window_function(rate // 40, "hann", periodic=False),
        frame_length=rate // 40,
        hop_length=rate // 100,
        fft_length=size,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    found = LogMel(rate, 1024, num_mels).log_mel(samples)
    assert found.shape == expected.shape == (198, num_mels)
    np.testing.assert_allclose(found, expected, atol=2e-3)


# The lowest of 128 bins are narrower than the FFT resolves; so it is in all public models.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_log_mel_is_the_input_of_ast_before_its_normalisation(without_torchaudio, tmp_path):
    from transformers import ASTFeatureExtractor

    write_wav(tmp_path / "a.wav", noise(40000)[None])
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    ast = ASTFeatureExtractor(do_normalize=False)
    expected = ast(samples - samples.mean(), sampling_rate=16000, return_tensors="np")
    found = LogMel()(tmp_path, part(tmp_path / "a.wav"))
    assert found.shape == (1024, 128)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected["input_values"][0], atol=0.01)


if importlib.util.find_spec("torchaudio"):
    try:
        from torchaudio.compliance.kaldi import fbank
    except Exception:  # a build for another torch
        fbank = None
    if fbank:

        def test_log_mel_is_torchaudios():
            samples = noise(32000)
            samples -= samples.mean()
            expected = fbank(
                torch.from_numpy(samples[None]).float(),
                htk_compat=True,
                sample_frequency=16000,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=128,
                dither=0.0,
                frame_shift=10,
            )
            np.testing.assert_allclose(LogMel().log_mel(samples), expected, atol=2e-3)


def test_padding_comes_after_the_logarithm_and_long_sound_is_cut_at_the_end(tmp_path):
    short = write_wav(tmp_path / "short.wav", noise(16000)[None])
    long = write_wav(tmp_path / "long.wav", noise(32000)[None] + 0.2)
    found = LogMel(num_frames=150)(tmp_path, part(short))
    assert (found[98:] == 0).all()
    assert (found[:98] != 0).any(axis=1).all()
    whole, cut = LogMel(num_frames=198), LogMel(num_frames=50)
    np.testing.assert_array_equal(cut(tmp_path, part(long)), whole(tmp_path, part(long))[:50])


def test_the_mean_of_all_channels_is_removed_and_the_first_one_used(tmp_path):
    base = noise(16000) * 0.5
    mono = write_wav(tmp_path / "mono.wav", base[None])
    both = write_wav(tmp_path / "both.wav", np.stack([base + 0.1, noise(16000, 1) - 0.1]))
    # A constant is removed by each frame's own mean, too.
    a, b = (LogMel()(tmp_path, part(path)) for path in (mono, both))
    np.testing.assert_allclose(a, b, atol=0.1)
    other = write_wav(tmp_path / "other.wav", np.stack([noise(16000, 1), base]))
    assert np.abs(LogMel()(tmp_path, part(other)) - a).max() > 1


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_sound_files_of_other_rates_are_resampled(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(1.0, 44100, 1000.0)[0], 44100)
    samples = read_sound(tmp_path, part(path), 16000)
    assert abs(samples.shape[1] - 16000) <= 32
    spectrum = np.abs(np.fft.rfft(samples[0, 1000:15000]))
    assert abs(np.argmax(spectrum) * 16000 / 14000 - 1000.0) < 5


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi"])
def test_the_sound_of_a_film_is_that_of_a_wav(tmp_path, suffix):
    sound = tone(2.0, 22050, 700.0)
    path = write_film(tmp_path / f"a{suffix}", grey_frames(range(50, 100)), 25, sound)
    samples = read_sound(tmp_path, part(path), 22050)
    assert abs(samples.shape[1] - sound.shape[1]) < 4000  # codecs pad
    spectrum = np.abs(np.fft.rfft(samples[0, 4000:40000]))
    assert abs(np.argmax(spectrum) * 22050 / 36000 - 700.0) < 2
    stretch = read_sound(tmp_path, part(path, 0.5, 1.25), 22050)
    assert abs(stretch.shape[1] - 0.75 * 22050) < 50
    spectrum = np.abs(np.fft.rfft(stretch[0, :16000]))
    assert abs(np.argmax(spectrum) * 22050 / 16000 - 700.0) < 2


def test_a_stretch_of_a_wav_is_exact(tmp_path):
    samples = noise(48000)
    path = write_wav(tmp_path / "a.wav", samples[None])
    whole = read_sound(tmp_path, part(path), 16000)
    stretch = read_sound(tmp_path, part(path, 1.0, 2.5), 16000)
    np.testing.assert_array_equal(stretch, whole[:, 16000:40000])


@pytest.mark.parametrize(
    ("variant", "rate", "size", "hop", "shape"),
    [("ogm_cremad", 22050, 512, 353, (257, 188)), ("vggsound", 16000, 256, 128, (129, 626))],
)
def test_stft_is_torchs(tmp_path, variant, rate, size, hop, shape):
    samples = noise(rate * 2)
    path = write_wav(tmp_path / "a.wav", samples[None], rate)
    read = soundfile.read(path)[0]
    found = Stft(variant)(tmp_path, part(path))
    start, length = (0, 66150) if variant == "ogm_cremad" else (40000, 80000)
    window = torch.from_numpy(np.clip(np.tile(read, 8)[start : start + length], -1, 1))
    expected = torch.stft(
        window,
        size,
        hop,
        window=torch.hann_window(size, dtype=torch.float64),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    assert found.shape == tuple(expected.shape) == shape
    np.testing.assert_allclose(found, (expected.abs() + 1e-7).log().half(), atol=0.02)


def test_the_window_of_vggsound_is_the_middle_of_ten_seconds():
    samples = np.arange(12 * 16000) / (12 * 16000)
    np.testing.assert_array_equal(Stft("vggsound").window(samples), samples[40000:120000])


def damaged(tmp_path, what):
    path = tmp_path / "a.wav"
    whole = write_wav(path, tone(1.0)).read_bytes()
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "header": whole[:30],
        "no sample": whole[:40] + bytes(4),
        "pointer": LFS_POINTER.encode(),
        "noise": bytes(range(256)) * 20,
    }
    if what == "short":
        write_wav(path, tone(0.02))
    elif what == "missing":
        path.unlink()
    else:
        path.write_bytes(content[what])
    return path


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("missing", "^missing$"),
        ("empty", "^empty: 0 bytes$"),
        ("cut", "^truncated: 15978 of 32000 bytes of sound$"),
        ("header", "truncated"),
        ("no sample", "^zero length"),
        ("pointer", "Git LFS pointer.*git lfs pull"),
        ("noise", "truncated or damaged"),
        ("short", "^zero length: 320 samples are less than one frame"),
    ],
)
def test_what_is_wrong_with_a_wav_is_said(tmp_path, what, reason):
    with pytest.raises(BadMedia, match=reason):
        LogMel()(tmp_path, part(damaged(tmp_path, what)))


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi"])
def test_a_film_without_sound_or_cut_off_is_noticed(tmp_path, suffix):
    silent = write_film(tmp_path / f"silent{suffix}", grey_frames(range(60)))
    with pytest.raises(BadMedia, match="no audio stream"):
        LogMel()(tmp_path, part(silent))
    whole = write_film(tmp_path / f"a{suffix}", grey_frames(range(75)), 25, tone(3.0, 22050))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadMedia, match="truncated"):
        LogMel()(tmp_path, part(whole))


def test_a_stretch_beyond_the_end_is_noticed(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1.0))
    with pytest.raises(BadMedia, match=r"ends at 1.00 s, before the stretch does at 9.00 s"):
        LogMel()(tmp_path, part(path, 0.5, 9.0))
    with pytest.raises(BadMedia, match="zero length: the stretch from 2 s to 2 s"):
        LogMel()(tmp_path, part(path, 2, 2))
    with pytest.raises(BadMedia, match=r"zero length: the sound ends at 1.00 s"):
        LogMel()(tmp_path, part(path, 5.0))


def test_extractors_pickle_and_spell_their_options(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(30000)[None])
    for extractor in (LogMel(8000, 30, 20), Stft("vggsound"), Stft()):
        again = pickle.loads(pickle.dumps(extractor))
        assert again.options() == extractor.options()
        result = extractor(tmp_path, part(path))
        assert result.shape == extractor.shape
        assert result.dtype == extractor.dtype
        np.testing.assert_array_equal(again(tmp_path, part(path)), result)


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="num_mels must be at least 1, got 0"):
        LogMel(num_mels=0)
    with pytest.raises(ConfigError, match="Did you mean 'vggsound'"):
        Stft("vgsound")
