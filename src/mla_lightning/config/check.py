"""Check a composed config without importing any class that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mla_lightning.config.secrets import find_secrets
from mla_lightning.config.settings import INSTEAD, NODES, SETTINGS
from mla_lightning.config.targets import TARGET, forbidden
from mla_lightning.config.values import flatten
from mla_lightning.errors import near
from mla_lightning.run_folder.schema import UNRESOLVED, describe, fits, spell


def faults_of(config: Mapping[str, Any]) -> list[str]:
    """Check a config as far as plain data allow.

    Args:
        config: The resolved config, without the nodes whose choice is unknown.

    Returns:
        One fault each for: an unknown or missing setting, a wrong type or value, a target that is
        not allowed, a secret, a name that leaves the output folder, an unknown modality.
    """
    faults = find_secrets({k: v for k, v in config.items() if k != "choices"})
    faults += _setting_faults(config)
    faults += forbidden(config)
    for key in ("data", "method", "optimizer"):
        if key in config and not (isinstance(config[key], Mapping) and TARGET in config[key]):
            faults.append(f"{key} names no class: it needs {TARGET}")
    faults += _path_faults(config)
    if "modalities" in config and "encoder" in config:
        faults += _modality_faults(config["modalities"], config["encoder"])
    return faults


def _setting_faults(config: Mapping[str, Any]) -> list[str]:
    faults = []
    given = {
        key: value
        for key, value in flatten(config)
        if key.split(".")[0] not in NODES and not key.startswith(("choices.", "tuned_lr."))
    }
    for key, value in given.items():
        if key in INSTEAD:
            faults.append(f"{key} is no setting: {INSTEAD[key]}")
        elif key not in SETTINGS:
            faults.append(f"Unknown key {key!r}.{near(key, SETTINGS)}")
        elif value == "???":
            faults.append(f"{key} has no value: give one with {key}=...")
        elif not fits(value, SETTINGS[key]):
            faults.append(f"{key} must be {describe(SETTINGS[key])}, got {spell(value)}")
    faults += [f"{key} is missing" for key in SETTINGS if key not in given]
    return faults


def _path_faults(config: Mapping[str, Any]) -> list[str]:
    faults = []
    for key, value in (
        ("name", config.get("name")),
        ("run_dir", config.get("run_dir")),
        ("paths.output_dir", (config.get("paths") or {}).get("output_dir")),
        ("paths.data_dir", (config.get("paths") or {}).get("data_dir")),
    ):
        if not isinstance(value, str) or value == UNRESOLVED:
            continue
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            faults.append(f"{key}={value!r} holds a control character")
        elif not value.strip():
            faults.append(f"{key} must not be empty")
        elif key == "name" and (
            value.startswith(("/", "~", "\\")) or ".." in value.replace("\\", "/").split("/")
        ):
            faults.append(
                f"name={value!r} would leave the output folder; it must be relative, without '..'. "
                "Use paths.output_dir to write elsewhere."
            )
    return faults


def _modality_faults(modalities: Any, encoder: Any) -> list[str]:
    if not isinstance(encoder, Mapping) or not isinstance(modalities, list):
        return []
    if not encoder:  # the data choose them, and know their modalities
        return []
    faults = [
        f"modalities: unknown modality {name!r}.{near(str(name), encoder)} "
        f"Known: {', '.join(encoder)}."
        for name in modalities
        if name not in encoder
    ]
    if not modalities:
        faults.append("modalities must name at least one modality, or be null for all")
    if len(set(map(str, modalities))) < len(modalities):
        faults.append(f"modalities={modalities} names one twice")
    return faults
