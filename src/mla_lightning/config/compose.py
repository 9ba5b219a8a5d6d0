"""Compose the choices of groups with Hydra."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mla_lightning.config.interpolation import resolved
from mla_lightning.config.search import options
from mla_lightning.config.values import flatten

#: The choices that a run is known by; logger, launcher and paths change no number.
CHOICES = {
    "data": "data",
    "method": "method",
    "fusion": "fusion@method.fusion",
    "encoder": "encoder",
    "recipe": "recipe",
    "ablation": "ablation",
    "missing": "missing",
    "trainer": "trainer",
    "debug": "debug",
}


class Composer:
    """Composes group choices, once each; values are set in copies afterwards."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        """Prepare; see :func:`composer`.

        Args:
            folders: Where configs are looked up, the package's own first.
        """
        self.folders = folders
        self._composed: dict[tuple[str, ...], dict[str, Any] | str] = {}
        self._resolved: dict[tuple[str, ...], dict[str, Any]] = {}
        self._metrics: dict[str, Any] | None = None

    def compose(self, choices: tuple[str, ...]) -> dict[str, Any] | str:
        """Compose group choices.

        Args:
            choices: Overrides that choose groups.

        Returns:
            The config as plain containers, interpolations unresolved, ``choices`` filled in. Or
            what is wrong, if it cannot be composed.
        """
        if choices not in self._composed:
            self._composed[choices] = self._compose(choices)
        return self._composed[choices]

    def resolved(self, choices: tuple[str, ...]) -> dict[str, Any]:
        """Compose group choices and resolve what can be resolved, empty if they do not compose."""
        if choices not in self._resolved:
            config = self.compose(choices)
            self._resolved[choices] = {} if isinstance(config, str) else resolved(config, [])
        return self._resolved[choices]

    def ablation_of(self, config: dict[str, Any]) -> dict[str, Any]:
        """Tell what a config's ablation sets.

        Args:
            config: What :meth:`compose` returned.

        Returns:
            Dotted key -> value, empty without an ablation.
        """
        import yaml

        path = options(self.folders, "ablation").get(config["choices"].get("ablation", ""))
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
        return {key: value for key, value in flatten(content or {}) if key != "defaults"}

    def metrics(self) -> dict[str, Any]:
        """Return the nodes of all metrics: name -> what its YAML in ``metric/`` holds."""
        import yaml

        if self._metrics is None:
            self._metrics = {
                name: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
                for name, path in options(self.folders, "metric").items()
            }
        return copy.deepcopy(self._metrics)

    def _compose(self, choices: tuple[str, ...]) -> dict[str, Any] | str:
        import yaml
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        places = ",".join(f"'file://{_escaped(folder)}'" for folder in self.folders[1:])
        try:
            found = compose(
                "config",
                overrides=[*choices, f"hydra.searchpath=[{places}]"],
                return_hydra_config=True,
            )
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            return " ".join(str(error).split())
        chosen = found.hydra.runtime.choices
        ours = OmegaConf.masked_copy(found, [str(key) for key in found if key != "hydra"])
        config: dict[str, Any] = OmegaConf.to_container(ours)  # type: ignore[assignment]
        config["choices"] = {
            own: str(chosen[key]) for own, key in CHOICES.items() if chosen.get(key) is not None
        }
        return config


@contextmanager
def composer(folders: tuple[Path, ...]) -> Iterator[Composer]:
    """Open Hydra's search path for a while.

    Args:
        folders: Where configs are looked up, the package's own first.

    Yields:
        The composer.
    """
    from hydra import initialize_config_dir

    with initialize_config_dir(str(folders[0]), version_base="1.3", job_name="mla"):
        yield Composer(folders)


def _escaped(folder: Path) -> str:
    return str(folder).replace("\\", "\\\\").replace("'", "\\'")
