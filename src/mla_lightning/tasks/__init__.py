"""Tasks: what a head's outputs mean, and the loss that trains them, one per file.

A data set has one task. A method never names a loss: it calls ``self.parts.loss``, which is the
task's.

Tasks
    ``Classification``, one of C classes; ``Regression``, a number; ``Multilabel``, any subset of L
    labels.

Class weights
    ``balanced_class_weights``, ``balanced_label_weights``.

Base class
    ``Task``.

Example:
    >>> import torch
    >>> from mla_lightning.tasks import Classification, Multilabel, Regression
    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> Classification().loss(logits, torch.tensor([1]))  # ln 2
    tensor(0.6931)
    >>> Multilabel().loss(logits, torch.tensor([[1.0, 1.0]]))
    tensor(0.6931)
    >>> Regression(mean=10.0, std=2.0).loss(torch.tensor([[0.0]]), torch.tensor([14.0]))
    tensor(4.)
"""

from mla_lightning.tasks.base import Task
from mla_lightning.tasks.class_weights import balanced_class_weights, balanced_label_weights
from mla_lightning.tasks.classification import Classification
from mla_lightning.tasks.multilabel import Multilabel
from mla_lightning.tasks.regression import Regression

__all__ = [
    "Classification",
    "Multilabel",
    "Regression",
    "Task",
    "balanced_class_weights",
    "balanced_label_weights",
]
