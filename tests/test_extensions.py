"""What CONTRIBUTING shows of adding things, run as it is printed, from outside the package."""

import re
import sys
from pathlib import Path

import pytest

from mla_lightning.cli.main import main
from mla_lightning.config import targets
from mla_lightning.run_folder import find_runs, read_json
from tests.documents import read_blocks
from tests.train.jobs import in_child

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
#: Path -> content of every block whose path stands before it.
FILES = {block.path: block.code for block in read_blocks(TEXT) if block.path}
OWN = ("--config-dir", "conf", "--allow-target", "my_lab")
#: Kind of thing as `mla list` calls it -> the one that is added.
ADDED = {
    "methods": "flooding",
    "fusions": "largest",
    "encoders": "sines",
    "data": "moons",
    "metrics": "margin",
    "panels": "train_loss",
    "reports": "seconds",
    "launchers": "nice",
    "loggers": "json_lines",
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Be in an empty folder with the files that CONTRIBUTING shows."""
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(targets, "_BY_USER", [])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_every_extension_is_one_file_and_one_yaml():
    headings = re.findall(r"^### (.*)$", TEXT.partition("## Adding things")[2], re.MULTILINE)
    assert len(headings) == len(ADDED)
    assert len(FILES) == 2 * len(ADDED)
    for group, name in ADDED.items():
        singular = group if group == "data" else group.removesuffix("s")
        assert f"conf/{singular}/{name}.yaml" in FILES
    shown = max(len(text.splitlines()) for text in FILES.values())
    assert shown <= 30


def test_each_is_listed_trained_tabled_and_on_the_page(lab, capfd):
    for group, name in ADDED.items():
        assert main(["list", group, "--config-dir", "conf"]) == 0
        assert f"\n{name} " in f"\n{capfd.readouterr().out}", group
    train = ["train", "-m", *OWN, "method=flooding,concat", "data=moons", "seed=0,1"]
    train += ["fusion@method.fusion=largest", "launcher=nice", "logger=json_lines"]
    train += ["trainer.max_epochs=2", "optimizer.lr=0.1", "diagnostics=epoch"]
    assert in_child(lambda: main(train)) == 0
    runs = list(find_runs(lab / "runs"))
    assert len(runs) == 4
    for run in runs:
        result = read_json(run / "result.json")
        assert result["dataset"] == "moons"
        assert 0 < result["test"]["multi"]["margin"] < 1
        assert len((run / "rows.jsonl").read_text().splitlines()) == 2
        assert "my_lab.sines" in read_json(run / "provenance.json")["code"]["modules"]

    assert main(["report", "table1", "runs/train", "--output", "out"]) == 0
    table = Path("out/table1.md").read_text()
    assert "Flooding" in table
    assert re.search(r"\| margin, multi \|.*\d\.\d\d ±", table)
    assert main(["report", "table1", "out/results.csv", "--output", "again"]) == 0
    assert "| margin, multi |" in Path("again/table1.md").read_text()

    assert main(["report", "seconds", "runs/train", *OWN, "--output", "out"]) == 0
    assert "Training time" in Path("out/seconds.md").read_text()

    assert main(["report", "page", "runs/train", *OWN, "--output", "page"]) == 0
    page = Path("page/page.html").read_text()
    assert "Last training loss" in page
    assert "A dot further left fits the training split better." in page
    assert "Flooding" in page


def test_what_is_not_allowed_is_named(lab, capfd):
    assert main(["report", "seconds", "runs", "--config-dir", "conf"]) == 2
    assert "my_lab.seconds.seconds" in capfd.readouterr().err
    assert main(["train", "--config-dir", "conf", "method=flooding", "data=moons"]) == 2
    assert "--allow-target" in capfd.readouterr().err
