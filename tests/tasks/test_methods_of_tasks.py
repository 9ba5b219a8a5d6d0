"""Every method on every task: trained, or refused with a reason before anything starts."""

import math

import pytest
import torch
from tests.methods.catalogue import (
    METHODS,
    SIZE,
    Gradients,
    build_method,
    class_of,
    incomplete_batch,
    takes_chunks,
    takes_incomplete,
)
from tests.methods.harness import batches, build, fit, weights

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, LateFusion, SharedHead
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.late_fusion import LateFusion as LateFusionMethod
from mla_lightning.methods.mla import MLA
from mla_lightning.tasks import Classification, Multilabel, Regression


def refuses(name, kind):
    """Return whether a method's class says that it is not for a task, or not for class weights."""
    method = class_of(name)
    return kind in method.not_for or (kind == "class_weights" and not method.follows_task)


WEIGHTS = torch.tensor([0.5, 1.0, 3.0, 2.0]).double()


def task_of(kind):
    if kind == "regression":
        return Regression(mean=10.0, std=4.0)
    return Multilabel() if kind == "multilabel" else Classification(class_weights=WEIGHTS)


def batch_of(kind, num_modalities=2, *, is_complete=False):
    """Build a batch of random features with the labels of a task."""
    batch = incomplete_batch(num_modalities, is_complete=is_complete)
    rng = torch.Generator().manual_seed(1)
    if kind == "regression":
        batch["label"] = 10 + 4 * torch.randn(SIZE, generator=rng)
    if kind == "multilabel":
        batch["label"] = (torch.rand(SIZE, 4, generator=rng) < 0.4).float()
    return batch


def parts_of(kind):
    return {"task": task_of(kind), "num_classes": 1 if kind == "regression" else 4}


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize("kind", ["regression", "multilabel", "class_weights"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_on_a_task_or_refuses_it(name, kind):
    batch = batch_of(kind, is_complete=not takes_incomplete(name))
    if refuses(name, kind):
        reason = "has no effect on" if kind == "class_weights" else f"is not for {kind}: "
        with pytest.raises(ConfigError, match=reason):
            build_method(name, batch, **parts_of(kind))
        return
    module = build_method(name, batch, **parts_of(kind))
    before = weights(module).clone()
    losses = fit(module, [batch], epochs=2, precision="64-true")
    assert all(math.isfinite(loss) for step in losses for loss in step.values())
    assert not torch.equal(weights(module), before)
    column = {"regression": "val/mae", "multilabel": "val/f1_micro"}.get(kind, "val/acc")
    assert math.isfinite(module.epoch_metrics[column])
    assert ("val/acc" in module.epoch_metrics) == (kind == "class_weights")
    single = {**batch, "inputs": {m: x.float() for m, x in batch["inputs"].items()}}
    with torch.no_grad():
        outputs = module.float().outputs(single)
    for z in outputs.values():
        assert z.shape == (SIZE, parts_of(kind)["num_classes"])
        assert bool(z.isfinite().all())
    if kind == "regression":  # in the target's own unit, not standardised
        assert 2 < float(outputs["multi"].mean()) < 18


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in METHODS
        for kind in ("regression", "multilabel", "class_weights")
        if takes_chunks(name) and not refuses(name, kind)
    ],
)
def test_chunks_of_a_batch_have_the_gradient_of_the_batch(name, kind):
    if refuses(name, kind):
        return
    batch = batch_of(kind, is_complete=not takes_incomplete(name))
    gradients, losses = [], []
    for accumulate in (1, 3):
        module = build_method(name, batch, accumulate=accumulate, **parts_of(kind))
        observer = Gradients(module)
        losses.append(fit(module, [batch], epochs=2, precision="64-true"))
        gradients.append(observer.steps)
    for one, other in zip(*losses, strict=True):
        assert other == pytest.approx(one, rel=1e-6)
    for one, other in zip(*gradients, strict=True):
        for key, gradient in one.items():
            torch.testing.assert_close(other[key], gradient, rtol=1e-5, atol=1e-7)


