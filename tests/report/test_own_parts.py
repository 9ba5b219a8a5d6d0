"""Panels and kinds of reports of a user that fail are named, and the page goes on."""

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.cli.main import main

BAD = """
def raises(argument):
    raise ValueError("no such column")


def wrong_type(argument):
    return 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package with two bad functions, each as a panel and as a kind of report."""
    (tmp_path / "bad_parts.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("raises", "wrong_type"):
        for group, keys in (("report", ""), ("panel", "title: T\nreading: R\n")):
            path = tmp_path / "conf" / group / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            options = "needs_diagnostics: false\n" if group == "panel" else ""
            path.write_text(f"# Bad.\n_target_: bad_parts.{name}\n{keys}{options}")
        write_run(tmp_path / "runs", "mla", 0, name=f"{name}/openmoji")
    return ["--config-dir", "conf", "--allow-target", "bad_parts"]


@pytest.mark.usefixtures("only_svg")
def test_the_page_names_what_failed_and_shows_everything_else(own, tmp_path):
    assert main(["report", "page", "runs", *own]) == 0
    page = (tmp_path / "runs" / "report" / "page.html").read_text()
    for name, problem in (
        ("raises", "raised ValueError: no such column"),
        ("wrong_type", "returned int, not"),
    ):
        for group in ("report", "panel"):
            assert f"conf/{group}/{name}.yaml" in page
        assert f"bad_parts.{name} {problem}" in page
    assert page.count("62.") > 0


@pytest.mark.parametrize(
    ("kind", "problem"), [("raises", "no such column"), ("wrong_type", "not Report")]
)
def test_a_report_of_such_a_kind_is_one_message(own, capsys, kind, problem):
    assert main(["report", kind, "runs", *own]) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert f"conf/report/{kind}.yaml" in error
    assert "Traceback" not in error
