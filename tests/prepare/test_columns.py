"""Kinds of the columns of a table: nothing that could leak or mislead is guessed."""

import csv
import random
import re

import numpy as np
import pytest
from PIL import Image

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.columns import describe_column
from mla_lightning.prepare.import_table import import_csv
from mla_lightning.prepare.kinds import ENDINGS, UNCLEAR
from mla_lightning.prepare.table import Table

LABELS = ["cat", "dog", "cat", "emu", "dog", "emu"] * 4
WORDS = ["the", "a", "red", "big", "old", "cat", "dog", "sees", "runs", "far", "near", "home"]


def sentences(num, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 9))) + f" {n}" for n in range(num)]


def write_table(folder, **columns):
    path = folder / "my.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


#: Name of the case -> cells, kind, and words of the reason.
CASES = {
    "sentences": (sentences(24), "text", "sentences"),
    "a sentence that ends like a file": (
        [*sentences(23), "a dog runs on the beach.jpg"],
        "text",
        "sentences",
    ),
    "captions that all end like files": (
        [f"{words} on beach.jpg" for words in sentences(24)],
        "text",
        "sentences",
    ),
    "Chinese without blanks": (["这是一只很大的猫", "狗在家里睡觉呢"] * 12, "text", "sentences"),
    "real numbers": ([f"{n / 7:.4f}" for n in range(24)], "ignore", "columns.x=number"),
    "whole numbers": ([str(n % 5) for n in range(24)], "ignore", "columns.x=number"),
    "row numbers": ([str(n) for n in range(24)], "ignore", "identifier"),
    "dates": ([f"2024-01-{n + 1:02d}" for n in range(24)], "ignore", "dates"),
    "times": (["2024-01-01T10:30:00Z"] * 12 + ["2024-01-02 11:00"] * 12, "ignore", "dates"),
    "identifiers": ([f"sub{n:03d}" for n in range(24)], "ignore", "identifier"),
    "speakers": (["anna", "ben", "carl", "dora"] * 6, "ignore", "speaker.*group=x"),
    "names of speakers": (["Anna Bell", "Ben Cox", "Carl Day"] * 8, "ignore", "speaker|label"),
    "one value": (["v1"] * 24, "ignore", "one value"),
    "the label in other words": (
        [{"cat": "meow", "dog": "woof", "emu": "boom"}[label] for label in LABELS],
        "ignore",
        "one class only",
    ),
    "the label as a number": (
        [str(["cat", "dog", "emu"].index(label)) for label in LABELS],
        "ignore",
        "one class only",
    ),
    "no value": ([""] * 24, "ignore", "empty"),
    "lists of numbers": (["[0, 2, 3]", "[1, 2, 3]"] * 12, "features", "lists"),
    "numbers with blanks": (["0.1 2 -3e-2", "1 2 3"] * 12, "features", "lists"),
    "lists of lists": (["[[1, 2], [3, 4]]", "[[1, 2], [0, 0]]"] * 12, "sequence", "lists"),
    "telephone numbers": ([f"+1 555 {n}234" for n in range(24)], "ignore", "columns.x=features"),
    "one date": (["2020-01-01"] * 24, "ignore", "one value"),
    "addresses": ([f"https://x.org/a?b={n}" for n in range(24)], UNCLEAR, "Download the files"),
    "unknown ending": ([f"cat/{n}.xyz" for n in range(24)], UNCLEAR, r"\.xyz.*columns.x="),
    "unknown ending, blanks": ([f"my cats/no {n}.xyz" for n in range(24)], UNCLEAR, r"\.xyz"),
    "an ending that is not read": ([f"{n}.heic" for n in range(24)], UNCLEAR, r"HEIF.*JPEG"),
    "no ending": ([f"cat/clip{n}" for n in range(24)], UNCLEAR, "paths without an ending"),
    "two kinds of files": (["a.jpg", "a.wav"] * 12, UNCLEAR, "image in row 0, sound in row 1"),
    "files and texts": (["a.jpg"] * 20 + ["a cat"] * 4, UNCLEAR, "text in row 20"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_kind_of_a_column(tmp_path, case):
    cells, kind, reason = CASES[case]
    column = describe_column("x", cells, tmp_path, labels=LABELS)
    assert column.kind == kind
    assert re.search(reason, column.reason)
    assert column.num_empty == cells.count("")
    assert column.num_distinct == len(set(cells) - {""})


@pytest.mark.parametrize("ending", ENDINGS)
def test_paths_are_never_the_words_of_a_text(tmp_path, ending):
    for cells in (
        [f"cat/{n}{ending}" for n in range(24)],
        [f"my cat {n}/a b{ending}" for n in "ab"],
    ):
        column = describe_column("x", cells, tmp_path)
        assert column.is_path
        assert column.kind == ENDINGS[ending]


def test_the_kind_that_the_user_names_decides(tmp_path):
    for case, (cells, *_) in CASES.items():
        for kind in ("text", "category", "ignore", "image"):
            column = describe_column("x", cells, tmp_path, labels=LABELS, chosen=kind)
            assert column.kind == kind, case
            assert column.reason == f"columns.x={kind}"


def test_numbers_and_categories_become_one_modality(tmp_path):
    age = [n % 7 + 0.5 for n in range(24)]
    sex = ["f", "m", "f", "d", "m", ""] * 4
    path = write_table(tmp_path, label=LABELS, words=sentences(24), age=age, sex=sex)
    kinds = {"age": "number", "sex": "category"}
    folder = import_csv(path, tmp_path / "s", columns=kinds, jobs=1)
    store = open_store(folder)
    assert set(store.modalities) == {"words", "tabular"}
    expected = np.stack([age, *(np.array(sex) == code for code in "dfm")], axis=1)
    np.testing.assert_array_equal(store.array("tabular"), expected.astype(np.float32))
    assert store.manifest["modalities"]["tabular"]["kind"] == "features"
    assert store.manifest["options"]["tabular"] == ["age", "sex=d", "sex=f", "sex=m"]
    assert set(open_store(import_csv(path, tmp_path / "t", jobs=1)).modalities) == {"words"}
    everything = import_csv(path, tmp_path / "u", columns={"*": "ignore", "age": "number"}, jobs=1)
    np.testing.assert_array_equal(open_store(everything).array("tabular")[:, 0], np.float32(age))


def test_lists_of_numbers_are_features(tmp_path):
    values = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    steps = values[:, :4].reshape(24, 2, 2)
    path = write_table(
        tmp_path,
        label=LABELS,
        a=[str(row.tolist()) for row in values],
        b=[" ".join(map(repr, row.tolist())) for row in values],
        c=[str(row.tolist()) for row in steps],
    )
    store = open_store(import_csv(path, tmp_path / "s", jobs=1))
    for name, expected in (("a", values), ("b", values), ("c", steps)):
        np.testing.assert_array_equal(store.array(name), expected)


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (
            ["1.5 2 3"] * 23 + ["1 2"],
            None,
            r"line 25: .*numbers of shape \(2,\), not of shape \(3,\)",
        ),
        (["1"] * 23 + ["old"], "number", "line 25: 'old' in the column 'x' is no number"),
        (["1"] * 23 + ["inf"], "number", "line 25: 'inf' in the column 'x' is no number"),
        (["no.jpg"] * 24, None, "24 of 24 rows cannot be used"),
        (["a cat"] * 24, "image", r"line 2: there is no file .*a cat"),
        (["http://x.org/a.jpg"] * 24, None, "download the files first"),
        (["a.npy"] * 24, None, r"there is no file .*a\.npy"),
    ],
)
def test_cells_that_do_not_fit_are_errors(tmp_path, cells, kind, message):
    path = write_table(tmp_path, label=LABELS, words=sentences(24), x=cells)
    with pytest.raises(DataError, match=message):
        import_csv(path, tmp_path / "s", columns={"x": kind} if kind else {}, jobs=1)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"x": "txt"}, ConfigError, "columns.x=txt: unknown kind. Did you mean 'text'"),
        ({"wrods": "text"}, DataError, "no column 'wrods'.*Did you mean 'words'"),
        ({"label": "text"}, ConfigError, "columns.label=text has no effect"),
        ({"*": "ignore"}, DataError, "has no column of a modality"),
    ],
)
def test_wrong_kinds_are_errors(tmp_path, columns, error, message):
    path = write_table(tmp_path, label=LABELS, words=sentences(24))
    with pytest.raises(error, match=message):
        import_csv(path, tmp_path / "s", columns=columns, jobs=1)


