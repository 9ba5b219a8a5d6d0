"""Runs that a dashboard shows, and keys by which they are grouped."""

import json
from pathlib import Path

import pytest
import yaml

from mla_lightning.cli.main import main
from mla_lightning.errors import ConfigError
from mla_lightning.publish.wandb_dashboard import (
    GROUP_BY,
    describe_dashboard,
    group_keys,
    write_dashboard,
)
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs

ROOT = Path(__file__).parents[2]


def test_each_figure_has_a_panel_or_is_listed_as_on_the_page_only():
    spec = describe_dashboard("table1", None, project="p", entity=None)
    shown = {section["name"] for section in spec["workspace"]["sections"]}
    last = spec["report"]["blocks"][-1]["text"]
    for kind in filter(None, (panel.for_task("classification") for panel in panels())):
        assert (kind.title in shown) != (kind.title in last.partition(": ")[2].split(", ")), kind
    assert {"Cost", "Forgetting over epochs"} <= shown


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (["train", "train"], "of the 2 runs given they leave out 2 tagged 'train'"),
        (["table1/openmoji", "", "x/y"], "leave out 1 without a tag, 1 tagged 'x'"),
        (["table1/openmoji", "table1/mfeat"], None),
    ],
)
def test_a_warning_lists_runs_that_the_filter_leaves_out(
    tmp_path, monkeypatch, capfd, names, warning
):
    runs = [Run(run=name, where="here", state="finished", name=name) for name in names]
    monkeypatch.setattr("mla_lightning.report.read.run_folders.read_runs", lambda paths: runs)
    options = {"project": "p", "entity": None, "output": tmp_path / "dashboard.json"}
    assert write_dashboard("table1", None, **options, is_online=False, runs=[tmp_path]) == 0
    out = capfd.readouterr().out
    assert ("Warning: the panels show runs tagged 'table1' only" in out) == (warning is not None)
    assert warning is None or warning in out


def run_of(name, **overrides):
    settings = tuple((key.replace("__", "."), text) for key, text in overrides.items())
    return Run(run=name, where="here", state="finished", name=name, overrides=settings)


def test_runs_of_other_experiments_are_grouped_by_varied_settings():
    runs = [run_of("mine/a", optimizer__lr=lr, recipe="paper", trainer__x="1") for lr in "12"]
    runs.append(run_of("mine/a", optimizer__lr="1", recipe="small", trainer__x="1"))
    runs.append(run_of("theirs/a", method__alpha="1"))  # not shown by the dashboard
    assert group_keys("mine", runs) == [*GROUP_BY, "optimizer.lr", "choices.recipe"]
    assert group_keys("mine", runs[:1]) == [*GROUP_BY]
    runs.append(run_of("mine/a", method__alpha="1", trainer__x="1"))  # others have the default
    assert group_keys("mine", runs)[3] == "method.alpha"
    assert group_keys("table1", runs) == [*GROUP_BY]
    spec = describe_dashboard("mine", None, project="p", entity=None, runs=runs)
    assert spec["filter"] == "Tags() in ['mine']"
    assert spec["group_by"] == group_keys("mine", runs)
    with pytest.raises(ConfigError, match=r"no dashboard 'mine'.*mla dashboard mine RUNS"):
        group_keys("mine")
    with pytest.raises(ConfigError, match="None of the 1 runs given has the tag 'mine'"):
        group_keys("mine", runs[3:4])


def test_plain_runs_need_no_runs_and_are_grouped_by_varied_settings():
    assert group_keys("train") == [*GROUP_BY]
    runs = [run_of("train", optimizer__lr=lr) for lr in "12"]
    assert group_keys("train", runs) == [*GROUP_BY, "optimizer.lr"]
    for given in ((), runs):
        spec = describe_dashboard("train", None, project="p", entity=None, runs=given)
        assert ("RUNS" in spec["report"]["blocks"][0]["text"]) == (not given)
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        group_keys("trian")


def test_experiments_with_one_tag_are_separate_groups():
    """Their configs may differ without an override, such as in the number of epochs."""
    runs = [run_of("mine/short/openmoji"), run_of("mine/long/openmoji")]
    assert group_keys("mine", runs) == [*GROUP_BY, "name"]


@pytest.mark.parametrize("name", ["claims", "projection"])
def test_committed_runs_are_averaged_over_seeds_only(name):
    folder = ROOT / "experiments" / name
    runs = read_runs(sorted(folder.rglob("results.csv")))
    varied = {"name"} if name == "claims" else set()
    for path in (ROOT / "conf" / "experiment" / name).glob("*.yaml"):
        grid = yaml.safe_load(path.read_text())["grid"]
        varied |= {key if "." in key else f"choices.{key}" for key in grid if key != "seed"}
    assert len(varied) > 1
    assert varied <= set(group_keys(name, runs))


def test_the_dashboard_of_other_experiments_needs_their_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    results = ROOT / "experiments" / "projection" / "openmoji" / "results.csv"
    assert main(["dashboard", "projection", str(results)]) == 0
    assert "Warning" not in capfd.readouterr().out
    spec = json.loads((tmp_path / "dashboard.json").read_text())
    assert spec["group_by"] == [*GROUP_BY, "method.projection", "choices.recipe"]
    assert main(["dashboard", "projection"]) == 2
    assert "mla dashboard projection RUNS" in capfd.readouterr().err
