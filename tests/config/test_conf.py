"""Every YAML: it composes, fits the signatures of its classes, and lists their parameters."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

import mla_lightning
from mla_lightning.cli.main import OVERVIEW
from mla_lightning.cli.train import TRAIN
from mla_lightning.config import PlannedJob, conf_dir, plan
from mla_lightning.config.bind import REMOVED, SUPPLIED, parameters_of
from mla_lightning.config.listing import label_of, list_entries
from mla_lightning.config.search import PLURALS, groups, options
from mla_lightning.config.settings import SETTING_TYPES
from mla_lightning.config.targets import targets_of
from mla_lightning.config.values import flatten

CONF = conf_dir()
YAMLS = sorted(CONF.rglob("*.yaml"))


def names(group: str) -> list[str]:
    return list(options((CONF,), group))


@cache
def jobs_of(experiment: str) -> list[PlannedJob]:
    return plan([f"experiment={experiment}"], multirun=True, checks_signatures=True)


def of_path(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


@pytest.mark.parametrize("group", ["method", "ablation"])
def test_every_method_and_ablation_fits_its_class(group: str) -> None:
    jobs = plan(["data=synthetic", f"{group}=glob(*)"], multirun=True, checks_signatures=True)
    assert [job.config["choices"][group] for job in jobs] == names(group)


@pytest.mark.parametrize("data", names("data"))
def test_every_data_set_fits_its_class(data: str) -> None:
    (job,) = plan([f"data={data}", "method=concat"], checks_signatures=True)
    assert job.config["choices"]["data"] == data


def test_every_train_example_composes() -> None:
    examples = [
        shlex.split(re.split(r"\s{3,}", line.strip())[0])[1:]
        for line in (OVERVIEW + TRAIN).splitlines()
        if line.strip().startswith("mla train") and "my_conf" not in line
    ]
    assert len(examples) >= 8
    for words in sorted(map(list, set(map(tuple, examples)))):
        overrides = [word for word in words[1:] if not word.startswith("-")]
        assert plan(overrides, "-m" in words)


@pytest.mark.parametrize(
    ("group", "fixed"),
    [
        ("trainer", ()),
        ("debug", ()),
        ("recipe", ("optimizer.lr=0.1",)),
        ("fusion@method.fusion", ("method=concat",)),
    ],
)
def test_every_other_option_composes_in_one_sweep(group: str, fixed: tuple[str, ...]) -> None:
    known = names(group.partition("@")[0])
    assert len(plan([f"{group}=glob(*)", *fixed], multirun=True, checks_signatures=True)) == len(
        known
    )


@pytest.mark.parametrize("group", ["logger", "launcher", "paths"])
def test_every_option_that_changes_no_number_composes(group: str) -> None:
    needed = {"hydra": ["launcher.plugin=joblib"]}  # the user chooses one
    for name in names(group):
        plan([f"{group}={name}", *needed.get(name, [])], checks_signatures=True)


@pytest.mark.parametrize("experiment", names("experiment"))
@pytest.mark.parametrize("all_jobs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_job_of_every_experiment_composes(experiment: str, all_jobs: bool) -> None:
    """By default of many seeds the first and the last one, and of many methods every seventh."""
    file = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    full = file.get("grid", {})
    assert set(full.get("method", ())) <= set(names("method"))
    some = {}
    if not all_jobs:
        some["seed"] = full.get("seed", [])[:: max(1, len(full.get("seed", [])) - 1)]
        some["method"] = full.get("method", [])[:: 7 if len(full.get("method", ())) > 20 else 1]
    words = [f"{key}={','.join(map(str, values))}" for key, values in some.items() if values]
    jobs = plan([f"experiment={experiment}", *words], multirun=True, checks_signatures=True)
    grid = full | {key: values for key, values in some.items() if values}
    assert (len(jobs) > 1) == (experiment != "tune")  # whose jobs `mla tune` draws
    assert len({job.title for job in jobs}) == len(jobs)
    # The name of an experiment for any data set ends with the data set.
    data = jobs[0].config["choices"]["data"]
    (name,) = {job.config["name"] for job in jobs}
    assert name == experiment or name == f"{experiment}/{data}"
    for key, values in grid.items():
        top = key.partition(".")[0]
        if key in jobs[0].config["choices"]:
            values_of_jobs = {str(job.config["choices"][key]) for job in jobs}
        else:
            values_of_jobs = {str(dict(flatten(job.config))[key]) for job in jobs}
            assert top in jobs[0].config
        assert values_of_jobs == set(map(str, values))


def test_table_1_is_the_papers_eight_methods_and_the_unimodal_reference() -> None:
    jobs = jobs_of("table1/openmoji")
    assert len(jobs) == 27
    methods = {job.config["choices"]["method"] for job in jobs}
    eight = {"sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "mla"}
    assert methods == eight | {"unimodal"}


def test_tuning_and_projection_never_use_the_test_split() -> None:
    for experiment in ("tuning/openmoji", "projection/openmoji"):
        jobs = jobs_of(experiment)
        assert not any(job.config["evaluate_test"] for job in jobs)
        assert {job.config["protocol"] for job in jobs} == {"validation"}


#: Methods for missing modalities; Table 2 trains all its methods with one recipe, not tuned.
INCOMPLETE = {"ae", "cca", "cpm_net", "cra", "dcca", "dccae", "if_mmin", "mmin", "tate"}
#: Methods that take no steps and so have no learning rate.
WITHOUT_RATE = {"logistic", "majority"}
#: Method -> the setting of another method as which it was tuned, in experiments/claims/tuning.
TUNED_AS = {"mla_paper": "mla projection=owm"}


def test_the_same_tuning_budget_for_every_method() -> None:
    jobs = jobs_of("tuning/openmoji")
    budgets: dict[str, set[tuple[float, int]]] = {}
    for job in jobs:
        method = job.config["choices"]["method"]
        cell = (job.config["optimizer"]["lr"], job.config["seed"])
        budgets.setdefault(method, set()).add(cell)
    assert set(budgets) == set(names("method")) - INCOMPLETE - WITHOUT_RATE - set(TUNED_AS)
    assert len(set(map(frozenset, budgets.values()))) == 1
    tuned = yaml.safe_load((CONF / "recipe" / "openmoji.yaml").read_text())["tuned_lr"]
    assert set(tuned) == set(names("method")) - INCOMPLETE
    for name in WITHOUT_RATE:  # which have an entry, so that the recipe can be used with them
        tuned.pop(name)
    tried = {lr for cells in budgets.values() for lr, _ in cells}
    assert set(tuned.values()) <= tried


@pytest.mark.parametrize("data", ["avdigits", "mfeat", "openmoji", "tuxstamps"])
def test_a_variant_has_the_rate_of_the_setting_as_which_it_was_tuned(data: str) -> None:
    tuned = yaml.safe_load((CONF / "recipe" / f"{data}.yaml").read_text())["tuned_lr"]
    folder = CONF.parent / "experiments/claims/tuning"
    settings = yaml.safe_load((folder / f"tuned_lr-{data}.yaml").read_text())
    assert {method: tuned[method] for method in TUNED_AS} == {
        method: settings[setting] for method, setting in TUNED_AS.items()
    }


def test_the_papers_recipe_is_that_of_its_code() -> None:
    (job,) = plan(["recipe=paper"])
    config = job.config
    assert config["optimizer"] == {
        "_target_": "torch.optim.SGD",
        "_partial_": True,
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }
    assert (config["scheduler"]["step_size"], config["scheduler"]["gamma"]) == (70, 0.1)
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (100, 64)


@pytest.mark.parametrize("path", YAMLS, ids=of_path)
def test_every_yaml_begins_with_a_comment_on_its_purpose(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert re.match(r"# [A-Z`0-9].{20}", lines[0]), f"{of_path(path)}: {lines[:1]}"
    assert path.read_text().isascii() or "experiment" in of_path(path)
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("group", groups((CONF,)))
def test_every_group_can_be_listed(group: str) -> None:
    assert group in PLURALS
    assert names(group)


@pytest.mark.parametrize(
    ("comment", "label", "summary"),
    [
        ("# OWN-Net+: Joint training of its own.", "OWN-Net+", "Joint training of its own."),
        ("# Own net (their code): As published.", "Own net (their code)", "As published."),
        ("# Joint training: one loss.", "own_net", "Joint training: one loss."),
        ("# Own net.", "own_net", "Own net."),
    ],
)
def test_a_method_is_shown_as_its_comment_begins(tmp_path, comment, label, summary) -> None:
    (tmp_path / "method").mkdir()
    path = tmp_path / "method/own_net.yaml"
    path.write_text(f"{comment}\n#   mla train method=own_net\n_target_: a.B\n")
    (entry,) = (e for e in list_entries("method", tmp_path) if e.name == "own_net")
    assert (entry.label, entry.summary) == (label, summary)
    assert label_of("method", "own_net", tmp_path) == label


def test_the_settings_are_those_of_the_yamls() -> None:
    (job,) = plan([])
    keys = {key for key, _ in flatten({k: v for k, v in job.config.items() if k != "choices"})}
    assert SETTING_TYPES.keys() <= keys


@pytest.mark.parametrize("method", names("method"))
def test_a_methods_yaml_lists_every_parameter(method: str) -> None:
    (job,) = plan([f"method={method}", "optimizer.lr=0.1"])
    for key, node in targets_of(job.config["method"], "method"):
        takes, _ = parameters_of(node["_target_"])
        settable = takes.keys() - set(SUPPLIED.get(key, ())) - set(REMOVED.get(key, ()))
        missing = settable - node.keys() - NOT_LISTED.get(node["_target_"], set())
        assert not missing, f"{key}: its YAML does not show {sorted(missing)}"


#: Parameters that another setting decides.
NOT_LISTED = {
    "mla_lightning.fusion.branched.Branched": {"weighting"},
    "mla_lightning.fusion.shared_head.SharedHead": {"weighting"},
}


@pytest.mark.parametrize("data", names("data"))
def test_a_data_sets_yaml_lists_every_parameter(data: str) -> None:
    (job,) = plan([f"data={data}"])
    takes, _ = parameters_of(job.config["data"]["_target_"])
    missing = takes.keys() - set(SUPPLIED["data"]) - job.config["data"].keys()
    assert not missing


def test_every_trainer_setting_is_read() -> None:
    package = Path(mla_lightning.__file__).parent
    text = "".join(
        (package / "run" / name).read_text()
        for name in ("build.py", "train.py", "fit.py", "trainer.py")
    )
    for key in SETTING_TYPES:
        if key.startswith("trainer."):
            name = key.partition(".")[2].replace("max_epochs", "num_epochs")  # without auto
            assert re.search(rf"(trainer|options)\.{name}\b", text), key


def test_every_method_has_a_name_as_papers_spell_it() -> None:
    labels = {entry.name: entry.label for entry in list_entries("method")}
    assert all(label[0].isupper() and "_" not in label for label in labels.values()), labels
    assert len(set(labels.values())) == len(labels)
