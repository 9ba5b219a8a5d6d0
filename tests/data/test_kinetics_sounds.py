"""Kinetics-Sounds: the tables of Kinetics-400, its films wherever they lie, its splits."""

import numpy as np
import pytest
from tests.fakes.kinetics_sounds import fake_kinetics_sounds
from tests.fakes.media import picture, write_film

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


def test_rows_of_other_classes_are_none_and_films_are_found_anywhere(raw):
    film = next((raw / "train").glob("*.mp4"))
    (raw / "deep" / "folder").mkdir(parents=True)
    film.rename(raw / "deep" / "folder" / film.name)
    items = {item.id: item for item in KineticsSounds(raw).items()}
    assert len(items) == 18
    assert {item.label for item in items.values()} == set(CLASSES[:3])
    moved = items[film.stem].inputs["audio"]
    assert moved.path.as_posix() == f"deep/folder/{film.name}"
    assert items[film.stem].inputs["visual"] == moved


def test_a_replacement_counts_before_the_broken_clip(raw):
    film = next((raw / "train").glob("*.mp4"))
    folder = raw / "replacement_for_corrupted_k400"
    folder.mkdir()
    (folder / film.name).write_bytes(film.read_bytes())
    items = {item.id: item for item in KineticsSounds(raw).items()}
    assert items[film.stem].inputs["visual"].path.parent.name == folder.name


def test_splits_are_those_of_kinetics_and_of_ogms_lists(raw, tmp_path):
    source = KineticsSounds(raw)
    items = source.items()
    codes = source.splits(items)["kinetics"].codes
    parts = np.array([item.attributes["part"] for item in items])
    assert (codes[parts == "test"] == TEST).all()
    assert set(codes[parts == "train"].tolist()) == {TRAIN, VAL}
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = {"train": [], "test": []}
    for item in items:
        clip, number = item.id, CLASSES.index(item.label)
        part = "test" if item.attributes["part"] == "train" else "train"  # the other way round
        start = int(clip[12:18])
        rows[part].append(f"{clip if part == 'train' else f'{clip[:11]}_{start}'},10,{number}")
    for part, lines in rows.items():
        (lists / f"my_{part}.txt").write_text("\n".join(lines) + "\n")
    source = KineticsSounds(raw, lists=lists)
    ogm = source.splits(source.items())["ogm"].codes
    assert (ogm[parts == "train"] == TEST).all()
    (lists / "my_test.txt").write_text("abc,10,3\n")
    with pytest.raises(DataError, match=r"my_test.txt, line 1: .* not of a clip such as"):
        KineticsSounds(raw, lists=lists)
    (lists / "my_test.txt").write_text("abcdefghijk_3,10,31\n")
    with pytest.raises(DataError, match="label number from 0 to 30"):
        KineticsSounds(raw, lists=lists)


def many_clips(raw, num_clips):
    """Add rows of clips without films to the table of the test; return their lines for OGM."""
    ids = [f"q{number:010d}" for number in range(num_clips)]
    with (raw / "test.csv").open("a") as file:
        file.writelines(
            f"bowling,{name},{30 + row},{40 + row},test\n" for row, name in enumerate(ids)
        )
    return [f"{name}_{30 + row},10,2" for row, name in enumerate(ids)]


def test_ogms_list_names_three_clips_that_no_table_has(raw, tmp_path):
    """Of its 2,597 clips; the other 2,594 must not be lost with them."""
    lines = many_clips(raw, 400)
    items = KineticsSounds(raw).items()
    train = [item.id for item in items if item.attributes["part"] == "train"]
    labels = {item.id: item.label for item in items}
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [f"{name},10,{CLASSES.index(labels[name])}" for name in train]
    (lists / "my_train.txt").write_text("\n".join(rows))
    gone = [f"gone000000{number}_5,10,4" for number in range(5)]
    (lists / "my_test.txt").write_text("\n".join(lines + gone[:3]))
    split = KineticsSounds(raw, lists=lists).splits(items)["ogm"]
    assert (split.codes == TEST).sum() == 400
    assert "3 of their ids are not in the official files: gone0000000_000005_000015, gone0" in (
        split.description
    )
    (lists / "my_test.txt").write_text("\n".join(lines + gone))  # more than a hundredth
    with pytest.raises(DataError, match=r"5 of 405 ids of 'test' are not in the data, such as gon"):
        KineticsSounds(raw, lists=lists).splits(items)
    # A whole name keeps its end: this clip of twelve seconds is none of the table's.
    (lists / "my_test.txt").write_text("\n".join(lines))
    (lists / "my_train.txt").write_text(f"{train[0][:19]}{int(train[0][19:]) + 2:06d},10,0\n")
    with pytest.raises(DataError, match="1 of 1 ids of 'train' are not in the data"):
        KineticsSounds(raw, lists=lists).splits(items)


def test_films_without_sound_are_listed(raw, tmp_path):
    film = min((raw / "train").glob("*.mp4"))
    write_film(film, [picture(0, np.random.default_rng(0), 32, 48)] * 6)
    with pytest.raises(DataError, match=rf"{film.stem}, audio .*: no audio stream"):
        prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", jobs=1)


def test_the_store_holds_what_is_heard_and_seen(raw, tmp_path):
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
        own = loudest[store.label == number]
        assert own.max() - own.min() <= 3
        pitches.append(own.mean())
        assert np.abs(colours[store.label == number] - colour).max() < 50
    assert np.diff(pitches).min() > 4
    splits = store.manifest["splits"]
    assert splits["kinetics"]["overlap"]["video"]["num"] == 0


def test_films_that_are_gone_are_listed_and_skipped_on_request(raw, tmp_path):
    gone = min((raw / "test").glob("*.mp4"))
    gone.unlink()
    with pytest.raises(DataError) as caught:
        prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", jobs=1)
    assert gone.stem in str(caught.value)
    prepare(KineticsSounds(raw, **SMALL), tmp_path / "store", on_bad="skip", jobs=1)
    store = open_store(tmp_path / "store")
    assert len(store) == 17
    (failure,) = {entry["id"]: entry["reason"] for entry in store.manifest["failures"]}.items()
    assert failure == (gone.stem, "missing")


def test_wrong_folders_and_tables_are_told(raw, tmp_path):
    with pytest.raises(DataError, match=r"holds no .mp4 file; it holds nothing"):
        KineticsSounds(tmp_path / "raw" / "none").items()
    table = raw / "test.csv"
    text = table.read_text()
    table.write_text(text.replace("label,", "", 1))
    with pytest.raises(DataError, match=r"lacks the column 'label'.* An early test.csv has no"):
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


def test_settings_are_checked(raw):
    shapes = {"centre": (9, 3, 256, 256), "released": (3, 3, 256, 256)}
    for choice, shape in shapes.items():
        assert KineticsSounds(raw, choice=choice).extractors()["visual"].shape == shape
        with pytest.raises(ConfigError, match="frames_per_segment must be at least 1, got 0"):
            KineticsSounds(raw, choice=choice, frames_per_segment=0)
    assert KineticsSounds(raw).extractors()["audio"].shape == (1024, 128)
