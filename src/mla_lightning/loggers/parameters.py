"""What every logger records of a run before its metrics: name, config and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.config.secrets import is_secret_key, mask_secrets
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.reader import RunFiles

#: Before the keys of what ``provenance.json`` records.
PROVENANCE = "provenance"
#: Keys of ``provenance.json`` that loggers record. The hashes of all modules stay in the file.
RECORDED = (
    *("identity", "code", "data_fingerprint", "git_commit", "git_dirty", "versions", "python"),
    *("platform", "command"),
)


def run_name(config: RunConfig) -> str:
    """Return the name of a run in tracking services.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla", "ablation=no_df", "seed=3"])
        >>> run_name(job.config)
        'synthetic mla no_df seed=3'
    """
    choices = config.choices
    variant = choices.get("ablation", "none")
    parts = [choices.get("data"), choices["method"], variant if variant != "none" else None]
    return " ".join([*filter(None, parts), f"seed={config.seed}"])


def parameters_of(config: RunConfig, run_dir: Path) -> dict[str, Any]:
    """Return what every logger records of a run before its metrics.

    Args:
        config: The resolved config.
        run_dir: The run folder.

    Returns:
        Dotted key -> value: the config, and what ``provenance.json`` says of code, data, versions
        and command under ``provenance.``; secrets are replaced.

    Example:
        >>> run = mla.train("data=synthetic", "method=mla", "trainer.max_epochs=1", folder=tmp)
        >>> parameters = parameters_of(run.config, run.folder)
        >>> parameters["choices.method"], parameters["provenance.command"][:9]
        ('mla', 'mla train')
        >>> parameters["provenance.identity"] == run.result.identity
        True
    """
    return config_without_secrets({**config.tree, PROVENANCE: recorded_provenance(run_dir)})


def recorded_provenance(run_dir: Path) -> dict[str, Any]:
    """Return the part of a run's ``provenance.json`` that loggers record.

    Args:
        run_dir: The run folder.

    Returns:
        Keys as in the file; empty if the run has none. Of the code, the hash of all modules.

    Example:
        >>> recorded_provenance(tmp)
        {}
    """
    content = RunFiles(run_dir).provenance
    kept = {key: content[key] for key in RECORDED if key in content}
    if isinstance(code := kept.get("code"), Mapping):
        kept["code"] = {"hash": code.get("hash")}
    return kept


def config_without_secrets(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config by dotted keys; secrets, which are errors already, are replaced here, too.

    Example:
        >>> config_without_secrets({"optimizer": {"lr": 0.1}, "hub": {"api_key": "abc"}})
        {'optimizer.lr': 0.1, 'hub.api_key': '***'}
    """
    values = {}
    for key, value in flatten(tree):
        values[key] = mask_secrets(value) if isinstance(value, str) else value
        if is_secret_key(key):
            values[key] = "***"
    return values


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping with their dotted keys.

    Args:
        node: Plain containers.
        prefix: Text before each key.

    Yields:
        Dotted key and value; empty mappings are left out.

    Example:
        >>> dict(flatten({"val": {"audio": {"acc": 0.5}}, "test": {}}, "result."))
        {'result.val.audio.acc': 0.5}
    """
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
