"""What several training rules have in common, tested apart from any of them."""

import pytest
import torch
from tests.methods.harness import batches, build, fit
from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads
from mla_lightning.methods.mechanisms.apart import GradientsApart
from mla_lightning.methods.mechanisms.encoder_gradients import scale_gradients, selected_parameters
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.module import MultimodalModule


class Apart(MultimodalModule):
    """Joint and unimodal losses, whose gradients are recorded apart."""

    def fit_batch(self, batch):
        encoders = {name: list(self.encoders[name].parameters()) for name in self.modalities}
        apart = GradientsApart(self, encoders)

        def losses_of(chunk):
            features = self.features(chunk)
            unimodal = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            apart.add(unimodal.values(), chunk)
            return {"joint": self.parts.loss(self.fusion(features), chunk), **unimodal}

        def edit():
            total = {m: [p.grad.clone() for p in ps] for m, ps in encoders.items()}
            self.recorded = total, apart.gradients()

        return self.step_on(batch, losses_of, edit_grads=edit)


class Scaler:
    """A scaler of losses in place of half precision's, which needs a GPU."""

    def scale(self, loss):
        return loss * 1024.0

    def get_scale(self):
        return 1024.0


def expected_gradients(module, batch):
    """Compute the gradients of the joint loss and of the unimodal losses by two plain passes."""
    found = []
    for part in ("joint", "unimodal"):
        module.zero_grad()
        features = {m: e(batch["inputs"][m]) for m, e in module.encoders.items()}
        if part == "joint":
            loss = nn.functional.cross_entropy(module.fusion(features), batch["label"])
        else:
            own = module.fusion.unimodal(features)
            loss = sum(nn.functional.cross_entropy(z, batch["label"]) for z in own.values())
        loss.backward()
        found.append(
            {m: [p.grad.clone() for p in e.parameters()] for m, e in module.encoders.items()}
        )
    return found


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_gradients_apart_are_those_of_plain_passes(num_modalities, accumulate, scales, monkeypatch):
    data = batches(1, num_modalities)
    module = build(Apart, ConcatHeads, data, parts={"accumulate": accumulate})
    plain = build(Apart, ConcatHeads, data)
    joint, unimodal = expected_gradients(plain, data[0])
    if scales:
        original = GradientsApart.__init__

        def scaled(self, *args):
            original(self, *args)
            self._scaler = Scaler()

        monkeypatch.setattr(GradientsApart, "__init__", scaled)
    fit(module, data)
    total, apart = module.recorded
    for name, of_encoder in apart.items():
        for part, whole, first, second in zip(
            of_encoder, total[name], joint[name], unimodal[name], strict=True
        ):
            torch.testing.assert_close(part, second)
            torch.testing.assert_close(whole, first + second)


def test_gradients_apart_of_nothing_are_zeros():
    """A fusion with slices gives both losses to all columns, and none to another encoder."""
    data = batches(1)
    module = build(Apart, Concat, data)
    fit(module, data)
    _, apart = module.recorded
    assert all(bool(g.abs().sum() > 0) for of_encoder in apart.values() for g in of_encoder)


def test_scaling_leaves_gradients_of_none():
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    weights[0].grad = torch.tensor([1.0, -2.0])
    scale_gradients([weights[:1], weights[1:]], torch.tensor([0.5, 3.0]))
    assert weights[0].grad.tolist() == [0.5, -1.0]
    assert weights[1].grad is None


def test_a_filter_that_selects_nothing_is_refused():
    with pytest.raises(ConfigError, match="selects no trained parameter"):
        selected_parameters({"audio": nn.Linear(2, 2)}, "conv")
    with pytest.raises(ConfigError, match=r"unknown.*ndim"):
        selected_parameters({"audio": nn.Linear(2, 2)}, "ndim>=3")


def test_a_window_has_both_ends_and_must_be_reached():
    assert [e for e in range(6) if e in Window(1, 3)] == [1, 2, 3]
    Window(4, None).check_reached(5)
    with pytest.raises(ConfigError, match="never reached"):
        Window(5, None).check_reached(5)
    with pytest.raises(ConfigError, match="lies before"):
        Window(2, 1)


class Counted(EpochStart):
    """Counts its preparations, and checks their mode."""

    prepared = 0

    def prepare_epoch(self):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.prepared += 1

    def fit_batch(self, batch):
        assert self.training
        return self.step_on(
            batch,
            lambda chunk: {"joint": self.parts.loss(self.fusion(self.features(chunk)), chunk)},
        )


def test_an_epoch_is_prepared_once_in_evaluation_mode():
    data = batches(2)
    module = build(Counted, Concat, data)
    fit(module, data, epochs=3)
    assert module.prepared == 3
    assert int(module.prepared_epoch) == 2
