from mla_lightning import encoders, errors, functional, fusion, inputs, methods, metrics
from mla_lightning.api import Run, Runs, load, sweep, train

__all__ = [
    "Run",
    "Runs",
    "__version__",
    "encoders",
    "errors",
    "functional",
    "fusion",
    "inputs",
    "load",
    "methods",
    "metrics",
    "sweep",
    "train",
]

__version__: str
_imported_at: float
