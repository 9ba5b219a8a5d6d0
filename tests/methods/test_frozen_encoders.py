"""Encoders without a trained parameter: refused by every method that acts on encoders alone."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import METHODS, build_method, class_of, incomplete_batch
from tests.methods.harness import fit
from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.methods import Joint

#: Methods that would be another one if no encoder was trained -> that one.
REFUSE = {
    **dict.fromkeys(("amss", "cggm", "dgl", "inforeg", "ogm", "ogm_ge"), "method=concat"),
    **dict.fromkeys(("pdmp", "pmr", "relearning", "umt"), "method=concat"),
    "g2d": "method.suppress_epochs=0 with method.feature_weight=0",
    "mmpareto": "method=joint_unimodal",
}
#: Other words of a method with which it acts on encoders alone, too.
SETTINGS = {
    "inforeg": ({"unimodal_weight": 1.0}, "method=joint_unimodal"),
    "g2d": ({"suppress_epochs": 0}, "method.suppress_epochs=0 with method.feature_weight=0"),
    "opm": ({"ogm_alpha": 0.5}, "method.ogm_alpha=null"),
}
#: Methods that compare or change the encoders of each modality apart.
APART = ["amss", "cggm", "g2d", "inforeg", "mlb", "mmpareto", "ogm", "ogm_ge", "pdmp"]
APART += ["relearning", "umt"]


def frozen():
    return nn.Linear(5, 8).requires_grad_(False)


def built(name, make=frozen, batch=None, **options):
    batch = batch or incomplete_batch(2, is_complete=True)
    torch.manual_seed(1)
    encoders = {m: make() for m in batch["inputs"]}
    return build_method(name, batch, encoders=encoders, **options)


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        *((name, {}, other) for name, other in REFUSE.items()),
        *((name, *more) for name, more in SETTINGS.items()),
    ],
)
def test_a_method_that_acts_on_encoders_alone_refuses_frozen_ones(name, options, other):
    with pytest.raises(ConfigError, match=r"No encoder has a parameter that is trained") as raised:
        built(name, **options)
    assert f", or use {other}." in str(raised.value)
    built(name, partial(nn.Linear, 5, 8), **options)
    made = iter([frozen(), nn.Linear(5, 8)])
    built(name, made.__next__, **options)  # one that is trained is enough


#: Methods that take steps and act on more than encoders.
OTHERS = [
    name
    for name in METHODS
    if class_of(name).takes_steps and not class_of(name).fits_all_at_once and name not in REFUSE
]


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize("name", OTHERS)
def test_all_others_still_train_with_frozen_encoders(name):
    batch = incomplete_batch(2, is_complete=True)
    module = built(name, batch=batch)
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    fit(module, [batch], epochs=5 if name == "reconboost" else 3, precision="64-true")
    moved = {k for k, p in module.named_parameters() if not torch.equal(p, before[k].to(p))}
    assert moved
    assert not any(key.startswith("encoders.") and ".linear." not in key for key in moved)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("agm", {}), ("opm", {}), ("mlb", {}), ("valuation", {}), ("remix", {})),
        ("amss", {"mask_head": True}),
        ("cggm", {"direction": "weights"}),
        ("g2d", {"suppress_epochs": 0, "feature_weight": 0.0, "teacher_epochs": 1}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_what_acts_on_the_head_too_is_not_joint_training(name, options):
    batch = incomplete_batch(2, is_complete=True)
    module = built(name, batch=batch, **options)
    plain = {"num_classes": 4, "optimizer": module.parts.optimizer, "fusion": module.parts.fusion}
    joint = Joint(encoders=dict(module.encoders), **plain)
    joint.fusion.load_state_dict(module.fusion.state_dict())
    fit(module, [batch], epochs=4, precision="64-true")
    fit(joint, [batch], epochs=3 if name == "g2d" else 4, precision="64-true")
    with torch.no_grad():
        first, second = (m.eval().evaluate_batch(batch)["multi"] for m in (module, joint))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("name", APART)
def test_encoders_that_are_the_same_module_are_refused(name):
    shared = nn.Linear(5, 8)
    with pytest.raises(ConfigError, match=r"'audio' and 'visual' share parameters"):
        built(name, lambda: shared)


def test_opm_refuses_shared_encoders_where_it_changes_their_gradients():
    shared = nn.Linear(5, 8)
    built("opm", lambda: shared)
    with pytest.raises(ConfigError, match=r"'audio' and 'visual' share parameters"):
        built("opm", lambda: shared, ogm_alpha=0.5)
