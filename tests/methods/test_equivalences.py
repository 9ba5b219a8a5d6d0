"""What must be equal is equal, bit for bit where the arithmetic is the same."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.methods.harness import Conv, Linear, batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.functional import project_gradient, update_projector
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.energy import EnergyFusion
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.fusion.sum import Sum
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.joint_unimodal import JointUnimodal
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.mla_balancemm import MLABalanceMM
from mla_lightning.methods.mla_released import MLAReleased
from mla_lightning.methods.ogm_ge import OGMGE
from mla_lightning.methods.qmf import QMF
from mla_lightning.methods.unimodal import Unimodal

ALL = [
    (Joint, Sum),
    (Joint, Concat),
    (LateFusion, LateLogits),
    (Unimodal, LateLogits),
    (JointUnimodal, Concat),
    (OGMGE, Concat),
    (QMF, EnergyFusion),
    (MLA, SharedHead),
    (MLAReleased, SharedHead),
    (MLABalanceMM, SharedHead),
]


def plain_mla(module, data, *, project, others=False, alpha=0.1, lr=0.1):
    """The paper's algorithm as a plain PyTorch loop; others: a projector per modality."""
    head = module.fusion.head
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=1e-2)
    projectors = {name: torch.eye(head.in_features) for name in module.modalities}
    losses = []
    for batch in data:
        of_batch = {}
        for name in module.modalities:
            optimizer.zero_grad()
            feature = module.encoders[name](batch["inputs"][name])
            loss = cross_entropy(head(feature), batch["label"])
            loss.backward()
            if project:
                projected = project_gradient(head.weight.grad, projectors[name])
                head.weight.grad.copy_(projected)
            optimizer.step()
            for other in module.modalities if project else ():
                if not others or other != name:
                    mean = feature.detach().mean(dim=0)
                    projectors[other] = update_projector(projectors[other], mean, alpha)
            of_batch[name] = loss.item()
        losses.append(of_batch)
    return losses


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_mla_without_projection_is_a_plain_alternating_loop(num_modalities):
    data = batches(4, num_modalities)
    ours, plain = (build(MLA, SharedHead, data, hgm=False) for _ in range(2))
    assert fit(ours, data) == plain_mla(plain, data, project=False)
    assert torch.equal(weights(ours), weights(plain))


