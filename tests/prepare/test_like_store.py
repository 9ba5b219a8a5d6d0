"""Imports like an existing store, and predictions on stores whose inputs were made otherwise."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_arrays import import_arrays

SEXES = ("f", "m", "x")


def write_csv(path, rows):
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def rows_of(sexes, start=0, **columns):
    """Rows whose class is told by the category alone."""
    return [
        {
            "id": f"s{start + n:03d}",
            "label": ("cat", "dog", "emu")[SEXES.index(sex)] if sex in SEXES else "cat",
            "sex": sex,
            "age": str(20 + n % 7),
            "words": f"some words of sample number {n // 3 % 4}",
            **{name: value(n) for name, value in columns.items()},
        }
        for n, sex in enumerate(sexes)
    ]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run on a store with categories, and rows of two of its three categories."""
    monkeypatch.chdir(tmp_path)
    write_csv("old.csv", rows_of(SEXES * 20))
    choice = ["columns.sex=category", "columns.age=number", "jobs=1"]
    assert main(["data", "import", "old.csv", "target=data/old", *choice]) == 0
    run = mla.train(
        "data=store", "data.path=data/old", "method=unimodal", "trainer.max_epochs=6",
        "optimizer.lr=0.2", "modalities=[tabular]", "data.batch_size=8",
    )  # fmt: skip
    assert run.result.test["multi"]["accuracy"] == 1.0
    return run


def without(rows, *names):
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


def test_other_categories_are_an_error_and_like_makes_them_the_same(trained, capsys):
    rows = rows_of(("x", "f", "n") * 4, start=100)
    for row in rows:  # as many categories as in training, with other values
        row["sex"] = row["sex"].replace("n", "")
    new = [{**row, "sex": row["sex"] or "w"} for row in rows]
    write_csv("new.csv", without(new, "label"))
    choice = ["columns.sex=category", "columns.age=number", "labels=none", "jobs=1"]
    assert main(["data", "import", "new.csv", "target=data/new", *choice]) == 0
    capsys.readouterr()
    assert main(["predict", str(trained.folder), "data.path=data/new"]) == 3
    error = capsys.readouterr().err
    assert "it has no value 'sex=m', and 'sex=w' is new" in error
    assert "mla data import FILE target=DIR like=data/old" in error
    assert not Path("predictions.csv").exists()
    with pytest.raises(DataError, match="'sex=w' is new"):
        trained.predict(Prepared(path="data/new", batch_size=8), split="all")
    # The command of the message names the row, and the row can be corrected.
    like = ["labels=none", "like=data/old", "jobs=1"]
    assert main(["data", "import", "new.csv", "target=data/like", *like]) == 3
    error = capsys.readouterr().err
    assert "line 4: 'w' is no category of 'sex' in data/old, which has f, m, x" in error
    # Columns in another order, a category that never occurs, and one that is empty.
    mixed = [{key: row[key] for key in ("words", "age", "id", "sex")} for row in rows]
    write_csv("new.csv", mixed)
    assert main(["data", "import", "new.csv", "target=data/like", *like]) == 0
    assert re.search(r"\n  sex +category .*: as in data/old ->", capsys.readouterr().out)
    store = open_store(Path("data/like"))
    assert store.manifest["options"]["tabular"] == ["sex=f", "sex=m", "sex=x", "age"]
    assert np.asarray(store.array("tabular")[:])[:3, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0] * 3]
    assert main(["predict", str(trained.folder), "data.path=data/like"]) == 0
    with Path("predictions.csv").open() as file:
        predicted = [row["prediction"] for row in csv.DictReader(file)]
    assert predicted[:2] == ["emu", "cat"]
    assert [p for p, row in zip(predicted, rows, strict=True) if row["sex"]] == ["emu", "cat"] * 4


def test_a_run_of_an_earlier_version_is_compared_with_its_own_store(trained, capsys):
    path = trained.folder / "provenance.json"
    content = json.loads(path.read_text())
    assert content["data"].pop("inputs")["tabular"]["values"][0] == "sex=f"
    rows = without(rows_of(("x", "f") * 6, start=100), "label")
    write_csv("new.csv", rows)
    choice = ["columns.sex=category", "columns.age=number", "labels=none", "jobs=1"]
    assert main(["data", "import", "new.csv", "target=data/new", *choice]) == 0
    from mla_lightning.run.finished import check_inputs
    from mla_lightning.run_folder.reader import RunFiles

    files = RunFiles(trained.folder)
    files.__dict__["provenance"] = content
    with pytest.raises(DataError, match="it has no value 'sex=m'"):
        check_inputs(files, Prepared(path="data/new", batch_size=8))
    Path("data/old").rename("data/moved")
    check_inputs(files, Prepared(path="data/new", batch_size=8))  # nothing to compare with


def media(folder, rows, seconds, pixels):
    rng = np.random.default_rng(0)
    for row in rows:
        wave = rng.normal(size=int(8000 * seconds)).astype("float32") / 10
        soundfile.write(folder / f"{row['id']}.wav", wave, 8000)
        Image.new("RGB", (pixels, pixels), (9, 9, 9)).save(folder / f"{row['id']}.png")
        np.save(folder / f"{row['id']}.npy", rng.normal(size=(3 + int(row["id"][1:]) % 4, 2)))
        row |= {"sound": f"{row['id']}.wav", "picture": f"{row['id']}.png"}
        row |= {"face": f"{row['id']}.npy", "vector": "[0.5, 1.5]"}
    return rows


