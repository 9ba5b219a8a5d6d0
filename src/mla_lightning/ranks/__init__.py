"""Ranks: the processes that train one job together, each on its own part of every batch.

All functions act on the default process group of ``torch.distributed``. Without one, or in a group
of one process, they return their argument and communicate nothing.
"""

from mla_lightning.ranks.batch_norm import (
    check_batch_norms,
    is_synchronised,
    running_statistics,
    synchronise_batch_norms,
    without_samples,
)
from mla_lightning.ranks.collectives import (
    any_rank,
    gathered,
    gathered_with_gradient,
    is_first,
    largest,
    leave,
    once,
    part_of,
    rank,
    stacked,
    total,
    world_size,
)
from mla_lightning.ranks.gradients import copy_from_first, sum_gradients
from mla_lightning.ranks.randomness import common_randomness, seed_generators

__all__ = [
    "any_rank",
    "check_batch_norms",
    "common_randomness",
    "copy_from_first",
    "gathered",
    "gathered_with_gradient",
    "is_first",
    "is_synchronised",
    "largest",
    "leave",
    "once",
    "part_of",
    "rank",
    "running_statistics",
    "seed_generators",
    "stacked",
    "sum_gradients",
    "synchronise_batch_norms",
    "total",
    "without_samples",
    "world_size",
]
