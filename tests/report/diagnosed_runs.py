"""Diagnostics of nine methods as reports read them, with numbers that tests choose."""

import numpy as np

from mla_lightning.report.read.block import Summary
from mla_lightning.report.read.diagnostics import BlockDiagnostics

LABELS = ("Sum", "Concat", "Late Fusion", "FiLM", "BiGated", "OGM-GE", "QMF", "MLA", "Unimodal")


def bins(shift):
    return {"num": [5, 5], "confidence": [0.4, 0.8], "accuracy": [0.3, 0.6 + shift], "ece": shift}


def final(names, shift=0.0):
    kinds = {"width": bins(shift), "mass": bins(shift + 0.1)}
    later = {"width": bins(shift + 0.2), "mass": bins(shift + 0.3)}
    return {
        "split": "test",
        "calibration": {name: {"before": kinds, "after": later} for name in (*names, "multi")},
        "entropy": {
            name: {"entropy": [0.1, 0.9], "accuracy": [0.9, 0.2]} for name in (*names, "multi")
        },
        "shapley": dict.fromkeys(names, 0.1),
        "agreement": {},
        "fusion": {name: {"when_wrong": 0.4, "when_right": 0.6, "mean": 0.5} for name in names},
    }


def rows(names, shift=0.0):
    return [
        {
            "epoch": float(epoch),
            **{f"val/acc/{name}": 0.1 * epoch + shift for name in names},
            f"gap/{names[0]}/{names[1]}": 0.5 + shift,
        }
        for epoch in (1, 2)
    ]


def diagnosed(names=("image", "text"), labels=LABELS, **fields):
    """Return diagnostics of three seeds of each method; fields replace those of this function."""
    seeds = range(3)
    planes = {
        label: {"label": np.arange(12) % 3, **{f"pca/{m}": np.eye(12)[:, :2] for m in names}}
        for label in labels
    }
    content = {
        "title": "openmoji",
        "modalities": tuple(names),
        "epochs": {label: [rows(names, s / 100) for s in seeds] for label in labels},
        "finals": {label: [final(names, s / 100) for s in seeds] for label in labels},
        "planes": planes,
        "costs": {label: {"parameters, thousands": 280.0 + k} for k, label in enumerate(labels)},
        "scores": {
            label: Summary({s: 60.0 + k + s for s in seeds}, (0, 1, 2))
            for k, label in enumerate(labels)
        },
        "times": {
            label: Summary({s: 8.0 + 0.01 * k + s / 10 for s in seeds}, (0, 1, 2))
            for k, label in enumerate(labels)
        },
        "class_names": ("cat", "dog", "bird"),
    }
    return BlockDiagnostics(**{**content, **fields})
