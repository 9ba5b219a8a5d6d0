"""Signatures and attributes that are read from the source text, against those of the classes."""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import mla_lightning
from mla_lightning.config import schedule
from mla_lightning.config.annotations import Unreadable
from mla_lightning.config.bind import Parameter, _combined, imported_constructors, parameters_of
from mla_lightning.config.signatures import (
    SourceClass,
    attribute_of,
    constructors_of,
    read_class,
)
from mla_lightning.config.targets import locate, targets_allowed, targets_of
from mla_lightning.config.task import rules_of_method
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.schema import describe_type, fits_type
from mla_lightning.run_folder.tasks import MethodRules

CONF = Path(mla_lightning.__file__).parents[2] / "conf"
NOT_COMPOSED = ("mla_lightning.report.",)  # functions of reports, which are no part of a job


def targets_of_conf() -> set[str]:
    """List the classes and functions that the YAMLs of the package name."""
    contents = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in CONF.rglob("*.yaml")]
    targets = {str(node["_target_"]) for content in contents for _, node in targets_of(content)}
    return {name for name in targets if not name.startswith(NOT_COMPOSED)}


def public_targets() -> set[str]:
    """List the public classes of the package that users may name in YAMLs of their own."""
    packages = ("encoders", "fusion", "methods", "inputs", "metrics", "tasks")
    modules = {name: importlib.import_module(f"mla_lightning.{name}") for name in packages}
    return {
        f"mla_lightning.{package}.{name}"
        for package, module in modules.items()
        for name in module.__all__
        if inspect.isclass(getattr(module, name)) and not inspect.isabstract(getattr(module, name))
    } - {"mla_lightning.encoders.Encoder"}  # its constructor is that of torch.nn.Module


def targets_of_torch() -> set[str]:
    """List the optimisers and schedules of torch."""
    return {
        f"{module.__name__}.{name}"
        for module in (torch.optim, torch.optim.lr_scheduler)
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__.startswith("torch.optim")
        and not name.startswith("_")
    }


TARGETS = sorted(targets_of_conf() | public_targets() | targets_of_torch())
#: Values that tell types apart: of each kind, in containers, and on both sides of bounds.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2.5, -0.5, "a", "", "none", "drop", "crop_flip", "last"),
    *([], [1], [0.5], ["a"], [1, 2], [0.5, "a"], [1, 2, 3], [[1]], [None]),
    *({}, {"a": 1}, {"a": 0.5}, {"a": "b"}, {"a": [1]}, {"_target_": "x"}, float("inf")),
]


def accepted(parameter: Parameter) -> tuple[Any, ...]:
    """Return all that messages and checks take from a parameter."""
    fits = [fits_type(value, parameter.hint) for value in VALUES]
    return parameter.is_required, describe_type(parameter.hint), fits


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_source_says_is_what_the_class_says(target: str) -> None:
    imported, read = (
        _combined(constructors(target)) for constructors in (imported_constructors, constructors_of)
    )
    assert [*read[0]] == [*imported[0]]
    assert read[1] == imported[1]
    for name, parameter in imported[0].items():
        assert accepted(read[0][name]) == accepted(parameter), name


@pytest.mark.parametrize("target", sorted(targets_of_conf()))
def test_types_of_all_settings_are_known_at_run_time(target: str) -> None:
    for function in filter(inspect.isfunction, functions_of(locate(target))):
        assert typing.get_type_hints(function).keys() == function.__annotations__.keys()


def functions_of(located: Any) -> list[Any]:
    """List a function, or the constructors that are defined in this package."""
    classes = located.__mro__ if inspect.isclass(located) else ()
    constructors = [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)]
    own = [f for f in constructors if getattr(f, "__module__", "").startswith("mla_lightning")]
    return own if classes else [located]


def test_the_oracle_covers_every_class_that_is_composed() -> None:
    assert len(targets_of_conf()) > 60
    assert {"mla_lightning.methods.mla.MLA", "torch.optim.SGD"} <= targets_of_conf()
    assert len(targets_of_torch()) > 20


METHODS = sorted(name for name in targets_of_conf() if ".methods." in name)


@pytest.mark.parametrize("target", METHODS)
def test_attributes_of_methods_are_those_of_the_class(target: str) -> None:
    method = locate(target)
    for name in ("takes_steps", "selects_settings", "needs_num_train", "takes_chunks"):
        assert attribute_of(target, name, None) is getattr(method, name)
        assert read_class(target).attribute(name) is getattr(method, name)
    assert rules_of_method(target) == MethodRules.of(method)


