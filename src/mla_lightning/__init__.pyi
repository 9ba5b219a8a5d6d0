from mla_lightning import encoders, errors, functional, fusion, inputs, methods, metrics
from mla_lightning.api import ExportedModel, Run, Runs, load, load_exported, sweep, train

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

__version__: str
_imported_at: float
