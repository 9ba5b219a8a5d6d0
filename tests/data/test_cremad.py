"""CREMA-D: names, labels, splits and errors of the folder."""

import numpy as np
import pytest
from tests.fakes.cremad import fake_cremad

from mla_lightning.data.prepared import Prepared
from mla_lightning.data.sources.cremad import CREMAD, EMOTIONS
from mla_lightning.data.splits import TEST, TRAIN, VAL, overlap
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.engine import prepare

SMALL = {"num_frames": 96, "image_size": 24}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return fake_cremad(tmp_path_factory.mktemp("cremad"))


def test_the_name_of_a_clip_gives_its_label_and_attributes(raw):
    items = CREMAD(raw).items()
    assert len(items) == 60
    first = items[0]
    assert (first.id, first.label) == ("1001_DFA_ANG_XX", "Anger")
    assert first.attributes == {"actor": "1001", "sentence": "DFA", "level": "XX"}
    assert str(first.inputs["visual"].path) == "VideoFlash/1001_DFA_ANG_XX.flv"
    labels = [CREMAD.class_names.index(item.label) for item in items[:6]]
    assert labels == [0, 1, 2, 3, 4, 5]  # ANG DIS FEA HAP NEU SAD, alphabetical


def test_splits_share_no_actor_except_random_ones(raw):
    source = CREMAD(raw)
    items = source.items()
    splits = source.splits(items)
    actors = [item.attributes["actor"] for item in items]
    codes = splits["actor"].codes
    for code, other in ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST)):
        shared = set(np.array(actors)[codes == code]) & set(np.array(actors)[codes == other])
        assert not shared
    assert [int((codes == c).sum()) for c in (TRAIN, VAL, TEST)] == [42, 6, 12]
    assert overlap(splits["random"].codes, actors)
    assert "all actors" in splits["random"].description


