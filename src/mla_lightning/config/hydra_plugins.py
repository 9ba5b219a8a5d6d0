"""Launcher plugins of Hydra: which are installed, their settings, and how they are started.

They get a config of Hydra's own alone, not that of a job: jobs are composed and checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.config.hydra_words import instead_of_launcher
from mla_lightning.config.search import options, search_path
from mla_lightning.errors import ConfigError, near
from mla_lightning.paths import quote_value

#: Plugin -> the package that has it.
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
#: Plugins that are not used, since a launcher of our own does more.
REPLACED = ("basic", "ray", "ray_aws")


def settings_of_plugin(name: str) -> dict[str, Any]:
    """Return the settings of a launcher plugin, with their defaults.

    Args:
        name: The plugin, as in ``hydra/launcher=NAME``.

    Raises:
        ConfigError: If it is not installed, or has a better replacement.

    Example:
        >>> settings_of_plugin("rq2")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher.plugin=rq2: no such launcher plugin of Hydra ...
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    if name in REPLACED:
        words = instead_of_launcher(name, options(search_path(None), "launcher"))
        raise ConfigError(f"launcher.plugin={name}: write {words}")
    Plugins.instance()  # imports what is installed, and registers its settings
    group = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    nodes = {key.removesuffix(".yaml"): entry.node for key, entry in group.items()}
    if name not in nodes:
        installed = [key for key in nodes if key not in REPLACED]
        listed = f"Installed: {', '.join(installed) or 'none'}."
        if package := PACKAGES.get(name):
            raise ConfigError(
                f"launcher.plugin={name} needs a package: pip install {package}. {listed}"
            )
        raise ConfigError(
            f"launcher.plugin={name}: no such launcher plugin of Hydra is installed."
            f"{near(name, {*installed, *PACKAGES})} {listed} Or use launcher=fork."
        )
    settings = OmegaConf.to_container(OmegaConf.structured(nodes[name]))
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items() if key != "_target_"}


def load_plugin_config(name: str, values: Mapping[str, Any], folder: Path) -> Any:
    """Load Hydra's own config with a launcher plugin, and check the plugin's settings.

    Args:
        name: The plugin, which is installed.
        values: Values of its settings, as plain containers.
        folder: Where the plugin may write files.

    Returns:
        The config, as Hydra gives it to plugins.

    Raises:
        ConfigError: If the plugin has no such setting, or a value is of another type.
    """
    from hydra import version
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    version.setbase("1.3")
    known = settings_of_plugin(name)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"launcher.options.{key}: plugin {name} has no setting {key!r}.{near(key, known)} "
                f"It has: {', '.join(known)}."
            )
    config = ConfigLoaderImpl(create_config_search_path(None)).load_configuration(
        config_name=None,
        overrides=[
            f"hydra/launcher={name}",
            *("hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"),
            *("hydra.job.name=mla", "hydra.sweep.subdir=."),
            f"hydra.sweep.dir={quote_value(str(folder))}",
        ],
        run_mode=RunMode.MULTIRUN,
    )
    for key, value in values.items():
        try:
            OmegaConf.update(config, f"hydra.launcher.{key}", value)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"launcher.options.{key}={value}: {reason}") from error
    return config


def launch_with_plugin(
    config: Any, function: Callable[[Any], Any], overrides: list[list[str]]
) -> None:
    """Run tasks with the launcher plugin of a config; return when it returns.

    Args:
        config: What :func:`load_plugin_config` returned.
        function: The function that runs a task, in whichever process the plugin chooses. Its
            argument is a config of the task's overrides alone.
        overrides: The overrides of each task.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    loader = ConfigLoaderImpl(create_config_search_path(None))
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=function, config=config
    )
    launcher.launch(overrides, 0)
