"""Arguments of ``mla report`` and ``mla dashboard`` in any order, and none without effect."""

import pytest

from mla_lightning.cli.main import main


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
