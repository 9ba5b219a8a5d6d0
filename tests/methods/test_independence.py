"""Modalities that are trained as if each were alone do not touch each other, also when clipped."""

import pytest
import torch
from tests.methods.harness import batches, build, fit

from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.fusion.sum import Sum
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.methods.unimodal import Unimodal

CLIP = {"clip_norm": 0.3}


def trained(method, fusion, *, scale, num_modalities=2, **options):
    """Train with the inputs of all modalities but audio multiplied by a number."""
    data = batches(4, num_modalities)
    for batch in data:
        for name in set(batch["inputs"]) - {"audio"}:
            batch["inputs"][name] = batch["inputs"][name] * scale
    module = build(method, fusion, data, parts=CLIP, **options)
    fit(module, data)
    head = module.fusion.heads["audio"] if hasattr(module.fusion, "heads") else module.fusion.head
    return [p.detach() for layer in (module.encoders["audio"], head) for p in layer.parameters()]


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("fusion", [LateLogits, Sum])
@pytest.mark.parametrize("method", [Unimodal, LateFusion])
def test_a_clipped_modality_trains_the_same_beside_any_other(method, fusion, num_modalities):
    small, large = (
        trained(method, fusion, scale=scale, num_modalities=num_modalities) for scale in (1, 50)
    )
    for one, other in zip(small, large, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("method", "fusion", "options"),
    [(LateFusion, LateLogits, {"joint_weight": 1.0}), (Joint, Concat, {})],
)
def test_one_norm_is_clipped_where_a_loss_connects_the_modalities(method, fusion, options):
    data = batches(1)
    module = build(method, fusion, data, momentum=0.0, parts=CLIP, **options)
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit(module, data)
    lr, decay = 0.1, 1e-2
    steps = [
        (start[name] - p.detach()) / lr - decay * start[name]
        for name, p in module.named_parameters()
    ]
    norm = torch.cat([step.flatten() for step in steps]).norm()
    assert float(norm) == pytest.approx(0.3, rel=1e-4)


@pytest.mark.parametrize("name", ["audio", "visual"])
def test_the_norm_of_each_modality_is_clipped(name):
    data = batches(1)
    module = build(Unimodal, LateLogits, data, momentum=0.0, parts=CLIP)
    start = {key: p.detach().clone() for key, p in module.named_parameters() if f".{name}." in key}
    fit(module, data)
    now = dict(module.named_parameters())
    steps = [(start[key] - now[key].detach()) / 0.1 - 1e-2 * start[key] for key in start]
    norm = torch.cat([step.flatten() for step in steps]).norm()
    assert float(norm) == pytest.approx(0.3, rel=1e-4)


def test_a_shared_head_is_clipped_by_itself():
    data = batches(1)
    module = build(Unimodal, Concat, data, parts=CLIP)
    groups = module.clipped_groups()
    assert sorted(map(len, groups)) == [2, 2, 2]
    assert {p for group in groups for p in group} == set(module.parameters())
