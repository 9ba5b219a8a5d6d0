"""Kinetics-Sounds: the tables of Kinetics-400, videos in any folder, splits."""

import numpy as np
import pytest
from tests.fakes.kinetics_sounds import fake_kinetics_sounds
from tests.fakes.media import class_image, write_video

from mla_lightning.data.sources.kinetics_sounds import CLASSES, KineticsSounds, clip_name
from mla_lightning.data.splits import TEST, TRAIN, VAL
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.engine import prepare

SMALL = {"num_frames": 64, "image_size": 24}


@pytest.fixture
def raw(tmp_path):
    return fake_kinetics_sounds(tmp_path / "raw", per_class=6, num_classes=3)


def test_there_are_31_classes_in_alphabetical_order():
    assert len(CLASSES) == 31
    assert sorted(CLASSES) == list(CLASSES)
    assert CLASSES[13] == "playing harmonica"
    assert clip_name("abcdefghijk", 7, 17) == "abcdefghijk_000007_000017"


@pytest.mark.parametrize("test_table", ["missing", "without labels"])
def test_without_a_labelled_test_the_validation_list_is_the_test(raw, test_table):
    expected = KineticsSounds(raw).items()
    (raw / "test.csv").rename(raw / "val.csv")
    if test_table == "without labels":
        (raw / "test.csv").write_text("youtube_id,time_start,time_end,split\n")
    source = KineticsSounds(raw)
    items = source.items()
    assert [item.id for item in items] == [item.id for item in expected]
    split = source.splits(items)["kinetics"]
    is_test = [item.attributes["part"] == "val" for item in items]
    assert (np.asarray(split.codes) == TEST).tolist() == is_test
    assert "its validation split as test" in split.description
    assert source.label_files()[1].name == "val.csv"


def test_rows_of_other_classes_are_ignored_and_videos_may_be_in_any_folder(raw):
    video = next((raw / "train").glob("*.mp4"))
    (raw / "deep" / "folder").mkdir(parents=True)
    video.rename(raw / "deep" / "folder" / video.name)
    items = {item.id: item for item in KineticsSounds(raw).items()}
    assert len(items) == 18
    assert {item.label for item in items.values()} == set(CLASSES[:3])
    moved = items[video.stem].inputs["audio"]
    assert moved.path.as_posix() == f"deep/folder/{video.name}"
    assert items[video.stem].inputs["visual"] == moved


def test_a_replacement_is_used_instead_of_the_broken_clip(raw):
    video = next((raw / "train").glob("*.mp4"))
    folder = raw / "replacement_for_corrupted_k400"
    folder.mkdir()
    (folder / video.name).write_bytes(video.read_bytes())
    items = {item.id: item for item in KineticsSounds(raw).items()}
    assert items[video.stem].inputs["visual"].path.parent.name == folder.name


def test_splits_are_those_of_kinetics_and_of_the_lists_of_ogm(raw, tmp_path):
    source = KineticsSounds(raw)
    items = source.items()
    codes = source.splits(items)["kinetics"].codes
    tables = np.array([item.attributes["part"] for item in items])
    assert (codes[tables == "test"] == TEST).all()
    assert set(codes[tables == "train"].tolist()) == {TRAIN, VAL}
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = {"train": [], "test": []}
    for item in items:
        clip, number = item.id, CLASSES.index(item.label)
        split = "test" if item.attributes["part"] == "train" else "train"  # swapped
        start = int(clip[12:18])
        name = clip if split == "train" else f"{clip[:11]}_{start}"
        rows[split].append(f"{name},10,{number}")
    for split, lines in rows.items():
        (lists / f"my_{split}.txt").write_text("\n".join(lines) + "\n")
    source = KineticsSounds(raw, lists=lists)
    ogm = source.splits(source.items())["ogm"].codes
    assert (ogm[tables == "train"] == TEST).all()
    (lists / "my_test.txt").write_text("abc,10,3\n")
    with pytest.raises(DataError, match=r"my_test.txt, line 1: .* not of a clip such as"):
        KineticsSounds(raw, lists=lists)
    (lists / "my_test.txt").write_text("abcdefghijk_3,10,31\n")
    with pytest.raises(DataError, match="label number from 0 to 30"):
        KineticsSounds(raw, lists=lists)


def many_clips(raw, num_clips):
    """Add rows of clips without videos to the test table; return their lines for OGM's list."""
    ids = [f"q{number:010d}" for number in range(num_clips)]
    with (raw / "test.csv").open("a") as file:
        file.writelines(
            f"bowling,{name},{30 + row},{40 + row},test\n" for row, name in enumerate(ids)
        )
    return [f"{name}_{30 + row},10,2" for row, name in enumerate(ids)]


