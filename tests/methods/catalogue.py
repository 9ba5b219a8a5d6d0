"""Every method of conf/method on a few samples in double precision, some of them incomplete."""

from functools import cache, partial

import torch
from tests.methods.harness import NUM_CLASSES, Loader
from torch import nn

from mla_lightning.config import compose_jobs
from mla_lightning.config.listing import list_entries
from mla_lightning.config.targets import instantiate, locate

METHODS = [entry.name for entry in list_entries("method")]
SIZE, WIDTH = 11, 8
#: Settings with which a method fits the few narrow samples.
SETTINGS = {
    "opm": ["method.start_epoch=0"],
    "dcca": ["method.num_components=2"],
    "dccae": ["method.num_components=2"],
    "cpm_net": ["method.fusion.num_latent=6"],
    "simbamm": ["method.fusion.width=16"],
    "reconboost": ["method.teacher_epochs=1"],
    "gblend": ["method.lookahead_epochs=1"],
    "tate": ["method.fusion.width=16"],
}
#: Epochs of a method whose stages need more than two; G2D's second is within its window.
EPOCHS = {"reconboost": 5, "g2d": 3}


def incomplete_batch(num_modalities, *, is_complete=False, seed=0):
    """Build a batch in which one half, and a quarter, have no sample with the first modality."""
    rng = torch.Generator().manual_seed(seed)
    names = ["audio", "visual", "text"][:num_modalities]
    truth = {name: torch.randn(SIZE, 5, generator=rng).double() for name in names}
    present = {name: torch.ones(SIZE, dtype=torch.bool) for name in names}
    if not is_complete:
        present["audio"][6:] = False
        present["audio"][2] = False
        present["visual"][[0, 3]] = False
    return {
        "inputs": {
            m: torch.where(present[m][:, None], x, torch.zeros_like(x)) for m, x in truth.items()
        },
        "label": torch.randint(NUM_CLASSES, (SIZE,), generator=rng),
        "index": torch.arange(SIZE),
        "present": present,
        "hidden": {name: ~has for name, has in present.items()},
        "truth": truth,
    }


@cache
def method_node(name):
    """Return the config of a method."""
    missing = ["missing=anchor", "missing.policy=zero_input"]  # known to methods with any rule
    words = ["data=synthetic", *missing, f"method={name}", *SETTINGS.get(name, [])]
    (job,) = compose_jobs(words, multirun=False)
    return job.config.method


@cache
def class_of(name):
    """Return the class of a method."""
    return locate(method_node(name)["_target_"])


def takes_chunks(name):
    """Return whether a method says that a batch may be computed in chunks."""
    kind = class_of(name)
    return kind.takes_chunks and not kind.fits_all_at_once


def takes_incomplete(name):
    """Return whether a method says that it has a rule for missing modalities."""
    return class_of(name).takes_incomplete


def build_method(name, batch, **options):
    """Build a method of the catalogue, without dropout, for batches like this one.

    Options are settings of the method, or parts of every method in place of those here.
    """
    method = dict(method_node(name))
    is_complete = all(bool(has.all()) for has in batch["present"].values())
    if "recon_target" in method and is_complete:
        method["recon_target"] = "observed"
    if "pretrain_epochs" in method:
        method["pretrain_epochs"] = 1
    method |= {key: options.pop(key) for key in set(options) & set(method)}
    torch.manual_seed(0)
    module = instantiate(
        method | {"fusion": instantiate(method["fusion"])},
        **{
            "encoders": {m: nn.Linear(5, WIDTH) for m in batch["inputs"]},
            "optimizer": partial(torch.optim.SGD, lr=0.05),
            "num_classes": NUM_CLASSES,
            "num_train": SIZE,
            "is_complete": is_complete,
            "hides_modalities": not is_complete,
            "train_batches": lambda: Loader([batch]),
            "held_out_batches": lambda: Loader([batch]),
            **options,
        },
    )
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    return module


class Gradients:
    """Collects the gradients of all steps, before they are edited and clipped."""

    def __init__(self, module):
        self.module, self.steps = module, []
        module.step_observer = self

    def before_step(self, name):
        pass

    def after_step(self):
        pass

    def record_gradient(self, kind):
        if kind == "raw":
            self.steps.append(
                {n: p.grad.clone() for n, p in self.module.named_parameters() if p.grad is not None}
            )
