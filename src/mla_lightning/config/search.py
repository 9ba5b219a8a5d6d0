"""The folders of configs, and the groups and options in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mla_lightning.config.yaml_files import check_folder
from mla_lightning.errors import ConfigError, near

#: Group -> its plural, which ``mla list`` accepts, too.
PLURALS = {
    "method": "methods",
    "fusion": "fusions",
    "encoder": "encoders",
    "data": "data",
    "held_out": "held_out",
    "task": "tasks",
    "recipe": "recipes",
    "optimizer": "optimizers",
    "scheduler": "schedulers",
    "search": "searches",
    "ablation": "ablations",
    "missing": "missing",
    "metric": "metrics",
    "report": "reports",
    "panel": "panels",
    "experiment": "experiments",
    "trainer": "trainers",
    "callbacks": "callbacks",
    "logger": "loggers",
    "launcher": "launchers",
    "debug": "debug",
    "paths": "paths",
}
#: Group -> what its options are.
PURPOSES = {
    "method": "training rules: MLA, its baselines and references",
    "fusion": "how features become the logits of all modalities; a method chooses one",
    "encoder": "networks from inputs to features; a data set chooses them",
    "data": "data sets, and any store of your own",
    "held_out": "fractions of training samples that a method holds out",
    "task": "what is predicted: a class, a number or several labels",
    "recipe": "optimiser, schedule, epochs and batch size together; a data set chooses one",
    "optimizer": "optimisers, in place of the recipe's",
    "scheduler": "schedules of the learning rate, in place of the recipe's",
    "search": "ranges of settings that mla tune searches",
    "ablation": "parts of MLA left out",
    "missing": "which modalities are hidden, and how often",
    "metric": "measures of predictions; all are computed",
    "report": "tables and pages that mla report makes",
    "panel": "figures of the page that mla report page makes",
    "experiment": "grids of jobs of the paper and of this package's studies, run with -m",
    "trainer": "device, precision, epochs, threads",
    "callbacks": "what also runs during training: early stopping, averages, profiles",
    "logger": "where metrics also go: TensorBoard, MLflow, Weights & Biases",
    "launcher": "where the jobs of a sweep run: here, on Slurm, on Ray",
    "debug": "short runs that check a setup",
    "paths": "folders of runs and of data",
}


def conf_dir() -> Path:
    """Find the package's own configs.

    Returns:
        ``conf/`` of the repository if the package runs from its source tree, else the copy that was
        installed with the package.

    Raises:
        ConfigError: If neither exists.

    Example:
        >>> (conf_dir() / "method" / "mla.yaml").is_file()
        True
    """
    package = Path(__file__).resolve().parents[1]
    candidates = [package / "conf"]
    if package.parent.name == "src":
        candidates.insert(0, package.parent.parent / "conf")
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        f"No configs in {' or '.join(map(str, candidates))}. Install mla_lightning again."
    )


def search_path(config_dir: Path | None) -> tuple[Path, ...]:
    """Return the folders in which configs are looked up.

    Args:
        config_dir: A user's own folder of groups, None for none.

    Returns:
        The package's folder, then the user's.

    Raises:
        ConfigError: If the user's folder does not exist, holds a file that is no config, or has an
            option that the package has, too: one of the two would be ignored.

    Example:
        >>> [folder.name for folder in search_path(None)]
        ['conf']
    """
    package_folder = conf_dir()
    if config_dir is None:
        return (package_folder,)
    folder = config_dir.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    check_folder(folder)
    repeated = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*.yaml"))
        if (package_folder / path.relative_to(folder)).is_file()
    ]
    if repeated:
        raise ConfigError(
            f"--config-dir {config_dir} repeats {', '.join(repeated)} of mla_lightning, which "
            "would be used instead. Rename these files."
        )
    return (package_folder, folder)


def options(folders: tuple[Path, ...], group: str) -> dict[str, Path]:
    """Return the options of a group.

    Args:
        folders: The folders of configs, see :func:`search_path`.
        group: A group, such as ``method``.

    Returns:
        Option, such as ``mla`` or ``table1/openmoji`` -> its file, sorted by name. A file whose
        name begins with ``_`` is a part of others and no option.

    Example:
        >>> list(options(search_path(None), "ablation"))
        ['no_df', 'no_hgm', 'no_hgm_no_df', 'none']
    """
    files: dict[str, Path] = {}
    for folder in folders:
        for path in (folder / group).rglob("[!_]*.yaml"):
            files[path.relative_to(folder / group).with_suffix("").as_posix()] = path
    return dict(sorted(files.items()))


def name_file(message: str, folders: tuple[Path, ...], choices: Mapping[str, str]) -> str:
    """Add the user's file that a message is about to the message.

    Args:
        message: A message that begins with a dotted key.
        folders: The folders of configs, the package's own first.
        choices: Group -> chosen option.

    Returns:
        The message, with the file if the key comes from an option in a folder of the user.

    Example:
        >>> (tmp / "method").mkdir()
        >>> _ = (tmp / "method" / "mine.yaml").write_text("level: .nan")
        >>> name_file("method.level=nan is not finite", search_path(tmp), {"method": "mine"})
        'method.level=nan is not finite (in ...mine.yaml)'
        >>> name_file("method.alpha=nan is not finite", search_path(tmp), {"method": "mla"})
        'method.alpha=nan is not finite'
    """
    top = re.split(r"[.:= ]", message, maxsplit=1)[0]
    group = top if top in choices or top not in ("optimizer", "scheduler") else "recipe"
    paths = [folder / group / f"{choices.get(group)}.yaml" for folder in folders[1:]]
    path = next((path for path in paths if path.is_file()), None)
    return message if path is None else f"{message} (in {path})"


def groups(folders: tuple[Path, ...]) -> list[str]:
    """Return the names of the groups.

    Example:
        >>> groups(search_path(None))[:3]
        ['ablation', 'callbacks', 'data']
    """
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


def unknown_option_message(group: str, name: str, known: dict[str, Path]) -> str:
    """Return the error message for an option that does not exist.

    Args:
        group: The group.
        name: The option that the user wrote.
        known: The options that exist.

    Returns:
        The message, with the nearest option, all options and the command that lists them.

    Example:
        >>> unknown_option_message("fusion", "sums", {"concat": Path(), "sum": Path()})
        "Unknown fusion 'sums'. Did you mean 'sum'? Known: concat, sum. Run `mla list fusions` to
         see them all."
    """
    plural = PLURALS.get(group, group)
    return (
        f"Unknown {group} {name!r}.{near(name, known)} Known: {', '.join(known)}. "
        f"Run `mla list {plural}` to see them all."
    )
