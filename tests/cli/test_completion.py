"""The TAB key: which words complete a command line, and the scripts in real shells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mla_lightning.cli.completion import SCRIPTS, complete
from mla_lightning.cli.main import VERBS, build_parser, main
from mla_lightning.config import conf_dir, plan
from mla_lightning.config.completion import complete_setting
from mla_lightning.config.search import options, search_path

ROOT = Path(__file__).parents[2]


def words_of(line):
    return [word for word, _ in complete(line, build_parser())]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mla tra", ["train"]),
        ("mla re", ["reproduce", "report"]),
        ("mla --v", ["--version"]),
        ("mla train --dry", ["--dry-run"]),
        ("mla train -m --dry", ["--dry-run"]),
        ("mla train meth", ["method="]),
        ("mla train method", ["method.", "method="]),
        ("mla train method=mla_r", ["method=mla_released"]),
        ("/opt/bin/mla train method=mla_r", ["method=mla_released"]),
        ("mla train -m 'seed=range(3)' method=qmf,mla_r", ["method=qmf,mla_released"]),
        ("mla train -m method=qmf,qm", []),
        ("mla train optimizer.l", ["optimizer.lr="]),
        ("mla train optimizer.lr=0.1 optimizer.l", []),
        ("mla train optimizer.be", []),
        ("mla train optimizer=adamw optimizer.be", ["optimizer.betas="]),
        ("mla train optimizer=adamw optimizer.mom", []),
        ("mla train optimizer=n", ["optimizer=null"]),
        ("mla train callbacks=[ema,prof", ["callbacks=[ema,profiler"]),
        ("mla train callbacks=early_stopping callbacks.", ["callbacks.early_stopping."]),
        ("mla train logger=wandb logger.wandb.pro", ["logger.wandb.project="]),
        ("mla train logger=[wandb,tens", ["logger=[wandb,tensorboard"]),
        ("mla train logger=[tensorboard,wandb] logger.wandb.pro", ["logger.wandb.project="]),
        ("mla train logger=[tensorboard] logger.wandb.pro", []),
        ("mla train ~optimizer.mom", ["~optimizer.momentum"]),
        ("mla train fusion@method.fusion=sh", ["fusion@method.fusion=shared_head"]),
        ("mla train trainer.precision=b", ["trainer.precision=bf16-mixed"]),
        ("mla train trainer.compile=", ["trainer.compile=false", "trainer.compile=true"]),
        ("mla train diagnostics=f", ["diagnostics=full"]),
        ("mla train method.hgm=f", ["method.hgm=false"]),
        ("mla train data=synthetic --config-dir ", []),
        ("mla train data.path=", []),
        ("mla train seed=", []),
        ("mla tune tri", ["trials="]),
        ("mla tune search=r", ["search=rate"]),
        ("mla tune pruner=m", ["pruner=median"]),
        ("mla reproduce ", []),
        ("mla reproduce my.csv method=qm", ["method=qmf"]),
        ("mla eval ", []),
        ("mla eval runs/x split=", ["split=test", "split=train", "split=val"]),
        ("mla predict runs/x out", ["output="]),
        ("mla predict runs/x data=mf", ["data=mfeat"]),
        ("mla export runs/x hu", ["hub="]),
        ("mla export runs/x format=sa", ["format=safetensors"]),
        ("mla report pag", ["page"]),
        ("mla report page ", []),
        ("mla list exp", ["experiments"]),
        ("mla list methods mla_p", ["mla_paper"]),
        ("mla list methods mla ", []),
        ("mla data prep", ["prepare"]),
        ("mla data prepare crem", ["cremad"]),
        ("mla data prepare cremad ra", ["raw="]),
        ("mla data embed data=mf", ["data=mfeat"]),
        ("mla data show data/", []),
        ("mla completion z", ["zsh"]),
        ("mla trian ", []),
        ("mla train 'open quote method=", []),
    ],
)
def test_words_of_a_line(line, expected):
    found = words_of(line)
    assert [word for word in found if word != "--help"] == expected


def test_every_verb_is_completed_and_described():
    words = complete("mla ", build_parser())
    assert {*VERBS} <= {word for word, _ in words}
    assert all(text for _, text in words)


@pytest.mark.parametrize("group", ["method", "data", "experiment", "scheduler", "launcher"])
def test_every_option_of_a_group_is_offered(group):
    names = [word.partition("=")[2] for word in words_of(f"mla train {group}=")]
    assert {*names} - {"null"} == {*options(search_path(None), group)}


def keys_of(given):
    """Return all keys that TAB leads to, over their dots."""
    keys, begun = set(), [""]
    while begun:
        for word, _ in complete_setting(begun.pop(), given):
            key = word.removesuffix("=")
            keys.add(key) if word.endswith("=") else begun.append(word)
    return keys


def composed_keys(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from composed_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


#: Keys of a composed config that are no settings of users.
AUTOMATIC = ("choices", "metrics", "grid", "callbacks", "tuned_lr")


@pytest.mark.parametrize(
    "given",
    [
        ["data=synthetic"],
        ["data=synthetic", "method=qmf"],
        ["data=synthetic", "method=gblend", "optimizer=adamw", "scheduler=warmup_cosine"],
        ["data=mfeat", "method=concat", "missing=anchor", "logger=wandb_online"],
        ["experiment=table1/openmoji", "trainer=ddp"],
    ],
    ids=" ".join,
)
def test_keys_are_those_that_hydra_composes(given):
    (job,) = plan(given)
    composed = {
        key
        for key in composed_keys(job.config)
        if key.partition(".")[0] not in AUTOMATIC
        and not key.endswith(("._target_", "._partial_"))
        and key != "logger"
    }
    offered = {key for key in keys_of(given) if not key.endswith("._target_")}
    said = {word.partition("=")[0] for word in given}
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    groups |= {"fusion@method.fusion", "held_out@data"}
    assert composed - said - groups <= offered
    assert offered - groups - composed <= {"run_dir"}


def test_own_options_are_offered(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("# Mine: own.\n_target_: my.Mine\nlevel: 1\n")
    line = f"mla train --config-dir {tmp_path} method="
    assert "method=mine" in words_of(line)
    assert "method=mine" not in words_of("mla train method=")
    assert words_of(f"{line}mine method.le") == ["method.level="]
    assert words_of("mla train --config-dir no/such/folder method=qm") == ["method=qmf"]


LIGHT = """
import contextlib, io, json, sys
from mla_lightning.cli.main import main
for line in ("mla train optimizer.l", "mla train method.projection=", "mla data prepare c"):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["complete", line]) == 0
print(json.dumps(sorted({"torch", "lightning", "hydra", "omegaconf", "rich"} & set(sys.modules))))
"""


def test_a_completion_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


@pytest.fixture
def commands(tmp_path):
    """The environment of a shell that finds this package's `mla`."""
    (tmp_path / "bin").mkdir()
    mla = tmp_path / "bin" / "mla"
    mla.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mla_lightning.cli.main "$@"\n')
    mla.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}


