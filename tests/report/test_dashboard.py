"""Which runs a dashboard shows."""

from types import SimpleNamespace

import pytest

from mla_lightning.publish.wandb_dashboard import dashboard, write_dashboard
from mla_lightning.report.figures.answers import KINDS


def test_each_kind_of_figure_has_a_panel_or_is_said_to_be_on_the_page_alone():
    spec = dashboard("table1", None, project="p", entity=None)
    shown = {section["name"] for section in spec["workspace"]["sections"]}
    last = spec["report"]["blocks"][-1]["text"]
    for kind in KINDS:
        assert (kind.title in shown) != (kind.title in last.partition(": ")[2].split(", ")), kind
    assert {"Cost", "Forgetting over epochs"} <= shown


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["train", "train"], "of the 2 runs given they leave out 2 tagged 'train'"),
        (["table1/openmoji", "", "x/y"], "leave out 1 without a tag, 1 tagged 'x'"),
        (["table1/openmoji", "table1/mfeat"], None),
    ],
)
def test_runs_that_the_filter_leaves_out_are_told(tmp_path, monkeypatch, capfd, names, told):
    found = [SimpleNamespace(name=name) for name in names]
    monkeypatch.setattr("mla_lightning.report.read.run_folders.read_runs", lambda paths: found)
    where = {"project": "p", "entity": None, "output": tmp_path / "dashboard.json"}
    assert write_dashboard("table1", None, **where, is_online=False, runs=[tmp_path]) == 0
    out = capfd.readouterr().out
    assert ("Warning: the panels show runs tagged 'table1' only" in out) == (told is not None)
    assert told is None or told in out
