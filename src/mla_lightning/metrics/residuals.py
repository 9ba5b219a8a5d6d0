"""Variance of the residuals of each modality's own predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def residual_variance(
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    own_logits: Callable[[Any], Mapping[str, Tensor]],
) -> Tensor:
    """Compute each modality's mean squared residual, over the samples that have it.

    Args:
        task: The task, which defines the residuals.
        batches: Batches with ``label`` (B,) and ``present`` (modality -> (B,) bool).
        own_logits: Batch -> modality -> its own outputs (B, C).

    Returns:
        Variances (M,) in the order of the logits, in float64, on the CPU; 0 for a modality that no
        sample has.

    Example:
        >>> from mla_lightning.tasks import Regression
        >>> batch = {
        ...     "label": torch.tensor([0.0, 1.0]),
        ...     "present": {"audio": torch.tensor([True, True])},
        ... }
        >>> own_logits = lambda batch: {"audio": torch.tensor([[1.0], [4.0]])}
        >>> residual_variance(Regression(mean=0.0, std=1.0), [batch], own_logits)  # (1 + 9) / 2
        tensor([5.], dtype=torch.float64)
    """
    sums: dict[str, Tensor] = {}
    for batch in batches:
        for name, logits in own_logits(batch).items():
            has = batch["present"][name]
            squares = task.squared_residuals(logits[has], batch["label"][has])
            new = torch.stack([squares.double().sum(), has.sum().double()]).cpu()
            sums[name] = sums.get(name, 0) + new
    square_and_count_M2 = torch.stack([*sums.values()])
    return square_and_count_M2[:, 0] / square_and_count_M2[:, 1].clamp_min(1)
