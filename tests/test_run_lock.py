"""The lock of a run folder: held by the kernel, in other containers, and without kernel locks."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.run_folder import lock as run_lock
from mla_lightning.run_folder.lock import GUARD, LOCK, RunLock, remove_temporaries
from tests.test_run_folder import in_child

SOURCE = Path(run_lock.__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from mla_lightning.run_folder.lock import RunLock
with RunLock(Path(sys.argv[1])):
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from mla_lightning.errors import RunError
from mla_lightning.run_folder.lock import RunLock
try:
    RunLock(Path(sys.argv[1])).__enter__()
except RunError as error:
    sys.exit(str(error))
"""


def start(folder, code=HOLD, *around):
    """Start another process that uses the lock of a folder."""
    return subprocess.Popen(
        [*around, sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held(folder, *around):
    """Let another process hold the lock meanwhile."""
    process = start(folder, HOLD, *around)
    try:
        until = time.monotonic() + 20
        while not (folder / "held").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def no_kernel_locks(monkeypatch):
    """Replace the kernel's locks by those of a file system that has none."""

    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)


def lock_and_die(folder):
    def action():
        RunLock(folder).__enter__()
        (folder / ".status.json.1.tmp").write_text("{half")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(action) == -signal.SIGKILL


# ---------------------------------------------------------------------- one machine


def test_the_lock_of_a_living_process_is_an_error_that_names_it(tmp_path):
    def contend():
        with pytest.raises(RunError, match=f"in use by process {parent} on {socket.gethostname()}"):
            RunLock(tmp_path).__enter__()

    parent = os.getpid()
    with RunLock(tmp_path):
        assert in_child(contend) == 0
        with pytest.raises(RunError, match="in use"), RunLock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    assert os.listdir(tmp_path) == [LOCK]
    assert (tmp_path / LOCK).read_bytes() == b""
    assert in_child(lambda: RunLock(tmp_path).__enter__() and 0) == 0


def test_lock_may_be_entered_again_by_the_same_object(tmp_path):
    lock = RunLock(tmp_path).__enter__()
    with lock:
        assert lock.holder() is not None
    assert lock.holder() is None


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    lock_and_die(tmp_path)
    assert (tmp_path / LOCK).read_bytes()
    assert RunLock(tmp_path).holder() is None
    with RunLock(tmp_path) as lock:
        assert lock.holder()["pid"] == os.getpid()
        assert os.listdir(tmp_path) == [LOCK]  # the incomplete file is removed


def test_a_reused_pid_and_a_zombie_are_dead(tmp_path):
    lock = tmp_path / LOCK
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "born": "1", "since": "now"}
    lock.write_text(json.dumps(holder))
    assert RunLock(tmp_path).holder() is None
    with RunLock(tmp_path):
        pass
    pid = os.fork()
    if pid == 0:
        try:
            RunLock(tmp_path).__enter__()
        finally:
            os._exit(0)
    until = time.monotonic() + 5
    while RunLock(tmp_path).holder() is not None or not lock.read_bytes():  # not yet waited for
        assert time.monotonic() < until
        time.sleep(0.01)
    with RunLock(tmp_path):
        pass
    os.waitpid(pid, 0)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"host": 1}', '{"host": "x", "pid": 1e999}'])
