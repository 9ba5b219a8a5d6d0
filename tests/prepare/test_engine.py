"""Preparation: complete, equal after kills and with any number of jobs, all failures listed."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.media.media_files import LFS_POINTER, tone, write_wav
from tests.prepare import toy
from tests.prepare.toy import Toy, write_toy

from mla_lightning.data.store import open_store, verify_store
from mla_lightning.errors import ConfigError, DataError, RunError
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import FileInput
from mla_lightning.prepare import preparation_log
from mla_lightning.prepare.engine import prepare
from mla_lightning.prepare.preparation_log import FileRecord, PreparationLog
from mla_lightning.prepare.rows import RowFile

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def finished(official, tmp_path_factory):
    return prepare(Toy(official), tmp_path_factory.mktemp("stores") / "toy", jobs=1)


@pytest.fixture
def broken(tmp_path):
    """Write a data set with four bad items of sixteen, each for another reason."""
    root = write_toy(tmp_path / "raw")
    (root / "wav" / "item01.wav").unlink()
    (root / "flv" / "item02.flv").write_bytes(b"")
    (root / "wav" / "item03.wav").write_text(LFS_POINTER)
    video = root / "mp4" / "item04.mp4"
    video.write_bytes(video.read_bytes()[:300])
    return root


def test_a_repository_without_its_large_files_stops_at_once(official, tmp_path):
    root = tmp_path / "raw folder"
    shutil.copytree(official, root)
    files = [path for path in root.rglob("*") if path.suffix in {".wav", ".flv", ".mp4"}]
    for path in files:
        path.write_text(LFS_POINTER)
    with pytest.raises(DataError, match=r"\d+ of \d+ files are only pointers of Git LFS") as error:
        prepare(Toy(root), tmp_path / "toy", jobs=1)
    assert "\n" not in str(error.value)
    assert f"git -C '{root}' lfs pull" in str(error.value)
    assert not (tmp_path / "toy.partial").exists()


def test_what_a_failed_preparation_leaves_is_named_with_its_size(broken, tmp_path):
    with pytest.raises(DataError, match=r"takes \d+\.\d MB; to remove it: rm -r ") as error:
        prepare(Toy(broken), tmp_path / "toy", jobs=1)
    assert str(error.value).endswith(str(tmp_path / "toy.partial"))


def hashes(store):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.iterdir())
        if path.name != "manifest.json"
    }


def manifest_of(store):
    return json.loads((store / "manifest.json").read_text())


def test_a_store_holds_the_content_of_the_files(official, finished):
    assert verify_store(finished) == []
    store = open_store(finished)
    assert [str(name) for name in store.ids] == [f"item{n:02d}" for n in range(16)]
    assert list(store.label) == [n % 2 for n in range(16)]
    audio = np.load(finished / "audio.npy")
    assert audio.shape == (16, 40, 8)
    assert audio.dtype == np.float16
    expected = LogMel(num_frames=40, num_mels=8)(official, FileInput(Path("wav/item05.wav")))
    np.testing.assert_array_equal(audio[5], expected)
    visual = np.load(finished / "visual.npy")
    assert visual.shape == (16, 3, 3, 12, 12)
    np.testing.assert_allclose(visual[:10].mean((1, 2, 3, 4)), 6 + 10 * np.arange(10), atol=4)
    present = np.load(finished / "image.present.npy")
    assert present.tolist() == [n % 5 != 0 for n in range(16)]
    assert (np.load(finished / "image.npy")[~present] == 0).all()
    assert not (finished / "audio.present.npy").exists()
    assert list(store.attribute("speaker")) == ["s1"] * 16


def test_sources_are_listed_with_size_and_hash(official, finished):
    sources = {e["file"]: e for e in json.loads((finished / "sources.json").read_text())}
    for name in ("wav/item01.wav", "flv/item00.flv", "mp4/item15.mp4", "labels/item00.txt"):
        content = (official / name).read_bytes()
        assert sources[name]["bytes"] == len(content)
        assert sources[name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert "flv/item01.flv" not in sources  # not used


@pytest.mark.parametrize("jobs", [2, 5])
def test_the_number_of_jobs_changes_nothing(official, finished, tmp_path, jobs):
    assert hashes(prepare(Toy(official), tmp_path / "toy", jobs=jobs)) == hashes(finished)


def test_a_finished_store_is_not_prepared_again(official, finished, capsys):
    before = (finished / "manifest.json").stat().st_mtime_ns
    assert prepare(Toy(official), finished) == finished
    assert "was prepared before" in capsys.readouterr().out
    assert (finished / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="made from other files or with other options"):
        prepare(Toy(official, size=10), finished)


def start(official, target, calls, seconds):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, toy.__file__, official, target, str(seconds), calls]
    return subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_a_killed_preparation_continues_to_the_same_store(official, finished, tmp_path):
    target, calls = tmp_path / "toy", tmp_path / "calls"
    journal = tmp_path / "toy.partial" / "journal.jsonl"
    rng = random.Random(0)
    before = 0
    for _ in range(4):
        process = start(official, target, calls, 0.15)
        wanted = before + rng.randint(1, 3)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_text().count('"item"') >= wanted:
                break
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not target.exists()
        before = journal.read_text().count('"item"')
    last = start(official, target, calls, 0.0)
    output = last.communicate(timeout=120)[0].decode()
    assert last.returncode == 0, output
    assert f"{before} of 16 items are done; continuing." in output
    assert hashes(target) == hashes(finished)
    assert verify_store(target) == []
    assert not journal.parent.exists()
    # No finished item was read again: each call finished an item or was interrupted by a kill; two
    # workers have up to two items each.
    texts = calls.read_text().splitlines()
    assert len(set(texts)) == 16
    assert len(texts) <= 16 + 4 * 4


def test_the_message_after_ctrl_c_says_how_to_continue(official, finished, tmp_path):
    # Shells make background processes ignore Ctrl-C, and child processes inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(official, tmp_path / "toy", tmp_path / "calls", 0.3)
    signal.signal(signal.SIGINT, before)
    journal = tmp_path / "toy.partial" / "journal.jsonl"
    while not (journal.exists() and '"item"' in journal.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0].decode()
    assert "of 16 items done; the same command continues from here" in output
    assert hashes(prepare(Toy(official), tmp_path / "toy")) == hashes(finished)


@pytest.mark.parametrize("stage", ["finish_store", "rename"])
def test_a_preparation_killed_at_its_end_continues_to_the_same_store(
    official, finished, tmp_path, monkeypatch, stage
):
    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        if stage == "rename":
            patch.setattr(Path, "rename", die)
        else:
            patch.setattr("mla_lightning.data.store.finish_store", die)
        with pytest.raises(Killed):
            prepare(Toy(official), tmp_path / "toy", jobs=1)
    assert hashes(prepare(Toy(official), tmp_path / "toy", jobs=1)) == hashes(finished)


def test_bad_items_are_all_listed_after_the_others_are_finished(broken, tmp_path, capsys):
    with pytest.raises(DataError) as caught:
        prepare(Toy(broken), tmp_path / "toy", jobs=2)
    message = str(caught.value)
    assert "4 of 16 items of toy cannot be read:" in message
    assert "item01, audio (wav/item01.wav): missing" in message
    assert "item02, audio (flv/item02.flv): empty: 0 bytes" in message
    assert "item03, audio (wav/item03.wav): a Git LFS pointer" in message
    assert "`git lfs pull`" in message
    assert "(known to its makers: hums)" in message
    assert "item04, visual (mp4/item04.mp4): truncated or damaged" in message
    assert "The other 12 are done." in message
    assert "on_bad=skip" in message
    assert not (tmp_path / "toy").exists()
    store = prepare(Toy(broken), tmp_path / "toy", on_bad="skip", jobs=2)
    assert "12 of 16 items are done" in capsys.readouterr().out
    assert verify_store(store) == []
    manifest = manifest_of(store)
    assert [failure["id"] for failure in manifest["failures"]] == [
        f"item0{n}" for n in (1, 2, 3, 4)
    ]
    assert manifest["failures"][0]["reason"] == "missing"
    opened = open_store(store)
    assert [str(name) for name in opened.ids] == ["item00", *(f"item{n:02d}" for n in range(5, 16))]
    sources = {e["file"]: e for e in json.loads((store / "sources.json").read_text())}
    assert sources["wav/item01.wav"] == {"file": "wav/item01.wav", "failure": "missing"}
    again = prepare(Toy(broken), tmp_path / "again", on_bad="skip", jobs=1)
    assert hashes(again) == hashes(store)


def test_repaired_and_changed_files_are_read_again(broken, finished, official, tmp_path):
    with pytest.raises(DataError):
        prepare(Toy(broken), tmp_path / "toy", jobs=2)
    for name in ("wav/item01.wav", "flv/item02.flv", "wav/item03.wav", "mp4/item04.mp4"):
        (broken / name).write_bytes((official / name).read_bytes())
    write_wav(broken / "wav" / "item07.wav", tone(0.5, 16000, 2000.0))  # was read before
    store = prepare(Toy(broken), tmp_path / "toy", jobs=2)
    ours, theirs = np.load(store / "audio.npy"), np.load(finished / "audio.npy")
    differs = [n for n in range(16) if not np.array_equal(ours[n], theirs[n])]
    assert differs == [7]


def test_a_known_bad_item_that_can_be_read_is_kept_and_printed(official, tmp_path, capsys):
    prepare(Toy(official), tmp_path / "toy")
    assert (
        "item03 could be read and is kept, although its authors say: hums"
        in capsys.readouterr().out
    )


def test_other_options_do_not_continue_a_partial_store(broken, tmp_path):
    with pytest.raises(DataError):
        prepare(Toy(broken), tmp_path / "toy")
    with pytest.raises(DataError) as caught:
        prepare(Toy(broken, mels=9), tmp_path / "toy")
    assert "modalities.audio.num_mels was 8, now it is 9" in str(caught.value)
    assert f"rm -r {tmp_path / 'toy.partial'}" in str(caught.value)


def test_the_message_without_a_readable_item_asks_about_raw(tmp_path):
    root = write_toy(tmp_path / "raw", 4)
    for path in (root / "mp4").iterdir():
        path.write_bytes(b"")
    for on_bad in ("stop", "skip"):
        with pytest.raises(DataError, match=r"None could be read. Is .* the right raw=\?"):
            prepare(Toy(root), tmp_path / "toy", on_bad=on_bad)


def test_a_decoder_that_crashes_loses_one_item(official, tmp_path):
    class Crashing(Toy):
        def extractors(self):
            def crash(raw, media_input):
                if media_input.path.stem == "item05":
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(raw, media_input)

            extractors = super().extractors()
            original = extractors["audio"].__call__
            extractors["audio"] = type("Crash", (LogMel,), {"__call__": lambda _, *a: crash(*a)})(
                num_frames=40, num_mels=8
            )
            return extractors

    with pytest.raises(DataError) as caught:
        prepare(Crashing(official), tmp_path / "toy", jobs=2)
    assert "1 of 16 items" in str(caught.value)
    assert "item05, audio (wav/item05.wav): the process that read it died: signal 9" in str(
        caught.value
    )


def finished_items(path):
    log = PreparationLog.resume(path)
    log.close()
    return log.finished


def test_after_a_crash_of_the_machine_only_lines_that_were_synced_are_valid(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    record = FileRecord(3, 4, "abc")
    log = PreparationLog.create(path, {"a": 1})
    log.add(0, {"x": record})
    log.sync()
    log.add(1, {"y": record})
    log.close()
    with path.open("a") as file:
        file.write('{"item": 2')  # an incomplete line
    killed = PreparationLog.resume(path)
    assert killed.finished == {0, 1}
    assert killed.files == {"x": record, "y": record}
    killed.add(3, {})
    killed.close()
    assert finished_items(path) == {0, 1, 3}
    monkeypatch.setattr(preparation_log, "_boot_id", lambda: "another")
    crashed = PreparationLog.resume(path)
    assert crashed.finished == {0}
    assert crashed.files == {"x": record}
    crashed.close()
    assert finished_items(path) == {0}
    assert PreparationLog.read_identity(path) == {"a": 1}


def test_full_disks_and_unwritable_targets_are_errors(official, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(RunError, match=r"the disk of .* is full: .*B are needed"):
            prepare(Toy(official), tmp_path / "toy")
    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "write", full)
        with pytest.raises(RunError, match=r"is full.*it continues where it stopped"):
            prepare(Toy(official), tmp_path / "toy")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare(Toy(official), tmp_path / "file" / "toy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(DataError, match="exists and is no prepared store"):
        prepare(Toy(official), tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").exists()


def test_two_processes_cannot_prepare_one_store(official, tmp_path):
    process = start(official, tmp_path / "toy", tmp_path / "calls", 1.0)
    try:
        while not (tmp_path / "toy.partial" / "journal.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(RunError, match="another process is preparing"):
            prepare(Toy(official), tmp_path / "toy")
        while len(workers := psutil.Process(process.pid).children(recursive=True)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert psutil.wait_procs(workers, timeout=10)[1] == []  # all have ended


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"on_bad": "ignore"}, "on_bad must be stop or skip"), ({"jobs": 0}, "jobs must be at least")],
)
def test_wrong_options_are_errors(official, tmp_path, options, reason):
    with pytest.raises(ConfigError, match=reason):
        prepare(Toy(official), tmp_path / "toy", **options)


def test_sources_that_contradict_themselves_are_errors(official, tmp_path):
    class Wrong(Toy):
        class_names = ("high", "lower")

    class Twice(Toy):
        def items(self):
            return super().items() * 2

    class Empty(Toy):
        def items(self):
            return []

    class NoSplit(Toy):
        default_split = "randon"

    for kind, reason in (
        (Wrong, "unknown label 'low'. Did you mean 'lower'"),
        (Twice, "two items have the id 'item00'"),
        (Empty, "no items were found in .* Call write_toy"),
        (NoSplit, "no split 'randon', the default one. Did you mean 'random'"),
    ):
        with pytest.raises(DataError, match=reason):
            prepare(kind(official), tmp_path / "toy")
