"""Logits that are only scored have a graph, as autocast keeps copies of weights with theirs."""

import pytest
import torch
from tests.methods.harness import batches, build, fit

from mla_lightning.fusion import Sum
from mla_lightning.methods import OGMGE, OPM, InfoReg

METHODS = {
    "opm": (OPM, {"start_epoch": 0, "p_exe": 1.0, "ogm_alpha": 0.5}),
    "ogm_ge": (OGMGE, {}),
    "inforeg": (InfoReg, {}),
}


class Watched(Sum):
    """Notes with which settings of autograd own logits are computed in training."""

    def unimodal(self, features):
        if self.training:
            self.with_graph = [*getattr(self, "with_graph", ()), torch.is_grad_enabled()]
        return super().unimodal(features)


@pytest.mark.parametrize("name", METHODS)
def test_heads_whose_logits_are_scored_get_their_gradient(name):
    """On some versions of torch heads would have none whose scores are computed without graph."""
    method, options = METHODS[name]
    data, gradients = batches(1), []
    module = build(method, Watched, data, **options)
    before_step = module.on_before_optimizer_step

    def recorded(optimizer):
        gradients.extend(p.grad for p in module.fusion.parameters())
        before_step(optimizer)

    module.on_before_optimizer_step = recorded
    fit(module, data, precision="bf16-mixed")
    assert set(module.fusion.with_graph) == {True}
    assert len(gradients) == 4
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)