def test_texts_in_files_are_read(tmp_path):
    for number, words in enumerate(sentences(24)):
        (tmp_path / f"{number}.txt").write_text(words)
    names = [f"{number}.txt" for number in range(24)]
    path = write_table(tmp_path, label=LABELS, inline=sentences(24), files=names)
    store = open_store(import_csv(path, tmp_path / "s", jobs=1))
    np.testing.assert_array_equal(store.array("files"), store.array("inline"))


def test_a_drawing_and_an_upper_case_ending_are_images(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "A.PNG")
    path = write_table(tmp_path, label=LABELS, x=["A.PNG"] * 24)
    assert Table(path, name="my").columns["x"].kind == "image"


def test_the_plan_is_printed_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, label=LABELS, words=sentences(24), age=range(24), scan=["a.xyz"] * 24)
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "import", "my.csv", "--plan"]) == 3
    printed = capsys.readouterr()
    assert "my.csv: 24 rows, 4 columns" in printed.out
    lines = {line.split()[0]: line for line in printed.out.splitlines()[1:]}
    assert "3 classes: cat 8, dog 8, emu 8" in lines["label"]
    assert "-> token ids" in lines["words"]
    assert "columns.age=number" in lines["age"]
    assert "columns.scan=image" in printed.err
    assert main(["data", "import", "my.csv", "--plan", "columns.scan=ignore"]) == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["data", "import", "my.csv", "target=s", "columns.scan=ignore", "jobs=1"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("24 rows, 4 columns") < printed.index("Train: ")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "Cat", "dog"] * 8, "warning: the classes 'Cat', 'cat' differ only in spelling"),
        (["True", "true", "no"] * 8, "warning: the classes 'True', 'true' differ only"),
        (["1", "1.0", "2"] * 8, "warning: the classes '1', '1.0' differ only in spelling"),
        (["nan", "a", "b"] * 8, "warning: the class 'nan' looks like a missing value"),
        (["a", "b"] * 11 + ["c", "c"], "1 class has fewer than 3 samples, .*: 'c' 2"),
    ],
)
def test_labels_that_may_mislead_are_warned_of(tmp_path, labels, message):
    path = write_table(tmp_path, label=labels, words=sentences(24))
    (line,) = [line for line in Table(path, name="my").plan() if line.startswith("warning")]
    assert re.search(message, line)


