"""Sizes and lengths of an import follow the files, keep 95 % of them whole, and are said."""

import csv

import numpy as np
import pytest
import soundfile
from PIL import Image

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.media.survey import MAX_TOKENS, survey_texts
from mla_lightning.media.tokens import split_tokens

RATE = 8000


def write_table(folder, num=40):
    """Write sounds of 0.3 to 0.5 s, one of 3 s, pictures of 20 x 30 and texts of 2 or 30 words."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num):
        seconds = 3.0 if number == 0 else 0.3 + 0.2 * number / num
        sound = rng.normal(size=int(RATE * seconds)).astype("float32") / 10
        soundfile.write(folder / f"{number}.wav", sound, RATE)
        pixels = rng.integers(0, 255, size=(20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        words = "word " * 30 if number == 1 else f"two words{number}"
        rows.append([number, number % 2, f"{number}.wav", f"{number}.png", words.strip()])
    with (folder / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "label", "sound", "picture", "note"], *rows])
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
    assert shapes["sound"] == (50, 128)  # frames of 10 ms: 95 % are at most 0.5 s
    assert "sounds of 0.3 to 3.0 s, kept to 0.5 s: 2 % are cut; num_frames=300 keeps all" in output
    assert shapes["picture"] == (3, 20, 20)
    assert "images of 30 x 20 pixels, read as 20 x 20" in output
    (length,) = shapes["note"]
    with table.open() as file:
        counts = [len(split_tokens(row["note"])) for row in csv.DictReader(file)]
    assert np.mean(np.array(counts) <= length) >= 0.95
    assert max(counts) > length
    assert f"kept to {length}: 2 % are cut; length={max(counts)} keeps all" in output


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
