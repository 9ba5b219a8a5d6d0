"""IEMOCAP's features in the file layouts of GCNet and MMIN."""

import pickle

import numpy as np
import pytest
from tests.fakes.iemocap_features import (
    WIDTHS,
    fake_gcnet_features,
    fake_mmin_features,
)

from mla_lightning.cli.main import main
from mla_lightning.data.sources.iemocap_features import IEMOCAPFeatures
from mla_lightning.data.sources.iemocap_layouts import GCNET_TABLE
from mla_lightning.data.splits import TEST, TRAIN, VAL, overlap
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.sequences import Sequences
from mla_lightning.prepare.engine import prepare


@pytest.fixture(scope="module")
def gcnet(tmp_path_factory):
    return fake_gcnet_features(tmp_path_factory.mktemp("gcnet"))


@pytest.fixture(scope="module")
def mmin(tmp_path_factory):
    return fake_mmin_features(tmp_path_factory.mktemp("mmin"))


def test_gcnet_has_a_file_per_vector_or_frames_of_the_speaker(gcnet):
    items = {item.id: item for item in IEMOCAPFeatures(gcnet).items()}
    assert len(items) == 5 * 2 * 4 * 3
    item = items["Ses01F_impro01_F002"]
    assert item.label == "Happy"  # GCNet's class 0
    assert item.attributes == {"session": "1", "dialog": "Ses01F_impro01", "speaker": "1F"}
    folder = gcnet / "features"
    audio = np.load(folder / "wav2vec-large-c-UTT" / "Ses01F_impro01_F002.npy")
    assert np.array_equal(item.inputs["audio"].values, audio)
    frames = sorted((folder / "manet_UTT" / "Ses01F_impro01_F002").glob("*_F.npy"))
    expected = np.mean([np.load(frame) for frame in frames], axis=0)
    np.testing.assert_allclose(item.inputs["image"].values, expected, rtol=1e-6)
    assert "image" not in items["Ses01F_impro01_F000"].inputs  # no frame of the speaker


def test_frames_of_gcnet_are_sequences_without_pooling(gcnet, tmp_path):
    store = open_store(prepare(IEMOCAPFeatures(gcnet, pool="none"), tmp_path / "s", jobs=1))
    assert store.array("image").shape[1:] == (3, WIDTHS["image"])
    assert store.array("audio").shape[1:] == (1, WIDTHS["audio"])
    present = store.present("image")
    assert present is not None
    assert present.sum() == len(store) - 1


def test_sequences_of_mmin_are_padded_to_the_longest(mmin, tmp_path):
    import h5py

    store = open_store(prepare(IEMOCAPFeatures(mmin, layout="mmin"), tmp_path / "s", jobs=1))
    with h5py.File(mmin / "L" / "bert_large.h5") as file:
        values = {name: file[name][()] for name in file}
    longest = max(map(len, values.values()))
    assert store.array("text").shape == (len(values), longest, WIDTHS["text"])
    for row, id_ in enumerate(store.ids):
        sequence = store.array("text")[row]
        assert np.array_equal(sequence[: len(values[id_])], values[id_])
        assert not sequence[len(values[id_]) :].any()


