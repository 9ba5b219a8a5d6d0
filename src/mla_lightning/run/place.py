"""The data of a finished run, found again from any folder and after they were moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning.config.jobs import data_of_config
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.paths import command
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.reader import RunFiles

#: Key of the place in ``provenance.json``.
PLACE = "place"


def place_of(run_dir: Path) -> dict[str, str]:
    """Return where a command runs, to which the relative paths of its config belong.

    Args:
        run_dir: The run folder of its job.

    Returns:
        ``cwd``, the current folder, and ``cwd_from_run``, its path from the run folder, which stays
        valid if both are moved together.

    Example:
        >>> place = place_of(Path("runs/train/a"))
        >>> Path(place["cwd"]) == Path.cwd(), place["cwd_from_run"]
        (True, '../../..')
    """
    cwd = Path.cwd()
    return {"cwd": str(cwd), "cwd_from_run": os.path.relpath(cwd, run_dir.absolute())}


def read_in_place(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config node of data whose rows are read where they are, not from a copy.

    A copy is for training, on the machine that trains.

    Example:
        >>> read_in_place({"path": "data/my", "scratch": "/scratch"}), read_in_place({"names": "a"})
        ({'path': 'data/my', 'scratch': None}, {'names': 'a'})
    """
    return {key: None if key == "scratch" else value for key, value in node.items()}


def data_of_run(
    run: RunFiles, path: Path | str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[RunConfig, MultimodalDataModule]:
    """Find the data of a run, and check that they are those that it was trained on.

    A relative path of a run belongs to the folder in which it was trained. It is looked up in the
    current folder, in that folder, and in the folder of the same position relative to the run.

    Args:
        run: The files of the run.
        path: Folder of its prepared store, if the store was moved; None to find it.
        options: Other options of the data that replace the run's; the data are not compared then,
            since most options change them.

    Returns:
        The run's config with the paths that were found, and its data module before ``setup``.

    Raises:
        ConfigError: If a path is given, and the run's data are no prepared store.
        DataError: If the data are not found, or are other data than the run was trained on.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> data_of_run(RunFiles(run.folder))[1].name
        'synthetic'
    """
    config = run.config
    node: dict[str, Any] = {**read_in_place(config.data), **(options or {})}
    if path is not None and "path" not in node:
        raise ConfigError(
            f"data.path={path} has no effect: the data of {run.folder}, "
            f"{config.choices.get('data')}, are no prepared store"
        )
    recorded = node.get("path")
    paths: list[Any] = [str(path)] if path is not None else _places(run, recorded)
    tree = {**config.tree, "missing": _located_masks(run, config.tree.get("missing"))}
    expected = "" if options else str(run.provenance.get("data_fingerprint") or "")
    problems: list[str] = []
    for place in paths or [None]:
        candidate = {**tree, "data": {**node, "path": place} if place is not None else node}
        try:
            data = data_of_config(candidate)
        except DataError as error:
            problems.append(str(error))
            continue
        if not expected or data.fingerprint == expected:
            return RunConfig.from_tree(candidate), data
        what = place if place is not None else data.name
        problems.insert(
            0,
            f"{what} holds other data than {run.folder} was trained on: SHA-256 "
            f"{data.fingerprint}, not {expected}",
        )
    hint = command("mla", "eval", run.folder, "data.path=DIR") if recorded is not None else ""
    raise DataError(problems[0] + (f". If the data were moved: {hint}" if hint else ""))


def _located_masks(run: RunFiles, missing: Any) -> Any:
    """Return the node ``missing`` with the path of the file of masks that exists."""
    if not isinstance(missing, Mapping) or not missing.get("manifest"):
        return missing
    paths = _places(run, missing["manifest"])
    return {**missing, "manifest": next((p for p in paths if Path(p).is_file()), paths[0])}


def _places(run: RunFiles, path: Any) -> list[str]:
    """Return the paths that a path of a run's config can stand for, each once."""
    if not isinstance(path, str):
        return []
    if Path(path).expanduser().is_absolute():
        return [path]
    place = run.provenance.get(PLACE) or {}
    paths = [path]
    if isinstance(cwd := place.get("cwd"), str):
        paths.append(str(Path(cwd, path)))
    if isinstance(relative := place.get("cwd_from_run"), str):
        paths.append(os.path.normpath(run.folder.absolute() / relative / path))
    return list({str(Path(p).absolute()): p for p in reversed(paths)}.values())[::-1]
