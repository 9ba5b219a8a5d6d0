"""Log-mel energies and STFTs of real files against independent implementations."""

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.media.media_files import LFS_POINTER, grey_frames, tone, write_video, write_wav

from mla_lightning.errors import ConfigError
from mla_lightning.media.audio import LogMel, Stft
from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.waveform import read_waveform
from mla_lightning.prepare.table import Table


@pytest.fixture
def without_torchaudio(monkeypatch):
    """Make transformers compute with NumPy, even if torchaudio is installed or broken."""
    for module in ("transformers.utils", "transformers.utils.import_utils"):
        for name in ("is_torchaudio_available", "is_speech_available"):
            monkeypatch.setattr(f"{module}.{name}", lambda: False)
    for name in [name for name in sys.modules if "audio_spectrogram" in name]:
        monkeypatch.delitem(sys.modules, name)


def noise(num_samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples)


def file_input(path, start_s=None, end_s=None):
    return FileInput(Path(path.name), start_s, end_s)


# The lowest of 128 bins are narrower than the FFT resolves, as in all public models.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize(("rate", "num_mels", "size"), [(16000, 128, 512), (8000, 40, 256)])
def test_log_mel_equals_kaldi_fbank_of_transformers(without_torchaudio, rate, num_mels, size):
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
    energies = LogMel(rate, 1024, num_mels).log_mel(samples)
    assert energies.shape == expected.shape == (198, num_mels)
    np.testing.assert_allclose(energies, expected, atol=2e-3)


# The lowest of 128 bins are narrower than the FFT resolves, as in all public models.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_log_mel_equals_the_input_of_ast_before_normalisation(without_torchaudio, tmp_path):
    from transformers import ASTFeatureExtractor

    write_wav(tmp_path / "a.wav", noise(40000)[None])
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    ast = ASTFeatureExtractor(do_normalize=False)
    expected = ast(samples - samples.mean(), sampling_rate=16000, return_tensors="np")
    energies = LogMel()(tmp_path, file_input(tmp_path / "a.wav"))
    assert energies.shape == (1024, 128)
    assert energies.dtype == np.float16
    np.testing.assert_allclose(energies, expected["input_values"][0], atol=0.01)


if importlib.util.find_spec("torchaudio"):
    try:
        from torchaudio.compliance.kaldi import fbank
    except Exception:  # a build for another torch
        fbank = None
    if fbank:

        def test_log_mel_equals_torchaudio():
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


def test_short_audio_is_padded_after_the_logarithm_and_long_audio_is_cut(tmp_path):
    short = write_wav(tmp_path / "short.wav", noise(16000)[None])
    long = write_wav(tmp_path / "long.wav", noise(32000)[None] + 0.2)
    energies = LogMel(num_frames=150)(tmp_path, file_input(short))
    assert (energies[98:] == 0).all()
    assert (energies[:98] != 0).any(axis=1).all()
    whole, cut = LogMel(num_frames=198), LogMel(num_frames=50)
    first = whole(tmp_path, file_input(long))[:50]
    np.testing.assert_array_equal(cut(tmp_path, file_input(long)), first)


def test_the_mean_of_all_channels_is_removed_and_the_first_channel_is_used(tmp_path):
    base = noise(16000) * 0.5
    mono = write_wav(tmp_path / "mono.wav", base[None])
    both = write_wav(tmp_path / "both.wav", np.stack([base + 0.1, noise(16000, 1) - 0.1]))
    # The mean of each frame removes a constant, too.
    of_mono, of_both = (LogMel()(tmp_path, file_input(path)) for path in (mono, both))
    np.testing.assert_allclose(of_mono, of_both, atol=0.1)
    other = write_wav(tmp_path / "other.wav", np.stack([noise(16000, 1), base]))
    assert np.abs(LogMel()(tmp_path, file_input(other)) - of_mono).max() > 1


def test_an_import_takes_the_mean_of_the_channels_and_pads_with_silence(tmp_path):
    base = noise(16000)
    mono = write_wav(tmp_path / "mono.wav", base[None])
    right = write_wav(tmp_path / "right.wav", np.stack([np.zeros(16000), 2 * base]))
    silent = write_wav(tmp_path / "silent.wav", np.zeros((2, 16000)))
    (tmp_path / "a.csv").write_text("id,label,sound\n1,x,right.wav\n2,y,silent.wav\n")
    log_mel = Table(tmp_path / "a.csv", name="a", num_frames=120).extractors()["sound"]
    of_mono, of_right, of_silent = (
        log_mel(tmp_path, file_input(path)) for path in (mono, right, silent)
    )
    np.testing.assert_allclose(of_right, of_mono, atol=0.1)
    assert (of_right[98:] == of_silent[:22]).all()  # padded with what silence is
    # The lowest filters are narrower than the FFT resolves, and give silence for every sound.
    assert of_right[:98].min() >= of_right[98:].max()
    assert of_right[:98].mean() > of_right[98:].mean() + 10
    assert not {"channels", "padding"} & set(LogMel().options())  # of stores that exist


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_audio_files_of_other_rates_are_resampled(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(1.0, 44100, 1000.0)[0], 44100)
    samples = read_waveform(tmp_path, file_input(path), 16000)
    assert abs(samples.shape[1] - 16000) <= 32
    spectrum = np.abs(np.fft.rfft(samples[0, 1000:15000]))
    assert abs(np.argmax(spectrum) * 16000 / 14000 - 1000.0) < 5


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi"])
def test_the_audio_of_a_video_is_the_written_waveform(tmp_path, suffix):
    sound = tone(2.0, 22050, 700.0)
    path = write_video(tmp_path / f"a{suffix}", grey_frames(range(50, 100)), 25, sound)
    samples = read_waveform(tmp_path, file_input(path), 22050)
    assert abs(samples.shape[1] - sound.shape[1]) < 4000  # codecs pad
    spectrum = np.abs(np.fft.rfft(samples[0, 4000:40000]))
    assert abs(np.argmax(spectrum) * 22050 / 36000 - 700.0) < 2
    samples_of_range = read_waveform(tmp_path, file_input(path, 0.5, 1.25), 22050)
    assert abs(samples_of_range.shape[1] - 0.75 * 22050) < 50
    spectrum = np.abs(np.fft.rfft(samples_of_range[0, :16000]))
    assert abs(np.argmax(spectrum) * 22050 / 16000 - 700.0) < 2


