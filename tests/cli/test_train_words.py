"""Options of ``mla train`` that print configs, Hydra's habits, and the end of a run."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
import yaml

from mla_lightning.cli.main import main
from mla_lightning.config import plan
from mla_lightning.config.search import PLURALS
from mla_lightning.run.ending import describe_ending

WORDS = ("train", "data=synthetic", "method=mla")


@pytest.mark.parametrize("flags", [["--cfg"], ["-c"], ["--cfg", "job"], ["--cfg=job", "--resolve"]])
def test_every_spelling_prints_the_config(flags, capsys) -> None:
    assert main([*WORDS, *flags, "seed=3"]) == 0  # a word after the option is no value of it
    (job,) = plan([*WORDS[1:], "seed=3"])
    assert yaml.safe_load(capsys.readouterr().out) == job.config


def test_a_part_of_the_config(capsys) -> None:
    assert main([*WORDS, "--cfg", "-p", "optimizer", "optimizer=adam"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["_target_"] == "torch.optim.Adam"


def test_the_difference_is_what_the_words_change_and_nothing_else(capsys) -> None:
    assert main([*WORDS, "--diff"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "# compared with: mla train data=synthetic method=mla",
        "no difference",
    ]
    words = ["method.hgm=false", "~optimizer.momentum", "callbacks=model_summary"]
    assert main([*WORDS, "--diff", *words]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "optimizer.momentum: 0.9 -> removed",
        "method.hgm: True -> False",
        "callbacks.model_summary._target_: added, "
        "mla_lightning.callbacks.model_summary.ModelSummary",
    ]


def test_the_files_of_the_chosen_options_exist(capsys) -> None:
    assert main([*WORDS, "--info", "optimizer=adam"]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()[1:]
    files = {line.split()[0]: line.split()[-1] for line in lines}
    assert files["optimizer"].endswith("conf/optimizer/adam.yaml")
    assert all(os.path.isfile(path) for path in files.values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config-name", "mine"], "experiment=NAME"),
        (["-cp", "conf"], "--config-dir DIR"),
        (["--cfg", "hydra"], "--info the chosen file"),
        (["--resolve"], "without --cfg"),
        (["-p", "optimizer"], "is an option of --cfg"),
        (["--cfg", "-p", "optimiser"], "Did you mean 'optimizer'"),
        (["--shell-completion", "install=bash"], "mla completion bash"),
        (["--hydra-help"], "mla train --help"),
        (["-m", "optimizer.lr=interval(0.1,1)"], "mla tune searches intervals"),
    ],
)
def test_what_has_no_effect_names_what_has(flags, message, capsys) -> None:
    assert main([*WORDS, *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_version_is_printed_after_a_verb_too() -> None:
    for words in (["--version"], ["train", "--version"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0


def test_the_help_lists_every_group(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    unused = {"held_out", "search", "metric", "report", "panel"}  # of other verbs, or of all runs
    for group in PLURALS.keys() - unused:
        assert re.search(rf"^  {group} .*\(\d+ options\)$", text, re.MULTILINE), group


@pytest.fixture(scope="module")
def in_a_terminal(tmp_path_factory):
    """Train in a terminal of 160 columns; return what was shown, and the folder."""
    folder = tmp_path_factory.mktemp("terminal")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "mla_lightning.cli.main", *WORDS, "trainer.max_epochs=2"]
    environment = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=folder, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    parts = []
    try:
        while part := os.read(master, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    text = b"".join(parts).decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n"), folder


def test_a_run_in_a_terminal_shows_losses_and_names_what_it_evaluates(in_a_terminal) -> None:
    text, _ = in_a_terminal
    assert re.search(r"Epoch 2/2 .*loss/audio: \d", text)
    assert "Evaluating test" in text
    assert "Predicting" not in text


def test_a_run_ends_with_its_scores_its_folder_and_the_next_command_and_each_note_once(
    in_a_terminal,
) -> None:
    text, folder = in_a_terminal
    (run_dir,) = (folder / "runs" / "train").iterdir()
    ending = describe_ending(run_dir)
    assert "test        accuracy" in ending
    shown = ending.replace(f"{folder}/", "").splitlines()
    assert [line.rstrip() for line in text.splitlines() if line.strip()][-len(shown) :] == shown
    assert len(re.findall("note: The learning rate stays", text)) == 1
