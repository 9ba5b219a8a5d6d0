"""Sizes and lengths of an import follow the files, keep 95 % of them whole, and are said."""

import csv

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.media.survey import MAX_TOKENS, survey_texts
from mla_lightning.media.tokens import split_tokens

RATE = 8000


def write_table(folder, num=40):
    """Write sounds of 0.3 to 0.5 s, one of 3 s, pictures of 20 x 30 and texts of 2 or 30 words.

    Every fourth sample is one of test, with a longer sound and text and a larger picture.
    """
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num):
        is_test = number % 4 == 3
        seconds = 3.0 if number == 0 else 0.8 if is_test else 0.3 + 0.2 * number / (num - 2)
        sound = rng.normal(size=int(RATE * seconds)).astype("float32") / 10
        soundfile.write(folder / f"{number}.wav", sound, RATE)
        shape = (64, 64, 3) if is_test else (20, 30, 3)
        pixels = rng.integers(0, 255, size=shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        words = "word " * (9 if is_test else 30 if number == 1 else 1) + f"other{number}"
        split = "test" if is_test else "val" if number % 4 == 2 and number < 9 else "train"
        rows.append([number, number % 2, f"{number}.wav", f"{number}.png", words, split])
    with (folder / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "label", "sound", "picture", "note", "split"], *rows])
    return folder / "my.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table"))


def shapes_of(folder):
    store = open_store(folder)
    return {name: store.array(name).shape[1:] for name in store.modalities}


def test_an_import_takes_what_fits_the_files_and_says_what_is_cut(table, tmp_path, capsys):
    assert main(["data", "import", str(table), f"target={tmp_path / 'store'}"]) == 0
    output = capsys.readouterr().out
    shapes = shapes_of(tmp_path / "store")
    assert shapes["sound"] == (50, 128)  # frames of 10 ms: 95 % of train are at most 0.5 s
    assert "sounds of 0.3 to 3.0 s, kept to 0.5 s: 4 % are cut; num_frames=300 keeps all" in output
    assert shapes["picture"] == (3, 20, 20)
    assert "images of 30 x 20 pixels, read as 20 x 20" in output
    assert output.count(" (of train)\n") == 3
    (length,) = shapes["note"]
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        counts = [len(split_tokens(row["note"])) for row in rows]
    assert np.mean(np.array(counts) <= length) >= 0.95
    assert max(counts) > length
    assert f"kept to {length}: 4 % are cut; length={max(counts)} keeps all" in output


def test_without_a_split_the_drawn_one_is_followed_and_folds_follow_all(tmp_path, capsys):
    lengths = [3 + number for number in range(40)]
    table = write_features(tmp_path, lengths)
    for number, option in enumerate(("folds=4", "on_bad=stop")):
        store = tmp_path / f"store{number}"
        words = ["columns.face=sequence", f"target={store}", option, "jobs=1"]
        assert main(["data", "import", str(table), *words]) == 0
        output = capsys.readouterr().out
        ids, codes = open_store(store).ids, np.load(next(store.glob("split.*.npy")))
        train = [lengths[int(name)] for name, code in zip(ids, codes, strict=True) if code == 0]
        expected = max(lengths if option == "folds=4" else train)
        assert max(train) < max(lengths) or option == "folds=4"
        assert f"padded to {expected} steps" in output
        assert (" (of train)" in output) == (option != "folds=4")


def test_options_that_are_given_win_and_need_no_sentence(table, tmp_path, capsys):
    words = ["size=16", "num_frames=300", "length=9", f"target={tmp_path / 'store'}"]
    assert main(["data", "import", str(table), *words]) == 0
    output = capsys.readouterr().out
    assert shapes_of(tmp_path / "store") == {
        "sound": (300, 128),
        "picture": (3, 16, 16),
        "note": (9,),
    }
    assert "kept" not in output
    assert "read as" not in output