def test_a_time_range_of_a_wav_is_exact(tmp_path):
    samples = noise(48000)
    path = write_wav(tmp_path / "a.wav", samples[None])
    whole = read_waveform(tmp_path, file_input(path), 16000)
    samples_of_range = read_waveform(tmp_path, file_input(path, 1.0, 2.5), 16000)
    np.testing.assert_array_equal(samples_of_range, whole[:, 16000:40000])


@pytest.mark.parametrize(
    ("variant", "rate", "size", "hop", "shape"),
    [("ogm_cremad", 22050, 512, 353, (257, 188)), ("vggsound", 16000, 256, 128, (129, 626))],
)
def test_stft_equals_that_of_torch(tmp_path, variant, rate, size, hop, shape):
    samples = noise(rate * 2)
    path = write_wav(tmp_path / "a.wav", samples[None], rate)
    written = soundfile.read(path)[0]
    spectrogram = Stft(variant)(tmp_path, file_input(path))
    start, length = (0, 66150) if variant == "ogm_cremad" else (40000, 80000)
    window = torch.from_numpy(np.clip(np.tile(written, 8)[start : start + length], -1, 1))
    expected = torch.stft(
        window,
        size,
        hop,
        window=torch.hann_window(size, dtype=torch.float64),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    assert spectrogram.shape == tuple(expected.shape) == shape
    np.testing.assert_allclose(spectrogram, (expected.abs() + 1e-7).log().half(), atol=0.02)


def test_the_window_of_vggsound_is_the_middle_of_ten_seconds():
    samples = np.arange(12 * 16000) / (12 * 16000)
    np.testing.assert_array_equal(Stft("vggsound").window(samples), samples[40000:120000])


def damaged(tmp_path, damage):
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
    if damage == "short":
        write_wav(path, tone(0.02))
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[damage])
    return path


@pytest.mark.parametrize(
    ("damage", "reason"),
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
def test_damaged_wav_files_give_the_reason(tmp_path, damage, reason):
    with pytest.raises(BadMedia, match=reason):
        LogMel()(tmp_path, file_input(damaged(tmp_path, damage)))


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi"])
def test_videos_without_audio_and_truncated_videos_are_errors(tmp_path, suffix):
    silent = write_video(tmp_path / f"silent{suffix}", grey_frames(range(60)))
    with pytest.raises(BadMedia, match="no audio stream"):
        LogMel()(tmp_path, file_input(silent))
    whole = write_video(tmp_path / f"a{suffix}", grey_frames(range(75)), 25, tone(3.0, 22050))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadMedia, match="truncated"):
        LogMel()(tmp_path, file_input(whole))


def test_a_time_range_beyond_the_end_is_an_error(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1.0))
    with pytest.raises(BadMedia, match=r"ends at 1.00 s, before the stretch does at 9.00 s"):
        LogMel()(tmp_path, file_input(path, 0.5, 9.0))
    with pytest.raises(BadMedia, match="zero length: the stretch from 2 s to 2 s"):
        LogMel()(tmp_path, file_input(path, 2, 2))
    with pytest.raises(BadMedia, match=r"zero length: the sound ends at 1.00 s"):
        LogMel()(tmp_path, file_input(path, 5.0))


def test_extractors_pickle_with_their_options(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(30000)[None])
    for extractor in (LogMel(8000, 30, 20), Stft("vggsound"), Stft()):
        again = pickle.loads(pickle.dumps(extractor))
        assert again.options() == extractor.options()
        result = extractor(tmp_path, file_input(path))
        assert result.shape == extractor.shape
        assert result.dtype == extractor.dtype
        np.testing.assert_array_equal(again(tmp_path, file_input(path)), result)


def test_wrong_options_are_errors():
    with pytest.raises(ConfigError, match="num_mels must be at least 1, got 0"):
        LogMel(num_mels=0)
    with pytest.raises(ConfigError, match="Did you mean 'silence'"):
        LogMel(padding="silense")
    with pytest.raises(ConfigError, match="Did you mean 'vggsound'"):
        Stft("vgsound")
