"""Tables and folders as strangers write them: each is read as meant, or is a clear error."""

import shlex
import subprocess
import unicodedata

import pytest
from PIL import Image
from tests.prepare import test_import_targets as targets

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_plan import label_warnings
from mla_lightning.prepare.import_table import import_csv
from mla_lightning.prepare.table import Table
from mla_lightning.prepare.table_files import read_table
from mla_lightning.prepare.table_sources import read_source

WORDS = ("a small red cat sat here", "the big dog runs in parks", "one two three four five")


def table(path, header, cells, encoding="utf-8"):
    """Write a header and 12 lines; ``{n}``, ``{label}`` and ``{words}`` are filled in."""
    lines = [cells.format(n=n, label=("cat", "dog")[n % 2], words=WORDS[n % 3]) for n in range(12)]
    path.write_text("\n".join([header, *lines, ""]), encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("sep=;", "{label};{words}", r"line 1, 'sep=;', is for Excel alone\. Remove it"),
        ("# made by us", "{label},{words}", "line 1 is a comment"),
        ("label,text,text", "{label},{words},b", "'text' occurs twice. Give each column a name"),
        ("label,text,,", "{label},{words},,7", r"line 2: column 4 has no name .* holds '7'"),
        ("label,text", "{label},{words},", "line 2: not 2 cells, .* Remove the separators at its"),
        ("label,text", "{label},{words}\0", "line 2: a cell holds the character NUL.*UTF-16"),
        ("0,{label},a small cat", "{n},{label},{words}", "'0' looks like a value.*no line with"),
        ("text", "{words}", "has no column 'label'"),
    ],
)
def test_an_odd_header_or_row_is_an_error_with_its_remedy(tmp_path, header, cells, message):
    path = table(tmp_path / "a.csv", header, cells)
    with pytest.raises(DataError, match=message) as raised:
        Table(path, name="a")
    assert "columns.NAME=ignore" not in str(raised.value)


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("\n\n")
    with pytest.raises(DataError, match=r"a\.csv is empty"):
        Table(tmp_path / "a.csv", name="a")


def test_commas_in_a_tsv_are_named(tmp_path):
    path = table(tmp_path / "a.tsv", "label,text", "{label},{words}")
    with pytest.raises(DataError, match=r"commas separate the columns, not tabs.*\.csv"):
        read_table(path)


def test_the_command_for_semicolons_writes_a_table_with_commas(tmp_path):
    path = table(tmp_path / "my data.csv", "label;age;text", "{label};0,5;a, {words}", "utf-8-sig")
    with pytest.raises(DataError, match="semicolons separate the columns") as raised:
        read_table(path)
    command = str(raised.value).partition("such as with ")[2]
    assert shlex.split(command)[0] == "python"
    subprocess.run(command, shell=True, check=True)
    rows, names = read_table(tmp_path / "my data-commas.csv")
    assert names == ["label", "age", "text"]
    assert [rows[0][name] for name in names] == ["cat", "0,5", f"a, {WORDS[0]}"]


def test_empty_columns_without_a_name_hold_nothing(tmp_path):
    rows, names = read_table(table(tmp_path / "a.csv", "label,,text,", "{label},,{words},"))
    assert names == ["label", "text"]
    assert rows[1] == {"label": "dog", "text": WORDS[1], "line": "3"}


@pytest.mark.parametrize("cells", ["0,{n}5", "1.{n}00,5", "1,{n}00", "{n}5 %", "1'{n}00.5"])
def test_numbers_of_spreadsheets_are_no_lists(tmp_path, cells):
    """Without the kind they are left out, not vectors of two numbers; with it, an error."""
    cells = '{label},{words},"' + cells.replace("{n}00", "{n:03d}") + '"'
    path = table(tmp_path / "a.csv", "label,text,price", cells)
    column = Table(path, name="a").columns["price"]
    assert column.kind == "ignore"
    assert "Write them with a dot for decimals" in column.reason
    chosen = Table(path, name="a", columns={"price": "number"})
    with pytest.raises(DataError, match=r"in the column 'price' is no number; write a dot"):
        chosen.check()


