"""Checks of a composed config that import none of the classes that it names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mla_lightning.config.secrets import find_secrets, leaves_of
from mla_lightning.config.settings import ADVICE, INSTEAD, NODES, SETTING_TYPES
from mla_lightning.config.targets import TARGET, find_forbidden_targets
from mla_lightning.config.values import flatten
from mla_lightning.errors import near
from mla_lightning.run_folder.columns import RESULTS_COLUMNS
from mla_lightning.run_folder.schema import UNRESOLVED, describe_type, fits_type, format_value


class SectionFacts(NamedTuple):
    """The keys and the problems of one section, the value of a top-level key of a config.

    Attributes:
        settings: Dotted keys of its settings.
        secrets: Messages on secrets.
        wrong_settings: Messages on settings that are unknown, or have a wrong type or value.
        forbidden_targets: Messages on targets that are not allowed.
        not_finite: Messages on nan and inf.

    Example:
        >>> facts_of_section("seed", -1).wrong_settings
        ('seed must be a whole number >= 0, got -1',)
    """

    settings: tuple[str, ...]
    secrets: tuple[str, ...]
    wrong_settings: tuple[str, ...]
    forbidden_targets: tuple[str, ...]
    not_finite: tuple[str, ...]


def facts_of_section(key: str, section: Any) -> SectionFacts:
    """Check one section of a config, whatever the others are.

    Args:
        key: A top-level key.
        section: Its value.

    Example:
        >>> facts_of_section("checkpoint", {"every_n_batches": None, "keep": 2}).settings
        ('checkpoint.every_n_batches', 'checkpoint.keep')
    """
    config = {key: section}
    settings = {
        name: value
        for name, value in flatten(config)
        if name.split(".")[0] not in NODES
        and not name.startswith(("choices.", "tuned_lr.", "tuned."))
    }
    return SectionFacts(
        settings=tuple(settings),
        secrets=tuple(find_secrets(config)) if key != "choices" else (),
        wrong_settings=tuple(_setting_problems(settings)),
        forbidden_targets=tuple(find_forbidden_targets(config)),
        not_finite=tuple(_not_finite_problems(config)),
    )


def find_problems(
    config: Mapping[str, Any],
    facts_of: Callable[[str, Any], SectionFacts] = facts_of_section,
) -> list[str]:
    """Check a config as far as plain data allow.

    Args:
        config: The resolved config, without the nodes whose choice is unknown.
        facts_of: :func:`facts_of_section`, or a function that remembers its results.

    Returns:
        One message for each unknown or missing setting, wrong type or value, target that is not
        allowed, secret, path that leaves the output folder, and unknown modality.

    Example:
        >>> from mla_lightning.config import plan
        >>> config = plan(["data=synthetic"])[0].config
        >>> find_problems({**config, "seed": -1, "modalities": []})
        ['seed must be a whole number >= 0, got -1',
         'modalities must name at least one modality, or be null for all']
    """
    sections = [facts_of(key, section) for key, section in config.items()]
    problems = [message for facts in sections for message in facts.secrets]
    problems += [message for facts in sections for message in facts.wrong_settings]
    settings = {name for facts in sections for name in facts.settings}
    problems += [f"{key} is missing" for key in SETTING_TYPES if key not in settings]
    problems += [message for facts in sections for message in facts.forbidden_targets]
    for key in ("data", "method", "optimizer"):
        if key in config and not (isinstance(config[key], Mapping) and TARGET in config[key]):
            problems.append(f"{key} names no class: it needs {TARGET}")
    problems += _node_problems(config)
    problems += [message for facts in sections for message in facts.not_finite]
    problems += _metric_problems(config.get("metrics"))
    problems += _path_problems(config)
    problems += _relation_problems(config)
    if "modalities" in config and "encoder" in config:
        problems += _modality_problems(config["modalities"], config["encoder"])
    return problems


def _setting_problems(settings: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in settings.items():
        if key in INSTEAD:
            problems.append(f"{key} is not a setting: {INSTEAD[key]}")
        elif key not in SETTING_TYPES:
            problems.append(f"Unknown key {key!r}.{near(key, SETTING_TYPES)}")
        elif value == "???":
            problems.append(f"{key} has no value: set one with {key}=...")
        elif not fits_type(value, SETTING_TYPES[key]):
            expected = describe_type(SETTING_TYPES[key])
            advice = f". {ADVICE[key]}" if key in ADVICE else ""
            problems.append(f"{key} must be {expected}, got {format_value(value)}{advice}")
    return problems


def _node_problems(config: Mapping[str, Any]) -> list[str]:
    """Report what is no class, where a class or null is expected."""
    nodes = {key: config.get(key) for key in ("scheduler", "launcher")}
    fusion = (config.get("method") or {}).get("fusion") if "method" in config else None
    if fusion is not None and not (isinstance(fusion, Mapping) and TARGET in fusion):
        return [f"method.fusion={format_value(fusion)} names no class: write fusion={fusion}"]
    for key in ("encoder", "logger", "callbacks"):
        children = config.get(key)
        if isinstance(children, Mapping):
            nodes |= {f"{key}.{name}": node for name, node in children.items()}
        elif children is not None:
            nodes[key] = children
    return [
        f"{key}={format_value(node)} names no class: it must be null or a mapping with {TARGET}"
        for key, node in nodes.items()
        if node is not None and not (isinstance(node, Mapping) and TARGET in node)
    ]


def _not_finite_problems(config: Mapping[str, Any]) -> list[str]:
    """Report nan and inf, which pass every comparison of a class with a limit or none of them."""
    return [
        f"{key}={value} is not finite: give a finite number"
        for key, value in leaves_of(config, "")
        if isinstance(value, float) and not math.isfinite(value)
    ]


def _relation_problems(config: Mapping[str, Any]) -> list[str]:
    """Report settings that each are valid and cannot be used together."""
    trainer, data = config.get("trainer") or {}, config.get("data") or {}
    chunks, batch_size = trainer.get("accumulate"), data.get("batch_size")
    problems = []
    if type(chunks) is int and type(batch_size) is int and chunks > max(1, batch_size):
        problems.append(
            f"trainer.accumulate={chunks} is more than data.batch_size={batch_size}: a batch of "
            f"{batch_size} samples has at most {batch_size} chunks. Write a smaller number of "
            "chunks."
        )
    problems += _device_problems(trainer)
    problems += _logger_problems(config)
    unusable = _UNUSABLE_PRECISIONS.get(trainer.get("accelerator", ""), ())
    if (precision := trainer.get("precision")) in unusable:
        problems.append(
            f"trainer.precision={precision} is not available on "
            f"trainer.accelerator={trainer['accelerator']}. Use 32-true or bf16-mixed."
        )
    return problems


def _device_problems(trainer: Mapping[str, Any]) -> list[str]:
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if not (type(devices) is int and type(nodes) is int):
        return []
    if devices * nodes == 1 and trainer.get("sync_batchnorm") is False:
        return [
            "trainer.sync_batchnorm=false has no effect on one device. Leave it out, or write "
            "trainer.devices=2 or more."
        ]
    if devices * nodes > 1 and trainer.get("accelerator") == "mps":
        return [
            f"trainer.devices={devices}: trainer.accelerator=mps has one device. Leave "
            "trainer.devices out."
        ]
    return []


def _logger_problems(config: Mapping[str, Any]) -> list[str]:
    """Report artifacts that there will not be."""
    loggers = config.get("logger")
    problems = []
    for name, node in loggers.items() if isinstance(loggers, Mapping) else ():
        asked = [key for key in ("log_model", "log_predictions") if _is_true(node, key)]
        if asked and node.get("mode") == "disabled":
            problems.append(
                f"logger.{name}.{asked[0]}=true has no effect with logger.{name}.mode=disabled. "
                "Leave one of them out."
            )
        elif "log_predictions" in asked and config.get("evaluate_test") is False:
            problems.append(
                f"logger.{name}.log_predictions=true has no effect with evaluate_test=false: they "
                "are those on test. Leave one of them out."
            )
    return problems


def _is_true(node: Any, key: str) -> bool:
    return isinstance(node, Mapping) and node.get(key) is True


#: Accelerator -> precisions that it does not have.
_UNUSABLE_PRECISIONS = {"cpu": ("16-mixed",), "mps": ("64-true",)}


def _metric_problems(metrics: Any) -> list[str]:
    """Return a problem for each metric whose column another quantity has in ``results.csv``."""
    problems = []
    for name, node in (metrics or {}).items() if isinstance(metrics, Mapping) else ():
        is_percent = isinstance(node, Mapping) and bool(node.get("percent"))
        column = f"{name}_percent" if is_percent else str(name)
        if column in RESULTS_COLUMNS:
            problems.append(
                f"metrics.{name}: results.csv has a column {column!r} of another quantity, so no "
                "metric can have this name. Rename its YAML."
            )
    return problems


def _path_problems(config: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in (
        ("name", config.get("name")),
        ("run_dir", config.get("run_dir")),
        ("paths.output_dir", (config.get("paths") or {}).get("output_dir")),
        ("paths.data_dir", (config.get("paths") or {}).get("data_dir")),
    ):
        if not isinstance(value, str) or value == UNRESOLVED:
            continue
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            problems.append(f"{key}={value!r} contains a control character")
        elif not value.strip():
            problems.append(f"{key} must not be empty")
        elif key == "name" and (
            value.startswith(("/", "~", "\\")) or ".." in value.replace("\\", "/").split("/")
        ):
            problems.append(
                f"name={value!r} would leave the output folder; it must be relative, without '..'. "
                "Use paths.output_dir to write elsewhere."
            )
    return problems


def _modality_problems(modalities: Any, encoder: Any) -> list[str]:
    if not isinstance(encoder, Mapping) or not isinstance(modalities, list):
        return []
    if not encoder:  # the data set chooses the encoders, and checks the modalities
        return []
    problems = [
        f"modalities: unknown modality {name!r}.{near(str(name), encoder)} "
        f"Known: {', '.join(encoder)}."
        for name in modalities
        if name not in encoder
    ]
    if not modalities:
        problems.append("modalities must name at least one modality, or be null for all")
    if len(set(map(str, modalities))) < len(modalities):
        problems.append(f"modalities={modalities} names a modality twice")
    return problems
