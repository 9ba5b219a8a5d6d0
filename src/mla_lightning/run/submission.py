"""Checks of jobs before they are submitted or started, which need no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from mla_lightning.config import Job
from mla_lightning.config.jobs import COMPUTING_NODES, data_of_config, describe_data
from mla_lightning.config.signatures import attribute_of
from mla_lightning.config.targets import TARGET
from mla_lightning.data.mask_files import read_masks
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder import RESULT
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.schema import format_value


def check_before_submission(
    jobs: Iterable[Job], further: Callable[[RunConfig], Iterable[str]] = lambda _: ()
) -> None:
    """Check that run folders can be written, that samples have labels, and other facts of files.

    Args:
        jobs: The jobs, none of which has started.
        further: Config -> further problems, called once for jobs that differ only in what changes
            neither data nor model; empty texts are no problems.

    Raises:
        ConfigError: With all problems, one per line. Nothing has been written then.
        DataError: If the samples have no labels, or ``missing.manifest`` is no file of masks.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> _ = (tmp / "file").write_text("")
        >>> words = ["data=synthetic", f"paths.output_dir={tmp}/file"]
        >>> check_before_submission(compose_jobs(words))
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ... cannot be created: ...file is a file. Choose ...
    """
    problems: dict[str, None] = {}
    tried: set[str] = set()
    nodes = [key for key in COMPUTING_NODES if key not in ("optimizer", "scheduler", "metrics")]
    nodes += ["trainer", "choices", "modalities", "loss"]
    for job in jobs:
        if (job.run_dir / RESULT).exists() and not job.config.overwrite:
            continue  # a finished job does not run
        text = json.dumps([job.config.tree[key] for key in nodes])
        of_job = [_folder_problem(job.run_dir), _rate_problem(job), _umap_problem(job.config)]
        if text not in tried:
            tried.add(text)
            _check_data(job.config)
            of_job += [_package_problem(job.config), *further(job.config)]
        problems |= dict.fromkeys(filter(None, of_job))
    if len(problems) == 1:
        raise ConfigError(*problems)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} problems:\n{listed}")


def _folder_problem(run_dir: Path) -> str:
    """Return why a run folder cannot be created; one that exists is checked by its job."""
    advice = "Choose another place: paths.output_dir=FOLDER"
    try:
        place = run_dir.resolve()
        if place == Path.cwd() or place in Path.cwd().parents:
            return f"run_dir={run_dir} is the current folder or above it. Choose another."
        if run_dir.is_dir():
            return ""
        parent = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    except OSError as error:
        return f"{run_dir} cannot be created: {error.strerror}. {advice}"
    if not parent.is_dir():
        return f"{run_dir} cannot be created: {parent} is a file. {advice}"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"{run_dir} cannot be created: {parent} cannot be written to. {advice}"
    return ""


def _package_problem(config: RunConfig) -> str:
    """Return a message if an encoder needs a package that is not installed."""
    for name, node in (config.encoder or {}).items():
        package = attribute_of(str(node[TARGET]), "package", "")
        if package and find_spec(package) is None:
            return (
                f"encoder.{name} needs {package}, which is not installed: "
                f"pip install 'mla_lightning[{package}]'"
            )
    return ""


def _umap_problem(config: RunConfig) -> str:
    """Return a message if the diagnostics need UMAP and it is not installed."""
    if config.diagnostics != "umap" or find_spec("umap") is not None:
        return ""
    return (
        "diagnostics=umap needs UMAP: pip install 'mla_lightning[umap]'. Without it: "
        "diagnostics=full, which draws a t-SNE."
    )


def _rate_problem(job: Job) -> str:
    """Return a message if pretrained weights would be trained at a rate for small networks.

    A rate that the user chose is none, and neither is a search for one.
    """
    config = job.config
    is_chosen = any(word.startswith("optimizer") for word in job.overrides)
    is_search = "experiment=tune" in job.overrides
    if config.tree["choices"].get("recipe") != "small" or is_chosen or is_search:
        return ""
    for name, node in (config.encoder or {}).items():
        key = next((key for key in ("checkpoint", "pretrained") if node.get(key)), None)
        if key is None or node.get("tune") == "none":
            continue
        frozen = f", or encoder.{name}.tune=none to train the rest alone" if "tune" in node else ""
        return (
            f"encoder.{name} starts from pretrained weights (encoder.{name}.{key}="
            f"{format_value(node[key])}), and the rate {config.optimizer['lr']:g} of recipe=small "
            "is for small networks from scratch: it would destroy them. Write optimizer.lr=1e-4, "
            f"or recipe=paper (SGD 1e-3){frozen}."
        )
    return ""


def _check_data(config: RunConfig) -> None:
    """Check that the samples have labels, and that a file of masks can be read."""
    if not describe_data(config.tree).num_classes:
        data_of_config(config.tree).setup()  # raises the error of samples without labels
    if config.missing and (manifest := config.missing.get("manifest")):
        read_masks(Path(manifest).expanduser(), {})
