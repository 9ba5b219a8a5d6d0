"""MLA's released formula and BalanceMM against plain loops that count steps as both codes do."""

import pytest
import torch
from tests.methods.harness import batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.mla_balancemm import MLABalanceMM


def toolkit_loop(module, data, *, epochs, is_added, alpha=None, is_update_projected=False):
    """Train as the toolkits do: their plug-in is skipped while its counter of steps is 0.

    Args:
        module: Encoders and a shared head, which are trained.
        data: The batches.
        epochs: Number of epochs.
        is_added: Whether the projected gradient is added to the raw one (BalanceMM).
        alpha: Ridge term; by default the codes' schedule within the epoch.
        is_update_projected: Whether the optimiser's update is projected, not the gradient.
    """
    head = module.fusion.head
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    P, num_steps = torch.eye(head.in_features), 0
    for _ in range(epochs):
        for number, batch in enumerate(data):
            for name in module.modalities:
                optimizer.zero_grad()
                feature = module.encoders[name](batch["inputs"][name])
                cross_entropy(head(feature), batch["label"]).backward()
                before = head.weight.detach().clone()
                if num_steps > 0:
                    r = feature.detach().mean(dim=0, keepdim=True)
                    k = P @ r.T
                    ridge = alpha or 0.1 ** (number / len(data) + 1)
                    P = P - k @ k.T / (ridge + k @ r)
                    P = P / P.norm()
                    if not is_update_projected:
                        projected = head.weight.grad @ P.T
                        head.weight.grad = head.weight.grad * is_added + projected
                optimizer.step()
                if num_steps > 0 and is_update_projected:
                    with torch.no_grad():
                        head.weight.copy_(before + (head.weight - before) @ P.T)
                num_steps += 1


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_balancemm_is_the_toolkits_loop(num_modalities):
    data = batches(4, num_modalities)
    ours, plain = (build(method, SharedHead, data) for method in (MLABalanceMM, MLA))
    toolkit_loop(plain, data, epochs=2, is_added=True)
    fit(ours, data, epochs=2)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("project_update", [False, True])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_released_formula_is_the_released_codes_loop(num_modalities, project_update):
    data = batches(4, num_modalities)
    settings = {"projection": "released_formula", "source": "current", "alpha": 0.3}
    ours = build(MLA, SharedHead, data, project_update=project_update, **settings)
    plain = build(MLA, SharedHead, data)
    toolkit_loop(
        plain, data, epochs=2, is_added=False, alpha=0.3, is_update_projected=project_update
    )
    fit(ours, data, epochs=2)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-4, atol=1e-5)


def test_the_very_first_step_is_left_alone_and_only_that_one():
    data = batches(1)
    ours, plain = build(MLABalanceMM, SharedHead, data), build(MLA, SharedHead, data, hgm=False)
    start = ours.projectors["shared"].clone()
    heads, original = [], ours.modification.after_step

    def noting(head, step):
        original(head, step)
        heads.append((head.weight.detach().clone(), ours.projectors["shared"].clone()))

    ours.modification.after_step = noting
    fit(ours, data)
    batch, name = data[0], ours.modalities[0]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    logits = plain.fusion.head(plain.encoders[name](batch["inputs"][name]))
    cross_entropy(logits, batch["label"]).backward()
    optimizer.step()
    torch.testing.assert_close(heads[0][0], plain.fusion.head.weight)
    assert torch.equal(heads[0][1], start)
    assert not torch.equal(heads[1][1], start)


def test_a_reset_begins_again():
    data = batches(4)
    settings = {"projection": "released_formula", "source": "current"}
    restarted = build(MLA, SharedHead, data, reset_every=2, momentum=0.0, **settings)
    fit(restarted, data)
    halves = build(MLA, SharedHead, data, momentum=0.0, **settings)
    fit(halves, data[:2])
    halves.modification.reset()
    fit(halves, data[2:])
    torch.testing.assert_close(weights(restarted), weights(halves))
