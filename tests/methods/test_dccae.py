"""DCCA and DCCAE: the losses of a batch, which batches count, and their precision."""

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from torch import nn
from torch.nn.functional import mse_loss

from mla_lightning.functional import dcca_loss


class Counting(nn.Module):
    """A linear encoder with dropout that keeps every feature it returns."""

    def __init__(self):
        super().__init__()
        self.linear, self.in_features, self.out_features = nn.Linear(5, 8), 5, 8
        self.features = []

    def forward(self, x):
        self.features.append(nn.functional.dropout(self.linear(x), 0.5, self.training))
        return self.features[-1]


def test_both_losses_are_of_the_same_features_under_dropout():
    batch = incomplete_batch(2)
    encoders = {name: Counting() for name in batch["inputs"]}
    module = build_method("dccae", batch, encoders=encoders, ridge=0.05).double().train()
    for name, x in batch["inputs"].items():
        module.input_mean(name).copy_(x[batch["present"][name]].mean(dim=0))
    losses = module.losses_of(batch)
    assert [len(encoder.features) for encoder in encoders.values()] == [1, 1]
    features = {
        name: module.encoders[name].linear(encoder.features[0])
        for name, encoder in encoders.items()
    }
    torch.testing.assert_close(losses["correlation"], dcca_loss(*features.values(), module.ridge))
    decoding = torch.zeros(())
    for name, x in batch["inputs"].items():
        filled = x.clone()
        filled[~batch["present"][name]] = module.input_mean(name)
        decoding = decoding + mse_loss(module.decoders[name](features[name]), filled)
    torch.testing.assert_close(losses["decoding"], 0.001 * decoding)


def test_every_pair_of_modalities_counts():
    batch = incomplete_batch(3)
    module = build_method("dccae", batch, ridge=0.05).double()
    features = module.features(batch)
    a, b, c = (features[name] for name in ("audio", "visual", "text"))
    expected = sum(dcca_loss(*pair, module.ridge) for pair in ((a, b), (a, c), (b, c)))
    torch.testing.assert_close(module.losses_of(batch)["correlation"], expected)


@pytest.mark.parametrize("method", ["dcca", "dccae"])
def test_features_are_not_rounded_under_autocast(method):
    batch = incomplete_batch(2)
    batch["inputs"] = {name: x.float() for name, x in batch["inputs"].items()}
    module = build_method(method, batch, ridge=0.05).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.losses_of(batch)["correlation"]
    filled = {}
    for name, x in batch["inputs"].items():
        filled[name] = torch.where(batch["present"][name][:, None], x, module.input_mean(name))
    features = [module.encoders[name](x) for name, x in filled.items()]
    assert features[0].dtype == torch.float32
    torch.testing.assert_close(loss, dcca_loss(*features, module.ridge).float(), rtol=0, atol=0)


@pytest.mark.parametrize(("num_components", "is_skipped"), [(9, False), (10, True), (11, True)])
def test_a_batch_of_one_sample_more_than_components_is_skipped(num_components, is_skipped):
    """Every correlation is 1 there: 11 samples minus their mean span at most 10 dimensions."""
    batch = incomplete_batch(2)
    module = build_method("dcca", batch, num_components=num_components).double()
    module.step_on = lambda batch, losses_of: {"correlation": losses_of(batch)["correlation"]}
    assert (module.fit_batch(batch) == {}) == is_skipped
