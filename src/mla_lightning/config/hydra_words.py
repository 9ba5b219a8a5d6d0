"""The words of Hydra's own launchers and sweepers, and what to write in their place."""

from __future__ import annotations

from collections.abc import Collection

NO_EFFECT = "mla starts the runs itself; Hydra's settings have no effect"
#: Engine, as users of Hydra and of other tools may name it -> the words that run it here, the best
#: first. ``{}`` stands for the name.
_PLUGIN = "launcher=hydra launcher.plugin={}"
LAUNCHERS: dict[str, tuple[str, ...]] = {
    "basic": ("launcher=serial",),
    "joblib": (_PLUGIN, "launcher=fork"),
    "submitit_local": (_PLUGIN, "launcher=fork"),
    "submitit_slurm": ("launcher=slurm", _PLUGIN),
    "submitit": ("launcher=slurm", "launcher=hydra launcher.plugin=submitit_slurm"),
    "sbatch": ("launcher=slurm", "launcher=hydra launcher.plugin=submitit_slurm"),
    "slurm": ("launcher=slurm", "launcher=hydra launcher.plugin=submitit_slurm"),
    "ray": ("launcher=ray",),
    "ray_aws": ("launcher=ray launcher.address=ADDRESS",),
    "dask": ("launcher=ray", "launcher=fork"),
    "loky": ("launcher=fork", "launcher=hydra launcher.plugin=joblib"),
    "multiprocessing": ("launcher=fork",),
    "local": ("launcher=fork",),
}
_SEARCH = "mla tune data=... method=A,B trials=30 searches values on validation"
#: Key of Hydra -> what to write; ``{}`` stands for the value.
_KEYS = {
    "hydra.launcher.n_jobs": "write launcher.jobs={} (launcher=hydra: launcher.options.n_jobs={})",
    "hydra.run.dir": "write run_dir={} for the folder of one run, paths.output_dir={} for all",
    "hydra.sweep.dir": "write paths.output_dir={}",
    "hydra.sweep.subdir": "the folder of a job is named after it; name=NAME names the one above",
    "hydra.job.name": "write name={}",
    "hydra.job.chdir": "the current folder is never changed",
    "hydra.mode": "write mla train -m for several jobs",
    "hydra.searchpath": "write --config-dir DIR for your own configs",
    "hydra.sweeper.n_trials": "write mla tune trials={}",
    "hydra.sweeper.n_jobs": "write mla tune batch={}, and launcher.jobs={}",
    "hydra.sweeper.sampler": f"write no sampler: {_SEARCH}",
    "hydra.sweeper.max_batch_size": "write launcher.jobs={}",
}


def instead_of_hydra(key: str, value: str, launchers: Collection[str]) -> str:
    """Return what to write in place of a setting of Hydra itself.

    Args:
        key: The key, such as ``hydra/launcher``.
        value: The value as the user wrote it.
        launchers: The options of the group ``launcher``.

    Example:
        >>> instead_of_hydra("hydra.sweep.dir", "out", ["fork"])
        "mla starts the runs itself; Hydra's settings have no effect: write paths.output_dir=out"
        >>> instead_of_hydra("hydra/launcher", "joblib", ["fork", "hydra"]).partition(": ")[2]
        'write launcher=hydra launcher.plugin=joblib, or launcher=fork'
    """
    if key in ("hydra/launcher", "hydra.launcher"):
        hint = f"write {instead_of_launcher(value, launchers) or _PLUGIN.format(value)}"
    elif key in ("hydra/sweeper", "hydra.sweeper"):
        grid = "mla train -m seed=0,1,2 method=A,B runs all combinations"
        hint = grid if value == "basic" else f"{_SEARCH}; {grid}"
    elif key in _KEYS:
        hint = _KEYS[key].replace("{}", value)
    elif key.startswith("hydra.launcher."):
        name = key.removeprefix("hydra.launcher.")
        hint = f"write launcher=hydra launcher.plugin=PLUGIN launcher.options.{name}={value}"
    elif key.startswith("hydra.sweeper.params"):
        hint = f"{_SEARCH}; its ranges are in conf/search/, and `mla list searches` shows them"
    elif key.startswith("hydra.sweeper."):
        hint = _SEARCH
    else:
        return NO_EFFECT
    return f"{NO_EFFECT}: {hint}"


def instead_of_launcher(name: str, launchers: Collection[str]) -> str:
    """Return the words that run jobs on an engine; empty if nothing is known of it.

    Args:
        name: The engine, as other tools name it.
        launchers: The options of the group ``launcher``.

    Example:
        >>> instead_of_launcher("dask", ["fork", "ray"])
        'launcher=ray, or launcher=fork'
        >>> instead_of_launcher("frok", ["fork", "ray"])
        ''
    """
    words = [text.format(name) for text in LAUNCHERS.get(name, ())]
    usable = [text for text in words if text.split()[0].partition("=")[2] in launchers]
    return ", or ".join(usable)
