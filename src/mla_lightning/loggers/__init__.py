"""Weights & Biases and TensorBoard loggers, in addition to ``metrics.csv``."""

from mla_lightning.loggers.tensorboard import TensorBoard
from mla_lightning.loggers.wandb import Wandb

__all__ = ["TensorBoard", "Wandb"]
