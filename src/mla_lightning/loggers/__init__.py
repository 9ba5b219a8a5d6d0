"""Loggers beside ``metrics.csv``, which decide nothing: Weights & Biases, TensorBoard."""

from mla_lightning.loggers.tensorboard import TensorBoard
from mla_lightning.loggers.wandb import Wandb

__all__ = ["TensorBoard", "Wandb"]
