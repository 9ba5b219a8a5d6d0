"""Arrays of a store are compared with their hashes before they are used, once per content."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs
from mla_lightning.data import contents
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.errors import DataError

N = 24
TRAIN = ["data=store", "data.path=toy", "trainer.max_epochs=1", "optimizer.lr=0.1"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store in the current folder, whose files count as old."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "RECENT_S", -np.inf)
    rng = np.random.default_rng(0)
    write_store(
        Path("toy"),
        name="toy",
        class_names=("a", "b"),
        ids=[f"s{k:02d}" for k in range(N)],
        label=np.arange(N) % 2,
        arrays={
            "one": rng.normal(size=(N, 4)).astype(np.float32),
            "two": rng.normal(size=(N, 3)).astype(np.float32),
        },
        kinds={"one": "features", "two": "features"},
        splits={"own": NamedSplit(np.arange(N) // 2 % 3, "in turn")},
        present={"one": np.arange(N) != 3},
        attributes={"speaker": [f"p{k % 5}" for k in range(N)]},
    )
    return Path("toy")


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read to hash them."""
    names = []
    original = contents._read

    def spy(path, count):
        names.append(path.name)
        return original(path, count)

    monkeypatch.setattr(contents, "_read", spy)
    return names


def flip(path, byte=-1, bit=0):
    with path.open("r+b") as file:
        file.seek(byte, os.SEEK_END if byte < 0 else os.SEEK_SET)
        value = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([value ^ 1 << bit]))


def test_one_flipped_bit_in_any_array_is_an_error_that_names_the_file(store):
    files = sorted(path.name for path in store.glob("*.npy"))
    assert len(files) == 7
    open_store(store)
    for file in files:
        flip(store / file)
        with pytest.raises(DataError, match=f"toy/{file} .*mla data check toy.*rm -r toy.*import"):
            open_store(store)
        flip(store / file)
    assert len(open_store(store)) == N


def test_a_flipped_bit_in_a_header_is_an_error(store):
    for byte in range(0, 128, 3):
        flip(store / "one.npy", byte, bit=byte % 8)
        with pytest.raises(DataError, match=r"one\.npy"):
            open_store(store)
        flip(store / "one.npy", byte, bit=byte % 8)


def test_every_command_that_uses_the_arrays_ends_with_code_3(store, capfd):
    run = mla.train(*TRAIN)
    flip(store / "two.npy")
    for words in (
        ["train", *TRAIN, "seed=1"],
        ["train", "-m", *TRAIN, "seed=1,2"],
        ["eval", str(run.folder)],
        ["predict", str(run.folder)],
        ["data", "embed", "data=store", "data.path=toy", "target=new"],
        ["data", "show", "toy"],
        ["data", "check", "toy"],
    ):
        assert main(words) == 3, words
        assert "two.npy" in capfd.readouterr().err
    assert not Path("new").exists()
    assert len(list(run.folder.parent.iterdir())) == 1  # no other job was started
    with pytest.raises(DataError, match=r"two\.npy"):
        mla.load(run.folder).predict()


def test_an_unchanged_file_is_read_once(store, read):
    open_store(store)
    assert sorted(read) == sorted(path.name for path in store.glob("*.npy"))
    read.clear()
    compose_jobs([*TRAIN, "seed=0,1,2"], multirun=True)
    assert read == []
    flip(store / "one.npy")
    flip(store / "one.npy")
    open_store(store)
    assert read == ["one.npy"]  # changed back: only this file was written again


