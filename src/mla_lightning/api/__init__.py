"""The Python interface: train, sweep, load and predict as the command line does.

Every name is also a name of the package, for example ``mla_lightning.train``.
"""

from mla_lightning.api.exported import ExportedModel, load_exported
from mla_lightning.api.runs import Run, Runs
from mla_lightning.api.start import load, sweep, train

__all__ = ["ExportedModel", "Run", "Runs", "load", "load_exported", "sweep", "train"]