def test_the_same_files_give_the_same_store_again(table, tmp_path, capsys):
    words = ["data", "import", str(table), f"target={tmp_path / 'store'}"]
    assert main(words) == 0
    assert main(words) == 0
    assert "was prepared before from the same files" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(5))
def test_at_least_95_percent_of_texts_are_whole_below_the_bound(seed):
    rng = np.random.default_rng(seed)
    counts = np.exp(rng.normal(3, 1, size=400)).astype(int) + 1
    (length,) = survey_texts(counts.tolist()).options.values()
    assert np.mean(counts <= length) >= 0.95
    assert length <= counts.max()
    assert survey_texts([10 * MAX_TOKENS] * 9).options == {"length": MAX_TOKENS}


def write_features(folder, lengths, ending=".npy"):
    rng = np.random.default_rng(1)
    rows = []
    for number, length in enumerate(lengths):
        values = rng.normal(size=(length, 3) if length else 3).astype("float32")
        path = folder / f"{number}{ending}"
        if ending == ".npy":
            np.save(path, values)
        elif ending == ".npz":
            np.savez(path, face=values)
        else:
            torch.save({"face": torch.from_numpy(values)}, path)
        rows.append([number, number % 2, path.name])
    with (folder / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "label", "face"], *rows])
    return folder / "my.csv"


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt"])
def test_a_folder_of_sequences_is_padded_to_one_length_and_trains(
    tmp_path, monkeypatch, capsys, ending
):
    monkeypatch.chdir(tmp_path)
    lengths = [2 + number % 5 for number in range(30)]
    table = write_features(tmp_path, lengths, ending)
    assert main(["data", "import", str(table), "columns.face=sequence", "target=store"]) == 0
    assert "sequences of 2 to 6 steps of 3 numbers, padded to 6 steps" in capsys.readouterr().out
    store = open_store(tmp_path / "store")
    rows = np.asarray(store.array("face")[:])
    assert rows.shape == (30, 6, 3)
    for name, row in zip(store.ids, rows, strict=True):
        number = int(name)
        assert np.array_equal((row != 0).any(axis=1), np.arange(6) < lengths[number])
    if ending == ".npy":
        assert np.array_equal(rows[store.ids.index("4")][:6], np.load(tmp_path / "4.npy"))
    words = ["data=store", "data.path=store", "method=unimodal", "trainer.max_epochs=1"]
    assert main(["train", *words]) == 0


def test_files_of_vectors_are_features_and_a_wrong_kind_is_named(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    vectors = write_features(tmp_path / "a", [0] * 20)
    assert main(["data", "import", str(vectors), f"target={tmp_path / 'store'}"]) == 0
    assert "vectors of 3 numbers" in capsys.readouterr().out
    assert shapes_of(tmp_path / "store") == {"face": (3,)}
    sequences = write_features(tmp_path / "b", [4] * 20)
    assert main(["data", "import", str(sequences), f"target={tmp_path / 'other'}"]) == 3
    message = capsys.readouterr().err
    assert "the column 'face' holds files that are not of shape (D,), such as (4, 3)" in message
    assert "columns.face=sequence" in message


def test_one_file_of_another_width_is_named_and_can_be_left_out(tmp_path, capsys):
    table = write_features(tmp_path, [0] * 20)
    np.save(tmp_path / "7.npy", np.ones(5))
    words = ["data", "import", str(table), f"target={tmp_path / 'store'}"]
    assert main(words) == 3
    assert "shape (5,) instead of (3,)" in capsys.readouterr().err
    assert main([*words, "on_bad=skip"]) == 0
    assert "7" not in open_store(tmp_path / "store").ids


def test_files_of_features_that_are_something_else_are_named(tmp_path, capsys):
    table = write_features(tmp_path, [0] * 20)
    for number in range(20):
        (tmp_path / f"{number}.npy").write_text("<html>not found</html>")
    assert main(["data", "import", str(table), f"target={tmp_path / 'store'}"]) == 3
    message = capsys.readouterr().err
    assert "holds files of features of which none can be read; 0.npy: damaged" in message
