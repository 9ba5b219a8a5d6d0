"""UPMC Food-101: photographs with titles, in both layouts of titles."""

import csv

import numpy as np
import pytest
from tests.fakes.food101 import fake_food101

from mla_lightning.data.sources.food101 import Food101
from mla_lightning.data.splits import TEST, TRAIN, VAL
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.engine import prepare

SMALL = {"hashed": True, "length": 16, "image_size": 24}


@pytest.fixture
def raw(tmp_path):
    return fake_food101(tmp_path / "raw")


def rewrite(raw, split, change):
    path = raw / "texts" / f"{split}_titles.csv"
    with path.open(newline="") as file:
        rows = [change(row) for row in csv.reader(file)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(row for row in rows if row)


def test_a_photograph_and_its_title(raw):
    source = Food101(raw, **SMALL)
    items = source.items()
    assert len(items) == 48
    assert source.class_names == ("apple_pie", "bibimbap", "caesar_salad", "donuts")
    by_id = {item.id: item for item in items}
    item = by_id["donuts_3"]
    assert item.label == "donuts"
    assert item.attributes["part"] == "test"
    assert "donuts" in item.inputs["text"].text
    assert item.inputs["image"].path.as_posix() == "images/test/donuts/donuts_3.jpg"
    assert source.left_out == {"no title": 0, "blank title": 0}


def test_photographs_without_a_title_are_counted(raw):
    def change(row):
        if row[0] == "donuts_0.jpg":
            return None
        return [row[0], "  ", row[2]] if row[0] == "donuts_1.jpg" else row

    rewrite(raw, "train", change)
    source = Food101(raw, **SMALL)
    assert len(source.items()) == 46
    assert source.options()["left_out"] == {"no title": 1, "blank title": 1}


def test_titles_may_be_files_and_tables_may_have_a_header(raw, tmp_path):
    titles = {item.id: item.inputs["text"] for item in Food101(raw, **SMALL).items()}
    table = raw / "texts" / "test_titles.csv"
    table.write_text("image,title,class\n" + table.read_text())
    assert {i.id: i.inputs["text"] for i in Food101(raw, **SMALL).items()} == titles
    for name, title in titles.items():
        path = raw / "texts_txt" / name.rpartition("_")[0] / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(title.text)
    for path in (raw / "texts").iterdir():
        path.unlink()
    assert {i.id: i.inputs["text"] for i in Food101(raw, **SMALL).items()} == titles


def test_the_cleaning_of_mmbt_removes_punctuation(raw):
    rewrite(raw, "test", lambda row: [row[0], "Mom's | BEST-Pie!", row[2]])
    texts = {i.id: i.inputs["text"].text for i in Food101(raw, cleaning="mmbt", **SMALL).items()}
    assert texts["donuts_3"] == "mom s | best pie"


def test_the_default_split_is_clean_and_others_are_official_or_lists(raw, tmp_path):
    # Two titles that differ only in a number, one in train and one in test.
    for split, file, title in (
        ("train", "donuts_1.jpg", "Donuts of Lisbon 1"),
        ("test", "donuts_3.jpg", "donuts of lisbon, 22"),
    ):
        new = {file: title}
        rewrite(raw, split, lambda row, new=new: [row[0], new.get(row[0], row[1]), row[2]])
    lists = tmp_path / "lists"
    lists.mkdir()
    source = Food101(raw, **SMALL)
    items = source.items()
    (lists / "my_train_food.txt").write_text(
        "".join(f"{i.id}.jpg {i.label}\n" for i in items if not i.id.endswith("_2"))
    )
    (lists / "my_test_food.txt").write_text(
        "".join(f"{i.id}.jpg {i.label}\n" for i in items if i.id.endswith("_2"))
    )
    source = Food101(raw, lists=lists, **SMALL)
    items = source.items()
    splits = source.splits(items)
    ids = [item.id for item in items]
    row, other = ids.index("donuts_1"), ids.index("donuts_3")
    assert splits["clean"].codes[row] == splits["clean"].codes[other]
    official = splits["official"].codes
    assert official[other] == TEST
    assert official[row] in (TRAIN, VAL)
    folders = np.array([item.attributes["part"] for item in items])
    assert (official[folders == "test"] == TEST).all()
    assert (splits["paper"].codes == TEST).sum() == 4
    assert all((split.codes == VAL).any() for split in splits.values())


def test_wrong_options_and_files_are_errors(raw, tmp_path):
    with pytest.raises(ConfigError, match=r"tokenizer is missing: give tokenizer=vocab.txt"):
        Food101(raw)
    with pytest.raises(ConfigError, match="exclude each other"):
        Food101(raw, tokenizer=tmp_path, hashed=True)
    with pytest.raises(ConfigError, match="Did you mean 'mmbt'"):
        Food101(raw, cleaning="mbt", **SMALL)
    with pytest.raises(DataError, match=r"images/train does not exist; .* holds nothing"):
        Food101(tmp_path / "none", **SMALL).items()
    rewrite(raw, "train", lambda row: row[:2] if row[0] == "donuts_1.jpg" else row)
    with pytest.raises(DataError, match=r"train_titles.csv, line \d+: needs three columns"):
        Food101(raw, **SMALL).items()
    rewrite(raw, "train", lambda row: [*row, "donuts"] if len(row) == 2 else row)
    rewrite(raw, "train", lambda row: [*row[:2], "soup"] if row[0] == "donuts_1.jpg" else row)
    with pytest.raises(DataError, match="'soup' in the titles and is in the folder 'donuts'"):
        Food101(raw, **SMALL).items()
    for path in (raw / "texts").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"nor does .*texts_txt"):
        Food101(raw, **SMALL).items()


def test_the_store_holds_colour_images_grey_images_and_titles(raw, tmp_path):
    prepare(Food101(raw, **SMALL), tmp_path / "store", jobs=1)
    store = open_store(tmp_path / "store")
    assert len(store) == 48
    row = store.ids.index("apple_pie_1")
    assert np.abs(store.array("image")[row].mean(axis=(1, 2)) - (220, 40, 40)).max() < 40
    grey = store.array("image")[store.ids.index("apple_pie_0")]
    assert np.abs(grey[0].astype(int) - grey[1]).max() <= 2
    assert store.array("text")[row].any()