def test_an_unreadable_lock_has_no_holder(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with RunLock(tmp_path) as lock:
        assert lock.holder() is not None


def test_a_number_that_is_no_process_is_dead(tmp_path):
    holder = {"host": socket.gethostname(), "pid": 2**70, "born": "1", "since": "now"}
    (tmp_path / LOCK).write_text(json.dumps(holder))
    assert RunLock(tmp_path).holder() is None


def test_a_planted_link_is_not_followed(tmp_path):
    other = tmp_path / "thesis.tex"
    other.write_text("text")
    (tmp_path / LOCK).symlink_to(other)
    with pytest.raises(RunError, match="symbolic link"):
        RunLock(tmp_path).__enter__()
    assert other.read_text() == "text"


def test_a_forked_child_neither_releases_nor_keeps_its_parents_lock(tmp_path):
    with RunLock(tmp_path) as lock:
        assert in_child(lambda: lock.__exit__(None, None, None)) == 0
        assert lock.holder() is not None

    def lock_fork_and_die():
        RunLock(tmp_path).__enter__()
        if (worker := os.fork()) == 0:  # such as a loader worker
            time.sleep(30)
            os._exit(0)
        (tmp_path / "worker").write_text(str(worker))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(lock_fork_and_die) == -signal.SIGKILL
    worker = int((tmp_path / "worker").read_text())
    until = time.monotonic() + 5  # the worker may not have run yet
    while RunLock(tmp_path).holder() is not None:
        assert time.monotonic() < until
    with RunLock(tmp_path):  # although the worker lives
        os.kill(worker, signal.SIGKILL)


def test_one_of_many_processes_takes_over_a_dead_holders_lock(tmp_path):
    def contend():
        while not (tmp_path / "go").exists():
            time.sleep(0.001)
        try:
            RunLock(tmp_path).__enter__()
        except RunError:
            return 1
        time.sleep(0.8)  # keep the lock, so that no process can acquire it afterwards
        return 7

    for _ in range(3):
        lock_and_die(tmp_path)
        pids = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                code = 99
                try:
                    code = contend()
                finally:
                    os._exit(code)
            pids.append(pid)
        (tmp_path / "go").touch()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert sorted(codes) == [1] * 7 + [7]
        (tmp_path / "go").unlink()


def test_readers_do_not_disturb_the_holder_or_the_next_one(tmp_path):
    stop = tmp_path / "stop"
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            while not stop.exists():
                RunLock(tmp_path).holder()
            os._exit(0)
        pids.append(pid)
    try:
        for _ in range(100):
            with RunLock(tmp_path) as lock:
                assert lock.holder()["pid"] == os.getpid()
    finally:
        stop.touch()
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


# ---------------------------------------------------------------------- containers and machines


def has_namespaces(*options):
    command = ["unshare", *options, "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, stderr=-3).returncode


@pytest.mark.skipif(not has_namespaces("--pid", "--fork"), reason="needs rights for namespaces")
def test_a_holder_in_another_container_is_seen_from_outside_and_inside(tmp_path):
    around = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    files.write_json(tmp_path / files.STATUS, {"state": "running"})
    with held(tmp_path, *around):
        assert files.state_of(tmp_path) == "running"
        with pytest.raises(RunError, match=r"in use by process 1 of another container on"):
            RunLock(tmp_path).__enter__()
    assert files.state_of(tmp_path) == "killed"
    with RunLock(tmp_path):
        process = start(tmp_path, TRY, *around)
        _, message = process.communicate(timeout=20)
        assert process.returncode == 1
        assert f"process {os.getpid()} of another container" in message
    process = start(tmp_path, TRY, *around)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.skipif(not has_namespaces("--uts"), reason="needs rights for namespaces")
def test_a_killed_holder_with_another_host_name_is_dead(tmp_path):
    around = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh")
    with held(tmp_path, *around):
        with pytest.raises(RunError, match=r"in use by process \d+ on elsewhere"):
            RunLock(tmp_path).__enter__()
        assert RunLock(tmp_path).holder()["host"] == "elsewhere"
    assert RunLock(tmp_path).holder() is None
    with RunLock(tmp_path):
        pass


def record_of_other_machine(**more):
    return {"host": "elsewhere", "pid": 1, "born": "1", "since": "yesterday", **more}


def test_the_lock_of_another_machine_without_kernel_locks_must_be_removed_by_hand(tmp_path):
    """As an earlier version wrote it, or a file system without locks."""
    (tmp_path / LOCK).write_text(json.dumps(record_of_other_machine()))
    with pytest.raises(RunError, match=r"process 1 on elsewhere since yesterday.*remove .*lock"):
        RunLock(tmp_path).__enter__()
    assert RunLock(tmp_path).holder()["host"] == "elsewhere"
    (tmp_path / LOCK).unlink()
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("mount", "is_free"),
    [
        ("ext4 /dev/sda rw", True),
        ("nfs4 server:/x rw,vers=4.2,local_lock=none", True),
        ("nfs server:/x rw,vers=3,local_lock=all", False),
        ("lustre mgs:/x rw,localflock", False),
        ("fuse.sshfs me@x: rw,user_id=0", False),
    ],
)
def test_only_locks_that_reach_other_machines_prove_that_their_holder_died(
    tmp_path, monkeypatch, mount, is_free
):
    record = record_of_other_machine(boot="of another machine", kernel=True)
    (tmp_path / LOCK).write_text(json.dumps(record))
    original = Path.read_text

    def read_text(path, **options):
        if str(path) != "/proc/self/mountinfo":
            return original(path, **options)
        return f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / {tmp_path} rw shared:1 - {mount}\n"

    monkeypatch.setattr(Path, "read_text", read_text)
    assert (RunLock(tmp_path).holder() is None) is is_free
    if is_free:
        with RunLock(tmp_path):
            pass
        return
    with pytest.raises(RunError, match=r"If that process has died, remove"):
        RunLock(tmp_path).__enter__()


# ---------------------------------------------------------------------- without kernel locks


def test_without_kernel_locks_a_living_holder_is_seen_and_a_dead_one_taken_over(
    tmp_path, no_kernel_locks
):
    def contend():
        with pytest.raises(RunError, match=f"in use by process {os.getppid()} on .*remove"):
            RunLock(tmp_path).__enter__()

    with RunLock(tmp_path) as lock:
        assert in_child(contend) == 0
        assert lock.holder()["pid"] == os.getpid()
    assert RunLock(tmp_path).holder() is None
    lock_and_die(tmp_path)
    assert RunLock(tmp_path).holder() is None
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == [LOCK]


@pytest.mark.parametrize("more", [{"boot": "other"}, {"pid_namespace": "pid:[1]"}])
def test_without_kernel_locks_a_holder_elsewhere_is_refused(tmp_path, no_kernel_locks, more):
    here = run_lock._this_process() | {"pid": 2**22 + 1, "kernel": False}
    (tmp_path / LOCK).write_text(json.dumps(here | more))
    with pytest.raises(RunError, match=r"If that process has died, remove .*lock"):
        RunLock(tmp_path).__enter__()


def test_without_kernel_locks_two_processes_do_not_acquire_it_at_once(tmp_path, no_kernel_locks):
    (tmp_path / GUARD).touch()
    with pytest.raises(RunError, match=r"has no locks.*remove .*\.lock\.guard"):
        RunLock(tmp_path).__enter__()
    (tmp_path / GUARD).unlink()
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == [LOCK]


# ---------------------------------------------------------------------- temporary files


def test_temporary_files_of_living_writers_stay(tmp_path):
    written, dead = tmp_path / "a.bin", tmp_path / ".b.bin.1.tmp"
    dead.write_text("half")
    (tmp_path / ".thesis.tex").touch()
    with files.replacing(written) as file:
        file.write(b"content")
        assert in_child(lambda: remove_temporaries(tmp_path)) == 0
        assert not dead.exists()
    assert written.read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path)) == [".thesis.tex", "a.bin"]


def test_a_planted_temporary_file_is_not_followed(tmp_path):
    other = tmp_path / "thesis.tex"
    other.write_text("text")
    (tmp_path / f".a.bin.{os.getpid()}.tmp").symlink_to(other)
    (tmp_path / ".b.bin.1.tmp").symlink_to(other)
    files.write_text(tmp_path / "a.bin", "content")
    remove_temporaries(tmp_path)
    assert other.read_text() == "text"
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "thesis.tex"]
