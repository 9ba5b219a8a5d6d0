"""Where configs live: the groups and options that can be chosen."""

from __future__ import annotations

from pathlib import Path

from mla_lightning.errors import ConfigError, near

#: Singular group -> how messages and ``mla list`` call its options.
PLURALS = {
    "method": "methods",
    "fusion": "fusions",
    "encoder": "encoders",
    "data": "data",
    "recipe": "recipes",
    "ablation": "ablations",
    "missing": "missing",
    "metric": "metrics",
    "report": "reports",
    "panel": "panels",
    "experiment": "experiments",
    "trainer": "trainers",
    "logger": "loggers",
    "launcher": "launchers",
    "debug": "debug",
    "paths": "paths",
}


def conf_dir() -> Path:
    """Find the package's own configs.

    Returns:
        A checkout's ``conf/`` when the package runs from its source tree, else the copy that was
        installed with the package.

    Raises:
        ConfigError: If neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    places = [package / "conf"]
    if package.parent.name == "src":
        places.insert(0, package.parent.parent / "conf")
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(
        f"No configs at {' or '.join(map(str, places))}; install mla_lightning again."
    )


def search_path(config_dir: Path | None) -> tuple[Path, ...]:
    """List the folders that configs are looked up in.

    Args:
        config_dir: A user's own folder of groups, None for none.

    Returns:
        The package's folder first.

    Raises:
        ConfigError: If the user's folder is not there, or repeats an option of the package: one
            of the two would be ignored.
    """
    own = conf_dir()
    if config_dir is None:
        return (own,)
    folder = config_dir.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    twice = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*.yaml"))
        if (own / path.relative_to(folder)).is_file()
    ]
    if twice:
        raise ConfigError(
            f"--config-dir {config_dir} repeats {', '.join(twice)} of mla_lightning, which would "
            "be used instead. Give the files another name."
        )
    return (own, folder)


def options(folders: tuple[Path, ...], group: str) -> dict[str, Path]:
    """List a group's options.

    Args:
        folders: See :func:`search_path`.
        group: Such as ``method``.

    Returns:
        Option, such as ``mla`` or ``table1/openmoji`` -> its file, sorted by name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in (folder / group).rglob("*.yaml"):
            found[path.relative_to(folder / group).with_suffix("").as_posix()] = path
    return dict(sorted(found.items()))


def groups(folders: tuple[Path, ...]) -> list[str]:
    """List the groups, such as ``method`` and ``data``."""
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


def unknown_option(group: str, name: str, known: dict[str, Path]) -> str:
    """Word the fault of a choice that does not exist.

    Args:
        group: The group.
        name: What the user wrote.
        known: The options that exist.

    Returns:
        What is wrong, the nearest name, all names and the command that lists them.
    """
    plural = PLURALS.get(group, group)
    return (
        f"Unknown {group} {name!r}.{near(name, known)} Known: {', '.join(known)}. "
        f"Run `mla list {plural}` to see them all."
    )
