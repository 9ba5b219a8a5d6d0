"""Copies of a store's rows on a disk of the machine: equal, shared, resumed, and verified."""

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs
from mla_lightning.data import node_copies, scratch
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import open_store, write_store
from mla_lightning.errors import ConfigError, DataError, RunError

N = 48
SIZE = 96_128  # of one.npy
TRAIN = ("data=store", "data.path=toy", "method=concat", "trainer.max_epochs=2", "optimizer.lr=0.1")


def make(folder, seed=0):
    rng = np.random.default_rng(seed)
    write_store(
        Path(folder),
        name="toy",
        class_names=("a", "b"),
        ids=[f"s{k:02d}" for k in range(N)],
        label=np.arange(N) % 2,
        arrays={
            "one": rng.normal(size=(N, 500)).astype(np.float32),
            "two": rng.normal(size=(N, 3)).astype(np.float32),
        },
        kinds={"one": "features", "two": "features"},
        splits={"own": NamedSplit(np.arange(N) // 2 % 3, "in turn")},
        scale="standard",
    )
    return open_store(Path(folder))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store in the current folder, an empty folder ``disk`` as scratch, and quick waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    monkeypatch.setattr(scratch, "POLL_S", 0.01)
    yield make("toy")
    for folder in [*node_copies._HELD]:
        node_copies._release(folder)


@pytest.fixture
def read(monkeypatch, store):
    """Numbers of bytes that were read from files of stores and of unfinished copies."""
    counts = {"toy": 0, "disk": 0}
    original = scratch._blocks

    def spy(handle, first):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        for block in original(handle, first):
            counts["toy" if "toy" in path.parent.parts else "disk"] += len(block)
            yield block

    monkeypatch.setattr(scratch, "_blocks", spy)
    return counts


def copy(store, *modalities):
    return scratch.copy_rows(store, modalities or ("one", "two"), "$DISK")


def flip(path, position=-1):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def child(function):
    """Run a function in another process, which is killed at the end of the test at the latest."""
    pid = os.fork()
    if not pid:
        try:
            for folder in [*node_copies._HELD]:
                node_copies._release(folder)
            function()
        finally:
            os._exit(0)
    return pid


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def size_of_partial():
    return sum(path.stat().st_size for path in Path("disk").glob("*/one.npy.partial"))


def copy_slowly(store, stop_at):
    """Copy in blocks of 1000 bytes, and go on after a number of bytes when a file ``go`` exists."""
    scratch._BLOCK = 1000
    add = scratch._Progress.add

    def add_and_wait(self, num_bytes):
        add(self, num_bytes)
        if self.num_bytes >= stop_at:
            wait_for(Path("go").exists)

    scratch._Progress.add = add_and_wait
    copy(store)


# ---------------------------------------------------------------------- training


def test_a_run_from_a_copy_is_the_same_run_bit_for_bit(store):
    runs = [
        mla.train(*TRAIN, *words, folder=folder)
        for folder, words in (("a", ()), ("b", ("data.scratch=$DISK",)))
    ]
    assert runs[0].folder.name == runs[1].folder.name
    plain, copied = (json.loads((r.folder / "provenance.json").read_text()) for r in runs)
    assert plain["identity"] == copied["identity"]
    assert plain["data"] == copied["data"]
    assert "rows" not in plain["place"]
    folder = Path(copied["place"]["rows"])
    assert folder.parent == Path("disk").absolute()
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()
    weights = [mla.load(run.folder).module.state_dict() for run in runs]
    assert all(torch.equal(values, weights[1][key]) for key, values in weights[0].items())
    predictions = [dict(np.load(run.folder / "predictions.npz")) for run in runs]
    for key, values in predictions[0].items():
        np.testing.assert_array_equal(values, predictions[1][key])
    assert runs[0].result.test == runs[1].result.test


def test_titles_and_folders_do_not_name_the_disk(store):
    plain, copied = (
        compose_jobs([*TRAIN, *words])[0] for words in ((), ("data.scratch=/scratch/me",))
    )
    assert (plain.title, plain.run_dir) == (copied.title, copied.run_dir)
    assert plain.stage_id == copied.stage_id
    assert not Path("disk").exists()  # composing and checking copy nothing


def test_rows_are_read_from_the_copy_and_not_from_the_store(store):
    copy(store, "one")
    before = np.load("toy/one.npy")
    flip(Path("toy/one.npy"))
    data = Prepared(path="toy", batch_size=8, scratch="$DISK", modalities=["one"])
    np.testing.assert_array_equal(data.everything().inputs["one"][N - 1], before[N - 1])
    with pytest.raises(DataError, match=r"one\.npy is not the array that was written"):
        _ = data.inputs  # the numbers by which columns are scaled are those of the store
    with pytest.raises(DataError, match=r"one\.npy is not the array that was written"):
        Prepared(path="toy", batch_size=8)


def test_an_evaluation_reads_the_store_itself(store):
    run = mla.train(*TRAIN, "data.scratch=$DISK", folder="runs")
    shutil.rmtree("disk")
    assert main(["eval", str(run.folder)]) == 0
    assert main(["predict", str(run.folder), "data.path=toy"]) == 0
    assert mla.load(run.folder).module is not None
    assert not Path("disk").exists()


# ---------------------------------------------------------------------- one copy for all


def test_only_the_modalities_in_use_are_copied_and_others_are_added(store, read):
    folder = copy(store, "two")
    assert {path.name for path in folder.glob("*.npy")} == {"two.npy"}
    num_two = read["toy"]
    assert copy(store, "one", "two") == folder
    assert read["toy"] == num_two + SIZE  # two.npy is not read again
    assert copy(store) == folder
    assert read["toy"] == num_two + SIZE
    assert stat.S_IMODE((folder / "one.npy").stat().st_mode) & 0o222 == 0


def test_a_killed_copy_goes_on_where_it_was(store, read):
    pid = child(lambda: copy_slowly(store, 40_000))
    wait_for(lambda: size_of_partial() >= 40_000)
    end(pid)
    done = size_of_partial()
    assert not list(Path("disk").glob("*/one.npy"))
    folder = copy(store, "one")
    assert read == {"toy": SIZE - done, "disk": done}
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()
    assert not size_of_partial()


def test_a_damaged_beginning_of_a_copy_is_copied_again(store, read):
    folder = copy(store, "two")
    start = bytearray(Path("toy/one.npy").read_bytes()[:5000])
    start[4000] ^= 1
    (folder / "one.npy.partial").write_bytes(start)
    copy(store, "one")
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_process_waits_for_the_copy_of_another(store, read, capfd, monkeypatch, is_killed):
    pid = child(lambda: (copy_slowly(store, 40_000), time.sleep(60)))
    wait_for(lambda: size_of_partial() >= 40_000)
    done, sleep = size_of_partial(), time.sleep

    def sleep_and_let_go(seconds):
        if seconds != scratch.POLL_S:
            pass
        elif is_killed:  # while this process waits
            monkeypatch.setattr(time, "sleep", sleep)
            end(pid)
        else:
            Path("go").touch()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep_and_let_go)
    folder = copy(store)
    monkeypatch.setattr(time, "sleep", sleep)
    text = capfd.readouterr().err
    assert f"waits for the copy of toy to {folder} by process {pid} on" in text
    assert text.count("waits for the copy of") == 1
    assert ": 0.0 MB of 0.1 MB" in text
    if is_killed:  # this process goes on
        assert read["toy"] == SIZE + Path("toy/two.npy").stat().st_size - done
    else:
        assert read == {"toy": 0, "disk": 0}
        end(pid)
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()


def test_another_store_has_a_copy_of_its_own(store):
    first = copy(store)
    shutil.rmtree("toy")
    second = copy(make("toy", seed=1))
    assert first != second
    assert (second / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()
    assert (first / "one.npy").read_bytes() != Path("toy/one.npy").read_bytes()


# ---------------------------------------------------------------------- damage


def test_a_damaged_copy_is_repaired(store, capfd):
    folder = copy(store)
    status = (folder / "one.npy").stat()
    flip(folder / "one.npy")
    os.utime(folder / "one.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert copy(store) == folder
    assert "one.npy is damaged: it is copied from toy again" in capfd.readouterr().err
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()


@pytest.mark.parametrize("target", ["/dev/zero", "toy/two.npy"])
def test_a_link_in_place_of_an_array_is_not_followed(store, target):
    folder = copy(store)
    (folder / "one.npy").unlink()
    (folder / "one.npy").symlink_to(Path(target).absolute())
    copy(store)
    assert not (folder / "one.npy").is_symlink()
    assert (folder / "one.npy").read_bytes() == Path("toy/one.npy").read_bytes()


def test_a_damaged_store_is_no_copy(store):
    flip(Path("toy/one.npy"))
    with pytest.raises(DataError, match=r"toy/one\.npy is not the array that was written"):
        copy(store)
    assert not list(Path("disk").glob("*/one.npy*"))
    assert main(["train", *TRAIN, "data.scratch=$DISK"]) == 3


def test_a_copy_of_another_user_is_compared_before_it_is_read(store, monkeypatch):
    folder = copy(store)
    hashes = {"one.npy": hashlib.sha256(Path("toy/one.npy").read_bytes()).hexdigest()}
    node_copies._release(folder)
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert scratch.copy_rows(store, ["one"], "$DISK") == folder
    record = json.loads((folder / ".verified.json").read_text())
    flip(folder / "one.npy")
    status = (folder / "one.npy").stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    record["one.npy"]["stamp"] = stamp  # a record that is not true
    (folder / ".verified.json").write_text(json.dumps(record))
    assert not node_copies.use_if_complete(folder, hashes)


def test_the_folder_of_another_user_is_not_written_to(store, monkeypatch):
    folder = copy(store, "two")
    monkeypatch.setattr(scratch.os, "getuid", lambda: os.stat("/proc/self").st_uid + 1)
    shutil.copytree(folder, str(folder).rpartition("-")[0] + f"-{scratch.os.getuid()}")
    with pytest.raises(ConfigError, match="is no folder of yours"):
        copy(store, "one")


def test_a_copy_is_for_those_who_can_read_the_store(store, monkeypatch):
    assert scratch._is_public(Path("/etc"), {"passwd": ""})
    assert not scratch._is_public(Path("/etc"), {"shadow": ""})
    Path("toy").chmod(0o700)
    folder = copy(store, "two")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "two.npy").stat().st_mode) == 0o400
    monkeypatch.setattr(scratch, "_is_public", lambda *_: True)
    copy(store, "one")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "one.npy").stat().st_mode) == 0o444


