"""Settings of the process and of modules that are changed, and restored afterwards."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, RunError, reason_of

if TYPE_CHECKING:
    from torch.nn import Module

#: Seeds, threads and determinism belong to the whole process, so that two runs at the same time
#: would change each other's numbers.
_one_at_a_time = threading.RLock()


@contextmanager
def folder_errors_reported() -> Iterator[None]:
    """Raise errors of the file system, such as missing permissions, as RunError.

    Example:
        >>> with folder_errors_reported():
        ...     raise PermissionError(13, "Permission denied", "runs")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: runs: Permission denied
    """
    try:
        yield
    except OSError as error:
        raise RunError(reason_of(error)) from error


def check_torch_modes(*, trains: bool) -> None:
    """Check that no global setting of PyTorch changes the numbers of a run, or prevents them.

    Args:
        trains: Whether a run is to be trained, which needs gradients.

    Raises:
        ConfigError: If one does.

    Example:
        >>> import torch
        >>> with torch.inference_mode():
        ...     check_torch_modes(trains=True)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: Training needs gradients, ... torch.inference_mode() ...
    """
    import torch

    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise ConfigError(
            f"torch.get_default_dtype() is {dtype}, which would change a run's numbers without a "
            "trace in its config. Call torch.set_default_dtype(torch.float32); for another "
            "precision set trainer.precision, such as 64-true."
        )
    if trains and torch.is_inference_mode_enabled():
        raise ConfigError(
            "Training needs gradients, which torch.inference_mode() does not record. Call it "
            "outside of that context."
        )


@contextmanager
def process_settings_restored() -> Iterator[None]:
    """Restore threads, determinism, random state and warnings of the process afterwards.

    Calls from several threads wait for each other.

    Example:
        >>> import torch
        >>> state = torch.get_rng_state()
        >>> with process_settings_restored():
        ...     _ = torch.manual_seed(7)
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    import torch

    with _one_at_a_time:
        threads = torch.get_num_threads()
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
        benchmark = torch.backends.cudnn.benchmark
        with torch.random.fork_rng(), warnings.catch_warnings():
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(is_deterministic, warn_only=warns_only)
                torch.backends.cudnn.benchmark = benchmark


@contextmanager
def evaluation_mode(module: Module) -> Iterator[None]:
    """Set a module to evaluation mode, and restore the mode of all its submodules afterwards.

    Example:
        >>> import torch
        >>> layer = torch.nn.Dropout()
        >>> with evaluation_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, is_training in modes.items():
            submodule.training = is_training
