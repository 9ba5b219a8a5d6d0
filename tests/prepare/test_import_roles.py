"""The columns of a table that are no modality: ids, classes, splits, groups; and rows left out."""

import csv
import json

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.splits import TEST, TRAIN, VAL
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_table import import_csv

NUM = 60
NAMES = {TRAIN: "train", VAL: "dev", TEST: "test"}


def columns(**changes):
    """Return the columns of a table: ten speakers with six samples each, of both classes."""
    content = {
        "emotion": ["happy", "sad"] * (NUM // 2),
        "part": [NAMES[n // 20 % 3] for n in range(NUM)],
        "speaker": [f"speaker {n // 6}" for n in range(NUM)],
        "words": [f"these are the words of sample {n}" for n in range(NUM)],
    }
    content = {**content, **changes}
    return {name: cells for name, cells in content.items() if cells is not None}


def write_table(folder, content):
    path = folder / "my.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*content.values(), strict=True))
    return path


def imported(folder, content, **options):
    options = {"label": "emotion", "jobs": 1, "length": 4, **options}
    path = write_table(folder, content)
    return open_store(import_csv(path, folder / "store", **options))


def test_without_ids_the_rows_are_numbered_and_keep_their_order(tmp_path):
    store = imported(tmp_path, columns(part=None))
    assert list(store.ids) == [f"{n:02d}" for n in range(NUM)]
    names = store.manifest["class_names"]
    label = np.load(store.folder / "label.npy")
    assert [names[k] for k in label] == columns()["emotion"]


def test_the_columns_of_id_and_split_can_be_named(tmp_path):
    ids = [f"z{NUM - n:02d}" for n in range(NUM)]
    store = imported(tmp_path, columns(clip=ids), id="clip", split="part")
    assert list(store.ids) == sorted(ids)
    codes = np.load(store.folder / "split.own.npy")
    expected = [n // 20 % 3 for n in reversed(range(NUM))]
    assert codes.tolist() == expected


@pytest.mark.parametrize("name", ["val", "dev", "valid", "validation"])
def test_the_names_of_the_validation_split(tmp_path, name):
    part = [text.replace("dev", name) for text in columns()["part"]]
    store = imported(tmp_path, columns(part=part), split="part")
    assert store.manifest["splits"]["own"]["sizes"] == [20, 20, 20]


def test_groups_stay_in_one_split_and_are_an_attribute(tmp_path):
    store = imported(tmp_path, columns(part=None), group="speaker")
    codes = np.load(store.folder / "split.own.npy")
    groups = np.load(store.folder / "attribute.speaker.npy")
    assert groups.tolist() == columns()["speaker"]
    for group in set(groups.tolist()):
        assert len(set(codes[groups == group])) == 1
    assert set(codes.tolist()) == {TRAIN, VAL, TEST}
    (tmp_path / "other").mkdir()
    drawn = imported(tmp_path / "other", columns(part=None))
    codes = np.load(drawn.folder / "split.own.npy")
    assert any(len(set(codes[groups == group])) > 1 for group in set(groups.tolist()))


def test_a_tenth_of_train_by_group_becomes_validation(tmp_path):
    part = [text.replace("dev", "train") for text in columns()["part"]]
    speaker = [f"speaker {n // 2}" for n in range(NUM)]
    store = imported(tmp_path, columns(part=part, speaker=speaker), split="part", group="speaker")
    codes = np.load(store.folder / "split.own.npy")
    val = {speaker[n] for n in np.flatnonzero(codes == VAL)}
    train = {speaker[n] for n in np.flatnonzero(codes == TRAIN)}
    assert val
    assert not val & train


def test_a_split_is_drawn_although_the_data_have_one(tmp_path):
    """As of data sets that come with train, or with train and validation, alone."""
    content = columns(part=None, split=["train", "validation"] * (NUM // 2))
    with pytest.raises(DataError, match=r"no sample of split 'test', only train, val.*split=draw"):
        imported(tmp_path, content)
    store = imported(tmp_path, content, split="draw")
    assert store.manifest["splits"]["own"]["sizes"] == [42, 6, 12]
    assert store.manifest["splits"]["own"]["description"].endswith("the data's own is left out")
    assert "split" not in store.manifest["modalities"]
    (tmp_path / "folds").mkdir()
    with pytest.raises(ConfigError, match=r"contradicts the column 'split'.*write split=draw"):
        imported(tmp_path / "folds", content, folds=3)
    folds = imported(tmp_path / "folds", content, folds=3, split="draw")
    assert [*folds.manifest["splits"]] == ["fold0", "fold1", "fold2"]


def test_samples_to_predict_may_come_with_a_split(tmp_path):
    content = columns(emotion=None, part=None, split=["train"] * NUM)
    options = {"label": None, "labels": "none"}
    with pytest.raises(DataError, match=r"has a column split.*or write split=draw"):
        imported(tmp_path, content, **options)
    store = imported(tmp_path, content, split="draw", **options)
    assert [*store.manifest["splits"]] == ["none"]
    assert len(store) == NUM


@pytest.mark.parametrize("group", [None, "speaker"])
def test_folds_test_every_sample_once(tmp_path, group):
    store = imported(tmp_path, columns(part=None), folds=5, group=group)
    splits = store.manifest["splits"]
    assert [*splits] == [f"fold{k}" for k in range(5)]
    assert store.manifest["default_split"] == "fold0"
    codes = np.stack([np.load(store.folder / f"split.{name}.npy") for name in splits])
    assert ((codes == TEST).sum(axis=0) == 1).all()
    assert ((codes == VAL).sum(axis=1) > 0).all()
    if group:
        groups = np.load(store.folder / "attribute.speaker.npy")
        for fold in codes:
            for name in set(groups.tolist()):
                assert len(set(fold[groups == name])) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label": "emotoin"}, DataError, "no column 'emotoin'.*Did you mean 'emotion'"),
        ({"split": "prat"}, DataError, "no column 'prat'.*split=prat.*Did you mean 'part'"),
        ({"group": "emotion"}, ConfigError, "'emotion' cannot be two of"),
        ({"folds": 5, "split": "part"}, ConfigError, "folds=5 contradicts the column 'part'"),
        ({"folds": 1}, ConfigError, "folds must be 2"),
        ({"split": "draw"}, ConfigError, "split=draw has no effect: .* has no 'split'"),
        ({"labels": "none"}, DataError, "has a column emotion; leave out labels=none"),
        ({"split": "speaker"}, DataError, "line 2: the split 'speaker 0' is unknown"),
    ],
)
def test_options_that_do_not_fit_are_errors(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        imported(tmp_path, columns(), **options)
    assert not (tmp_path / "store").exists()


def test_other_options_are_another_store(tmp_path):
    imported(tmp_path, columns(part=None))
    with pytest.raises(DataError, match="store"):
        imported(tmp_path, columns(part=None), group="speaker")


def damaged(folder):
    """Return columns with a missing file, a damaged one, an empty label, and an empty row."""
    (folder / "note.txt").write_text("a note of someone")
    (folder / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    notes = ["note.txt"] * NUM
    content = columns(part=None, note=notes)
    notes[3], notes[7] = "missing.txt", "bad.txt"
    content["emotion"][5] = ""
    content["words"][11] = notes[11] = ""
    return content


def test_all_rows_that_cannot_be_used_are_listed(tmp_path):
    with pytest.raises(DataError) as raised:
        imported(tmp_path, damaged(tmp_path))
    message = str(raised.value)
    assert "3 of 60 rows cannot be used" in message
    for line, reason in ((5, "no file"), (7, "id or label is empty"), (13, "are empty")):
        assert any(f"line {line}:" in text and reason in text for text in message.splitlines())
    assert "on_bad=skip" in message


def test_skip_leaves_all_of_them_out_and_lists_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, damaged(tmp_path))
    words = ["data", "import", "my.csv", "target=s", "label=emotion", "jobs=1", "length=4"]
    assert main([*words, "on_bad=skip"]) == 0
    printed = capsys.readouterr().out
    assert "left out: 4 samples" in printed
    failures = json.loads((tmp_path / "s" / "manifest.json").read_text())["failures"]
    assert {entry["id"] for entry in failures} == {"03", "05", "07", "11"}
    for entry in failures:
        assert entry["reason"] in printed
    assert len(open_store(tmp_path / "s")) == NUM - 4
    assert main(["data", "check", "s"]) == 0


def test_at_most_twenty_rows_are_printed(tmp_path):
    content = columns(part=None, picture=[f"{n}.jpg" for n in range(NUM)])
    with pytest.raises(DataError) as raised:
        imported(tmp_path, content)
    assert str(raised.value).count("there is no file") == 20
    assert "and 40 more" in str(raised.value)


def test_the_help_explains_every_option(capsys):
    import inspect

    assert main(["data", "import", "--help"]) == 0
    text = capsys.readouterr().out
    for name in inspect.signature(import_csv).parameters:
        if name not in ("path", "plan", "columns"):
            assert f"  {name}=" in text, name
    for example in ("--plan", "columns.age=number", "folds=5", "group=speaker"):
        assert example in text


def test_the_plan_of_another_action_or_columns_of_arrays_are_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", label=np.arange(4) % 2, x=np.eye(4))
    assert main(["data", "list", "--plan"]) == 2
    assert main(["data", "import", "a.npz", "--plan", "columns.x=number"]) == 2
    assert main(["data", "import", "a.npz", "target=s", "columns.x=number"]) == 2
    assert capsys.readouterr().err.count("has no effect on arrays") == 2


def test_another_split_of_the_same_samples_is_another_store(tmp_path, capsys):
    """The values of the split column are in no sample, but a store is made of them."""
    texts = [f"a sentence of number {number}" for number in range(12)]
    table = tmp_path / "a.csv"

    def write(splits):
        rows = [f"s{n},{n % 2},{splits[n // 4]},{text}" for n, text in enumerate(texts)]
        table.write_text("\n".join(["id,label,split,words", *rows]) + "\n")

    write(["train", "val", "test"])
    words = ["data", "import", str(table), f"target={tmp_path / 'store'}"]
    assert main(words) == 0
    assert main(words) == 0
    assert "was prepared before" in capsys.readouterr().out
    write(["test", "val", "train"])
    assert main(words) == 3
    assert "was prepared before" not in capsys.readouterr().out
