"""Jobs: configs with an identity and a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mla_lightning.config.naming import run_dir_of
from mla_lightning.config.plan import Faults, plan
from mla_lightning.config.targets import instantiate, locate
from mla_lightning.errors import ConfigError, near
from mla_lightning.identity import identity_of


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        config: The resolved config as plain containers.
        overrides: What follows ``mla train`` to run this job alone.
        run_dir: Its folder, a function of config, data and code.
        title: Its name for people.
        identity: Hash of config, data and code; two jobs with one identity are one job.
        distinguishes: Overrides that set the job apart from others of its data and method, by key.
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    run_dir: Path
    title: str
    identity: str
    distinguishes: dict[str, Any] = field(default_factory=dict)


def compose_jobs(
    overrides: Sequence[str],
    multirun: bool = False,
    *,
    config_dir: Path | None = None,
    allowed: Sequence[str] = (),
) -> list[Job]:
    """Compose, check and identify the jobs of a command line, before any of them starts.

    Args:
        overrides: Hydra overrides.
        multirun: Run the product of all axes.
        config_dir: A user's own folder of groups, None for none.
        allowed: Packages of the user that configs may name classes of.

    Returns:
        The jobs, in the order of the axes.

    Raises:
        ConfigError: With all faults, one a line.
        DataError: If data are missing.
    """
    known: dict[str, tuple[str, tuple[str, ...]]] = {}
    faults = Faults()
    jobs = []
    for planned in plan(overrides, multirun, config_dir=config_dir, allowed=allowed, binds=True):
        config = planned.config
        parts = ("data", "seed", "modalities", "encoder", "method")
        text = json.dumps([config[part] for part in parts])
        if text not in known:
            known[text] = _look_at_data(config)
        fingerprint, wrong = known[text]
        faults.add(" ".join(planned.overrides), wrong)
        identity = identity_of(config, fingerprint)
        jobs.append(
            Job(
                config=config,
                overrides=planned.overrides,
                run_dir=run_dir_of(config, planned.slug, identity),
                title=planned.title,
                identity=identity,
                distinguishes=planned.distinguishes,
            )
        )
    faults.raise_all()
    return jobs


def _look_at_data(config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Build a config's data module, which reads nothing yet.

    Returns:
        The data's fingerprint, and what of the config does not fit to the data.
    """
    try:
        given = {"seed": config["seed"], "modalities": config["modalities"]}
        if config["missing"]:
            given["missing"] = instantiate(config["missing"])
        data = instantiate(config["data"], **given)
    except ConfigError as error:
        return "", (str(error),)
    encoders = config["encoder"] or data.usual_encoders()
    wrong = [
        f"encoder has no entry for {name!r} of {data.name}.{near(name, encoders)} "
        f"It has: {', '.join(encoders)}. See `mla list encoders`."
        for name in data.modalities
        if name not in encoders
    ]
    wrong += [
        f"encoder.{name}: {data.name} has no such modality.{near(name, data.all_modalities)} "
        f"It has: {', '.join(data.all_modalities)}."
        for name in encoders
        if name not in data.all_modalities
    ]
    target = config["method"]["_target_"]
    least = getattr(locate(target), "min_modalities", 1)
    if len(data.modalities) < least:
        wrong.append(
            f"{target.rpartition('.')[2]} needs at least {least} modalities, got "
            f"{list(data.modalities)}. Use method=unimodal to train one modality alone."
        )
    return ("" if wrong else data.fingerprint), tuple(wrong)
