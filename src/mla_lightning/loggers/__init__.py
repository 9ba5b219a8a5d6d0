"""Weights & Biases, TensorBoard and MLflow loggers, in addition to ``metrics.csv``."""

from mla_lightning.loggers.mlflow import Mlflow
from mla_lightning.loggers.tensorboard import TensorBoard
from mla_lightning.loggers.wandb import Wandb

__all__ = ["Mlflow", "TensorBoard", "Wandb"]
