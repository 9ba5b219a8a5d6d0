"""Folders with odd names work, and the commands that are printed for them can be pasted."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mla_lightning.cli.main import main

ODD = ("run=1", "my data, [v2]", "größe#日本;{x}", 'it\'s $HOME ${y} "q" \\')


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    label = np.arange(40) % 2
    np.savez("a.npz", label=label, one=np.eye(2, 4)[label], two=np.eye(2, 4)[label])
    return tmp_path / "a.npz"


def printed_command(output, start):
    (line,) = [line for line in output.splitlines() if line.startswith(start)]
    words = shlex.split(line[line.index("mla ") :])
    assert words[0] == "mla"
    return words[1:]


@pytest.mark.parametrize("odd", ODD)
def test_the_commands_that_an_import_prints_can_be_pasted(arrays, odd, capsys):
    folder = Path(odd) / odd
    folder.parent.mkdir()
    os.replace(arrays, Path(odd) / "a.npz")
    assert main(["data", "import", str(Path(odd) / "a.npz"), f"target={folder}"]) == 0
    output = capsys.readouterr().out
    train = printed_command(output, "Train: ")
    assert main([*train, "optimizer.lr=0.1", "--dry-run"]) == 0
    assert main([*printed_command(output, "Train with"), "optimizer.lr=0.1", "--dry-run"]) == 0
    assert main([*printed_command(output, "Show samples"), "output=s.png", "per_class=1"]) == 0
    assert main(["data", "check", str(folder)]) == 0
    capsys.readouterr()
    with (folder / "one.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert main(train) == 3
    error = capsys.readouterr().err
    check = re.search(r"All problems: (mla data check .*)\. Remove the store", error)
    assert main(shlex.split(check[1])[1:]) == 3
    remove = shlex.split(re.search(r"again: (rm -r .*), then", error)[1])
    assert Path(remove[2]) == folder


def test_a_trained_run_of_an_odd_folder_is_evaluated(arrays, capsys):
    odd = ODD[3]
    assert main(["data", "import", "a.npz", f"target={odd}"]) == 0
    words = printed_command(capsys.readouterr().out, "Train: ")
    assert main([*words, "optimizer.lr=0.1", "trainer.max_epochs=1"]) == 0
    (run,) = Path("runs/train").iterdir()
    assert main(["eval", str(run)]) == 0
    os.rename(odd, "new=" + odd)
    assert main(["eval", str(run), f"data.path=new={odd}"]) == 0


def test_a_word_with_an_equals_sign_that_is_no_path_is_explained(arrays, capsys):
    assert main(["data", "check", "a=b/c"]) == 2
    assert "Write a path with = in it with ./ in front" in capsys.readouterr().err
    assert main(["data", "check", "./a=b/c"]) == 3
    assert "No store in" in capsys.readouterr().err
    assert main(["data", "import", "a.npz", "target="]) == 2
    assert "target must not be empty" in capsys.readouterr().err
    assert main(["train", "data=store", "data.path=''"]) == 2
    assert "data.path is empty" in capsys.readouterr().err


def test_leftovers_of_imports_are_listed(arrays, capsys):
    Path("data/my new.partial").mkdir(parents=True)
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert "unfinished: data/my new.partial; the same `mla data import` continues it" in listed
    assert "rm -r 'data/my new.partial'" in listed


def test_empty_folders_are_named(capsys):
    for words in (["prepare", "mfeat", "target="], ["prepare", "mfeat", "paths.data_dir="]):
        assert main(["data", *words]) == 2
        assert f"{words[-1][:-1]} must not be empty" in capsys.readouterr().err
