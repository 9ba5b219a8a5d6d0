"""Import of regression targets and of several labels per sample, from tables and arrays."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.splits import TEST, TRAIN
from mla_lightning.data.store import open_store, verify_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.prepare.import_table import import_csv

NUM = 60
GENRES = ("Drama", "War", "Comedy")
#: (N, 3) of 0 and 1; every eighth sample has none.
SETS = np.arange(NUM)[:, None] >> np.arange(3) & 1

SPLIT = ["train"] * (NUM - 1) + ["test"]


def table(folder, **columns):
    """Write a CSV with a column of features and other columns."""
    folder.mkdir(exist_ok=True)
    cells = {"signal": [f"{n / 7:.3f} {n % 5} 0.5" for n in range(NUM)], **columns}
    path = folder / "my.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    return path


def imported(path, **options):
    return open_store(import_csv(path, path.parent / "store", **{"jobs": 1, **options}))


def genres(separator=";", empty="[]"):
    names = [[g for g, has in zip(GENRES, row, strict=True) if has] for row in SETS]
    return [separator.join(row) or empty for row in names]


def ratings():
    return [f"{n % 11 / 2:g}" for n in range(NUM)]


def sets_of(store):
    """Return the labels of each sample by id."""
    names = store.manifest["class_names"]
    return {
        name: {names[k] for k in np.flatnonzero(row)}
        for name, row in zip(store.ids, store.label, strict=True)
    }


# ---------------------------------------------------------------------- regression


def test_a_table_of_targets_becomes_a_store(tmp_path, capsys):
    path = table(tmp_path / "a", rating=ratings(), twice=[f"{n % 11}" for n in range(NUM)])
    store = imported(path, task="regression", label="rating")
    assert store.label.tolist() == [n % 11 / 2 for n in range(NUM)]
    assert (store.task, store.manifest["class_names"]) == ("regression", [])
    assert store.manifest["options"]["task"] == "regression"
    assert verify_store(store.folder) == []
    plan = capsys.readouterr().out
    expected = f"mean {np.mean(store.label):.3g}, sd {np.std(store.label):.3g}, 11 distinct values"
    assert f"target from 0 to 5, {expected}" in plan
    assert "twice" in plan
    assert "follows the target (correlation 1.000)" in plan


def test_a_chosen_column_that_follows_the_target_is_warned_of(tmp_path, capsys):
    rng = np.random.default_rng(0)
    noise = [f"{value:.3f}" for value in rng.normal(size=NUM)]
    path = table(tmp_path, label=ratings(), copy=[f"-{r}" for r in ratings()], noise=noise)
    options = {"task": "regression", "columns": {"copy": "number", "noise": "number"}}
    import_csv(path, tmp_path / "store", plan=True, **options)
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(warned) == 1
    assert "each value of copy follows the target (correlation -1.000)" in warned[0]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "id or label is empty"),
        ("nan", "'nan' is not finite"),
        ("-inf", "'-inf' is not finite"),
        ("good", "'good' is no number"),
        ("1,5", "'1,5' is no number: write a decimal point"),
        ("1e39", "too large for float32"),
    ],
)
def test_a_wrong_target_is_an_error_or_left_out(tmp_path, cell, reason):
    path = table(tmp_path, label=["0.5", cell, *ratings()[2:]])
    with pytest.raises(DataError, match=f"line 3: .*{reason}.*on_bad=skip"):
        imported(path, task="regression")
    store = imported(path, task="regression", on_bad="skip")
    assert len(store) == NUM - 1
    assert reason in store.manifest["failures"][0]["reason"]


def test_minus_zero_is_zero(tmp_path):
    store = imported(table(tmp_path, label=["-0.0", *ratings()[1:]]), task="regression")
    assert not np.signbit(store.label).any()


@pytest.mark.parametrize(
    ("label", "split", "message"),
    [
        (["3"] * NUM, {}, "target is 3 in all samples, so there is nothing to learn"),
        (["3"] * (NUM - 1) + ["4"], {"split": SPLIT}, "target is 3 in all samples of train"),
    ],
)
def test_a_constant_target_is_an_error(tmp_path, label, split, message):
    path = table(tmp_path, label=label, **split)
    with pytest.raises(DataError, match=message):
        imported(path, task="regression")


def test_targets_that_mislead_are_warned_of(tmp_path, capsys):
    split = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    label = [str(n % 7) for n in range(NUM - 1)] + ["-999"]
    table_options = {"task": "regression", "plan": True}
    import_csv(table(tmp_path, label=label, split=split), tmp_path / "store", **table_options)
    plan = capsys.readouterr().out
    assert "1 target is far from all others, such as -999" in plan
    assert "1 target of test is outside of the range of train, 0 to 6" in plan
    label = [str(1.7e9 + n) for n in range(NUM)]
    import_csv(table(tmp_path, label=label), tmp_path / "store", **table_options)
    assert "lost in float32" in capsys.readouterr().out


def test_groups_and_folds_work_for_targets(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "label": [f"{value:.2f}" for value in rng.normal(size=NUM)],
        "speaker": [f"speaker {n // 6}" for n in range(NUM)],
    }
    path = table(tmp_path, **columns)
    store = imported(path, task="regression", group="speaker", folds=3)
    codes = np.stack([store.split(name) for name in store.manifest["splits"]])
    assert ((codes == TEST).sum(axis=0) == 1).all()
    speakers = np.array(store.attribute("speaker"))
    for fold in codes:
        assert all(len(set(fold[speakers == s])) == 1 for s in set(speakers.tolist()))
        means = [store.label[fold == code].mean() for code in (TRAIN, TEST)]
        assert abs(means[0] - means[1]) < 1.0


# ---------------------------------------------------------------------- several labels


@pytest.mark.parametrize("form", [";", "|", "json", "python", "columns"])
def test_every_form_of_several_labels_gives_the_same_sets(tmp_path, form, capsys):
    names = [[g for g, has in zip(GENRES, row, strict=True) if has] for row in SETS]
    options = {"task": "multilabel"}
    if form == "columns":
        columns = {g: SETS[:, k].astype(str) for k, g in enumerate(GENRES)}
        options["label"] = ",".join(GENRES)
    elif form in ("json", "python"):
        columns = {"label": [json.dumps(row) if form == "json" else str(row) for row in names]}
    else:
        columns = {"label": genres(form)}
    store = imported(table(tmp_path, **columns), **options)
    assert list(sets_of(store).values()) == [set(row) for row in names]
    order = GENRES if form == "columns" else sorted(GENRES)
    assert store.manifest["class_names"] == list(order)
    plan = capsys.readouterr().out
    assert "7 of 60 samples have none of the labels" in plan or "8 of 60" in plan
    assert ("1 in 30 of 60 rows" if form == "columns" else "Drama 30") in plan


def test_lists_of_parquet_and_json_lines_are_read(tmp_path):
    names = [[g for g, has in zip(GENRES, row, strict=True) if has] for row in SETS]
    words = [f"these are the words of {n}" for n in range(NUM)]
    table_of = pa.table({"genres": pa.array(names, pa.list_(pa.string())), "words": words})
    pa.parquet.write_table(table_of, tmp_path / "my.parquet")
    lines = [
        json.dumps({"genres": row, "words": text}) for row, text in zip(names, words, strict=True)
    ]
    (tmp_path / "my.jsonl").write_text("\n".join(lines))
    for ending in ("parquet", "jsonl"):
        path = tmp_path / f"my.{ending}"
        options = {"task": "multilabel", "label": "genres", "length": 4, "jobs": 1}
        store = open_store(import_csv(path, tmp_path / ending, **options))
        assert list(sets_of(store).values()) == [set(row) for row in names]


def test_numbers_of_classes_of_a_saved_dataset_become_names(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    numbers = [np.flatnonzero(row).tolist() for row in SETS]
    words = [f"these are the words of {n}" for n in range(NUM)]
    saved = pa.table({"labels": pa.array(numbers, pa.list_(pa.int64())), "words": words})
    with pa.ipc.new_stream(folder / "data.arrow", saved.schema) as writer:
        writer.write_table(saved)
    feature = {"feature": {"names": list(GENRES), "_type": "ClassLabel"}, "_type": "Sequence"}
    info = {"features": {"labels": feature, "words": {"dtype": "string", "_type": "Value"}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    options = {"task": "multilabel", "label": "labels", "length": 4, "jobs": 1}
    store = open_store(import_csv(folder, tmp_path / "store", **options))
    expected = [{GENRES[k] for k in row} for row in numbers]
    assert list(sets_of(store).values()) == expected


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("", r"line 2: the label is empty; a sample without any label has \[\]"),
        ("[Drama", r"line 2: the label '\[Drama' is no list of names"),
        ('["Drama", ""]', "is no list of names"),
        ("[[1]]", "is no list of names"),
        ("Drama|War", "some labels hold ; and others |"),
    ],
)
def test_wrong_lists_of_labels_are_errors(tmp_path, cells, reason):
    with pytest.raises(DataError, match=reason):
        imported(table(tmp_path, label=[cells, *genres()[1:]]), task="multilabel")


@pytest.mark.parametrize("cell", ["-1", "", "yes", "0.5"])
def test_columns_of_labels_hold_zeros_and_ones(tmp_path, cell):
    columns = {"a": [cell] + ["1"] * (NUM - 1), "b": ["0", "1.0", "True"] * (NUM // 3)}
    with pytest.raises(DataError, match=r"line 2: the label 'a' .*it must be 0 or 1"):
        imported(table(tmp_path, **columns), task="multilabel", label="a,b")


def test_one_label_per_row_is_no_multilabel_data(tmp_path):
    for cells, hint in ((["a", "b"], "they are classes"), (["a, b", "b"], "Commas do not")):
        with pytest.raises(DataError, match=f"exactly one label.*{hint}"):
            imported(table(tmp_path, label=cells * (NUM // 2)), task="multilabel")


def test_labels_that_mislead_are_warned_of(tmp_path, capsys):
    split = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    label = ["Drama;Drama;drama", *genres()[1:-1], "Only in test;War"]
    path = table(tmp_path, label=label, split=split, war=SETS[:, 1].astype(str))
    import_csv(path, tmp_path / "store", task="multilabel", plan=True)
    plan = capsys.readouterr().out
    assert "the labels 'Drama', 'drama' differ only in spelling" in plan
    assert "1 cells name a label twice; it counts once" in plan
    assert "no sample of train has the label 'Only in test'" in plan
    assert "2 labels have fewer than 3 samples" in plan


def test_a_column_that_follows_one_of_the_labels_is_named(tmp_path, capsys):
    path = table(tmp_path, label=genres(), war=(5 - 2 * SETS[:, 1]).astype(str))
    import_csv(path, tmp_path / "store", task="multilabel", plan=True)
    assert "each value follows the label 'War' (correlation -1.000)" in capsys.readouterr().out


# ---------------------------------------------------------------------- nothing is guessed


@pytest.mark.parametrize(
    ("label", "task", "message"),
    [
        ([f"{n / 7:.2f}" for n in range(NUM)], "regression", "real numbers, 60 different"),
        ([f"{n % 15 / 2}" for n in range(NUM)], "regression", "real numbers, 15 different"),
        ([str(1900 + n) for n in range(NUM)], "regression", "whole numbers, 60 different"),
        (genres(";", "War"), "multilabel", "lists, such as"),
        (genres("|", "War"), "multilabel", "lists, such as"),
        ([json.dumps(row.tolist()) for row in SETS], "multilabel", "lists, such as"),
    ],
)
def test_labels_that_look_like_no_classes_name_the_task(tmp_path, label, task, message):
    path = table(tmp_path, label=label)
    with pytest.raises(DataError, match=f"{message}.*task={task}.*task=classification"):
        imported(path)
    store = imported(path, task="classification")
    assert len(store.manifest["class_names"]) == len(set(label))
    assert "task" not in store.manifest
    assert "task" not in store.manifest["options"]


def test_many_classes_that_are_whole_numbers_are_warned_of(tmp_path, capsys):
    path = table(tmp_path, label=[str(n % 30) for n in range(NUM)])
    assert len(imported(path).manifest["class_names"]) == 30
    assert (
        "the 30 classes are numbers: if they are quantities, task=regr" in capsys.readouterr().out
    )


@pytest.mark.parametrize("label", [["1", "2", "3"], ["drum;bass", "jazz", "rock"]])
def test_labels_that_are_classes_need_no_task(tmp_path, label):
    assert len(imported(table(tmp_path, label=label * (NUM // 3))).manifest["class_names"]) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label": "a,b"}, ConfigError, "names 2 columns.*are for task=multilabel"),
        ({"label": "a,c", "task": "multilabel"}, DataError, "no column 'a,c'"),
        ({"labels": "none", "task": "regression"}, ConfigError, "task has no effect"),
    ],
)
def test_options_that_do_not_fit_are_errors(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        imported(table(tmp_path, a=["0", "1"] * 30, b=["1", "0"] * 30), **options)


# ---------------------------------------------------------------------- arrays


def arrays(folder, **changes):
    rng = np.random.default_rng(0)
    contents = {"audio": rng.normal(size=(NUM, 4)), "face": rng.normal(size=(NUM, 3)), **changes}
    np.savez(folder / "my.npz", **contents)
    return folder / "my.npz"


def test_arrays_of_targets_become_a_store(tmp_path, capsys):
    target = np.linspace(-3, 3, NUM).astype(np.float32)
    path = arrays(tmp_path, label=target, group=np.arange(NUM) // 4)
    store = open_store(import_arrays(path, tmp_path / "store", task="regression", folds=3))
    assert (store.label == target.astype(np.float64)).all()
    assert "label: target from -3 to 3, mean 0, sd 1.76, 60 distinct" in capsys.readouterr().out
    whole = arrays(tmp_path, label=np.arange(NUM) % 5)
    store = open_store(import_arrays(whole, tmp_path / "whole", task="regression"))
    assert store.label.dtype == np.float64


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_arrays_of_several_labels_become_a_store(tmp_path, dtype, capsys):
    path = arrays(tmp_path, label=SETS.astype(dtype), class_names=np.array(GENRES))
    store = open_store(import_arrays(path, tmp_path / "store", task="multilabel"))
    assert store.manifest["class_names"] == list(GENRES)
    assert (store.label == SETS).all()
    assert "label: 3 labels: Drama 30, War 30, Comedy 28" in capsys.readouterr().out


def test_rows_with_wrong_targets_are_errors_or_left_out(tmp_path):
    target = np.linspace(0, 1, NUM)
    target[7] = np.nan
    sets = SETS.copy()
    sets[7, 1] = 2
    for task, label, reason in (
        ("regression", target, "target nan is not finite"),
        ("multilabel", sets, "labels hold 2, not 0 or 1"),
    ):
        path = arrays(tmp_path, label=label)
        with pytest.raises(DataError, match=f"'label', row 7: the {reason}"):
            import_arrays(path, tmp_path / task, task=task)
        store = open_store(import_arrays(path, tmp_path / task, task=task, on_bad="skip"))
        assert len(store) == NUM - 1


@pytest.mark.parametrize(
    ("label", "task", "message"),
    [
        (np.linspace(0, 1, NUM), None, "To predict the number: task=regression"),
        (SETS, None, "If rows can have several: task=multilabel"),
        (np.arange(NUM), None, "whole numbers, 60 different.*task=regression"),
        (np.linspace(0, 1, NUM)[:, None], "regression", r"label.reshape\(-1\)"),
        (np.full(NUM, 2.0), "regression", "the target is 2 in all samples"),
        (np.array(["a", "b"] * 30), "regression", "must be .N,. numbers"),
        (np.arange(NUM) % 2, "multilabel", r"must be \(N, L\) of 0 and 1"),
    ],
)
def test_arrays_that_do_not_fit_the_task_are_errors(tmp_path, label, task, message):
    with pytest.raises(DataError, match=message):
        import_arrays(arrays(tmp_path, label=label), tmp_path / "store", task=task)


# ---------------------------------------------------------------------- commands


def test_the_commands_on_stores_say_what_the_labels_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, label=ratings())
    words = ["data", "import", "my.csv", "target=data/my", "jobs=1"]
    assert main([*words, "task=regresion"]) == 2
    assert "Did you mean 'regression'" in capsys.readouterr().err
    assert main([*words, "task=regression"]) == 0
    assert "# my: 60 samples for regression: target 0 to 5" in (
        (tmp_path / "data/my/conf/data/my.yaml").read_text()
    )
    assert main(["data", "check", "my"]) == 0
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert "matches its manifest" in printed
    assert "prepared: data/my (regression)" in printed
