"""Leftovers of killed writers are removed by the next writer, those of living ones are not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.temporary import new_file, new_folder, temporary_folder
from mla_lightning.errors import DataError, RunError

WRITER = """
import sys, time
from pathlib import Path
from mla_lightning.data.temporary import new_file, new_folder

with {make}(Path(sys.argv[1])) as target:
    print("started", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("make", [new_folder, new_file])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, make):
    target = tmp_path / "new.npz"
    command = [sys.executable, "-c", WRITER.format(make=make.__name__), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"started\n"
        (leftover,) = tmp_path.iterdir()
        with make(target):
            assert leftover.exists()  # its writer is alive
            assert len(list(tmp_path.iterdir())) == 2
        assert sorted(tmp_path.iterdir()) == [leftover, target]
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert leftover.exists()
    target.rmdir() if target.is_dir() else target.unlink()
    with make(target):
        assert not leftover.exists()
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_writer_leaves_nothing(tmp_path):
    for make in (new_folder, new_file, temporary_folder):
        with pytest.raises(KeyboardInterrupt), make(tmp_path / "new"):
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_other_targets_and_links_stay(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / ".a.1.tmp").symlink_to(tmp_path / "outside")
    (tmp_path / ".b.1.tmp").mkdir()
    with new_folder(tmp_path / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".a.1.tmp",
        ".b.1.tmp",
        "a",
        "outside",
    ]


def test_a_folder_that_exists_is_not_replaced(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
        with pytest.raises(DataError, match=f"{name} exists. .*rm -r"), new_folder(tmp_path / name):
            pass


def test_files_of_imports_are_not_world_writable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    label = np.arange(40) % 2
    np.savez("a.npz", label=label, one=np.eye(2, 3)[label], two=np.eye(2, 4)[label])
    before = os.umask(0)
    try:
        assert main(["data", "import", "a.npz", "target=data/a"]) == 0
        words = ["data=store", "data.path=data/a", "trainer.max_epochs=1", "optimizer.lr=0.1"]
        assert main(["train", *words, "missing=anchor", "missing.rate=0.2"]) == 0
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    written = [path for folder in ("data", "runs") for path in (tmp_path / folder).rglob("*")]
    names = {path.name for path in written}
    assert {"one.npy", "manifest.json", "a.yaml", "masks", "config.yaml"} <= names
    assert [path for path in written if path.stat().st_mode & 0o002] == []


def test_an_import_that_is_killed_after_the_rename_is_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    label = np.arange(40) % 2
    np.savez("a.npz", label=label, one=np.eye(2, 3)[label], two=np.eye(2, 4)[label])
    rename = Path.rename

    def killed(path, target):
        rename(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    assert main(["data", "import", "a.npz", "target=data/a"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "data/a/conf/data/a.yaml").read_text()
    assert "path: data/a" in text
    assert "--config-dir data/a/conf data=a" in text
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a"]
    words = ["--config-dir", "data/a/conf", "data=a", "optimizer.lr=0.1", "--dry-run"]
    assert main(["train", *words]) == 0


def test_a_config_that_was_edited_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{k},{'ab'[k % 2]},word {k}\n" for k in range(40))
    Path("a.csv").write_text("id,label,text\n" + rows)
    words = ["data", "import", "a.csv", "target=s", "length=4", "jobs=1"]
    assert main(words) == 0
    config = Path("s/conf/data/s.yaml")
    config.write_text("# mine\n" + config.read_text())
    Path("s/conf/data/other.yaml").write_text("# also mine\n")
    assert main(words) == 0
    assert config.read_text().startswith("# mine")


@pytest.mark.parametrize("error", [OSError("1080 requested and 992 written"), OSError(28, "full")])
def test_a_full_disk_is_an_error_of_ours_and_leaves_nothing(tmp_path, error):
    with (
        pytest.raises(RunError, match=r"the disk of .* is full: .* free"),
        new_folder(tmp_path / "a"),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []
