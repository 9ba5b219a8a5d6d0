"""`mla predict`, and imports without labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.prepare.import_arrays import import_arrays


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """A labelled store, and one of its first samples without labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    arrays = {m: rng.normal(size=(60, 4)).astype(np.float32) for m in ("one", "two")}
    np.savez("old.npz", label=label, **arrays)
    np.savez("new.npz", id=[f"n{k:02d}" for k in range(8)], **{m: x[:8] for m, x in arrays.items()})
    import_arrays(Path("old.npz"), Path("old"))
    assert main(["data", "import", "new.npz", "target=new", "labels=none"]) == 0
    return arrays


def test_samples_without_labels_are_predicted(stores, capfd):
    run = mla.train(
        "data=store", "data.path=old", "method=mla", "trainer.max_epochs=2", "optimizer.lr=0.1"
    )
    capfd.readouterr()
    assert main(["predict", str(run.folder), "data.path=new"]) == 0
    assert "8 samples (all of new)" in capfd.readouterr().out
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"n{k:02d}" for k in range(8)]
    assert "label" not in rows[0]
    expected = run.predict({m: x[:8] for m, x in stores.items()})
    assert [row["prediction"] for row in rows] == expected.classes
    p = expected.probabilities["multi"]
    assert [float(row["p_1"]) for row in rows] == pytest.approx(p[:, 1].tolist(), abs=1e-5)
    assert main(["predict", str(run.folder), "data.path=new", "output=new_predictions.npz"]) == 0
    with np.load("new_predictions.npz") as arrays:
        np.testing.assert_allclose(arrays["logits_multi"], expected.logits["multi"], atol=1e-6)
        assert arrays["class_names"].tolist() == ["0", "1"]
    assert main(["predict", str(run.folder), "output=own.csv", "split=val"]) == 0
    assert "id,label,prediction," in Path("own.csv").read_text()


def test_labels_are_those_of_the_runs_classes(stores, capfd):
    names = np.array(["cat", "dog", "owl"])
    rng = np.random.default_rng(1)
    arrays = {m: rng.normal(size=(90, 4)).astype(np.float32) for m in ("one", "two")}
    label = np.arange(90) % 3
    np.savez("three.npz", label=names[label], **arrays)
    few = label > 0
    np.savez("two.npz", label=names[label[few]], **{m: x[few] for m, x in arrays.items()})
    foreign = np.where(label == 0, "cat", "elk")
    np.savez("elk.npz", label=foreign, **arrays)
    for name in ("three", "two", "elk"):
        import_arrays(Path(f"{name}.npz"), Path(name))
    run = mla.train("data=store", "data.path=three", "trainer.max_epochs=1", "optimizer.lr=0.1")
    assert main(["predict", str(run.folder), "data.path=two", "output=two.csv"]) == 0
    rows = list(csv.DictReader(Path("two.csv").read_text().splitlines()))
    assert {row["label"] for row in rows} == {"dog", "owl"}
    by_id = {row["id"]: row["label"] for row in rows}
    store = np.load("two/id.npy")
    expected = np.array(["dog", "owl"])[np.load("two/label.npy")]
    assert by_id == dict(zip(map(str, store), expected, strict=True))
    capfd.readouterr()
    assert main(["predict", str(run.folder), "data.path=elk", "output=elk.csv"]) == 3
    assert "has samples of elk, which the run does not predict" in capfd.readouterr().err


def test_errors_of_predict(stores, capfd):
    run = mla.train(
        "data=store", "data.path=old", "method=concat", "trainer.max_epochs=1", "optimizer.lr=0.1"
    )
    Path("existing.csv").write_text("kept")
    np.savez("other.npz", label=[0, 1] * 10, one=np.zeros((20, 4), dtype=np.float32))
    import_arrays(Path("other.npz"), Path("other"))
    for words, code, message in (
        (["data.pth=new"], 2, "Did you mean 'data.path'"),
        (["output=x.txt"], 2, "must end with .csv or .npz"),
        (["output=existing.csv"], 2, "exists already"),
        (["output=nodir/x.csv"], 2, "no folder nodir"),
        (["split=tst"], 2, "Did you mean 'test'"),
        (["data.path=nowhere"], 3, "nowhere"),
        (["data.path=other"], 2, "'two'"),
    ):
        assert main(["predict", str(run.folder), *words]) == code, words
        assert message in capfd.readouterr().err
    assert Path("existing.csv").read_text() == "kept"
    assert main(["predict", "old"]) == 2
    assert main(["train", "data=store", "data.path=new", "optimizer.lr=0.1"]) == 3
    assert "mla predict RUN data.path=new" in capfd.readouterr().err


def test_errors_of_the_file_system_are_one_line(monkeypatch, capfd):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "runs/x")

    monkeypatch.setattr("mla_lightning.cli.main._run", fail)
    assert main(["report", "table1"]) == 1
    assert capfd.readouterr().err == "error: runs/x: Permission denied\n"


def test_errors_of_an_import_without_labels(stores, tmp_path, capfd):
    assert main(["data", "import", "old.npz", "target=x", "labels=none"]) == 3
    assert "has label; leave out labels=none" in capfd.readouterr().err
    Path("new.csv").write_text("id,words\na,one two\nb,three\n")
    assert main(["data", "import", "new.csv", "target=texts"]) == 3
    assert "labels=none" in capfd.readouterr().err
    assert main(["data", "import", "new.csv", "target=texts", "labels=none"]) == 0
    assert main(["data", "check", "texts"]) == 0
    assert json.loads(Path("texts/manifest.json").read_text())["class_names"] == []
