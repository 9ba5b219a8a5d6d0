"""Files of reports: not world-writable, whole or absent, and one message when the disk refuses."""

import errno
import os
from pathlib import Path

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.cli.main import main


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "mla", 0)
    (tmp_path / "out" / "board").mkdir(parents=True)  # a dashboard creates no folder
    return tmp_path


def test_no_file_of_a_report_is_world_writable_under_umask_0(runs):
    before = os.umask(0)
    try:
        assert main(["report", "table1", "runs", "--output", "out/table"]) == 0
        assert main(["dashboard", "table1", "runs", "--output", "out/board/d.json"]) == 0
        assert os.umask(0) == 0  # restored
    finally:
        os.umask(before)
    paths = list((runs / "out").rglob("*"))
    assert any(path.suffix == ".pdf" for path in paths)
    assert not [path for path in paths if path.stat().st_mode & 0o002]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("report", "table1", "runs", "--output", "out"), "results.csv"),
        (("report", "table1", "runs", "--output", "out"), "table1.html"),
        (("report", "table1", "runs", "--output", "out"), ".png"),
        (("dashboard", "table1", "runs", "--output", "out/d.json"), "d.json"),
    ],
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_leaves_no_half_file(runs, monkeypatch, capsys, words, name, code):
    replace = Path.replace

    def refuse(path, target):
        if target.name.endswith(name):
            raise OSError(code, os.strerror(code), str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert main([*words]) == 1
    error = capsys.readouterr().err
    assert os.strerror(code) in error
    assert "Traceback" not in error
    assert not [p for p in (runs / "out").iterdir() if p.name.endswith((name, ".tmp"))]
