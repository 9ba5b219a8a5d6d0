"""The verb ``mla list``: lines, long entries, JSON, and what a terminal shows."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mla_lightning.cli.main import main
from mla_lightning.config import conf_dir, plan
from mla_lightning.config.option_settings import is_of_runs, settings_of
from mla_lightning.config.search import PLURALS, PURPOSES, options, search_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def printed(capsys):
    def run(*words):
        assert main(["list", *words]) == 0
        return capsys.readouterr().out

    return run


def in_terminal(*words, width=80, **environment):
    """Return what a terminal of a width shows of `mla list`, with control sequences."""
    parent, child = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "mla_lightning.cli.main", "list", *words],
        stdout=child,
        env={
            **plain,
            "PYTHONPATH": str(ROOT / "src"),
            "COLUMNS": str(width),
            "TERM": "xterm-256color",
            **environment,
        },
    ) as process:
        os.close(child)
        text = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # the terminal was closed
                break
            if not part:
                break
            text += part
    os.close(parent)
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("group", "kind"), PLURALS.items())
def test_every_kind_has_one_line_per_option(group, kind, printed):
    files = (conf_dir() / group).rglob("[!_]*.yaml")
    expected = sorted(p.relative_to(conf_dir() / group).with_suffix("").as_posix() for p in files)
    assert [line.split()[0] for line in printed(kind).splitlines()] == expected
    assert printed(group) == printed(kind)


def test_a_line_has_label_and_summary_and_nothing_of_the_class(printed):
    line = next(line for line in printed("methods").splitlines() if line.startswith("ogm_ge "))
    assert line.split(maxsplit=1)[1].startswith("OGM-GE: joint training (Concat) with smaller")
    assert "CVPR" not in printed("methods")
    assert "prepared store, whose rows" not in printed("data")


def test_numbers_of_jobs_are_those_of_the_grids_and_aligned(printed):
    lines = printed("experiments").splitlines()
    content = yaml.safe_load((conf_dir() / "experiment/table1/openmoji.yaml").read_text())
    number = len(content["grid"]["seed"]) * len(content["grid"]["method"])
    (line,) = (line for line in lines if line.startswith("table1/openmoji "))
    assert f" {number} jobs  Table 1 on OpenMoji" in line
    single = next(line for line in lines if line.startswith("tune "))
    assert " 1 job " in single
    assert len({line.index(" job") for line in lines}) == 1
    assert " 1 job " not in printed("launchers")


def test_without_a_kind_every_group_has_its_purpose_and_number(printed):
    lines = printed().splitlines()
    for group, kind in PLURALS.items():
        number = len(options(search_path(None), group))
        (line,) = (line for line in lines if line.split()[:1] == [kind])
        assert line.split(maxsplit=2)[1:] == [str(number), PURPOSES[group]]
    assert {path.name for path in conf_dir().iterdir() if path.is_dir()} == PURPOSES.keys()


def test_a_long_entry_has_class_publication_tasks_file_and_settings(printed):
    text = printed("methods", "mla")
    assert printed("method", "mla") == text
    assert "mla_lightning.methods.mla.MLA\n" in text
    assert "One modality per step through one shared head" in text
    assert "CVPR 2024, https://arxiv.org/abs/2311.10707" in text
    assert str(conf_dir() / "method" / "mla.yaml") in text
    assert "method.alpha=0.1 " in text
    assert "Ridge term; a smaller value protects earlier features more." in text
    assert "mla train method=mla" in text
    assert "not for" not in text
    assert "not for regression  it needs the entropy" in printed("methods", "amss")
    assert "CVPR 2024" in printed("methods", "mla_released")  # the base class's publication


def test_a_long_entry_of_an_option_made_of_another_has_the_values_of_both(printed):
    text = printed("loggers", "wandb_online")
    assert "logger.wandb.mode=online" in text
    assert "mode=offline" not in text
    assert "logger.wandb.project=mla_lightning" in text


OF_RUNS = [
    (group, name)
    for group in ("optimizer", "scheduler", "trainer", "missing", "logger", "callbacks", "launcher")
    for name in options(search_path(None), group)
]


@pytest.mark.parametrize(("group", "name"), OF_RUNS)
def test_settings_have_the_values_of_the_composed_config(group, name):
    """The keys are those of the command line, as Hydra composes them."""
    known = options(search_path(None), group)
    data = ["data=mfeat"] if group == "missing" else ["data=synthetic"]
    (job,) = plan(["method=concat", *data, f"{group}={name}"])
    for setting in settings_of(group, known[name], known):
        value = yaml.safe_load(setting.value)
        if isinstance(value, str) and "${" in value:
            continue
        node = job.config
        for part in setting.key.split("."):
            node = node[part]
        if value != "auto":
            assert node == value, setting


def test_words_of_a_long_entry_can_be_given_to_train():
    known = options(search_path(None), "method")
    for name in ("mla", "gblend", "concat"):
        words = [s.word for s in settings_of("method", known[name], known)]
        (job,) = plan([f"method={name}", "data=synthetic", *words])
        (plain,) = plan([f"method={name}", "data=synthetic"])
        assert job.config["method"] == plain.config["method"]
    assert not is_of_runs("metric")


def test_json_has_every_field(printed, tmp_path):
    (entry,) = json.loads(printed("methods", "qmf", "--json"))
    assert set(entry) == {
        *("name", "label", "summary", "path", "target"),
        *("docstring", "reference", "num_jobs", "not_for"),
    }
    assert (entry["label"], entry["target"]) == ("QMF", "mla_lightning.methods.qmf.QMF")
    assert set(entry["not_for"]) == {"regression"}
    assert Path(entry["path"]).is_file()
    entries = json.loads(printed("experiments", "--json"))
    assert {e["name"]: e["num_jobs"] for e in entries}["table1/openmoji"] == 27
    kinds = json.loads(printed("--json"))
    assert [kind["kind"] for kind in kinds] == list(PLURALS.values())
    assert set(kinds[0]) == {"kind", "group", "purpose", "num_options"}


def test_own_options_are_listed(printed, tmp_path):
    (tmp_path / "scheduler").mkdir()
    text = "# Flat: a flat rate.\n_target_: my_lab.Flat\n# How flat.\nrate: [0.1, 0.2]\n"
    (tmp_path / "scheduler" / "flat.yaml").write_text(text)
    assert "flat " in printed("schedulers", "--config-dir", str(tmp_path))
    text = printed("schedulers", "--config-dir", str(tmp_path), "flat")
    assert "scheduler.rate=[0.1,0.2]  How flat.\n" in text


def test_a_terminal_has_colour_and_lines_of_its_width():
    text = in_terminal("methods", width=70)
    assert "\x1b[1;36mmla " in text
    plain = in_terminal("methods", width=70, NO_COLOR="1")
    assert "36m" not in plain
    lines = plain.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert max(map(len, lines)) <= 70
    assert sum("…" in line for line in lines) > 10


def test_a_terminal_shows_a_long_entry_whole():
    text = in_terminal("methods", "mla", width=70, NO_COLOR="1")
    words = " ".join(text.replace("\x1b[1m", "").replace("\x1b[0m", "").split())
    assert "the schedule of the released code starts at 0.1" in words
    assert "…" not in text


def test_a_pipe_has_whole_lines_without_colour(printed):
    text = printed("experiments")
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) > 200
