"""Tables in other forms than CSV: the same rows give the same store."""

import json

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_table import import_csv
from mla_lightning.prepare.table_sources import is_table, read_source

SPLITS = ("train", "validation", "test")
CLASSES = ("cat", "dog")


def frame(num=24):
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "id": [f"s{n:02d}" for n in range(num)],
            "label": [CLASSES[n % 2] for n in range(num)],
            "split": [SPLITS[n // 2 % 3] for n in range(num)],
            "words": [f'"a, b" or größe\nof {n}' if n % 5 else None for n in range(num)],
            "vector": [rng.normal(size=3).tolist() for _ in range(num)],
            "age": [n / 4 for n in range(num)],
        }
    )


def save_dataset(folder, table, **features):
    """Write a folder as save_to_disk of Hugging Face datasets does, in two files."""
    folder.mkdir(parents=True)
    half = table.num_rows // 2
    names = [f"data-{n:05d}-of-00002.arrow" for n in range(2)]
    for name, part in zip(names, (table[:half], table[half:]), strict=True):
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(part)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    state = {"_data_files": [{"filename": name} for name in names], "_split": folder.name}
    (folder / "state.json").write_text(json.dumps(state))


def write_csv(folder):
    frame().to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def write_tsv(folder):
    frame().to_csv(folder / "a.tsv", index=False, sep="\t")
    return folder / "a.tsv"


def write_parquet(folder):
    frame().to_parquet(folder / "a.parquet", index=False)
    return folder / "a.parquet"


def write_json_lines(folder):
    frame().to_json(folder / "a.jsonl", orient="records", lines=True)
    return folder / "a.jsonl"


def write_dataset(folder):
    content = frame()
    content["label"] = [CLASSES.index(label) for label in content["label"]]
    feature = {"names": [*CLASSES], "_type": "ClassLabel"}
    table = pyarrow.Table.from_pandas(content, preserve_index=False)
    save_dataset(folder / "a", table, label=feature)
    return folder / "a"


def write_datasets(folder):
    content = frame()
    for split in SPLITS:
        part = content[content["split"] == split].drop(columns="split")
        save_dataset(folder / "a" / split, pyarrow.Table.from_pandas(part, preserve_index=False))
    (folder / "a" / "dataset_dict.json").write_text(json.dumps({"splits": SPLITS}))
    return folder / "a"


WRITERS = (write_tsv, write_parquet, write_json_lines, write_dataset, write_datasets)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csv")
    return open_store(
        import_csv(write_csv(folder), folder / "s", columns={"age": "number"}, length=8, jobs=1)
    )


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_rows_in_another_form_are_the_same_store(tmp_path, expected, write):
    path = write(tmp_path)
    assert is_table(path)
    columns = {"age": "number"}
    store = open_store(import_csv(path, tmp_path / "s", columns=columns, length=8, jobs=1))
    assert list(store.ids) == list(expected.ids)
    assert store.manifest["class_names"] == [*CLASSES]
    assert set(store.modalities) == {"words", "vector", "tabular"}
    for name in store.modalities:
        np.testing.assert_allclose(store.array(name), expected.array(name), atol=1e-6)
    np.testing.assert_array_equal(store.present("words"), expected.present("words"))
    for name in ("split.own.npy", "label.npy"):
        ours, theirs = (np.load(s.folder / name) for s in (store, expected))
        np.testing.assert_array_equal(ours, theirs)
    assert store.array("vector")[3].tolist() == np.float32(frame()["vector"][3]).tolist()


