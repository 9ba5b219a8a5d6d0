"""Balanced multimodal learning: MLA and its baselines, each as its paper defines it.

From Python::

    import mla_lightning as mla

    run = mla.train("method=mla", "data=openmoji")              # one run, in this process
    runs = mla.sweep(method=["mla", "concat"], seed=range(3))   # many, in separate processes
    runs.table()                                                # Table 1, as HTML in a notebook
    mla.load(run.folder).predict({"image": ..., "text": ...})   # logits, probabilities, weights
    run.export("model", format="safetensors")                   # for mla.load_exported("model")

and as plain LightningModules for your own Trainer: ``mla.methods.MLA(encoders={...},
num_classes=3, optimizer=...)``. ``mla.functional``, ``mla.metrics``, ``mla.fusion`` and
``mla.encoders`` contain their components, ``mla.errors`` the errors that they raise. Torch and
Lightning are imported only when they are used.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

__version__ = "1.0.0"
#: When this process imported the package, in seconds since 1970.
_imported_at = time.time()

#: Types of these names are in `__init__.pyi`.
__all__ = [
    "ExportedModel",
    "Run",
    "Runs",
    "__version__",
    "encoders",
    "errors",
    "functional",
    "fusion",
    "inputs",
    "load",
    "load_exported",
    "methods",
    "metrics",
    "sweep",
    "train",
]

_OF_API = ("ExportedModel", "Run", "Runs", "load", "load_exported", "sweep", "train")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _OF_API:
        return getattr(importlib.import_module("mla_lightning.api"), name)
    if name in __all__:
        return importlib.import_module(f"mla_lightning.{name}")
    raise AttributeError(f"module 'mla_lightning' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
