"""`make reproduce-own` and `mla reproduce`: from a stranger's files to a table and a page."""

import csv
import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.own_sets import (
    write_grouped,
    write_media,
    write_ratings,
    write_sequences,
    write_wild_arrays,
)

from mla_lightning.cli.main import main

ROOT = Path(__file__).parents[2]
TINY = "trainer.max_epochs=1 launcher=serial diagnostics=off"
#: Writer, OPTIONS of make, and what Table 1 has rows of.
SETS = {
    "media": (write_media, "", ("picture", "sound", "text")),
    "sequences": (write_sequences, "", ("acceleration", "rotation")),
    "wild arrays": (write_wild_arrays, "", ("tame", "wild")),
    "ratings": (write_ratings, "task=regression label=rating", ("face", "review")),
}


def words_of_make(**variables):
    """Return the words after `mla` of the command that `make reproduce-own` runs."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        ["make", "-n", "reproduce-own", *pairs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout.replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "bin/mla reproduce" in line]
    return shlex.split(line)[1:]


def snapshot(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.name in ("result.json", "manifest.json", "label.npy")
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("media", "ratings"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sequences", "wild arrays")),
    ],
)
def test_own_files_become_a_table_and_a_page(kind, tmp_path, monkeypatch, capsys):
    write, options, modalities = SETS[kind]
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path).relative_to(tmp_path)
    words = words_of_make(
        DATA=file,
        OPTIONS=f"{options} {TINY}",
        METHODS="concat,unimodal,majority",
        TRIALS=1,
        SEEDS="0",
    )
    assert main(words) == 0
    output = capsys.readouterr().out
    name = file.stem
    with Path(f"runs/table1/{name}/report/table1.csv").open() as table:
        rows = {row[1]: row for row in csv.reader(table)}
    assert {*modalities, "multi"} <= rows.keys()
    assert Path(f"runs/table1/{name}/report/page.html").is_file()
    assert Path(f"runs/tune/{name}/search/search.png").is_file()
    finding = output.partition("Finding:")[2]
    if kind == "ratings":
        assert "Concat has the lowest mean test MAE" in finding
        assert "Constant reaches" in finding
    else:
        assert "Concat has the highest mean test accuracy" in finding
        assert "Majority reaches" in finding


def test_methods_that_are_not_for_the_data_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_ratings(tmp_path).name
    options = ["task=regression", "label=rating"]
    assert main(["data", "import", file, "target=data/films", *options]) == 0
    capsys.readouterr()
    assert main(["reproduce", file, *options, "--plan"]) == 0
    output = capsys.readouterr().out
    assert "method qmf is left out: QMF is not for regression" in output
    assert "method ogm_ge is left out: OGMGE has no rule for samples with missing" in output
    assert "not every sample of films has the modality 'face'" in output
    methods = "method=concat,sum,late_fusion,film,bigated,mla,unimodal"
    assert [line.split()[1] for line in output.splitlines() if methods in line] == ["tune", "train"]
    # Those that were asked for are errors, before anything is trained.
    for method, reason in (("qmf", "one number"), ("ogm_ge", "missing modalities")):
        words = [f"method=concat,{method}", "seed=0", *TINY.split()]
        assert main(["reproduce", "data/films", *words]) == 2
        assert reason in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_steps_can_be_pasted_and_the_command_goes_on_from_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_grouped(tmp_path).name
    words = words_of_make(
        DATA=file,
        OPTIONS=f"label=emotion group=speaker {TINY}",
        METHODS="concat,unimodal,logistic,majority",
        TRIALS=1,
        SEEDS="0",
    )
    assert main([*words, "--plan"]) == 0
    first, _, later = capsys.readouterr().out.partition("Then:\n")
    assert not Path("data").exists()
    assert not Path("runs").exists()
    (importing,) = [line for line in first.splitlines() if line.startswith("Import: mla data")]
    steps = [
        importing.partition(": ")[2].replace(" --plan", ""),
        *map(str.strip, later.split("\n")),
    ]
    assert [step.split()[1] for step in steps if step] == ["data", "tune", "train", *["report"] * 2]
    for step in steps[:3]:
        assert main(shlex.split(step)[1:]) == 0
    before = snapshot(tmp_path)
    assert len(before) == 2 + 2 + 4  # the store, two trials, and the runs of the table
    capsys.readouterr()
    assert main(words) == 0
    output = capsys.readouterr().out
    assert snapshot(tmp_path) == before
    assert "was prepared before from the same files" in output
    assert [step for step in steps if step not in output] == []
    assert Path("runs/table1/talk/report/page.html").is_file()
    assert "Without a network, Logistic reaches" in output
    groups, codes = (
        np.load(f"data/talk/{name}.npy") for name in ("attribute.speaker", "split.own")
    )
    assert all(len(set(codes[groups == group])) == 1 for group in set(groups))
    assert set(codes) == {0, 1, 2}


def test_configs_of_a_folder_are_known_when_methods_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own" / "launcher" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text((ROOT / "conf" / "launcher" / "serial.yaml").read_text())
    file = write_wild_arrays(tmp_path)
    assert main(["data", "import", str(file), "target=data/lab"]) == 0
    words = ["reproduce", "data/lab", "launcher=mine", "--plan"]
    assert main([*words, "--config-dir", "own"]) == 0
    assert "launcher=mine" in capsys.readouterr().out
    assert main(words) == 2
    assert "Unknown launcher 'mine'" in capsys.readouterr().err


def test_a_changed_file_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_wild_arrays(tmp_path)
    assert main(["data", "import", str(file), "target=data/lab"]) == 0
    assert main(["data", "import", str(file), "target=data/lab"]) == 0
    assert "was prepared before from the same files" in capsys.readouterr().out
    arrays = dict(np.load(file))
    np.savez(file, **arrays | {"tame": arrays["tame"] + 1})
    assert main(["reproduce", str(file), "method=concat"]) == 3
    message = capsys.readouterr().err
    assert "made from other files" in message
    assert "rm -r data/lab" in message
    assert not Path("runs").exists()


def test_a_store_is_used_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_wild_arrays(tmp_path)
    assert main(["data", "import", str(file), "target=data/lab"]) == 0
    words = ["reproduce", "data/lab", "method=majority", "seed=0", *TINY.split()]
    assert main(words) == 0
    assert "mla data import" not in capsys.readouterr().out.partition("Train: mla train -m")[2]
    (result,) = Path("runs/table1/lab").glob("*/result.json")
    assert json.loads(result.read_text())["method"] == "majority"
    assert main([*words, "label=emotion"]) == 2
    assert "nothing to import" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "FILE"),
        (["none.csv"], "none.csv does not exist"),
        (["lab.npz", "lable=x"], "unknown option 'lable'. Did you mean 'labels'"),
        (["lab.npz", "my.csv"], "takes one FILE and KEY=VALUE"),
        (["lab.npz", "experiment=table1/mfeat"], "does not take experiment="),
        (["lab.npz", "method=concat,concat"], "method=concat is given twice"),
        (["lab.npz", "method=conct"], "Did you mean 'concat'"),
        (["lab.npz", "method=concat", "trials=0"], "trials must be at least 1"),
        (["lab.npz", "method=concat", "optimizer.rl=1"], "optimizer.rl"),
    ],
)
def test_wrong_words_stop_before_anything_is_trained(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_wild_arrays(tmp_path)
    assert main(["reproduce", *words]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()
