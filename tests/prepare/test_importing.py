"""Import of the user's own data: a CSV with real files, arrays, and errors in both."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store, verify_store
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.prepare.import_table import import_csv

DOCS = Path(__file__).parents[2] / "docs" / "store.md"
OPTIONS = {"size": 16, "num_frames": 20, "length": 8, "jobs": 1}


def pets(folder, num=30, **changes):
    """Write a CSV with an image, audio and words per row; ``cells``: (row, column) -> cell."""
    rng = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    rows = []
    for i in range(num):
        y = i % 2
        pixels = rng.integers(0, 120, (20, 24, 3), dtype=np.uint8) + np.uint8(100 * y)
        Image.fromarray(pixels).save(folder / f"files/{i}.jpg")
        wave = 0.3 * np.sin(2 * np.pi * (300 + 900 * y) * np.arange(4000) / 16000)
        soundfile.write(folder / f"files/{i}.wav", wave, 16000)
        rows.append(
            {
                "id": f"s{i}",
                "label": ("cat", "dog")[y],
                "split": ("train", "train", "train", "val", "test")[i // 2 % 5],
                "picture": f"files/{i}.jpg",
                "sound": f"files/{i}.wav",
                "words": f"a small {('cat', 'dog')[y]}",
            }
        )
    for (row, column), cell in changes.get("cells", {}).items():
        rows[row][column] = cell
    for column in changes.get("without", ()):
        for row in rows:
            del row[column]
    path = folder / "pets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_csv_becomes_a_store_to_train_on(tmp_path, monkeypatch, capsys):
    pets(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["size=16", "num_frames=20", "length=8", "jobs=1"]
    assert main(["data", "import", "pets.csv", "target=data/pets", *words]) == 0
    printed = capsys.readouterr().out
    assert "mla train data=store data.path=data/pets" in printed
    assert "--config-dir data/pets/conf data=pets" in printed
    store = open_store(Path("data/pets"))
    kinds = {name: entry["kind"] for name, entry in store.manifest["modalities"].items()}
    assert kinds == {"picture": "image", "sound": "spectrogram", "words": "tokens"}
    assert store.manifest["splits"]["own"]["sizes"] == [18, 6, 6]
    assert verify_store(store.folder) == []
    command = ["train", "--config-dir", "data/pets/conf", "data=pets", "optimizer.lr=0.05"]
    assert main([*command, "trainer.max_epochs=3", "method=mla"]) == 0
    assert main(["data", "check", "data/pets"]) == 0
    assert main(["data", "show", "data/pets"]) == 0
    assert Path("pets.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": {(4, "id"): "s3"}}, "line 6: the id 's3' was in line 5"),
        ({"cells": {(4, "label"): ""}}, "line 6: id or label is empty"),
        ({"cells": {(4, "split"): "tets"}}, "line 6: the split 'tets' is unknown. Did you mean"),
        ({"cells": {(4, "picture"): "files/no.jpg"}}, "line 6: there is no file .*no.jpg"),
        (
            {"cells": {(4, "picture"): "a text"}},
            "different kinds of cells: image .*, text in line 6",
        ),
        ({"without": ("label",)}, "no column 'label'"),
        ({"without": ("picture", "sound", "words")}, "no column of a modality"),
        ({"num": 1}, "only one class, 'cat'"),
    ],
)
def test_an_error_in_a_csv_names_the_line(tmp_path, changes, message):
    path = pets(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        import_csv(path, tmp_path / "store", **OPTIONS)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (",id,label,words", "'' cannot be the name of a modality"),
        (
            "id,label,Split,words",
            r"'Split' cannot be the name .* Did you mean 'split'",
        ),
        ("id,label,line,words", "'line' cannot be the name of a modality"),
        ("id,label,words,words", "'words' occurs twice"),
        ("id,label,a/b", "'a/b' cannot be the name of a modality"),
        ("id,label,multi", "'multi' cannot be the name of a modality: .* fused result"),
        ("id,label,index", "'index' cannot be the name of a modality: .* key of batches"),
        ("id,label,keys", r"'keys' cannot be the name of a modality: .* torch\.nn\.ModuleDict"),
    ],
)
def test_wrong_names_of_columns_are_errors(tmp_path, header, message):
    path = tmp_path / "a.csv"
    cells = ",".join("x" for _ in header.split(","))
    path.write_text(f"{header}\n{cells}\n")
    with pytest.raises(DataError, match=message):
        import_csv(path, tmp_path / "s", **OPTIONS)


def test_files_that_cannot_be_read_are_errors_or_recorded(tmp_path):
    path = pets(tmp_path)
    (tmp_path / "files" / "4.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="s4"):
        import_csv(path, tmp_path / "store", **OPTIONS)
    import_csv(path, tmp_path / "store", **OPTIONS, on_bad="skip")
    store = open_store(tmp_path / "store")
    assert "s4" not in store.ids
    assert [entry["id"] for entry in store.manifest["failures"]] == ["s4"]


def test_without_a_split_one_is_drawn_and_described(tmp_path):
    store = open_store(import_csv(pets(tmp_path, without=("split",)), tmp_path / "s", **OPTIONS))
    assert "came without a split" in store.manifest["splits"]["own"]["description"]


def test_an_empty_cell_is_an_absent_modality(tmp_path):
    path = pets(tmp_path, cells={(8, "words"): ""})
    store = open_store(import_csv(path, tmp_path / "s", **OPTIONS))
    present = store.present("words")
    assert [store.ids[row] for row in np.flatnonzero(~present)] == ["s8"]
    assert store.present("picture") is None


def arrays(**changes):
    label = np.arange(60) % 3
    return {
        "label": label,
        "audio": np.eye(3, 5)[label] + 0.1,
        "video": np.eye(3, 4)[label].astype(np.float32),
    } | changes


def test_arrays_of_a_file_or_a_folder(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "folder").mkdir()
    for name, values in arrays().items():
        np.save(tmp_path / "folder" / f"{name}.npy", values)
    store = open_store(import_arrays(tmp_path / "a.npz", tmp_path / "store"))
    other = open_store(import_arrays(tmp_path / "folder", tmp_path / "other"))
    assert store.fingerprint == other.fingerprint
    assert store.manifest["class_names"] == ["0", "1", "2"]
    assert store.manifest["splits"]["own"]["sizes"] == [42, 6, 12]


def test_arrays_may_include_class_names_ids_and_a_split(tmp_path):
    split = np.array(["train", "val", "test"])[np.arange(60) // 20]
    ids = np.array([f"x{number:02d}" for number in range(60)])
    names = np.array(["red", "green", "blue"])
    np.savez(tmp_path / "a.npz", **arrays(split=split, id=ids, class_names=names))
    store = open_store(import_arrays(tmp_path / "a.npz", tmp_path / "s", name="colours"))
    assert store.manifest["name"] == "colours"
    assert store.manifest["class_names"] == ["red", "green", "blue"]
    assert store.ids[0] == "x00"
    assert store.manifest["splits"]["own"]["sizes"] == [20, 20, 20]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": np.ones((59, 5))}, "lengths differ"),
        ({"audio": np.full((60, 5), np.inf)}, "row 0: a value is not finite"),
        ({"label": np.zeros(60, dtype=int)}, "only one class"),
        ({"split": np.array(["train"] * 59 + ["tset"])}, "row 59: the split 'tset' .* 'test'"),
        ({"id": np.array(["x"] * 60)}, "'x' occurs twice"),
        ({"split": np.arange(60) % 3 + 256}, "row 0: the split 256 is unknown"),
        ({"label": np.eye(3)[np.arange(60) % 3]}, r"'label' is float64 of shape \(60, 3\)"),
        ({"label": np.arange(60) % 3 + 0.5}, "must be .N,. whole numbers or names"),
        (
            {"Split": np.zeros((60, 2))},
            r"'Split' cannot be the name .* Did you mean 'split'",
        ),
        ({"a.present": np.zeros((60, 2))}, "'a.present' cannot be the name of a modality"),
        ({"multi": np.zeros((60, 2))}, "'multi' cannot be the name of a modality"),
        ({"audio": np.zeros(60)}, r"'audio' is float64 of shape \(60,\)"),
        ({"audio": np.zeros((60, 8, 8, 3), dtype=np.uint8)}, "'audio' is uint8 of shape"),
        ({"words": np.full((60, 4), -1)}, "'words', row 0: a token id is below 0"),
    ],
)
def test_wrong_arrays_are_errors(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(DataError, match=message):
        import_arrays(tmp_path / "a.npz", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_arrays_without_label_or_modality_are_errors(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.zeros(3))
    with pytest.raises(DataError, match=r"no array 'label'\. Did you mean 'labels'"):
        import_arrays(tmp_path / "a.npz", tmp_path / "s")
    np.savez(tmp_path / "b.npz", label=np.arange(3))
    with pytest.raises(DataError, match="no array of a modality"):
        import_arrays(tmp_path / "b.npz", tmp_path / "s")
    with pytest.raises(DataError, match=r"c\.npz does not exist"):
        import_arrays(tmp_path / "c.npz", tmp_path / "s")


def test_the_documented_example_runs(tmp_path, monkeypatch):
    text = DOCS.read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in script.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", script], check=True)
    commands = re.findall(r"^    mla ([^A-Z\n]*my[^A-Z\n]*)$", text, re.MULTILINE)
    assert len(commands) == 2
    assert main(commands[0].split()) == 0
    assert main([*commands[1].split(), "trainer.max_epochs=5"]) == 0


def test_a_split_without_validation_gets_one_and_its_description_says_so(tmp_path):
    cells = {(row, "split"): "train" for row in range(30) if row // 2 % 5 == 3}
    folder = tmp_path / "store"
    import_csv(pets(tmp_path / "raw", cells=cells), folder, **OPTIONS)
    split = open_store(folder).manifest["splits"]["own"]
    assert split["sizes"] == [20, 4, 6]  # a tenth of each class, rounded up
    assert "validation is a tenth of train" in split["description"]


def test_a_split_without_test_is_an_error_before_anything_is_decoded(tmp_path):
    cells = {(row, "split"): "val" for row in range(30) if row // 2 % 5 == 4}
    path = pets(tmp_path / "raw", cells=cells)
    for file in (tmp_path / "raw" / "files").iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(DataError, match="no sample of split 'test', only train, val"):
        import_csv(path, tmp_path / "store", **OPTIONS)
    label = np.arange(20) % 2
    arrays = {"label": label, "x": np.ones((20, 3)), "split": np.zeros(20, dtype=int)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="no sample of split 'test', only train"):
        import_arrays(tmp_path / "a.npz", tmp_path / "arrays")
