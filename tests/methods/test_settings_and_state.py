"""Settings that a method hands on, and state that it must not keep or must reset."""

from functools import partial

import pytest
import torch
from tests.methods.harness import batches, build, fit

import mla_lightning as mla
from mla_lightning.errors import ConfigError
from mla_lightning.functional import fuse_logits, mean_weights
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.film import FiLM
from mla_lightning.fusion.imagination import AutoencodedFusion
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.fusion.transformer import TransformerFusion
from mla_lightning.methods.ae import AE
from mla_lightning.methods.cra import CRA
from mla_lightning.methods.ensemble import Ensemble
from mla_lightning.methods.head.rules import HeadStep
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.mla_balancemm import MLABalanceMM
from mla_lightning.methods.mla_released import MLAReleased
from mla_lightning.methods.unimodal import Unimodal


def test_the_features_of_a_step_hold_no_graph():
    step = HeadStep("audio", label=torch.tensor([0, 1]))
    step.add_features(torch.ones(2, 3, requires_grad=True) * 2)
    assert not step.features.requires_grad
    assert not step.mean.requires_grad


@pytest.mark.parametrize("method", [AE, CRA])
@pytest.mark.parametrize("recon_target", ["observed", "oracle"])
def test_autoencoders_take_their_settings(method, recon_target):
    settings = {"weight": 0.3, "recon_target": recon_target, "hidden": (9, 7), "dropout": 0.2}
    layers = {"layers": (6, 4)}
    module = build(
        method,
        lambda dims, num_classes: AutoencodedFusion(dims, num_classes, **layers),
        batches(),
        parts={"is_complete": False, "hides_modalities": True},
        **settings,
    )
    assert (module.weight, module.recon_target) == (0.3, recon_target)
    assert module.needs_hidden_inputs == (recon_target == "oracle")
    assert 0.2 in {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)}


@pytest.mark.parametrize("df", [True, False])
def test_balancemm_weights_by_entropy_or_equally(df):
    data = batches(1)
    module = build(MLABalanceMM, SharedHead, data, df=df).eval()
    with torch.no_grad():
        for parameter in module.fusion.parameters():
            parameter.mul_(20)  # far from equal logits, whose entropies would be equal
    logits = module.evaluate_batch(data[0])
    own = torch.stack([logits["audio"], logits["visual"]])
    equal = fuse_logits(mean_weights(torch.ones(2, 8, dtype=torch.bool)), own)
    assert torch.allclose(logits["multi"], equal, atol=1e-5) is not df


def test_random_numbers_of_a_batch_are_those_of_its_place_in_every_method():
    seeds = []
    for method in (MLA, MLABalanceMM):
        data = batches(3)
        module, of_batches = build(method, SharedHead, data), []
        original = module.fit_batch

        def fit_batch(batch, original=original, of_batches=of_batches):
            of_batches.append(torch.initial_seed())
            return original(batch)

        module.fit_batch = fit_batch
        fit(module, data)
        seeds.append(of_batches)
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_gradients_of_a_batch_do_not_reach_into_the_next_one():
    """With zeros in place of None, momentum would move the visual encoder in the audio step."""
    data = batches(2)
    module = build(MLAReleased, SharedHead, data, legacy_zero_grad=True)
    moved = []

    class Observer:
        def before_step(self, name):
            self.name, self.before = name, module.encoders["visual"][0].weight.clone()

        def after_step(self):
            is_same = torch.equal(self.before, module.encoders["visual"][0].weight)
            moved.append((self.name, not is_same))

        def record_gradient(self, kind):
            pass

    module.step_observer = Observer()
    fit(module, data)
    assert moved == [("audio", False), ("visual", True)] * 2


def test_cca_ends_the_training_once_it_is_fitted(tmp_path):
    words = ("data=synthetic", "method=cca", "trainer.max_epochs=3", "missing=anchor")
    run = mla.train(*words, "evaluate_probe=false", folder=tmp_path / "run")
    assert len(run.metrics) == 1
    # The head is fitted: its targets are 1 for the class and -1 for the others.
    predicted = run.predict(split="train")
    own = predicted.logits["multi"].gather(1, predicted.label[:, None])
    others = predicted.logits["multi"].sum(dim=1, keepdim=True) - own
    assert own.mean() > others.mean() / 3 + 0.5
    assert (predicted.logits["multi"].argmax(dim=1) == predicted.label).double().mean() > 0.5


@pytest.mark.parametrize("method", [LateFusion, Unimodal, Ensemble])
@pytest.mark.parametrize("fusion", [TransformerFusion, FiLM])
def test_modalities_that_are_trained_alone_share_no_layers(method, fusion):
    message = f"{method.__name__} trains each .* layers of {fusion.__name__} take several at once"
    with pytest.raises(ConfigError, match=rf"{message}\. Use .*=late"):
        build(method, fusion, batches())


def test_a_joint_head_whose_parts_are_trained_apart_is_accepted():
    fusion = partial(Concat, unimodal_rule="zero_feature")
    assert build(LateFusion, fusion, batches()).fusion.unimodal_rule == "zero_feature"


def test_a_fusion_of_the_user_may_take_its_weighting_among_other_options():
    class Own(SharedHead):
        def __init__(self, feature_dims, num_classes, **options):
            super().__init__(feature_dims, num_classes, **options)

    assert build(MLA, Own, batches()).fusion.weighting == "entropy"


@pytest.mark.parametrize("fusion", [TransformerFusion, Concat, FiLM])
def test_mla_names_the_fusion_that_it_needs(fusion):
    with pytest.raises(
        ConfigError, match=r"one shared head; use fusion@method\.fusion=shared_head"
    ):
        build(MLA, fusion, batches())