# ---------------------------------------------------------------------- room


def test_too_little_room_is_an_error_before_the_copy(store, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50_000))
    with pytest.raises(RunError) as error:
        copy(store)
    assert "the copy of toy needs 0.1 MB more, and 0.1 MB are free there on" in str(error.value)
    assert f"mla data scratch {Path('disk').absolute()} --remove" in str(error.value)
    assert not list(Path("disk").glob("*/*.npy*"))


def test_a_disk_that_fills_up_is_left_free(store, monkeypatch):
    def fill(self, num_bytes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch._Progress, "add", fill)
    with pytest.raises(RunError, match=r"the copy of toy does not fit, and .* are free"):
        copy(store)
    assert not list(Path("disk").glob("*/*.npy*"))


# ---------------------------------------------------------------------- command line


def test_copies_are_listed_and_removed_unless_a_process_reads_them(store, capsys):
    pid = child(lambda: (copy(store), Path("ready").touch(), time.sleep(60)))
    wait_for(lambda: Path("ready").exists())
    name = next(Path("disk").iterdir()).name
    assert main(["data", "scratch", "disk", "--remove"]) == 0
    text = capsys.readouterr().out
    assert name in text
    assert ": 0.1 MB, last used 20" in text
    assert text.endswith("in use\n")
    assert Path("disk", name, "one.npy").exists()
    end(pid)
    assert main(["data", "scratch", "$DISK"]) == 0
    assert "not in use" in capsys.readouterr().out
    assert main(["data", "scratch", "disk", "--remove"]) == 0
    assert "removed" in capsys.readouterr().out
    assert not list(Path("disk").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "scratch", "nowhere"], "nowhere cannot be read"),
        (["data", "list", "--remove"], "--remove is an option of `mla data scratch`"),
        (["train", *TRAIN, "data.scratch=disk"], "data.scratch=disk must be an absolute path"),
        (["train", *TRAIN, "data.scratch=''"], "data.scratch='' must be an absolute path"),
        (["train", *TRAIN, "data.scratch=$NO_SUCH"], "data.scratch=$NO_SUCH: a variable in it"),
        (["train", *TRAIN, "data.scratch=/proc/x"], "data.scratch=/proc/x cannot be used on"),
        (["train", "data=openmoji", "data.scratch=/tmp"], "Unknown key 'data.scratch'"),
        (["train", "data=synthetic", "data.scratch=/tmp"], "Unknown key 'data.scratch'"),
    ],
)
def test_wrong_values_are_errors(store, capsys, words, message):
    assert main(words) == (3 if "nowhere" in words else 2)
    assert message in capsys.readouterr().err


def test_the_folder_may_have_a_home_and_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SLURM_TMPDIR", "/local/17")
    assert scratch.scratch_folder("~/x") == tmp_path / "x"
    assert scratch.scratch_folder("$SLURM_TMPDIR") == Path("/local/17")
    assert scratch.scratch_folder("${SLURM_TMPDIR}/a b") == Path("/local/17/a b")
