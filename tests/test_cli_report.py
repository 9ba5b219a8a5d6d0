"""Words of ``mla report`` and ``mla dashboard`` in any order, and none without effect."""

import pytest

from mla_lightning.cli.main import main


@pytest.fixture
def asked(monkeypatch):
    found = []

    def kept(*given, **named):
        found.append((given, named))
        return 0

    monkeypatch.setattr("mla_lightning.report.main.write_report", kept)
    monkeypatch.setattr("mla_lightning.publish.wandb_dashboard.write_dashboard", kept)
    monkeypatch.setattr("mla_lightning.report.main.make_report", lambda kind, runs: runs)
    return found


@pytest.mark.parametrize(
    "words",
    ["table1 a b --output out", "table1 --output out a b", "table1 a --output out b"],
)
def test_folders_may_stand_after_options(asked, words):
    assert main(["report", *words.split()]) == 0
    ((kind, runs, output, _), _) = asked[0]
    assert (kind, [str(run) for run in runs], str(output)) == ("table1", ["a", "b"], "out")


def test_folders_may_stand_after_options_of_the_dashboard(asked):
    assert main(["dashboard", "table1", "--project", "p", "a", "b"]) == 0
    ((_, report), named) = asked[0]
    assert [str(run) for run in report] == ["a", "b"]
    assert named["project"] == "p"


@pytest.mark.parametrize("option", [["--online"], ["--entity", "me"]])
def test_where_to_send_without_sending_is_an_error(asked, capfd, option):
    assert main(["report", "table1", "a", *option]) == 2
    assert "--to-wandb" in capfd.readouterr().err
    assert asked == []


def test_an_option_that_evaluation_would_ignore_is_refused(capfd):
    assert main(["eval", "run", "--config-dir", "x"]) == 2
    assert "unknown option --config-dir" in capfd.readouterr().err
