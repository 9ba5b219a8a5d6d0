"""Diagnostics that are defined for classes alone: calibration, agreement and entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mla_lightning.metrics.calibration import entropy_bins, reliability, temperature
from mla_lightning.metrics.contribution import agreement
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.run.evaluate import SplitPredictions


def class_diagnostics(val: SplitPredictions, evaluated: SplitPredictions) -> dict[str, Any]:
    """Compute what is defined for classes alone.

    Args:
        val: Predictions of the validation split.
        evaluated: Predictions of the evaluated split.

    Returns:
        ``agreement``, ``calibration`` and ``entropy``.
    """
    label, logits = evaluated.label, evaluated.logits
    rows = _rows_with_modality(val, evaluated)
    calibration = {
        name: calibration_before_and_after(
            (val.logits[name][val_rows], val.label[val_rows]), (logits[name][has], label[has])
        )
        for name, (val_rows, has) in rows.items()
    }
    entropy = {name: entropy_bins(logits[name][has], label[has]) for name, (_, has) in rows.items()}
    return {
        "agreement": agreement(correct_predictions(evaluated)),
        "calibration": calibration,
        "entropy": entropy,
    }


def correct_predictions(predictions: SplitPredictions) -> dict[str, Tensor]:
    """Return which samples each modality predicts correctly: modality and ``multi`` -> (N,) bool.

    Example:
        >>> logits = {"audio": torch.tensor([[2.0, 0.0], [2.0, 0.0]])}
        >>> present = {"audio": torch.tensor([False, True])}
        >>> label = torch.tensor([0, 0])
        >>> correct_predictions(SplitPredictions(logits, label, label, {}, present))
        {'audio': tensor([False,  True])}
    """
    is_correct = {n: z.argmax(dim=1) == predictions.label for n, z in predictions.logits.items()}
    return is_correct | {n: is_correct[n] & has for n, has in predictions.present.items()}


def calibration_before_and_after(
    val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    """Compute calibration before and after scaling by a temperature fitted on validation.

    Args:
        val: Logits (N, C) and labels (N,) of the validation split.
        test: The same of the evaluated split.

    Returns:
        ``temperature``; ``before`` and ``after``: ``width`` and ``mass`` -> bins and error.

    Example:
        Three of four validation samples are predicted correctly with a confidence near 1. The
        temperature lowers the confidence to 3/4, which is also the accuracy on the test split:

        >>> split = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> calibration = calibration_before_and_after(val=split, test=split)
        >>> [round(calibration[key]["width"]["ece"], 3) for key in ("before", "after")]
        [0.25, 0.0]
    """
    fitted = temperature(*val)
    calibration: dict[str, Any] = {"temperature": fitted}
    logits, label = test
    for key, scale in (("before", 1.0), ("after", fitted)):
        scaled = Outcome(logits / scale, label)
        calibration[key] = {
            name: reliability(scaled.confidence, scaled.is_correct, equal_mass=equal_mass).to_dict()
            for name, equal_mass in (("width", False), ("mass", True))
        }
    return calibration


def _rows_with_modality(
    val: SplitPredictions, evaluated: SplitPredictions
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the samples of both splits that have a modality, of those that both splits have."""
    rows = {}
    for name in evaluated.logits:
        val_rows, evaluated_rows = (
            split.present.get(name, torch.ones(len(split.label), dtype=torch.bool))
            for split in (val, evaluated)
        )
        if bool(val_rows.any()) and bool(evaluated_rows.any()):
            rows[name] = (val_rows, evaluated_rows)
    return rows
