"""Random numbers that are the same on every rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mla_lightning.ranks.collectives import world_size


@contextmanager
def common_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Draw the same random numbers on every rank within the context.

    Outside of it each rank has numbers of its own, such as for dropout. In a single process nothing
    changes.

    Args:
        seed: A seed that does not depend on the rank.
        device: The device whose generator is used besides that of the CPU.

    Example:
        >>> with common_randomness(0, torch.device("cpu")):
        ...     pass
    """
    if world_size() == 1:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_generators(seed, device)
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of a device.

    Args:
        seed: The seed.
        device: The device.

    Example:
        >>> seed_generators(0, torch.device("cpu"))
        >>> torch.rand(1)
        tensor([0.4963])
    """
    # torch.manual_seed would also store a stack trace for every device not yet started, which
    # takes milliseconds per batch and is never freed.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
