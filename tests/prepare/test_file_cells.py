"""Files in the cells of Parquet and of saved data sets: the same store as that of the files."""

import hashlib
import io
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from tests.media.media_files import tone, write_video, write_wav
from tests.prepare.test_table_sources import save_dataset

from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.media import embedded
from mla_lightning.media.base import BadMedia
from mla_lightning.media.embedded import EmbeddedFiles, EmbeddedInput
from mla_lightning.prepare.import_table import import_csv
from mla_lightning.prepare.preparation_log import PreparationLog
from mla_lightning.prepare.table import Table
from mla_lightning.prepare.table_sources import is_table

NUM = 24
CLASSES = ("cat", "dog")
FILE = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
SPLITS = ("train", "val", "test")


def picture(number, image_format):
    pixels = np.random.default_rng(number).integers(0, 256, (12 + number, 20, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, image_format)
    return content.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Columns of bytes of files in three formats, in order and with a missing sound."""
    folder = tmp_path_factory.mktemp("files")
    for n in range(NUM):
        write_wav(folder / f"{n}.wav", tone(0.2 + 0.01 * n, hertz=300 + 20 * n))
        ending = "png" if n % 2 else "jpg"
        (folder / f"{n}.{ending}").write_bytes(picture(n, "PNG" if n % 2 else "JPEG"))
    return folder


def paths_of(n):
    return {"image": f"{n}.{'png' if n % 2 else 'jpg'}", "sound": "" if n == 5 else f"{n}.wav"}


@pytest.fixture(scope="module")
def expected(files, tmp_path_factory):
    """The store of a table of paths."""
    lines = ["id,label,split,image,sound"]
    for n in range(NUM):
        image, sound = paths_of(n).values()
        lines.append(f"s{(7 * n) % NUM:02d},{CLASSES[n % 2]},{SPLITS[n // 2 % 3]},{image},{sound}")
    (files / "a.csv").write_text("\n".join(lines) + "\n")
    return open_store(import_csv(files / "a.csv", tmp_path_factory.mktemp("s") / "s", jobs=1))


def columns_of(files, is_struct=True, **others):
    columns = {
        "id": [f"s{(7 * n) % NUM:02d}" for n in range(NUM)],
        "label": [CLASSES[n % 2] for n in range(NUM)],
        "split": [SPLITS[n // 2 % 3] for n in range(NUM)],
    }
    for name in ("image", "sound"):
        contents = []
        for n in range(NUM):
            path = paths_of(n)[name]
            content = (files / path).read_bytes() if path else None
            is_null = content is None or not is_struct
            contents.append(content if is_null else {"bytes": content, "path": None})
        columns[name] = pyarrow.array(contents, FILE if is_struct else pyarrow.large_binary())
    return pyarrow.table(columns | others)


def write(table, path, **options):
    pyarrow.parquet.write_table(table, path, **options)
    return path


def assert_same(store, expected):
    assert list(store.ids) == list(expected.ids)
    assert store.manifest["class_names"] == [*CLASSES]
    assert store.manifest["modalities"] == expected.manifest["modalities"]
    for name in ("image", "sound"):
        np.testing.assert_array_equal(store.array(name), expected.array(name))
    np.testing.assert_array_equal(store.present("sound"), expected.present("sound"))
    for name in ("label.npy", "split.own.npy"):
        arrays = (np.load(each.folder / name) for each in (store, expected))
        np.testing.assert_array_equal(*arrays)


@pytest.mark.parametrize("is_struct", [True, False])
@pytest.mark.parametrize("group", [5, NUM])
def test_bytes_of_files_are_the_store_of_the_files(files, expected, tmp_path, is_struct, group):
    path = write(columns_of(files, is_struct), tmp_path / "a.parquet", row_group_size=group)
    store = open_store(import_csv(path, tmp_path / "s", jobs=2))
    assert_same(store, expected)
    (source,) = json.loads((store.folder / "sources.json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert source == {"file": "a.parquet", "bytes": path.stat().st_size, "sha256": sha256}


def test_saved_data_sets_hold_files_too(files, expected, tmp_path):
    table = columns_of(files)
    for split in SPLITS:
        is_in = pyarrow.compute.equal(table["split"], split)
        save_dataset(tmp_path / "a" / split, table.filter(is_in).drop_columns("split"))
    (tmp_path / "a" / "dataset_dict.json").write_text(json.dumps({"splits": SPLITS}))
    store = open_store(import_csv(tmp_path / "a", tmp_path / "s", jobs=1))
    assert_same(store, expected)
    sources = json.loads((store.folder / "sources.json").read_text())
    names = [f"{split}/data-{n:05d}-of-00002.arrow" for split in SPLITS for n in range(2)]
    assert sorted(entry["file"] for entry in sources) == sorted(names)


@pytest.mark.parametrize("under", [".", "data"])
def test_a_folder_of_parquet_files_is_one_table(files, expected, tmp_path, under):
    """The layout of data sets on the Hugging Face Hub."""
    table = columns_of(files)
    folder = tmp_path / "a" / under
    folder.mkdir(parents=True)
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        is_in = pyarrow.compute.equal(table["split"], split)
        part = table.filter(is_in).drop_columns("split")
        for n, rows in enumerate((part[:3], part[3:])):
            write(rows, folder / f"{name}-{n:05d}-of-00002-0123456789abcdef.parquet")
    assert is_table(tmp_path / "a")
    store = open_store(import_csv(tmp_path / "a", tmp_path / "s", jobs=1))
    assert_same(store, expected)
    path = folder / "train-00001-of-00002-0123456789abcdef.parquet"
    for other in [*folder.glob("validation-*"), *folder.glob("test-*")]:
        other.unlink()
    assert Table(tmp_path / "a", name="a").roles.split is None  # one is drawn
    path.rename(tmp_path / "train-00001-of-00002-0123456789abcdef.parquet")
    with pytest.raises(DataError, match=r"holds 1 of the 2 files train-\*"):
        import_csv(tmp_path / "a", tmp_path / "t")


def test_names_and_columns_of_parquet_files_that_contradict_each_other(files, tmp_path):
    whole = columns_of(files)
    table = whole.drop_columns("split")
    write(table, tmp_path / "0.parquet")
    write(table.slice(0, 2).drop_columns("id"), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet has other columns than .*0\.parquet"):
        import_csv(tmp_path, tmp_path / "s")
    write(table, tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"row 1 of 1\.parquet: the id 's00' was in row 1 of 0\."):
        import_csv(tmp_path, tmp_path / "s")
    (tmp_path / "1.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"0\.parquet: its name begins with no split, as test\.p"):
        import_csv(tmp_path, tmp_path / "s")
    (tmp_path / "a.npy").touch()  # a folder of arrays remains one
    assert not is_table(tmp_path)
    (tmp_path / "a.npy").unlink()
    write(whole, tmp_path / "test.parquet")
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(DataError, match="'split' contradicts the names of the files"):
        import_csv(tmp_path, tmp_path / "s")


def test_features_in_a_parquet_file_name_its_classes_and_kinds(files, tmp_path):
    numbers = pyarrow.array([n % 2 for n in range(NUM)], pyarrow.int64())
    film = write_video(tmp_path / "a.mp4", None, samples=tone(0.3, rate=16000), rate=16000)
    clip = {"bytes": film.read_bytes(), "path": "a.mp4"}
    table = columns_of(files).drop_columns(["label", "sound"])
    table = table.append_column("label", numbers)
    table = table.append_column("voice", pyarrow.array([clip] * NUM, FILE))
    features = {
        "label": {"names": [*CLASSES], "_type": "ClassLabel"},
        "image": {"_type": "Image"},
        "voice": {"sampling_rate": 16000, "_type": "Audio"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    told = Table(
        write(table.replace_schema_metadata(metadata), tmp_path / "a.parquet"), name="told"
    )
    untold = Table(write(table, tmp_path / "b.parquet"), name="untold")
    assert (told.class_names, untold.class_names) == (CLASSES, ("0", "1"))
    kinds = [{name: c.kind for name, c in t.columns.items()} for t in (told, untold)]
    assert kinds[0] == {"image": "image", "voice": "sound"}
    assert kinds[1] == {"image": "image", "voice": "film"}


def replaced(table, name, row, content):
    values = table[name].to_pylist()
    values[row] = content if content is None else {"bytes": content, "path": "x.png"}
    number = table.schema.get_field_index(name)
    return table.set_column(number, name, pyarrow.array(values, FILE))


def test_bytes_of_no_known_format_name_column_and_row(files, tmp_path):
    table = columns_of(files)
    html = b"<!DOCTYPE html><p>404</p>"
    bad = replaced(replaced(table, "image", 3, b"\0raw pixels"), "sound", 8, html)
    bad = replaced(replaced(bad, "image", 10, b""), "image", 12, (files / "0.wav").read_bytes())
    path = write(bad, tmp_path / "a.parquet")
    told = {"columns": {"image": "image"}, "jobs": 1}
    with pytest.raises(DataError) as raised:
        import_csv(path, tmp_path / "s", **told)
    for row, text in (
        (4, r"the column 'image' holds bytes that begin with b'\x00raw pixels', not an image"),
        (9, "the column 'sound' holds an HTML page, not a sound"),
        (11, "the column 'image' holds 0 bytes"),
        (13, "the column 'image' holds a WAV file, not an image that is read"),
    ):
        assert f"row {row}: {text}" in str(raised.value)
    assert not (tmp_path / "s.partial").exists()
    store = open_store(import_csv(path, tmp_path / "s", **told, on_bad="skip"))
    assert len(store) == NUM - 4
    assert {entry["file"] for entry in store.manifest["failures"]} == {
        f"a.parquet, row {row}" for row in (4, 9, 11, 13)
    }


def test_truncated_bytes_are_refused_as_files_are(files, tmp_path):
    image = (files / "3.png").read_bytes()[:400]
    table = replaced(columns_of(files), "image", 3, image)
    sound = (files / "7.wav").read_bytes()[:2000]
    path = write(replaced(table, "sound", 7, sound), tmp_path / "a.parquet")
    with pytest.raises(DataError) as raised:
        import_csv(path, tmp_path / "s", jobs=1)
    for pattern in (
        r"s21, image \(a\.parquet, row 4\): truncated or damaged",
        r"s01, sound \(a\.parquet, row 8\): truncated: 1956 of \d+ bytes of sound",
    ):
        assert re.search(pattern, str(raised.value))
    store = open_store(import_csv(path, tmp_path / "s", jobs=1, on_bad="skip"))
    assert len(store) == NUM - 2
    (source,) = json.loads((store.folder / "sources.json").read_text())
    assert source.keys() == {"file", "bytes", "sha256"}


def test_samples_without_labels_are_like_a_store_of_files(files, expected, tmp_path):
    table = columns_of(files).drop_columns(["label", "split"])
    path = write(table.slice(2, 4), tmp_path / "new.parquet")
    target = tmp_path / "new"
    store = open_store(import_csv(path, target, labels="none", like=expected.folder, jobs=1))
    rows = [list(expected.ids).index(name) for name in store.ids]
    for name in ("image", "sound"):
        present = store.present(name)
        keep = slice(None) if present is None else np.asarray(present)
        both = (np.asarray(store.array(name)), np.asarray(expected.array(name))[rows])
        np.testing.assert_array_equal(*(array[keep] for array in both))


def test_a_killed_import_continues_unless_the_bytes_have_changed(
    files, expected, tmp_path, capfd, monkeypatch
):
    path = write(columns_of(files), tmp_path / "a.parquet", row_group_size=4)
    child = os.fork()
    if child == 0:
        add, added = PreparationLog.add, []

        def killed(self, number, records):
            add(self, number, records)
            added.append(number)
            if len(added) == 5:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(PreparationLog, "add", killed)
        import_csv(path, tmp_path / "s", jobs=2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    write(replaced(columns_of(files), "image", 23, picture(99, "PNG")), tmp_path / "b.parquet")
    (tmp_path / "b.parquet").rename(path)
    with pytest.raises(DataError, match=r"s\.partial was started with other files or options"):
        import_csv(path, tmp_path / "s", jobs=2)
    content = columns_of(files)
    before = (tmp_path / "s.partial" / "journal.jsonl").stat()
    write(content, path, row_group_size=4)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store = open_store(import_csv(path, tmp_path / "s", jobs=2))
    assert_same(store, expected)
    assert not (tmp_path / "s.partial").exists()


@pytest.mark.parametrize("writer", ["parquet", "arrow"])
def test_any_order_reads_the_bytes_of_each_row_in_small_batches(tmp_path, monkeypatch, writer):
    contents = [bytes([n]) * 3000 for n in range(60)]
    table = pyarrow.table({"note": contents, "other": list(range(60))})
    path = tmp_path / f"a.{writer}"
    if writer == "parquet":
        monkeypatch.setattr(embedded, "_BATCH_BYTES", 10_000)
        write(table, path, row_group_size=25, compression="none")
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table, max_chunksize=7)
    reader = EmbeddedFiles(tmp_path, tmp_path)
    order = [*range(60), *np.random.default_rng(0).permutation(60).tolist()]
    sizes = set()
    for row in order:
        file = EmbeddedInput(Path(path.name), column="note", row=row, ending=".bin")
        with reader.path_of(file) as written:
            assert written.read_bytes() == contents[row]
            assert written.suffix == ".bin"
            assert [p for p in tmp_path.iterdir() if p != path] == [written]
        assert not written.exists()
        sizes.add(len(reader._readers[path, "note"]._batch))
    assert max(sizes) <= (3 if writer == "parquet" else 7)
    with (
        pytest.raises(BadMedia, match="it has no row 61"),
        reader.path_of(EmbeddedInput(Path(path.name), column="note", row=60)),
    ):
        pass
    other = EmbeddedInput(Path(path.name), column="note", row=1, sha256="0")
    with pytest.raises(BadMedia, match="changed since the import began"), reader.path_of(other):
        pass


def test_bytes_that_are_no_files_are_errors_before_anything_starts(files, tmp_path):
    table = columns_of(files)
    words = pyarrow.array([b"a small cat"] * NUM, pyarrow.binary())
    path = write(table.append_column("words", words), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"words.*b'a small cat' in row 1.*columns.words=ignore"):
        import_csv(path, tmp_path / "s", jobs=1)
    assert len(open_store(import_csv(path, tmp_path / "s", columns={"words": "ignore"}))) == NUM
    labels = pyarrow.array([b"cat", b"dog"] * (NUM // 2))
    path = write(table.set_column(1, "label", labels), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"row 1: 'label' holds bytes.*Write the column as texts"):
        import_csv(path, tmp_path / "t", jobs=1)
    mixed = table
    for row in range(0, NUM, 2):
        mixed = replaced(mixed, "image", row, (files / "0.wav").read_bytes())
    path = write(mixed, tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"files of different kinds: sound in row 1, image in row"):
        import_csv(path, tmp_path / "t", jobs=1)