def test_a_change_is_found_although_size_and_time_are_the_old_ones(store):
    open_store(store)
    status = (store / "one.npy").stat()
    flip(store / "one.npy")
    os.utime(store / "one.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (store / "one.npy").stat().st_mtime_ns == status.st_mtime_ns
    with pytest.raises(DataError, match=r"one\.npy"):
        open_store(store)


def test_a_replaced_file_and_a_copied_store_are_read_again(store, read):
    open_store(store)
    shutil.copy2(store / "one.npy", "other.npy")
    os.replace("other.npy", store / "one.npy")
    read.clear()
    open_store(store)
    assert read == ["one.npy"]
    read.clear()
    shutil.copytree(store, "copy")  # with the record of the original
    open_store(Path("copy"))
    assert len(read) == 7


def test_a_file_that_has_just_changed_is_not_recorded(store, read, monkeypatch):
    monkeypatch.setattr(contents, "RECENT_S", 3600.0)
    open_store(store)
    open_store(store)
    assert len(read) == 14


def test_a_read_only_store_is_recorded_in_the_folder_of_the_user(store, read, monkeypatch):
    original = contents.new_file

    def write(path):
        if path.parent == store:
            raise OSError(errno.EROFS, "Read-only file system")
        return original(path)

    monkeypatch.setattr(contents, "new_file", write)
    open_store(store)
    read.clear()
    open_store(store)
    assert read == []
    assert not (store / contents.RECORD).exists()
    assert len(list(Path("cache").rglob("*.json"))) == 1
    monkeypatch.setattr(contents, "_places", lambda folder: [folder / contents.RECORD])
    open_store(store)  # no place at all
    open_store(store)
    assert len(read) == 14


def test_the_record_is_no_part_of_the_store_and_damage_to_it_costs_a_read(store, read):
    before = Prepared(path=store, batch_size=8).fingerprint
    assert verify_store(store) == []
    record = store / contents.RECORD
    assert json.loads(record.read_text()).keys() == {path.name for path in store.glob("*.npy")} | {
        "sources.json"
    }
    for text in ("", "[]", "[" * 100_000, '{"one.npy": 3}', record.read_text().replace('"', "'")):
        record.write_text(text)
        read.clear()
        assert Prepared(path=store, batch_size=8).fingerprint == before
        assert "one.npy" in read


def test_a_check_reads_what_is_recorded_and_forgets_what_is_damaged(store, read):
    open_store(store)
    entries = json.loads((store / contents.RECORD).read_text())
    flip(store / "one.npy")
    entries["one.npy"]["stamp"] = contents._stamp((store / "one.npy").stat())
    (store / contents.RECORD).write_text(json.dumps(entries))
    open_store(store)  # damage of the disk, which leaves size and times
    assert verify_store(store) == ["one.npy is not the file that was written (another SHA-256)"]
    with pytest.raises(DataError, match=r"one\.npy"):
        open_store(store)


def test_machines_that_share_a_disk_do_not_make_each_other_read_it(store, read):
    open_store(store)
    entries = json.loads((store / contents.RECORD).read_text())
    for entry in entries.values():
        entry["devices"] = [entry["devices"][0] + 1]  # as another machine numbers the disk
    (store / contents.RECORD).write_text(json.dumps(entries))
    read.clear()
    open_store(store)
    assert len(read) == 7
    entries = json.loads((store / contents.RECORD).read_text())
    assert {len(entry["devices"]) for entry in entries.values()} == {2}
    read.clear()
    open_store(store)
    assert read == []


def test_a_large_store_shows_its_progress(store, capfd, monkeypatch):
    monkeypatch.setattr(contents, "LARGE_BYTES", 100)
    monkeypatch.setattr(contents, "_PROGRESS_S", 0.0)
    open_store(store)
    error = capfd.readouterr().err
    assert "Comparing toy with its hashes: 0.0 GB" in error
    assert "of 0.0 GB\n" in error
    open_store(store)
    assert capfd.readouterr().err == ""


def test_an_array_that_is_not_in_the_manifest_has_no_effect(store):
    np.save(store / "two.present.npy", np.zeros(N, dtype=bool))
    assert open_store(store).present("two") is None
    assert "two.present.npy is not in the manifest" in verify_store(store)


def test_rows_that_are_left_to_a_reader_stay_recorded(store, read):
    open_store(store, reads_rows=False)
    assert not {"one.npy", "two.npy"} & {*read}
    assert "label.npy" in read
    read.clear()
    open_store(store)
    assert read == ["one.npy", "two.npy"]
    flip(store / "label.npy")
    with pytest.raises(DataError, match=r"label\.npy"):
        open_store(store, reads_rows=False)
    flip(store / "label.npy")
    open_store(store, reads_rows=False)
    read.clear()
    open_store(store)
    assert read == []