@pytest.mark.parametrize("name", ["classification", "regression", "multilabel"])
def test_the_name_of_a_task_is_read(name: str) -> None:
    target = f"mla_lightning.tasks.{name}.{name.title()}"
    assert read_class(target).attribute("name") == locate(target).name == name


def test_the_order_of_look_up_is_that_of_python() -> None:
    names = ["methods.mla_released.MLAReleased", "fusion.latent_codes.LatentCodes"]
    names += ["data.prepared.Prepared", "data.synthetic.Synthetic", "encoders.hf_text.HFText"]
    for name in names:
        target = f"mla_lightning.{name}"
        own = [c.target for c in read_class(target).mro if isinstance(c, SourceClass)]
        mro = [c for c in locate(target).__mro__ if c.__module__.startswith("mla_lightning")]
        assert own == [f"{c.__module__}.{c.__name__}" for c in mro]


def test_a_class_is_one_object_by_any_name() -> None:
    assert read_class("mla_lightning.fusion.Sum") is read_class("mla_lightning.fusion.sum.Sum")


# --------------------------------------------------------------- what is not read is imported

OWN = """
from typing import TYPE_CHECKING, Literal
from mla_lightning.methods.mla import MLA

class Mine(MLA):
    takes_steps = len("no") == 0

    def __init__(self, level: Literal[1, 2] = 1, **parts):
        super().__init__(**parts)

    @classmethod
    def check_task(cls, task, *, has_class_weights=False):
        pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_signature.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with targets_allowed(["own_signature"]):
        yield "own_signature.Mine"


def test_classes_of_users_are_imported(own: str) -> None:
    with pytest.raises(Unreadable):
        read_class(own)
    assert list(parameters_of(own)[0])[:2] == ["level", "hgm"]
    assert attribute_of(own, "takes_steps", True) is False
    assert rules_of_method(own) is locate(own)


@pytest.mark.parametrize("name", ["methods.mla.MLAA", "methods.mlaa.MLA", "cli.main.sys.exit"])
def test_unknown_classes_are_the_error_of_the_import(name: str) -> None:
    with pytest.raises(Unreadable):
        list(constructors_of(f"mla_lightning.{name}"))
    with pytest.raises(ConfigError) as error:
        locate(f"mla_lightning.{name}")
    with pytest.raises(ConfigError) as same:
        parameters_of(f"mla_lightning.{name}")
    assert str(same.value) == str(error.value)


# --------------------------------------------------------------- rates that are computed

SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.3, "momentum": 0.9}
ADAM = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.005, "weight_decay": 0.05}
SCHEDULES = [
    None,
    *({"_target_": "StepLR", "step_size": size} for size in (1, 3, 7, 50)),
    *({"_target_": "StepLR", "step_size": 4, "gamma": gamma} for gamma in (0.5, 1.0, 1)),
    *(
        {
            "_target_": "LambdaLR",
            "lr_lambda": {
                "_target_": "mla_lightning.functional.schedule.warmup_cosine",
                "_partial_": True,
                "num_epochs": num,
                "warmup": warmup,
            },
        }
        for num, warmup in ((20, 0.1), (7, 0.5), (1, 0.0))
    ),
]


@pytest.mark.parametrize("epochs", [1, 2, 20])
@pytest.mark.parametrize("node", SCHEDULES)
@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_computed_rates_are_those_of_torch(
    optimizer: dict, node: dict | None, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "torch.optim.lr_scheduler."
    scheduler = node and {**node, "_partial_": True, "_target_": f"{name}{node['_target_']}"}
    computed = schedule._computed_rates(optimizer, scheduler, epochs)
    assert computed is not None
    monkeypatch.setattr(schedule, "_computed_rates", lambda *_: None)
    tried = schedule._tried_rates.__wrapped__(json.dumps([optimizer, scheduler]), epochs)
    assert computed == tried  # every bit


@pytest.mark.parametrize(
    ("change", "node"),
    [
        ({"nesterov": True}, None),
        ({"lr": -0.1}, None),
        ({"_target_": "torch.optim.RMSprop"}, None),
        ({}, {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 0}),
        ({}, {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "last_epoch": 3}),
        ({}, {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9}),
        ({}, {"_target_": "mine.LambdaLR", "lr_lambda": {"_target_": "x", "_partial_": True}}),
    ],
)
def test_other_settings_are_tried_with_torch(change: dict, node: dict | None) -> None:
    assert schedule._computed_rates({**SGD, **change}, node, 9) is None