@pytest.mark.parametrize("layout", ["{label}/{n}.png", "{split}/{label}/{n}.png"])
def test_a_folder_of_images_by_class(tmp_path, monkeypatch, capsys, layout):
    monkeypatch.chdir(tmp_path)
    names = {}
    for n in range(24):
        split = ("train", "dev", "test")[n // 2 % 3]
        name = layout.format(label=CLASSES[n % 2], split=split, n=n)
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (10 * n, 0, 0)).save(path)
        names[name] = n
    path.with_name(".DS_Store").write_bytes(b"of a Mac")
    assert main(["data", "import", "pets", "target=s", "size=8", "jobs=1"]) == 0
    store = open_store(tmp_path / "s")
    assert [*store.ids] == sorted(names)
    label = np.load("s/label.npy")
    for row, name in enumerate(store.ids):
        assert label[row] == names[name] % 2
        assert abs(int(store.array("image")[row, 0].mean()) - 10 * names[name]) <= 1
    if "split" in layout:
        codes = np.load("s/split.own.npy")
        assert codes.tolist() == [names[name] // 2 % 3 for name in store.ids]
    (tmp_path / "pets" / layout.format(label="cat", split="test", n="x")).with_suffix(
        ".xyz"
    ).write_text("?")
    assert main(["data", "import", "pets", "target=t"]) == 3
    assert "x.xyz is no image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"label": "a"}\n{"label": ', "line 2: no JSON object"),
        ("a.jsonl", '{"label": "a"}\n[1, 2]\n', r"line 2: no JSON object, but '\[1, 2\]'"),
        ("a.jsonl", '{"label": {"a": 1}}\n', "line 1: 'label' holds an object"),
        (
            "a.jsonl",
            '{"label": "größe"}\n'.encode("cp1252"),
            r"line 1: b'\\xf6' is no UTF-8.*iconv",
        ),
        ("a.ndjson", "", "no column 'label'"),
        ("a.parquet", "id,label\n", "a.parquet is no Parquet file"),
        ("a.parquet", "", "a.parquet is no Parquet file"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_damaged_tables_are_errors_that_name_the_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as raised:
        import_csv(path, tmp_path / "s", jobs=1)
    assert str(path) in str(raised.value)


def test_an_index_and_lists_of_files_are_errors(tmp_path):
    path = tmp_path / "a.parquet"
    frame().set_index("id").iloc[::2].rename_axis(None).to_parquet(path)
    with pytest.raises(DataError, match=r"the index of a pandas table.*index=False"):
        read_source(path)
    content = pyarrow.table({"image": [[{"bytes": b"PNG", "path": "a.png"}]], "label": ["a"]})
    pyarrow.parquet.write_table(content, path)
    with pytest.raises(DataError, match=r"row 1: 'image' holds a list .*Give each file"):
        read_source(path)
    coded = pyarrow.array([b"PNG"]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"image": coded, "label": ["a"]}), path)
    with pytest.raises(DataError, match=r"row 1: 'image' holds bytes.*column as plain bytes"):
        read_source(path)
    content = pyarrow.table({"image": [{"bytes": None, "path": "a.png"}], "label": ["a"]})
    pyarrow.parquet.write_table(content, path)
    assert read_source(path)[0][0]["image"] == "a.png"


def test_a_damaged_data_set_is_an_error(tmp_path):
    folder = write_dataset(tmp_path)
    path = sorted(folder.glob("*.arrow"))[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="is no Arrow file"):
        read_source(folder)
    path.unlink()
    with pytest.raises(DataError, match=r"is no Arrow file|does not exist"):
        read_source(folder)
    (folder / "state.json").unlink()
    with pytest.raises(DataError, match=r"state\.json cannot be read"):
        read_source(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("state.json", "{}", "state.json names no files"),
        ("state.json", '{"_data_files": [{}]}', "state.json names no files"),
        ("state.json", "[", "state.json cannot be read"),
        ("dataset_dict.json", "{}", "dataset_dict.json names no splits"),
    ],
)
def test_a_damaged_description_of_a_saved_dataset_is_named(tmp_path, name, content, message):
    save_dataset(tmp_path / "set", pyarrow.Table.from_pandas(frame(), preserve_index=False))
    (tmp_path / "set" / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_source(tmp_path / "set")
    assert "save_to_disk" in str(error.value)
