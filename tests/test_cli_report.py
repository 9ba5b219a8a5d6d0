"""Arguments of ``mla report`` and ``mla dashboard`` in any order, and none without effect."""

import pytest

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import targets


@pytest.fixture
def calls(monkeypatch):
    """Record the arguments of the functions behind the verbs instead of running them."""
    recorded = []

    def record(*arguments, **keywords):
        recorded.append((arguments, keywords))
        return 0

    monkeypatch.setattr("mla_lightning.report.main.write_report", record)
    monkeypatch.setattr("mla_lightning.publish.wandb_dashboard.write_dashboard", record)
    monkeypatch.setattr("mla_lightning.report.main.make_report", lambda kind, runs: runs)
    return recorded


@pytest.mark.parametrize(
    "words",
    ["table1 a b --output out", "table1 --output out a b", "table1 a --output out b"],
)
def test_folders_may_follow_options(calls, words):
    assert main(["report", *words.split()]) == 0
    ((kind, runs, output, _), _) = calls[0]
    assert (kind, [str(run) for run in runs], str(output)) == ("table1", ["a", "b"], "out")


def test_folders_may_follow_options_of_the_dashboard(calls):
    assert main(["dashboard", "table1", "--project", "p", "a", "b"]) == 0
    ((_, report), keywords) = calls[0]
    assert [str(run) for run in report] == ["a", "b"]
    assert keywords["project"] == "p"


@pytest.mark.parametrize("option", [["--online"], ["--entity", "me"]])
def test_upload_options_without_an_upload_are_errors(calls, capfd, option):
    assert main(["report", "table1", "a", *option]) == 2
    assert "--to-wandb" in capfd.readouterr().err
    assert calls == []


def test_an_option_that_evaluation_would_ignore_is_an_error(capfd):
    assert main(["eval", "run", "--config-dir", "x"]) == 2
    assert "unknown option --config-dir" in capfd.readouterr().err


def test_a_dashboard_allows_packages_before_runs_are_read(calls, monkeypatch):
    monkeypatch.setattr(targets, "_BY_USER", [])
    seen = []

    def make_report(kind, runs):
        seen.append(targets.is_allowed("my_lab.Method"))

    monkeypatch.setattr("mla_lightning.report.main.make_report", make_report)
    assert main(["dashboard", "table1", "a"]) == 0
    assert main(["dashboard", "table1", "a", "--allow-target", "my_lab"]) == 0
    assert seen == [False, True]


NAMED_DATA = """
from mla_lightning.data.synthetic import Synthetic

class Named(Synthetic):
    def sample_names(self, split, numbers):
        return [f"recording {number}" for number in numbers]
"""


def test_a_comparison_names_the_samples_of_an_allowed_package(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "_BY_USER", [])
    (tmp_path / "named_data.py").write_text(NAMED_DATA)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "named.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /encoder: mlp_synthetic\n"
        "  - override /recipe: synthetic\n"
        "data: {_target_: named_data.Named, names: [audio, visual], num_features: 16,"
        " num_train: 32}\n"
    )
    options = {"config_dir": "conf", "allow": ["named_data"]}
    words = ("data=named", "trainer.max_epochs=1", "optimizer.lr=0.001")
    runs = [str(mla.train(*words, f"seed={s}", **options).folder) for s in (0, 1)]
    assert main(["compare", *runs]) == 0
    output = capsys.readouterr()
    assert "recording" not in output.out
    assert "--allow-target" in output.err
    assert main(["compare", *runs, "--allow-target", "named_data"]) == 0
    output = capsys.readouterr()
    assert "recording" in output.out
    assert output.err == ""
