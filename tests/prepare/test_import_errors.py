"""Files that an import cannot read: the message has the file, the line or array, and the remedy."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.mask_files import read_masks
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.prepare import array_files
from mla_lightning.prepare.array_files import open_arrays
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.prepare.import_checks import FRACTIONS, drawn_split
from mla_lightning.prepare.table_files import read_table

LABEL = np.arange(40) % 2


def saved(folder, **changes):
    arrays = {"label": LABEL, "audio": np.eye(2, 5)[LABEL], "words": LABEL[:, None] + 1}
    path = folder / "a.npz"
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": objects(*"ab" * 20)}, r"'label' holds Python objects.*label\.astype\(str\)"),
        ({"audio": objects(*[[1], [1, 2]] * 20)}, r"'audio' holds Python objects.*np\.stack"),
        ({"label": np.array([b"a", b"b"] * 20)}, r"'label' is \|S1.*label\.astype\(str\)"),
        ({"class_names": np.array(["a"])}, "the label 1 of row 1 has no name: .* has 1 names"),
        ({"class_names": np.array(["a", "a"])}, "has a name twice"),
        ({"class_names": np.array([["a", "b"]])}, r"'class_names' has the shape \(1, 2\)"),
        ({"split": np.array([["train"]] * 40)}, r"'split' has the shape \(40, 1\)"),
        ({"audio": np.full((40, 5), 1e300)}, r"'audio', row 0: .* too large for float32: 1e\+300"),
        (
            {"audio": np.where(LABEL[:, None], -np.inf, 1.0)},
            r"row 1: .*not finite \(-inf; in 20 of",
        ),
        ({"audio": np.ones((40, 0))}, "its rows are empty"),
        ({"audio": np.float32(3)}, r"'audio' is float32 of shape \(\)"),
        ({"audio": np.ones((40, 5), dtype=bool)}, r"is bool .*Convert it with \.astype"),
        ({"label": LABEL[:0], "audio": np.ones((0, 5)), "words": None}, "has no rows"),
    ],
)
def test_a_wrong_array_is_named_with_its_remedy(tmp_path, changes, message):
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as raised:
        import_arrays(path, tmp_path / "s")
    assert "allow_pickle" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert not (tmp_path / "s").exists()


def test_a_row_is_counted_in_the_order_of_the_file(tmp_path):
    audio = np.ones((40, 5))
    audio[3, 2] = np.nan
    ids = np.array([f"{39 - k:02d}" for k in range(40)])  # the store sorts by id
    with pytest.raises(DataError, match=r"'audio', row 3: a value is not finite \(nan; in 1 of 40"):
        import_arrays(saved(tmp_path, audio=audio, id=ids), tmp_path / "s")


def npy(path):
    with path.open("wb") as file:
        np.save(file, LABEL)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (npy, r"it is one array \(\.npy\)"),
        (lambda path: path.write_text("\n<!DOCTYPE html><html>"), "a page of HTML"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle.*np.savez"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
            "git lfs pull",
        ),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "or was cut off"),
        (lambda path: os.mkfifo(path), "is a pipe, not a file"),
    ],
)
def test_another_file_named_npz_is_recognised(tmp_path, write, message):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError, match=message) as raised:
        open_arrays(path)
    assert "allow_pickle" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_every_damage_of_an_archive_is_an_error_of_ours_or_none(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, label=LABEL, audio=np.eye(2, 5)[LABEL])
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x55
        for bad in (bytes(changed), content[:place]):
            path.write_bytes(bad)
            try:
                arrays = {name: file.read() for name, file in open_arrays(path).items()}
            except DataError as error:
                assert "allow_pickle" not in str(error)  # noqa: PT017
            else:
                assert set(arrays) != {"label", "audio"} or (arrays["label"] == LABEL).all()


def test_other_members_and_labels_larger_than_memory_are_errors(tmp_path, monkeypatch):
    path = saved(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(array_files.os, "sysconf", lambda _: 10)
        with pytest.raises(DataError, match=r"'label' holds .* this machine has 0\.0 GB"):
            import_arrays(path, tmp_path / "s")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(DataError, match=r"'note\.txt' is no array"):
        open_arrays(path)


def table(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GOOD = "id,label,text\nx,a,one\ny,b,two\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,label,text\nx,a,"one\ny,b,two\n', "line 2: the row that begins here .*twice"),
        ('id,label,text\nx,a,o"n"e\ny,b,"t"wo\n', "line 3: the row that begins here .*twice"),
        (f"id,label,text\nx,a,{'w' * 140_000}\n", "line 2: .*field larger than field limit"),
        (GOOD.replace("two", "größe").encode("cp1252"), r"line 3: b'\\xf6' is no UTF-8.*iconv -f"),
        (GOOD.encode("utf-16"), "text in UTF-16. .*iconv -f UTF-16"),
        (b"PK\x03\x04 xlsx", "an Excel workbook"),
        ("<html><body>not found", "a page of HTML"),
        (GOOD.replace(",", ";"), "line 1: semicolons separate the columns"),
        (GOOD.replace(",", "\t"), r"line 1: tabs separate the columns.*\.tsv"),
        (",id,label,text\n0,x,a,one\n", r"the index of a pandas table.*index=False"),
        ("id, label,text\nx,a,one\n", "the column ' label' has blanks"),
        ("id,label,text\nx,a,one,two\n", "line 2: not 3 cells, as the header, but 4"),
        ("id,label,text\nx,a\n", "line 2: not 3 cells, as the header, but 2"),
    ],
)
def test_a_wrong_table_is_named_with_its_line_and_remedy(tmp_path, content, message):
    path = table(tmp_path, content)
    with pytest.raises(DataError, match=message) as raised:
        read_table(path)
    assert str(path) in str(raised.value)


def test_usual_tables_are_read(tmp_path):
    expected = [["x", "a", "one"], ["y", "b", "two"]]
    for content, name in (
        (GOOD, "a.csv"),
        ("\ufeff" + GOOD.replace("\n", "\r\n"), "b.csv"),
        (GOOD.replace(",", "\t"), "c.tsv"),
        (GOOD.replace("one", '" one "').replace("\ny", "\n\ny"), "d.csv"),
    ):
        rows, columns = read_table(table(tmp_path, content, name))
        assert [[row[column] for column in columns] for row in rows] == expected
    rows, _ = read_table(table(tmp_path, 'id,text\nx,"a\nb"\ny,c\n'))
    assert [row["text"] for row in rows] == ["a\nb", "c"]
    assert rows[1]["line"] == "4"


def test_commands_end_with_code_3_and_hang_at_no_device(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    os.symlink("/dev/zero", "zero.npz")
    for words, message in (
        (["data", "import", "pipe.csv", "target=s"], "pipe.csv is a pipe, not a file"),
        (["data", "import", "zero.npz", "target=s"], "zero.npz is a device, not a file"),
        (["data", "check", "/dev/zero"], "No store in /dev/zero"),
        (["train", "data=store", "data.path=/dev/zero"], "/dev/zero is not a folder"),
    ):
        assert main(words) == 3
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["zero", "pickle", "empty", "other", "damaged", "folder"])
def test_a_wrong_file_of_masks_is_an_error_with_the_next_step(tmp_path, kind):
    path = tmp_path / "masks.npz"
    if kind == "zero":
        path = Path("/dev/zero")
    elif kind == "folder":
        path = tmp_path
    elif kind == "damaged":
        np.savez_compressed(path, about=np.array(json.dumps({})), train=LABEL > 0)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "other":
        np.savez(path, about=np.array("[1]"))
    else:
        path.write_bytes(b"" if kind == "empty" else pickle.dumps([1]))
    with pytest.raises(DataError, match=r"missing\.manifest=") as raised:
        read_masks(path, {})
    assert "pickle" not in str(raised.value)


def test_a_drawn_split_says_what_it_is():
    for per_class in range(1, 30):
        labels = [str(k) for k in range(6) for _ in range(per_class)]
        split = drawn_split(labels)
        realised = np.bincount(split.codes, minlength=3) / len(labels)
        shown = np.array(split.description.split()[0].split("/"), dtype=float) / 100
        assert np.abs(shown - realised).max() <= 0.0501
        is_as_asked = np.abs(realised - FRACTIONS).max() <= 0.05
        assert split.description.startswith("70/10/20 at random") == is_as_asked


def test_an_import_of_three_samples_per_class_prints_its_split(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    label = np.arange(12) % 4
    np.savez("a.npz", label=label, one=np.eye(4)[label], two=np.eye(4)[label])
    assert main(["data", "import", "a.npz", "target=s"]) == 0
    assert "4/4/4 train/val/test. 33/33/33 at random" in capsys.readouterr().out
    assert (
        "cannot be divided 70/10/20"
        in open_store(Path("s")).manifest["splits"]["own"]["description"]
    )