def test_sizes_lengths_and_tokens_are_those_of_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("old.csv", without(media(tmp_path, rows_of(SEXES * 5), 0.5, 24), "sex", "age"))
    Path("vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nsome\nwords\nof\nsample\nnumber\n")
    choice = ["columns.face=sequence", "tokenizer=vocab.txt", "jobs=1"]
    assert main(["data", "import", "old.csv", "target=old", *choice]) == 0
    rows = without(media(tmp_path, rows_of(("f",) * 3, 100), 0.2, 16), "sex", "age", "label")
    rows[0]["words"] = "some " * 60
    write_csv("new.csv", [{**row, "note": "a column that training did not have"} for row in rows])
    words = ["data", "import", "new.csv", "labels=none", "jobs=1"]
    assert main([*words, "target=free", "columns.face=sequence"]) == 0
    old, free = open_store(Path("old")), open_store(Path("free"))
    assert all(old.array(m).shape[1:] != free.array(m).shape[1:] for m in ("sound", "picture"))
    assert main([*words, "target=like", "like=old"]) == 3
    assert "sha256 differs. Give its vocabulary: tokenizer=vocab.txt" in capsys.readouterr().err
    assert main([*words, "target=like", "like=old", "tokenizer=vocab.txt"]) == 0
    like = open_store(Path("like"))
    assert like.manifest["modalities"] == old.manifest["modalities"]
    assert like.modalities == old.modalities
    for name in old.modalities:
        assert like.array(name).shape[1:] == old.array(name).shape[1:]
    for option in ("size=8", "columns.note=text"):
        assert main([*words, "target=other", "like=old", option]) == 2
        assert "has no effect with like=old" in capsys.readouterr().err
    write_csv("bad.csv", without(rows, "sound"))
    assert main([*words[:2], "bad.csv", "labels=none", "target=bad", "like=old"]) == 3
    assert "bad.csv has no column 'sound', which old has" in capsys.readouterr().err


def test_the_classes_are_those_of_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("old.csv", rows_of(SEXES * 5))
    assert main(["data", "import", "old.csv", "target=old", "jobs=1"]) == 0
    write_csv("new.csv", rows_of(("m", "x") * 5, start=50))
    words = ["data", "import", "new.csv", "like=old", "jobs=1"]
    assert main([*words, "target=new"]) == 0
    new = open_store(Path("new"))
    assert new.manifest["class_names"] == ["cat", "dog", "emu"]
    assert new.label.tolist() == [1, 2] * 5
    rows = rows_of(("m", "x") * 5)
    rows[3]["label"] = "Cat"
    write_csv("new.csv", rows)
    assert main([*words, "target=other"]) == 3
    error = capsys.readouterr().err
    assert "line 5: the label 'Cat' is no class of old. Did you mean 'cat'" in error


def arrays(num=40, size=8, **changes):
    rng = np.random.default_rng(0)
    label = np.arange(num) % 2
    return {
        "label": np.array(["cat", "dog"])[label],
        "face": rng.normal(size=(num, 6, 3)) + label[:, None, None],
        "picture": rng.integers(0, 255, (num, 3, size, size), dtype=np.uint8),
    } | changes


def test_arrays_of_another_size_are_an_error_and_like_takes_kinds_and_classes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    np.savez("old.npz", **arrays())
    import_arrays(Path("old.npz"), Path("old"), kinds={"face": "sequence"})
    run = mla.train("data=store", "data.path=old", "trainer.max_epochs=1", "optimizer.lr=0.01")
    np.savez("new.npz", **{k: v for k, v in arrays(size=16).items() if k != "label"})
    import_arrays(Path("new.npz"), Path("new"), kinds={"face": "sequence"}, labels="none")
    assert main(["predict", str(run.folder), "data.path=new"]) == 3
    error = capsys.readouterr().err
    assert "'picture': the shape of a sample was (3, 8, 8), now it is (3, 16, 16)" in error
    assert main(["data", "import", "new.npz", "target=like", "labels=none", "like=old"]) == 3
    assert "new.npz is not like old: 'picture': the shape" in capsys.readouterr().err
    # Sequences may be longer: their padding has no effect.
    longer = arrays(face=np.pad(arrays()["face"], ((0, 0), (0, 5), (0, 0))))
    longer["label"] = np.array(["dog", "dog", "dog", "cat"])[np.arange(40) % 4]
    longer["class_names"] = np.array(["dog", "cat"])
    longer["label"] = (longer["label"] == "cat").astype(int)
    np.savez("long.npz", **longer)
    assert main(["data", "import", "long.npz", "target=long", "like=old"]) == 0
    store = open_store(Path("long"))
    assert store.manifest["class_names"] == ["cat", "dog"]
    assert store.label.tolist()[:4] == [1, 1, 1, 0]
    p = run.predict(Prepared(path="long", batch_size=8), split="all").probabilities["multi"]
    expected = run.predict(Prepared(path="old", batch_size=8), split="all").probabilities["multi"]
    torch.testing.assert_close(p, expected, atol=1e-5, rtol=0)
    np.savez("elk.npz", **arrays(label=np.array(["cat", "elk"])[np.arange(40) % 2]))
    assert main(["data", "import", "elk.npz", "target=elk", "like=old"]) == 3
    assert "the label 'elk' is no class of old" in capsys.readouterr().err