def test_up_to_a_hundredth_of_ogms_ids_may_be_unknown(raw, tmp_path):
    """Three of OGM's 2,597 test clips are in no table; the other 2,594 must be kept."""
    lines = many_clips(raw, 400)
    items = KineticsSounds(raw).items()
    train = [item.id for item in items if item.attributes["part"] == "train"]
    labels = {item.id: item.label for item in items}
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [f"{name},10,{CLASSES.index(labels[name])}" for name in train]
    (lists / "my_train.txt").write_text("\n".join(rows))
    unknown = [f"gone000000{number}_5,10,4" for number in range(5)]
    (lists / "my_test.txt").write_text("\n".join(lines + unknown[:3]))
    split = KineticsSounds(raw, lists=lists).splits(items)["ogm"]
    assert (split.codes == TEST).sum() == 400
    assert "3 of their ids are not in the official files: gone0000000_000005_000015, gone0" in (
        split.description
    )
    (lists / "my_test.txt").write_text("\n".join(lines + unknown))  # more than a hundredth
    with pytest.raises(DataError, match=r"5 of 405 ids of 'test' are not in the data, such as gon"):
        KineticsSounds(raw, lists=lists).splits(items)
    # The end in a name counts: this clip of twelve seconds is not in the table.
    (lists / "my_test.txt").write_text("\n".join(lines))
    (lists / "my_train.txt").write_text(f"{train[0][:19]}{int(train[0][19:]) + 2:06d},10,0\n")
    with pytest.raises(DataError, match="1 of 1 ids of 'train' are not in the data"):
        KineticsSounds(raw, lists=lists).splits(items)


def test_videos_without_audio_are_listed(raw, tmp_path):
    video = min((raw / "train").glob("*.mp4"))
    write_video(video, [class_image(0, np.random.default_rng(0), 32, 48)] * 6)
    with pytest.raises(DataError, match=rf"{video.stem}, audio .*: no audio stream"):
        prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", jobs=1)


def test_the_store_holds_the_audio_and_frames_of_the_files(raw, tmp_path):
    for jobs in (1, 2):
        prepare(KineticsSounds(raw, **SMALL), tmp_path / f"{jobs}", jobs=jobs)
    for name in ("audio.npy", "visual.npy", "label.npy", "id.npy", "manifest.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    store = open_store(tmp_path / "1")
    assert np.bincount(store.label).tolist() == [6, 6, 6]
    sound = np.stack([store.array("audio")[row] for row in range(18)]).astype(np.float32)
    loudest = sound[:, 10:40, :80].mean(axis=1).argmax(axis=1)
    colours = np.stack([store.array("visual")[row].mean(axis=(0, 2, 3)) for row in range(18)])
    pitches = []
    for number, colour in enumerate([(220, 40, 40), (40, 200, 60), (50, 70, 230)]):
        bins = loudest[store.label == number]
        assert bins.max() - bins.min() <= 3
        pitches.append(bins.mean())
        assert np.abs(colours[store.label == number] - colour).max() < 50
    assert np.diff(pitches).min() > 4
    splits = store.manifest["splits"]
    assert splits["kinetics"]["overlap"]["video"]["num"] == 0


def test_missing_videos_are_listed_and_skipped_on_request(raw, tmp_path):
    video = min((raw / "test").glob("*.mp4"))
    video.unlink()
    with pytest.raises(DataError) as caught:
        prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", jobs=1)
    assert video.stem in str(caught.value)
    prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", on_bad="skip", jobs=1)
    store = open_store(tmp_path / "store")
    assert len(store) == 17
    (failure,) = {entry["id"]: entry["reason"] for entry in store.manifest["failures"]}.items()
    assert failure == (video.stem, "missing")


def test_wrong_folders_and_tables_are_errors(raw, tmp_path):
    with pytest.raises(DataError, match=r"holds no .mp4 file; .* holds nothing"):
        KineticsSounds(tmp_path / "raw" / "none").items()
    table = raw / "test.csv"
    text = table.read_text()
    table.write_text(text.replace("label,", "", 1))
    with pytest.raises(DataError, match=r"has no column 'label'.* An early test.csv has no"):
        KineticsSounds(raw).items()
    table.write_text(text.replace(",40,", ",forty,"))
    with pytest.raises(DataError, match=r"test.csv, line \d+: time_start 'forty'"):
        KineticsSounds(raw).items()
    table.write_text(text.replace(",40,", ",inf,"))
    with pytest.raises(DataError, match=r"test.csv, line 2: time_start 'inf'"):
        KineticsSounds(raw).items()
    table.write_text(text.replace("blowing nose,", ",", 1))
    with pytest.raises(DataError, match=r"test.csv, line 2: the label is empty"):
        KineticsSounds(raw).items()
    table.write_text(text.replace("v0000-00004", "#NAME?"))
    with pytest.raises(DataError, match=r"test.csv, line 2: youtube_id '#NAME\?' is not one of 11"):
        KineticsSounds(raw).items()
    table.write_text(text + text.partition("\n")[2])
    with pytest.raises(DataError, match="is in two rows"):
        KineticsSounds(raw).items()
    table.write_text("label,youtube_id,time_start,time_end\nabseiling,xxxxxxxxxxx,0,10\n")
    with pytest.raises(DataError, match="no row of a class such as 'blowing nose'"):
        KineticsSounds(raw).items()
    table.unlink()
    with pytest.raises(DataError, match=r"test.csv does not exist"):
        KineticsSounds(raw).items()


def test_options_are_checked(raw):
    shapes = {"centre": (9, 3, 256, 256), "released": (3, 3, 256, 256)}
    for choice, shape in shapes.items():
        assert KineticsSounds(raw, choice=choice).extractors()["visual"].shape == shape
        with pytest.raises(ConfigError, match="frames_per_segment must be at least 1, got 0"):
            KineticsSounds(raw, choice=choice, frames_per_segment=0)
    assert KineticsSounds(raw).extractors()["audio"].shape == (1024, 128)