def test_real_numbers_are_no_classes_and_whole_ones_are_in_their_order(tmp_path):
    path = write_table(tmp_path, label=np.linspace(-3, 3, 24), words=sentences(24))
    with pytest.raises(DataError, match="labels are real numbers, 24 different ones in 24 rows"):
        import_csv(path, tmp_path / "s", jobs=1)
    path = write_table(tmp_path, label=[10, 9, 2, 1] * 6, words=sentences(24))
    store = open_store(import_csv(path, tmp_path / "s", jobs=1))
    assert store.manifest["class_names"] == ["1", "2", "9", "10"]


def test_columns_of_numbers_may_have_any_name(tmp_path):
    content = {"label": LABELS, "sepal length (cm)": range(24), "a/b": range(24)}
    path = write_table(tmp_path, **content)
    with pytest.raises(DataError, match=r"columns\.\*=number"):
        import_csv(path, tmp_path / "s", jobs=1)
    store = open_store(import_csv(path, tmp_path / "s", columns={"*": "number"}, jobs=1))
    assert store.array("tabular")[:, 0].tolist() == [*range(24)]


def test_a_text_that_gives_the_class_away_is_warned_of(tmp_path):
    words = {"cat": "it says meow loudly", "dog": "it says woof loudly", "emu": "it says boom"}
    path = write_table(tmp_path, label=LABELS, words=[words[label] for label in LABELS])
    assert any("occurs with one class only" in line for line in Table(path, name="my").plan())
