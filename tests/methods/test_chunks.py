"""trainer.accumulate: the gradient of a batch in chunks is that of the whole, for every method."""

import pytest
import torch
from tests.methods.catalogue import (
    EPOCHS,
    METHODS,
    Gradients,
    build_method,
    incomplete_batch,
    takes_chunks,
    takes_incomplete,
)
from tests.methods.harness import batches, build, fit, weights

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.late_fusion import LateFusion


def trained(name, batch, **parts):
    """Train for two epochs of one batch, or more where there are more stages."""
    module = build_method(name, batch, **parts)
    gradients = Gradients(module)
    losses = fit(module, [batch], epochs=EPOCHS.get(name, 2), precision="64-true")
    return losses, gradients.steps, weights(module)


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize(("num_modalities", "is_complete"), [(2, False), (3, False), (2, True)])
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_in_chunks_is_the_whole_batch_or_refused(name, num_modalities, is_complete):
    batch = incomplete_batch(num_modalities, is_complete=is_complete)
    if not takes_incomplete(name) and not is_complete:
        with pytest.raises(ConfigError, match="no rule for samples with missing modalities"):
            build_method(name, batch)
        return
    if not takes_chunks(name):
        with pytest.raises(ConfigError, match="cannot be computed in chunks"):
            build_method(name, batch, accumulate=2)
        return
    losses, gradients, expected = trained(name, batch)
    for accumulate in (2, 4):
        cut_losses, cut_gradients, cut = trained(name, batch, accumulate=accumulate)
        for one, other in zip(losses, cut_losses, strict=True):
            assert other == pytest.approx(one, rel=1e-9)
        for one, other in zip(gradients, cut_gradients, strict=True):
            assert one.keys() == other.keys()
            for key, gradient in one.items():
                torch.testing.assert_close(other[key], gradient, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(cut, expected, rtol=1e-8, atol=1e-10)


def test_a_loss_on_some_samples_alone_would_be_noticed(monkeypatch):
    """The test above fails for a method that leaves out its share of the samples."""
    monkeypatch.setattr("mla_lightning.parts.relative_share", lambda chunk, name: 1.0)
    with pytest.raises(AssertionError):
        test_a_batch_in_chunks_is_the_whole_batch_or_refused("late_fusion", 2, False)


@pytest.mark.parametrize("name", ["late_fusion", "unimodal"])
def test_a_chunk_without_any_modality_adds_nothing(name):
    batch = incomplete_batch(2)
    for has in batch["present"].values():
        has[6:] = False
    whole, cut = (trained(name, batch, accumulate=accumulate)[2] for accumulate in (1, 2))
    torch.testing.assert_close(cut, whole, rtol=1e-8, atol=1e-10)


def test_fusions_that_mix_the_samples_of_a_batch_are_not_cut():
    data, parts = batches(1), {"accumulate": 2}
    fusion = lambda *args, **options: LateLogits(*args, weighting="batch_entropy", **options)  # noqa: E731
    with pytest.raises(ConfigError, match="weighting=batch_entropy"):
        build(Joint, fusion, data, parts=parts)
    with pytest.raises(ConfigError, match="weighting=batch_entropy"):
        build(LateFusion, fusion, data, joint_weight=1.0, parts=parts)
    fit(build(LateFusion, fusion, data, parts=parts), data)  # fused at test time only