def test_lists_of_mla_and_ogm_are_read(raw, tmp_path):
    names = [item.id for item in CREMAD(raw).items()]
    labels = dict(zip(names, (item.label for item in CREMAD(raw).items()), strict=True))
    lines = [f"{name}.flv {labels[name]}\n" for name in names]
    (tmp_path / "my_train_cre.txt").write_text("".join(lines[:48]))
    (tmp_path / "my_test_cre.txt").write_text("".join(lines[48:]))
    code = {label: code for code, label in EMOTIONS.items()}
    rows = [f"{n},{code[labels[n]]}" for n in names]
    (tmp_path / "train.csv").write_text("\ufeff" + "\n".join(rows[12:]) + "\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("\n".join(rows[:12]) + "\n")
    source = CREMAD(raw, lists=tmp_path)
    splits = source.splits(source.items())
    assert (splits["paper"].codes[48:] == TEST).all()
    assert (splits["ogm"].codes[:12] == TEST).all()
    for name in ("paper", "ogm"):
        assert 0 < (splits[name].codes == VAL).sum() < 10
    assert source.options()["lists"].keys() == {"paper", "ogm"}
    broken = tmp_path / "my_test_cre.txt"
    broken.write_text(broken.read_text() + "1001_DFA_ANG_XX Anger\n")
    with pytest.raises(DataError, match=r"my_test_cre.txt, line 13: .* is not of the form"):
        CREMAD(raw, lists=tmp_path)
    broken.write_text("1001_DFA_ANG_XX.flv Happy\n")
    source = CREMAD(raw, lists=tmp_path)
    with pytest.raises(DataError, match="'1001_DFA_ANG_XX' is of class"):
        source.splits(source.items())
    with pytest.raises(DataError, match=r"is no folder; it must hold my_train_cre.txt"):
        CREMAD(raw, lists=tmp_path / "none")
    broken.unlink()
    # OGM's lists are complete, but a single list of MLA is an error.
    with pytest.raises(DataError, match=r"my_train_cre.txt but not my_test_cre.txt; split 'paper'"):
        CREMAD(raw, lists=tmp_path)


def test_the_message_of_a_wrong_folder_says_what_is_missing(raw, tmp_path):
    with pytest.raises(DataError, match=r"AudioWAV holds no .wav file; .* holds nothing.*git lfs"):
        CREMAD(tmp_path).items()
    fake_cremad(tmp_path, num_actors=1)
    (tmp_path / "AudioWAV" / "mine.wav").write_bytes(b"x")
    with pytest.raises(DataError, match="'mine' is no name of a clip such as 1001_DFA_ANG_XX"):
        CREMAD(tmp_path).items()
    (tmp_path / "AudioWAV" / "mine.wav").rename(tmp_path / "AudioWAV" / ".mine.wav")
    assert len(CREMAD(tmp_path).items()) == 6  # hidden files are ignored


def test_options_are_checked(raw):
    with pytest.raises(ConfigError, match="Did you mean 'stft'"):
        CREMAD(raw, features="sftf")
    with pytest.raises(ConfigError, match="num_frames has no effect"):
        CREMAD(raw, features="stft", num_frames=99)
    assert CREMAD(raw, features="stft").extractors()["audio"].shape == (257, 188)
    assert CREMAD(raw).extractors()["audio"].shape == (1024, 128)
    shapes = {"centre": (9, 3, 256, 256), "released": (3, 3, 256, 256)}
    for choice in ("centre", "released"):
        assert CREMAD(raw, choice=choice).extractors()["visual"].shape == shapes[choice]
    assert CREMAD(raw, frames_per_segment=2).extractors()["visual"].shape == (6, 3, 256, 256)
    for choice in ("centre", "released"):
        with pytest.raises(ConfigError, match="frames_per_segment must be at least 1, got 0"):
            CREMAD(raw, choice=choice, frames_per_segment=0)


def test_known_bad_clips_and_lfs_pointers_are_listed(tmp_path, capfd):
    raw = fake_cremad(tmp_path / "raw", num_actors=10)
    bad = raw / "VideoFlash" / "1002_DFA_ANG_XX.flv"
    bad.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    known = raw / "VideoFlash" / "1064_IEO_DIS_MD.flv"
    (raw / "AudioWAV" / "1064_IEO_DIS_MD.wav").write_bytes(b"")
    known.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        prepare(CREMAD(raw, **SMALL), tmp_path / "store", jobs=1)
    message = str(caught.value) + capfd.readouterr().err
    assert "1002_DFA_ANG_XX" in message
    assert "git lfs pull" in message
    assert "the makers: film of a minute" in message
    prepare(CREMAD(raw, **SMALL), tmp_path / "store", on_bad="skip", jobs=1)
    store = open_store(tmp_path / "store")
    assert len(store) == 59
    assert {entry["id"] for entry in store.manifest["failures"]} == {
        "1002_DFA_ANG_XX",
        "1064_IEO_DIS_MD",
    }


def test_the_store_holds_the_audio_and_frames_of_the_files(raw, tmp_path):
    prepare(CREMAD(raw, **SMALL), tmp_path / "store", jobs=2)
    store = open_store(tmp_path / "store")
    assert len(store) == 60
    options = store.manifest["modalities"]["visual"]["options"]
    assert options["frames_per_segment"] == 3
    data = Prepared(path=tmp_path / "store", batch_size=4)
    batch = next(iter(data.test_dataloader()))
    assert data.inputs["visual"](batch["inputs"]["visual"]).shape[1:] == (3, 3, 24, 24)
    sound = np.stack([store.array("audio")[row] for row in range(60)]).astype(np.float32)
    # The loudest bin depends on the pitch, and the pitch on the emotion.
    loudest = sound[:, 10:60, :80].mean(axis=1).argmax(axis=1)
    for number in range(6):
        bins = loudest[store.label == number]
        assert bins.max() - bins.min() <= 3
    colours = np.stack([store.array("visual")[row].mean(axis=(0, 2, 3)) for row in range(60)])
    assert np.abs(colours[store.label == 0].mean(axis=0) - (220, 40, 40)).max() < 40
    assert store.manifest["splits"]["random"]["overlap"]["actor"]["num"] > 0
    assert store.manifest["splits"]["actor"]["overlap"]["actor"]["num"] == 0


def test_the_number_of_jobs_does_not_change_the_store(tmp_path):
    raw = fake_cremad(tmp_path / "raw", num_actors=10)
    for jobs in (1, 2):
        prepare(CREMAD(raw, features="stft", image_size=24), tmp_path / f"{jobs}", jobs=jobs)
    for name in ("audio.npy", "visual.npy", "label.npy", "id.npy", "manifest.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    store = open_store(tmp_path / "1")
    assert store.array("audio").shape == (60, 257, 188)
    sound = np.stack([store.array("audio")[row] for row in range(60)]).astype(np.float32)
    loudest = sound.mean(axis=2).argmax(axis=1)  # bins of 22050 / 512 Hz
    for number in range(6):
        hertz = 200.0 * 1.35**number
        assert np.abs(loudest[store.label == number] * 22050 / 512 - hertz).max() < 60
