"""Frozen layers do not change, keep no graph and stay in evaluation mode."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from mla_lightning.encoders.cav_mae import CAVMAEAudio
from mla_lightning.encoders.hf import import_transformers
from mla_lightning.encoders.hf_text import HFText
from mla_lightning.encoders.m3ae import M3AEImage, M3AEText
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.joint import Joint

sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))
from tests.methods.harness import Loader, fit

SMALL = {"width": 24, "depth": 3, "num_heads": 3}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    lib = import_transformers()
    config = lib.BertConfig(
        vocab_size=120,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
    )
    folder = tmp_path_factory.mktemp("bert")
    lib.BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["image", "text", "audio", "hf"])
def build(request, bert):
    """Return a function that builds an encoder with a given ``tune``, and an input for it."""
    ids = torch.randint(1, 30, (4, 5))
    return {
        "image": (lambda t: M3AEImage(image_size=32, tune=t, **SMALL), torch.randn(4, 3, 32, 32)),
        "text": (lambda t: M3AEText(num_tokens=40, tune=t, **SMALL), ids),
        "audio": (
            lambda t: CAVMAEAudio(num_frames=32, num_mels=16, tune=t, **SMALL),
            torch.randn(4, 32, 16),
        ),
        "hf": (lambda t: HFText(name=bert, tune=t), ids),
    }[request.param]


def layers_of(encoder):
    return encoder.model.encoder.layer if hasattr(encoder, "model") else encoder.blocks.layers


def tuned(encoder):
    return {name for name, p in encoder.named_parameters() if p.requires_grad}


def test_all_and_none(build):
    make, x = build
    trained, frozen = make("all"), make("none")
    assert tuned(trained) == {name for name, _ in trained.named_parameters()}
    assert not tuned(frozen)
    assert trained(x).requires_grad
    assert not frozen(x).requires_grad
    assert trained.train().training
    assert not any(module.training for module in frozen.train().modules())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_last_layers(build, number):
    make, x = build
    encoder = make(f"last_{number}").train()
    layers = layers_of(encoder)
    for index, layer in enumerate(layers):
        is_tuned = index >= 3 - number
        assert all(p.requires_grad == is_tuned for p in layer.parameters())
        assert all(module.training == is_tuned for module in layer.modules())
    encoder(x).square().sum().backward()
    with_gradient = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradient == tuned(encoder)
    assert all(p.grad is None for layer in layers[: 3 - number] for p in layer.parameters())
    assert all(not m.training for m in encoder.eval().modules())


def test_no_graph_is_kept_of_frozen_layers(build):
    make, x = build
    encoder = make("last_1")
    need_gradient = []
    for layer in layers_of(encoder):
        layer.register_forward_pre_hook(
            lambda _, inputs: need_gradient.append(inputs[0].requires_grad)
        )
    encoder(x)
    assert need_gradient == [False, False, False]
    assert encoder(x).requires_grad


def test_dropout_of_frozen_layers_is_off(bert):
    torch.manual_seed(0)
    x = torch.randint(1, 30, (4, 5))
    frozen = HFText(name=bert, tune="none").train()
    assert torch.equal(frozen(x), frozen(x))
    partly_frozen = HFText(name=bert, tune="last_1").train()
    assert not torch.equal(partly_frozen(x), partly_frozen(x))


@pytest.mark.parametrize("tune", ["last", "last_0", "last_4", "2", "All"])
def test_other_values_of_tune_raise_an_error(tune):
    with pytest.raises(ConfigError, match="tune must be all, none, or last_1 to last_3"):
        M3AEText(num_tokens=40, tune=tune, **SMALL)


@pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode")
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("tune", ["none", "last_1"])
def test_an_optimiser_changes_tuned_weights_and_no_others(tune, optimizer):
    """Frozen weights are equal bit for bit, also under weight decay and momentum."""
    torch.manual_seed(0)
    encoders = {
        "image": M3AEImage(image_size=32, tune=tune, **SMALL),
        "text": M3AEText(num_tokens=40, tune="all", **SMALL),
    }
    module = Joint(
        encoders=encoders,
        fusion=Concat,
        optimizer=partial(optimizer, lr=0.1, weight_decay=0.3),
        scheduler=None,
        num_classes=3,
        num_train=8,
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    batch = {
        "inputs": {"image": torch.randn(4, 3, 32, 32), "text": torch.randint(1, 40, (4, 5))},
        "label": torch.tensor([0, 1, 2, 0]),
        "index": torch.arange(4),
        "present": {name: torch.ones(4, dtype=torch.bool) for name in encoders},
    }
    fit(module, Loader([batch, batch]), epochs=2)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) != (name in trained), name