@pytest.mark.parametrize("number", ["{},5", "1.{:03d},5", "{},25 %"])
def test_numbers_with_commas_are_no_classes_and_no_targets(tmp_path, capsys, number):
    many = [number.format(n) for n in range(targets.NUM)]
    path = targets.table(tmp_path, label=many)
    remedy = r"write them with a dot for decimals and nothing else, and task=regression"
    with pytest.raises(DataError, match=rf"numbers, such as '{many[0]}'.*{remedy}"):
        targets.imported(path)
    assert len(targets.imported(path, task="classification", name="told")) == targets.NUM
    with pytest.raises(DataError, match=f"'{many[0]}' is no number: write a decimal point"):
        targets.imported(path, task="regression", name="told")
    few = targets.table(tmp_path, label=[many[n % 4] for n in range(targets.NUM)])
    capsys.readouterr()
    import_csv(few, tmp_path / "few", plan=True)
    assert f"the 4 classes are numbers, such as '{many[0]}'" in capsys.readouterr().out


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("pics", "pics/My Photos", "by class/cat", "by class/dog"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for n in range(12):
            Image.new("RGB", (9, 9), (9 * n, 0, 0)).save(tmp_path / folder / f"{n}.JPG")
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("pics\\{n}.JPG", "pics\\0.JPG, but there is pics/0.JPG: write it so"),
        ("pics/{n}.jpg", "pics/0.jpg, but there is pics/0.JPG"),
        ("pics/{n}.png", "pics/0.png, but there is pics/0.JPG"),
        ("https://x.org/{n}.jpg", "https://x.org/0.jpg; download the files first"),
        ("file:///pics/{n}.jpg", "file:///pics/0.jpg; write its path without file://"),
        ("C:\\pics\\{n}.JPG", "C:\\pics\\0.JPG"),
        ("gone/{n}.JPG", "gone/0.JPG"),
    ],
)
def test_a_missing_file_comes_with_what_may_be_meant(pictures, cell, message):
    path = table(pictures / "a.csv", "label,pic", "{label}," + cell)
    with pytest.raises(DataError) as raised:
        Table(path, name="a").check()
    lines = str(raised.value).replace(f"{pictures}/", "").split("\n")
    assert f"  line 2: there is no file {message}" in lines


def test_absolute_paths_and_blanks_in_names_are_read(pictures):
    for cell in (f"{pictures}/pics/{{n}}.JPG", "pics/My Photos/{n}.JPG", "./pics/{n}.JPG"):
        path = table(pictures / "a.csv", "label,pic", "{label}," + cell)
        rows = Table(path, name="a")
        rows.check()
        assert (rows.columns["pic"].kind, len(rows.rows)) == ("image", 12)


def test_the_name_tabular_cannot_be_taken_twice(tmp_path):
    path = table(tmp_path / "a.csv", "label,tabular,age", "{label},{words},{n}")
    with pytest.raises(DataError, match="'tabular' has the name of the modality of all numbers"):
        Table(path, name="a", columns={"age": "number"}).check()
    Table(path, name="a").check()  # without numbers it is a name like others


@pytest.mark.parametrize(
    "others", [("cat", "cat\u200b"), ("café", unicodedata.normalize("NFD", "café")), ("a", "'a'")]
)
def test_classes_that_look_the_same_are_named_so_that_they_differ(others):
    (warning,) = label_warnings([*others, "dog"] * 3)
    first, second = warning.removeprefix("the classes ").partition(" differ")[0].split(", ")
    assert first.isascii() or first != second
    assert len({first, second}) == 2
    assert not label_warnings(["cat", "dog"] * 3)


def test_folders_that_do_not_fit_the_layout_are_errors(pictures):
    folder = pictures / "by class"
    assert len(read_source(folder)[0]) == 24
    (folder / "notes.txt").write_text("of no class")
    (folder / "empty").mkdir()
    assert len(read_source(folder)[0]) == 24
    (folder / "emu" / "wild").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "emu" / "wild" / "0.png")
    with pytest.raises(DataError, match=r"emu is no folder of a class.*emu/wild/0\.png"):
        read_source(folder)
    (folder / "emu" / "wild").rename(folder / "emu2")
    Image.new("RGB", (9, 9)).save(folder / "0.png")
    with pytest.raises(DataError, match=r"0\.png lies in no folder of a class"):
        read_source(folder)
    (folder / "0.png").unlink()
    (folder / "cat" / "x.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"x\.png \(it is a link to one that is gone\)"):
        Table(folder, name="a").check()


def test_a_folder_of_files_without_classes_can_be_predicted(pictures, capsys):
    (pictures / "pics" / "My Photos").rename("moved")
    assert main(["data", "import", "by class", "target=old", "jobs=1"]) == 0
    assert main(["data", "import", "pics", "target=new", "jobs=1"]) == 3
    assert "pics has no column 'label'" in capsys.readouterr().err
    assert main(["data", "import", "pics", "target=new", "labels=none", "like=old", "jobs=1"]) == 0
    assert list(open_store(pictures / "new").ids) == sorted(f"{n}.JPG" for n in range(12))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("a.xlsx", "export it as CSV"), ("a.json", "name it .jsonl"), ("a.h5", "np.savez")],
)
def test_a_file_of_another_kind_comes_with_its_remedy(tmp_path, capsys, name, remedy):
    (tmp_path / name).write_text("")
    assert main(["data", "import", str(tmp_path / name), "--plan"]) == 2
    assert remedy in capsys.readouterr().err


def test_an_empty_folder_names_the_layouts(tmp_path, capsys):
    assert main(["data", "import", str(tmp_path), "target=s"]) == 3
    assert "FOLDER/class/file" in capsys.readouterr().err