def test_the_share_of_weights_is_needed(monkeypatch):
    """The test above fails for chunks whose weighted means are averaged by their sizes."""
    monkeypatch.setattr("mla_lightning.parts.weight_share", lambda *_, **__: 1.0)
    with pytest.raises(AssertionError):
        test_chunks_of_a_batch_have_the_gradient_of_the_batch("concat", "class_weights")


@pytest.mark.parametrize("name", METHODS)
def test_refused_tasks_have_a_reason_and_a_remedy(name):
    method = class_of(name)
    for kind in ("regression", "multilabel"):
        assert method.follows_task or kind in method.not_for
        assert "Use method=" in method.not_for.get(kind, "Use method=")


def test_a_method_of_ones_own_is_for_classes_until_it_says_that_it_follows_the_task():
    class Own(Joint):
        follows_task = False

    data = batches(1)
    with pytest.raises(ConfigError, match="set its class attribute follows_task = True"):
        build(Own, Concat, data, parts={"task": Multilabel()})
    with pytest.raises(ConfigError, match=r"loss\.class_weights has no effect on Own"):
        build(Own, Concat, data, parts={"task": Classification(class_weights=WEIGHTS.float())})
    fit(build(Own, Concat, data), data)


# ---------------------------------------------------------------------- closed forms


def test_joint_training_minimises_the_squared_error_of_the_standardised_target():
    batch = batch_of("regression", is_complete=True)
    module = build_method("concat", batch, **parts_of("regression"))
    module.double()
    with torch.no_grad():
        z = module.fusion(module.features(batch))[:, 0]
    ((loss,),) = [step.values() for step in fit(module, [batch], precision="64-true")]
    expected = float((z - (batch["label"] - 10) / 4).square().mean())
    assert loss == pytest.approx(expected, rel=1e-5)


def test_class_weights_change_the_losses_of_every_modality_as_the_closed_form_says():
    batch = incomplete_batch(2)
    module = build_method("late_fusion", batch, **parts_of("class_weights"))
    module.double()
    with torch.no_grad():
        logits = module.fusion.unimodal(module.features(batch))
        losses = module.parts.unimodal_losses(logits, batch)
    for name, z in logits.items():
        has = batch["present"][name]
        expected = torch.nn.CrossEntropyLoss(weight=WEIGHTS)(z[has], batch["label"][has])
        torch.testing.assert_close(losses[name], expected)


@pytest.mark.parametrize(
    ("method", "fusion"),
    [(MLA, SharedHead), (LateFusionMethod, lambda *a: LateFusion(*a, weighting="entropy"))],
)
def test_the_variance_of_the_residuals_is_that_of_train(method, fusion):
    data = [batch_of("regression")]
    data[0] = {**data[0], "inputs": {m: x.float() for m, x in data[0]["inputs"].items()}}
    parts = parts_of("regression") | {"train_batches": lambda: data, "is_complete": False}
    module = build(method, fusion, data, parts=parts, lr=0.01)
    fit(module, data)
    batch, expected = data[0], []
    with torch.no_grad():
        logits = module.fusion.unimodal(module.features(batch))
    for name in module.modalities:
        has = batch["present"][name]
        residual = logits[name][has, 0] - (batch["label"][has] - 10) / 4
        expected.append(residual.square().mean())
    torch.testing.assert_close(module.fusion.residual_variance, torch.stack(expected))
    assert "fusion.residual_variance" in module.state_dict()
    with pytest.raises(ConfigError, match="measures residuals on all training samples at once"):
        build(method, fusion, data, parts=parts_of("regression"))


def test_class_means_need_classes():
    data = [batch_of("multilabel")]
    with pytest.raises(ConfigError, match="projection=class_means is not for multilabel"):
        build(MLA, SharedHead, data, parts=parts_of("multilabel"), projection="class_means")