#: What bash gives a function on TAB: the words of the line, which it also breaks at =, and the
#: part behind the last break.
BASH = r"""
eval "$(mla completion bash)"
complete -p mla
tab() {
    COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
    local word="${1##*[[:space:]]}"
    _mla mla "${word##*["$COMP_WORDBREAKS"]}" ""
    printf '%s -> %s\n' "$1" "${COMPREPLY[*]}"
}
compopt() { :; }
"""


def test_the_script_of_bash(commands):
    lines = {
        "mla re": "reproduce report",
        "mla train meth": "method=",
        "mla train method=ml": "mla mla_balancemm mla_paper mla_released mlb",
        "mla train method=mla,conca": "mla,concat",
        "mla train optimizer.l": "optimizer.lr=",
        "mla train fusion@method.fusion=sh": "shared_head",
        "mla train -m method=mla --dry": "--dry-run",
        "mla compare runs/": "",
    }
    script = BASH + "\n".join(f"tab '{line}'" for line in lines)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=commands, capture_output=True, text=True, check=True
    )
    registered, *answers = done.stdout.splitlines()
    assert registered == "complete -o default -F _mla mla"
    assert answers == [f"{line} -> {words}" for line, words in lines.items()]
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_the_script_of_fish(commands, tmp_path):
    (tmp_path / "folder").mkdir()
    asked = ["mla re", "mla train meth", "mla train optimizer.l", "mla train data.path=fold"]
    script = "mla completion fish | source\n" + "\n".join(f"complete -C '{a}'" for a in asked)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=commands,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert words == ["report", "reproduce", "method=", "optimizer.lr=", "data.path=folder/"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_the_script_of_zsh_is_read(commands):
    script = 'autoload -Uz compinit && compinit -u -D\neval "$(mla completion zsh)"\n'
    script += "echo $_comps[mla]"
    done = subprocess.run(
        ["zsh", "-f", "-c", script], env=commands, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("_mla\n", "")


def test_scripts_are_printed(capsys):
    for shell, script in SCRIPTS.items():
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out == script