def test_audio_of_mmin_is_standardised_by_utterance_or_by_fold(mmin):
    import h5py

    with h5py.File(mmin / "A" / "comparE.h5") as file:
        raw = file["Ses03M_impro01_M001"][()]

    def audio(**options):
        items = IEMOCAPFeatures(mmin, layout="mmin", **options).items()
        return next(i for i in items if i.id == "Ses03M_impro01_M001").inputs["audio"].values

    by_utterance = (raw - raw.mean(axis=0)) / raw.std(axis=0, ddof=1)
    np.testing.assert_allclose(audio(), by_utterance, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(audio(fold=2), (raw - 0.5) / 2.0, rtol=1e-5)


def test_splits_are_the_sessions_or_the_chosen_fold(mmin):
    source = IEMOCAPFeatures(mmin, layout="mmin")
    items = source.items()
    splits = source.splits(items)
    assert list(splits) == [f"session{n}" for n in range(1, 6)]
    speakers = [item.attributes["speaker"] for item in items]
    codes = splits["session5"].codes
    without_val = np.where(codes == VAL, TRAIN, codes).astype(np.int8)
    assert overlap(without_val, speakers) == []
    source = IEMOCAPFeatures(mmin, layout="mmin", fold=2)
    items = source.items()
    splits = source.splits(items)
    assert list(splits) == ["fold2"] == [source.default_split]
    test = {i.id for i, c in zip(items, splits["fold2"].codes, strict=True) if c == TEST}
    assert test == {i.id for i in items if i.attributes["speaker"] == "4M"}


def test_long_sequences_are_cut_only_on_request(mmin):
    source = IEMOCAPFeatures(mmin, layout="mmin", max_steps=4)
    items = source.items()
    read = source.extractors()["text"]
    assert read.shape == (4, WIDTHS["text"])
    assert source.options()["cut"]["text"] > 0
    long = next(i for i in items if len(i.inputs["text"].values) > 4)
    assert np.array_equal(read(mmin, long.inputs["text"]), long.inputs["text"].values[:4])
    with pytest.raises(Exception, match=r"steps, more than 2"):
        Sequences(2, WIDTHS["text"])(mmin, long.inputs["text"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "mmim"}, "Did you mean 'mmin'"),
        ({"fold": 1}, "no effect with layout=gcnet"),
        ({"pool": "max"}, "mean or none"),
        ({"max_steps": 3}, "no effect with pool=mean"),
        ({"layout": "mmin", "max_steps": 0}, "at least 1"),
        ({"layout": "mmin", "label_order": ("Angry",)}, "an order of"),
    ],
)
def test_wrong_options_are_errors(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        IEMOCAPFeatures(tmp_path, **options)


def test_missing_and_broken_files_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"IEMOCAP_features_raw_4way.pkl does not exist"):
        IEMOCAPFeatures(tmp_path).items()
    raw = fake_gcnet_features(tmp_path / "g", per_class=2)
    audio = raw / "features" / "wav2vec-large-c-UTT" / "Ses02M_impro01_F000.npy"
    content = audio.read_bytes()
    audio.unlink()
    with pytest.raises(DataError, match=r"Neither .*Ses02M_impro01_F000.npy nor the folder"):
        IEMOCAPFeatures(raw).items()
    audio.write_bytes(content[:50])
    with pytest.raises(DataError, match=r"Ses02M_impro01_F000.npy cannot be read"):
        IEMOCAPFeatures(raw).items()
    np.save(audio, np.ones(9))
    with pytest.raises(DataError, match=r"one width, found 6 of .*9 of Ses02M_impro01_F000"):
        IEMOCAPFeatures(raw).items()
    np.save(audio, np.full(6, np.nan))
    with pytest.raises(DataError, match="not finite"):
        IEMOCAPFeatures(raw).items()


def test_an_utterance_without_features_is_an_error(tmp_path):
    import h5py

    raw = fake_mmin_features(tmp_path / "m", per_class=2)
    with h5py.File(raw / "V" / "denseface.h5", "a") as file:
        del file["Ses02M_impro01_F000"]
    with pytest.raises(DataError, match=r"has no utterance Ses02M_impro01_F000"):
        IEMOCAPFeatures(raw, layout="mmin").items()
    with pytest.raises(DataError, match=r"fold= names another one"):
        IEMOCAPFeatures(raw, layout="mmin", fold=7).items()
    (raw / "A" / "comparE.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        IEMOCAPFeatures(raw, layout="mmin").items()


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_reading_the_pickled_table_runs_no_code(tmp_path):
    raw = fake_gcnet_features(tmp_path / "g", per_class=2)
    marker = tmp_path / "was run"
    tables = list(pickle.loads((raw / GCNET_TABLE).read_bytes()))
    tables[3] = Payload(marker)
    (raw / GCNET_TABLE).write_bytes(pickle.dumps(tuple(tables)))
    assert IEMOCAPFeatures(raw).items()
    assert not marker.exists()


@pytest.mark.slow
def test_all_methods_of_table_2_run_on_both_layouts(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fake_gcnet_features(tmp_path / "g")
    fake_mmin_features(tmp_path / "m")
    assert main(["data", "prepare", "iemocap_features", "raw=g"]) == 0
    words = ["data", "prepare", "iemocap_features", "raw=m", "layout=mmin", "target=data/mmin"]
    assert main(words) == 0
    tiny = ["encoder=auto", "trainer.max_epochs=3", "missing.rate=0.3", "seed=0"]
    short = ["method.pretrain_epochs=1"]
    experiment = ["train", "-m", "experiment=table2/iemocap_features", *tiny]
    methods = "method=late_fusion,qmf,cca,ae,cra,cpm_net,mla"
    assert main([*experiment, methods]) == 0
    correlation = ["method.num_components=4", "data.batch_size=64"]
    assert main([*experiment, "method=dcca,dccae", *correlation]) == 0
    assert main([*experiment, "method=mmin,if_mmin,tate", *short]) == 0
    sequences = ["data.path=data/mmin", "name=seq", *short]
    assert main([*experiment, "method=mmin,if_mmin", *sequences]) == 0
    widths = [f"encoder.{name}.in_features={width}" for name, width in WIDTHS.items()]
    experiment[3] = "encoder=iemocap_steps"
    assert main([*experiment, "method=tate", *sequences, *widths]) == 0
    capfd.readouterr()
    assert main([*experiment, "method=concat", *sequences[:2], *widths]) != 0
    assert "Steps gives sequences, and fusion Concat takes vectors" in capfd.readouterr().err
