"""Limits of arguments: torch's own defaults fit them, and no number of torch is without one."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mla_lightning.config import plan
from mla_lightning.config.bind import find_signature_problems, parameters_of
from mla_lightning.config.limits import LIMITS, UNUSABLE, find_limit_problems
from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import targets_of
from mla_lightning.config.task import find_task_problems
from mla_lightning.errors import ConfigError

SCHEDULES = torch.optim.lr_scheduler
CLASSES = [
    f"{base.__module__.partition('.optimizer')[0]}.{name}"
    for module, base in ((torch.optim, torch.optim.Optimizer), (SCHEDULES, SCHEDULES.LRScheduler))
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, base) and value is not base
    if not name.startswith("_")
]
#: Numbers of torch that are free, and such that no user of a method sets: any value is meaningful.
FREE = {
    *("beta2_decay", "d", "etas", "step_sizes", "tolerance_grad", "tolerance_change"),
    *("ns_coefficients", "base_momentum", "max_momentum"),
}


def default_of(target: str, name: str) -> Any:
    module, _, cls = target.rpartition(".")
    located = getattr(SCHEDULES if module.endswith("lr_scheduler") else torch.optim, cls)
    return inspect.signature(located).parameters[name].default


@pytest.mark.parametrize("target", CLASSES)
def test_torchs_own_defaults_are_within_the_limits(target: str) -> None:
    if target in UNUSABLE:
        return
    parameters, _ = parameters_of(target)
    node = {"_target_": target}
    for name in parameters:
        default = default_of(target, name)
        if default is not inspect.Parameter.empty:
            node[name] = list(default) if isinstance(default, tuple) else default
    if target.endswith("ReduceLROnPlateau"):  # its default is the wrong one here, see below
        node["mode"] = "max"
    assert find_limit_problems("optimizer", node, ()) == []


@pytest.mark.parametrize("target", CLASSES)
def test_every_number_of_torch_has_a_limit(target: str) -> None:
    parameters, _ = parameters_of(target)
    package = "torch.optim.lr_scheduler" if "lr_scheduler" in target else "torch.optim"
    for name, parameter in parameters.items():
        is_number = any(word in str(parameter.hint) for word in ("float", "int"))
        if is_number and "Callable" not in str(parameter.hint) and name not in ("params", *FREE):
            assert name in LIMITS[package], f"{target}.{name}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "abc", None, [0.1], True])
def test_no_class_of_torch_takes_such_a_learning_rate(value: object) -> None:
    node = {"_target_": "torch.optim.Adagrad", "_partial_": True, "lr": value}
    problems = find_signature_problems({"optimizer": node})
    if value == math.inf:  # refused as not finite, with every other value of the config
        return
    assert len(problems) == 1
    assert problems[0].startswith("optimizer.lr must be a number")


def test_the_configs_of_the_package_are_within_the_limits() -> None:
    import yaml

    for group in ("encoder", "fusion", "method", "recipe", "launcher"):
        for path in options(search_path(None), group).values():
            for key, node in targets_of(yaml.safe_load(path.read_text()) or {}):
                plain = {k: v for k, v in node.items() if "${" not in str(v)}
                assert find_limit_problems(key, plain, ()) == [], path


@pytest.mark.parametrize(
    ("task", "right", "wrong", "words"),
    [
        ("classification", "max", "min", "the validation accuracy, which should rise"),
        ("multilabel", "max", "min", "the validation micro f1, which should rise"),
        ("regression", "min", "max", "the validation mae, which should fall"),
    ],
)
def test_the_schedule_that_follows_a_metric_must_expect_its_direction(
    task: str, right: str, wrong: str, words: str
) -> None:
    node = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True}
    tree = plan(["data=synthetic", "method=concat"])[0].config
    problems = lambda **mode: find_task_problems({**tree, "scheduler": {**node, **mode}}, task, "")  # noqa: E731
    (problem,) = problems(mode=wrong)
    assert problem == f"scheduler.mode must be {right}: the schedule follows {words}"
    assert problems(mode=right) == []
    assert (problems() == []) == (right == "min")  # torch's default


def test_chunks_of_a_batch_are_not_more_than_its_samples() -> None:
    plan(["data=synthetic", "data.batch_size=4", "trainer.accumulate=4"])
    with pytest.raises(ConfigError, match=r"accumulate=5 is more than data\.batch_size=4"):
        plan(["data=synthetic", "data.batch_size=4", "trainer.accumulate=5"])


def test_a_module_that_was_mended_is_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mended.yaml").write_text("_target_: mended_code.Mended\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = {"config_dir": tmp_path, "allowed": ["mended_code"], "checks_signatures": True}
    (tmp_path / "mended_code.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"ZeroDivisionError.*mended\.yaml"):
        plan(["data=synthetic", "method=mended"], **options)
    (tmp_path / "mended_code.py").write_text("class Mended: ...  # no longer an error\n")
    with pytest.raises(ConfigError, match=r"^(?!.*ZeroDivision).*fusion is missing"):
        plan(["data=synthetic", "method=mended"], **options)