@pytest.mark.parametrize("projection", ["owm", "others"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_mla_is_the_papers_algorithm(num_modalities, projection):
    data = batches(4, num_modalities)
    ours, plain = (build(MLA, SharedHead, data, projection=projection) for _ in range(2))
    expected = plain_mla(plain, data, project=True, others=projection == "others")
    for one, other in zip(fit(ours, data), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", [Concat, Sum])
def test_ogm_without_strength_and_noise_is_joint_training(fusion):
    data = batches(4)
    ogm = build(OGMGE, fusion, data, alpha=0.0, noise=False)
    joint = build(Joint, fusion, data)
    assert fit(ogm, data) == fit(joint, data)
    assert torch.equal(weights(ogm), weights(joint))


def test_ogm_outside_its_window_is_joint_training():
    data = batches(4)
    joint = fit(build(Joint, Concat, data), data, epochs=3)
    late = fit(build(OGMGE, Concat, data, start_epoch=2, end_epoch=9), data, epochs=3)
    assert late[:9] == joint[:9]  # two epochs of four batches, and the third's first forward
    assert late[9:] != joint[9:]
    early = fit(build(OGMGE, Concat, data, end_epoch=0), data, epochs=3)
    assert early[0] == joint[0]
    assert early[1:] != joint[1:]


def test_late_fusion_trains_each_modality_as_if_it_were_alone():
    data = batches(4)
    late = build(LateFusion, LateLogits, data)
    fit(late, data)
    for name in ("audio", "visual"):
        alone = build(Unimodal, LateLogits, data)
        other = next(m for m in ("audio", "visual") if m != name)
        for batch in (changed := batches(4)):
            batch["inputs"][other] = torch.zeros_like(batch["inputs"][other])
        fit(alone, changed)
        ours = torch.cat([p.flatten() for p in late.encoders[name].parameters()])
        theirs = torch.cat([p.flatten() for p in alone.encoders[name].parameters()])
        assert torch.equal(ours, theirs)


def test_qmf_without_ranking_is_its_classification_losses():
    data = batches(3)
    qmf = build(QMF, EnergyFusion, data, rank_weight=0.0)
    plain = build(QMF, EnergyFusion, data, rank_weight=0.0)
    losses = fit(qmf, data)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for batch in data:
        optimizer.zero_grad()
        features = plain.features(batch)
        logits = plain.fusion.unimodal(features)
        total = sum(cross_entropy(z, batch["label"]) for z in logits.values())
        (total + cross_entropy(plain.fusion(features), batch["label"])).backward()
        optimizer.step()
    assert set(losses[0]) == {"audio", "visual", "joint"}
    torch.testing.assert_close(weights(qmf), weights(plain), rtol=1e-5, atol=1e-6)


def test_an_untouched_encoder_is_left_bit_for_bit():
    """Gradients are None, not zero, so momentum and weight decay leave the other encoder alone."""
    data = batches(2)
    module = build(MLA, SharedHead, data)
    seen = []
    original = module.step_on

    def watching(*args, **kwargs):
        before = [
            torch.cat([p.flatten().clone() for p in e.parameters()])
            for e in module.encoders.values()
        ]
        result = original(*args, **kwargs)
        after = [torch.cat([p.flatten() for p in e.parameters()]) for e in module.encoders.values()]
        seen.append([torch.equal(b, a) for b, a in zip(before, after, strict=True)])
        return result

    module.step_on = watching
    fit(module, data)
    assert seen == [[False, True], [True, False]] * 2


def test_the_released_gradients_of_zero_move_the_other_encoder():
    data = batches(3)
    legacy = build(MLAReleased, SharedHead, data)
    modern = build(MLAReleased, SharedHead, data, legacy_zero_grad=False)
    plain = build(MLA, SharedHead, data, hgm=False)
    for module in (legacy, modern, plain):
        fit(module, data)
    assert torch.equal(weights(modern), weights(plain))
    assert not torch.equal(weights(legacy), weights(modern))


def test_balancemm_adds_its_projection():
    data = batches(3)
    theirs, plain = build(MLABalanceMM, SharedHead, data), build(MLA, SharedHead, data, hgm=False)
    fit(theirs, data)
    fit(plain, data)
    assert not torch.equal(theirs.fusion.head.weight, plain.fusion.head.weight)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize(("method", "fusion"), ALL)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_every_method_learns(method, fusion, num_modalities, precision):
    data = batches(2, num_modalities)
    module = build(method, fusion, data)
    losses = fit(module, data, epochs=40, precision=precision)
    classification = set(losses[0]) & {"joint", *module.modalities}
    for name in classification:
        assert losses[-1][name] < 0.9 * losses[0][name], name


def test_half_precision_leaves_the_projector_in_single_precision():
    data = batches(30)
    module = build(MLA, SharedHead, data)
    means, original = [], module.modification.remember

    def noting(step):
        means.append((step.name, step.mean))
        original(step)

    module.modification.remember = noting
    fit(module, data, precision="bf16-mixed")
    expected = {name: torch.eye(module.fusion.head.in_features) for name in module.modalities}
    for name, mean in means:
        (other,) = set(module.modalities) - {name}
        expected[other] = update_projector(expected[other], mean, 0.1)
    assert module.projectors.keys() == expected.keys()
    for name, projector in module.projectors.items():
        torch.testing.assert_close(projector, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "fusion"), ALL)
def test_a_batch_is_one_global_step(method, fusion):
    data = batches(5)
    module = build(method, fusion, data)
    fit(module, data, epochs=2)
    assert module.trainer.global_step == 10


def test_clipping_bounds_the_step_after_the_edit():
    data = batches(1)
    free = build(MLA, SharedHead, data, momentum=0.0)
    held = build(MLA, SharedHead, data, momentum=0.0, parts={"clip_norm": 1e-6})
    start = weights(free).clone()
    fit(free, data)
    fit(held, data)
    decay = 0.1 * 1e-2  # the decay is not clipped
    assert (weights(free) - start).norm() > 1e-2
    assert (weights(held) - start).norm() < 2 * 2 * (0.1 * 1e-6 + decay * start.norm())


def test_the_schedule_steps_once_an_epoch():
    data = batches(3)
    parts = {"scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.1)}
    joint = build(Joint, Concat, data)
    joint.parts = replace(joint.parts, **parts)
    rates = []
    original = joint.fit_batch
    joint.fit_batch = lambda b: (
        rates.append(joint.trainer.optimizers[0].param_groups[0]["lr"]),
        original(b),
    )[1]
    fit(joint, data, epochs=5)
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 3)


def test_dropout_is_a_function_of_the_batch_not_of_history():
    data = batches(3)
    encoder = partial(Linear, dropout=0.5)
    first = build(Joint, Concat, data, encoder=encoder)
    second = build(Joint, Concat, data, encoder=encoder)
    fit(first, data)
    torch.rand(17)  # someone else draws numbers
    fit(second, data)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("param_filter", "touched"),
    [("conv", {4}), ("ndim>=2", {4, 2}), ("all", {4, 2, 1})],
)
def test_ogm_touches_what_its_filter_says(param_filter, touched):
    module = build(OGMGE, Concat, batches(1), encoder=Conv, param_filter=param_filter)
    assert {p.ndim for params in module.modulated.values() for p in params} == touched - {2}
