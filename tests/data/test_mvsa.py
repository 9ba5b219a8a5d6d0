"""MVSA-Single: merged labels, texts in latin-1, retweets in one split."""

import numpy as np
import pytest
from tests.fakes.mvsa import fake_mvsa

from mla_lightning.data.sources.mvsa import LABELS, MVSA, merge_labels
from mla_lightning.data.splits import TEST, TRAIN, VAL, overlap
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.engine import prepare

SMALL = {"hashed": True, "length": 16, "image_size": 24}


@pytest.fixture
def raw(tmp_path):
    return fake_mvsa(tmp_path / "raw")


@pytest.mark.parametrize("level", [".", "..", "data"])
def test_the_folder_is_found_one_level_higher_or_lower(raw, level, capsys):
    source = MVSA(raw / level, **SMALL)
    assert source.folder.resolve() == raw.resolve()
    assert source.items() == MVSA(raw, **SMALL).items()
    assert ("labelResultAll.txt is in" in capsys.readouterr().out) == (level != ".")


def test_two_folders_with_the_layout_are_not_chosen_from(raw):
    fake_mvsa(raw.parent / "other", per_class=2)
    with pytest.raises(DataError, match=r"labelResultAll\.txt does not exist"):
        MVSA(raw.parent, **SMALL).items()


def test_the_official_counts_follow_from_the_rules():
    # Labels of text and image in the official table -> number of rows.
    rows = {
        ("positive", "positive"): 1398,
        ("neutral", "positive"): 1030,
        ("negative", "negative"): 724,
        ("neutral", "neutral"): 470,
        ("neutral", "negative"): 421,
        ("positive", "neutral"): 255,
        ("negative", "neutral"): 213,
        ("negative", "positive"): 280,
        ("positive", "negative"): 78,
    }
    assert sum(rows.values()) == 4869
    counts = {}
    for rule in ("agree", "multisentinet"):
        merged = [(merge_labels(*labels, rule), n) for labels, n in rows.items()]
        counts[rule] = {label: sum(n for m, n in merged if m == label) for label in LABELS}
    assert counts["agree"] == {"negative": 724, "neutral": 470, "positive": 1398}
    assert sum(counts["agree"].values()) == 2592
    assert sum(counts["multisentinet"].values()) == 4511
    assert merge_labels("neutral", "positive", "multisentinet") == "positive"
    assert merge_labels("negative", "neutral", "multisentinet") == "negative"


def test_the_number_of_a_tweet_is_its_id(raw):
    source = MVSA(raw, **SMALL)
    items = source.items()
    assert len(items) == 60
    assert source.options()["left_out"] == {"labels differ": 6}
    assert (items[0].id, items[0].label) == ("00001", "negative")
    assert "caf\xe9" in items[0].inputs["text"].text
    assert items[0].inputs["image"].path.as_posix() == "data/1.jpg"
    assert len(MVSA(raw, labels="multisentinet", **SMALL).items()) == 64


def test_the_clean_split_keeps_retweets_together(raw, tmp_path):
    source = MVSA(raw, **SMALL)
    items = source.items()
    ids = [item.id for item in items]
    row, retweet = ids.index("00001"), ids.index("00002")
    splits = source.splits(items)
    assert splits["clean"].codes[row] == splits["clean"].codes[retweet]
    for split in splits.values():
        assert [(split.codes == c).sum() > 5 for c in (TRAIN, VAL, TEST)] == [True] * 3
    tweets = [item.id for item in items]
    assert not overlap(splits["clean"].codes, tweets)


def test_tweets_in_no_list_of_mla_are_validation(raw, tmp_path):
    items = MVSA(raw, **SMALL).items()
    lists = tmp_path / "lists"
    lists.mkdir()
    lines = [f"{int(item.id)}.jpg {item.label}\n" for item in items]
    (lists / "my_train_mvsa.txt").write_text("".join(lines[:40]))
    (lists / "my_test_mvsa.txt").write_text("".join(lines[50:]))
    source = MVSA(raw, lists=lists, **SMALL)
    codes = source.splits(source.items())["paper"].codes
    assert (codes == np.repeat([TRAIN, VAL, TEST], [40, 10, 10])).all()
    (lists / "my_test_mvsa.txt").write_text("one.jpg negative\n")
    source = MVSA(raw, lists=lists, **SMALL)
    with pytest.raises(DataError, match="ids of MVSA are numbers"):
        source.splits(source.items())


def test_lists_of_qmf_are_json(raw, tmp_path):
    items = MVSA(raw, **SMALL).items()
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, listed in (("train", items[:40]), ("dev", items[40:50]), ("test", items[50:])):
        (lists / f"{name}.jsonl").write_text(
            "".join(
                f'{{"id": "{int(i.id)}", "label": "{i.label}", "text": "x", '
                f'"img": "data/{int(i.id)}.jpg"}}\n'
                for i in listed
            )
        )
    source = MVSA(raw, lists=lists, **SMALL)
    codes = source.splits(source.items())["qmf"].codes
    assert (codes == np.repeat([TRAIN, VAL, TEST], [40, 10, 10])).all()
    (lists / "dev.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"dev.jsonl, line 1: '{}' is no JSON object with 'label'"):
        MVSA(raw, lists=lists, **SMALL)


def test_wrong_options_and_files_are_errors(raw, tmp_path):
    table = raw / "labelResultAll.txt"
    text = table.read_text()
    with pytest.raises(DataError, match=r"labelResultAll.txt does not exist; .* holds nothing"):
        MVSA(tmp_path / "none", **SMALL).items()
    table.write_text(text + "7 positive,positive\n")
    with pytest.raises(DataError, match=r"line 68: '7 positive,positive' is not of the form"):
        MVSA(raw, **SMALL).items()
    table.write_text(text + "1\tpositive,positive\n")
    with pytest.raises(DataError, match="line 68: 1 occurs twice"):
        MVSA(raw, **SMALL).items()
    table.write_text("ID\ttext,image\n1\tpositive,negative\n")
    with pytest.raises(DataError, match="no tweet whose labels fit together"):
        MVSA(raw, **SMALL).items()
    table.write_text(text)
    with pytest.raises(DataError, match=r"1.txt is not utf-8: .* encoding=latin-1"):
        MVSA(raw, encoding="utf-8", **SMALL).items()
    with pytest.raises(ConfigError, match="Did you mean 'agree'"):
        MVSA(raw, labels="agre", **SMALL)
    (raw / "data" / "1.txt").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(DataError, match="git lfs pull"):
        MVSA(raw, **SMALL).items()


def test_the_store_holds_all_tweets(raw, tmp_path):
    prepare(MVSA(raw, **SMALL), tmp_path / "store", jobs=1)
    store = open_store(tmp_path / "store")
    assert len(store) == 60
    assert store.manifest["splits"]["random"]["sizes"] == [36, 12, 12]
