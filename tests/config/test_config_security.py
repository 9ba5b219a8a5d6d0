"""Configs may come from untrusted sources: they name no foreign code and hold no secret."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from mla_lightning.config import instantiate, load_config, plan
from mla_lightning.config.secrets import is_secret_key, mask_secrets
from mla_lightning.config.targets import is_allowed, locate
from mla_lightning.errors import ConfigError

FOREIGN = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "torch.load",
    "torch.hub.load",
    "torch.optimizer.Evil",
    "joblib.load",
    "numpy.load",
    "pathlib.Path.write_text",
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "mla_lightning_evil.Thing",
    "mla_lightning..os.system",
    "",
    "mla_lightning.methods.mla.MLA; import os",
]
#: Allowed by their prefix, but not classes of the package: imports and functions of a module.
NOT_CLASSES = [
    "mla_lightning.cli.main.os",
    "mla_lightning.cli.main.os.system",
    "mla_lightning.run_folder.write_text",
    "mla_lightning.run_folder.Path",
    "torch.nn.modules.module.torch",
    "torch.nn.functional.relu",
]


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: bad,
        lambda bad: {"_target_": "torch.nn.Sequential", "inner": bad},
        lambda bad: {"_target_": "torch.nn.Sequential", "inner": [{"deep": [bad]}]},
        lambda bad: {"_target_": "torch.nn.Linear", "_partial_": True, "in_features": bad},
        lambda bad: {**bad, "_partial_": True},
    ],
    ids=["plain", "nested", "in lists", "in a partial", "partial"],
)
def test_a_foreign_target_is_refused_before_any_import(
    target: str, wrap: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr("mla_lightning.config.targets.importlib.import_module", refuse)
    with pytest.raises(ConfigError, match="not allowed, and nothing was imported"):
        instantiate(wrap({"_target_": target, "marker": "x"}))  # type: ignore[operator]


@pytest.mark.parametrize("target", NOT_CLASSES)
def test_a_target_that_is_not_a_class_of_the_package_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        locate(target)


def test_a_foreign_target_on_the_command_line_is_refused_before_any_import(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\nclass Data: pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        for override in (
            "data._target_=evil_module.Data",
            "encoder.image._target_=evil_module.Data",
            "method.order=[{_target_: evil_module.Data}]",
            "+method.x._target_=evil_module.Data",
            "scheduler._target_=evil_module.Data",
        ):
            with pytest.raises(ConfigError, match="nothing was imported"):
                plan([override], checks_signatures=True)
        assert not marker.exists()
    finally:
        sys.path.remove(str(tmp_path))


def test_a_foreign_target_through_interpolation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\._target_='os\.system' is not allowed"):
        plan(["name=os.system", "data._target_=${name}"], checks_signatures=True)


def test_a_foreign_target_in_a_stored_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"list": [{"_target_": "os.system"}]}}))
    with pytest.raises(ConfigError, match=r"data\.list\.0\._target_='os\.system' is not allowed"):
        load_config(path)


def test_a_config_cannot_extend_what_is_allowed() -> None:
    for override in ("+allow_target=os", "+allowed=[os]", "+_ALLOWED=[os]"):
        with pytest.raises(ConfigError, match="nothing reads"):
            plan([override, "data._target_=os.system"])
    assert not is_allowed("os.system")


def test_instantiate_refuses_what_training_supplies() -> None:
    node = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    with pytest.raises(ConfigError, match="out_features is not a setting"):
        instantiate(node, out_features=2)


def test_instantiate_builds_nested_and_partial_objects() -> None:
    linear = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    assert instantiate(linear).weight.shape == (3, 2)
    partial = instantiate({**linear, "_partial_": True, "bias": False})
    assert partial().bias is None
    lists = instantiate({"_target_": "torch.nn.ModuleList", "modules": [linear, linear]})
    assert len(lists) == 2


# ---------------------------------------------------------------------- secrets

MARKER = "s3cr3t-marker-value"


@pytest.mark.parametrize(
    "override",
    [
        f"logger.wandb.api_key={MARKER}",
        f"+wandb_api_key={MARKER}",
        f"+data.token={MARKER}",
        f"++my.password={MARKER}",
        f"logger.secret=[{MARKER}",
    ],
)
def test_a_secret_looking_override_is_refused_without_its_value(override: str) -> None:
    with pytest.raises(ConfigError, match="looks like a secret") as caught:
        plan([override, "sed=1"])
    assert MARKER not in str(caught.value)


def test_the_value_of_a_secret_variable_is_refused_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", MARKER)
    for overrides in ([f"name={MARKER}"], [f"name=x-{MARKER}", "sed=1"], [f"+foo={MARKER}"]):
        with pytest.raises(ConfigError, match="is a secret and is rejected") as caught:
            plan(overrides)
        assert MARKER not in str(caught.value)


def test_a_secret_in_a_yaml_is_refused_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", MARKER)
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    for content, message in (
        (f"name: {MARKER}", "The value of name is a secret"),
        ("data: {api_key: abc}", "data.api_key looks like a secret"),
        (f"data: {{root: [x, {MARKER}]}}", "The value of data.root.1 is a secret"),
    ):
        path.write_text(f"# @package _global_\n{content}\n")
        with pytest.raises(ConfigError, match=message) as caught:
            plan(["experiment=mine"], config_dir=tmp_path)
        assert MARKER not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["hf_abcdefghijklmnopqrst", "ghp_0123456789abcdefghij", "https://me:pass@host/x"]
)
def test_well_known_formats_of_access_keys_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="is a secret") as caught:
        plan([f"name='{value}'"])
    assert value not in str(caught.value)
    assert value not in mask_secrets(f"about {value} here")


def test_a_key_that_only_resembles_a_secret_is_accepted() -> None:
    for key in ("data.num_tokens", "encoder.text.tokenizer", "method.key", "data.max_tokens"):
        assert not is_secret_key(key)


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME}",
        "${oc.env:WANDB_API_KEY,none}",
        "${oc.env:${name}}",
        "x/${oc.env:PATH}",
        "${oc.decode:'${oc.env:HOME}'}",
        "${oc.create:{a: 1}}",
        "${${name}:HOME}",
    ],
)
def test_configs_read_no_other_environment_variables(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text(f'# @package _global_\npaths: {{output_dir: "{text}"}}\n')
    with pytest.raises(ConfigError, match="not allowed"):
        plan(["experiment=mine"], config_dir=tmp_path)


def test_allowed_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLA_OUTPUT_DIR", "/tmp/somewhere")
    (job,) = plan(["paths.output_dir=${oc.env:MLA_OUTPUT_DIR}/runs"])
    assert job.config["paths"]["output_dir"] == "/tmp/somewhere/runs"
