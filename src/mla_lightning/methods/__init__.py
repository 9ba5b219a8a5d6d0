"""Methods: training rules, each as its paper defines it, one per file.

A method is a LightningModule, built as ``Method(encoders=..., num_classes=..., optimizer=...)``;
:class:`~mla_lightning.parts.Parts` lists further arguments. It trains with any Trainer, on batches
that are dicts with a tensor per modality and ``label``. A class is imported when it is first used.

Alternating unimodal adaptation
    ``MLA``; ``MLAReleased`` as the released code runs it, ``MLABalanceMM`` as BalanceBenchmark
    computes it.

Joint training
    ``Joint`` (Sum, Concat, FiLM and BiGated, by its fusion); ``JointUnimodal`` with a loss per
    modality; ``OGMGE`` (OGM-GE) with modulated gradients; ``QMF`` with an energy confidence;
    ``DGL`` without a gradient from the fusion to the encoders; ``OPM`` with features dropped;
    ``AGM`` with modulated gradients of Shapley values; ``MMCosine`` on cosines.

Joint training with balanced gradients
    ``MLB``, modulated towards equal scores; ``MMPareto``, combined where they conflict; ``CGGM``,
    modulated by the progress of classifiers; ``AMSS``, masked in a part of each encoder.
    ``Joint`` (Sum, Concat, FiLM and BiGated, by its fusion); ``SimBaMM`` on a transformer, with
    modality dropout; ``JointUnimodal`` with a loss per modality; ``OGMGE`` (OGM-GE) with modulated
    gradients; ``QMF`` with an energy confidence.

Rows of an epoch
    ``Valuation`` repeats samples with modalities alone; ``Remix`` uses each with one alone.

Independent modalities
    ``LateFusion``; ``Unimodal``, a separate model for each modality; ``Ensemble``, their average.

With unimodal teachers
    ``UMT`` and ``G2D`` imitate them; ``PDMP`` lets the modality of the best one lead.

State of an epoch
    ``PMR`` with class means of features; ``InfoReg`` with the encoders' weights at its start.

Predicted confidence
    ``PDF``, weights by the predicted probability of the true class.
Boosting
    ``AUG`` with further classifiers of the weaker modality; ``ReconBoost`` with modalities in turn.

Held-out samples
    ``GBlend`` (G-Blend) weights losses by their gain on them, ``Relearning`` pulls encoders that
    memorise back, ``LFM`` aligns the modalities' predictions by a weight that may be learnt on
    them.

References without a network
    ``Majority``, the most frequent class; ``Logistic``, logistic regression.

Missing modalities
    Reconstruction: ``AE``, ``CRA``. With a teacher: ``MMIN``, ``IFMMIN`` (IF-MMIN), ``TATE``.
    Correlation: ``CCA``, ``DCCA``, ``DCCAE``. Latent codes: ``CPMNet`` (CPM-Net).

Base classes
    :class:`~mla_lightning.module.MultimodalModule`, of all;
    :class:`~mla_lightning.methods.taught.Taught`, of methods with a teacher. Parts of several
    training rules are in ``mechanisms/``.

Example:
    >>> from functools import partial
    >>> import torch
    >>> from mla_lightning.methods import MLA
    >>> method = MLA(
    ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
    ...     num_classes=2,
    ...     optimizer=partial(torch.optim.SGD, lr=0.1),
    ... )
    >>> method.modalities, method.fusion.head
    (('audio', 'visual'), Linear(in_features=4, out_features=2, bias=True))
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from typing import Any

from mla_lightning.errors import near
from mla_lightning.identity.sources import find_modules

#: Base classes, which define no training rule; so are those of `mechanisms/`.
BASES = {"MultimodalModule", "Taught"}


@cache
def _modules() -> dict[str, str]:
    """Return method class -> its module, by the sources of this folder; nothing is imported."""
    classes = {
        node.name: (item.module, {base.id for base in node.bases if isinstance(base, ast.Name)})
        for package in (__name__, f"{__name__}.mechanisms")
        for item in find_modules(package)
        for node in item.tree.body
        if isinstance(node, ast.ClassDef)
    }
    methods = set(BASES)
    while new := {name for name, (_, bases) in classes.items() if bases & methods} - methods:
        methods |= new
    bases = BASES | {name for name, (module, _) in classes.items() if ".mechanisms." in module}
    return {name: classes[name][0] for name in sorted(methods - bases)}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return list(_modules())
    if name.startswith("__") or name not in _modules():
        hint = near(name, _modules())
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint}")
    return getattr(importlib.import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return sorted([*(name for name in globals() if name.startswith("__")), *_modules()])
