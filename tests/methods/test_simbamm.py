"""SimBaMM and other joint training on the transformer: dropped modalities are absent ones."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import Gradients
from tests.methods.harness import NUM_CLASSES, batches, build, fit, weights
from tests.train.jobs import in_child, killed, make_job, outcome, same
from tests.train.rank_processes import on_ranks, train

from mla_lightning.encoders import Steps
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import TransformerFusion
from mla_lightning.methods import Joint, JointUnimodal, SimBaMM
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job

SMALL = partial(TransformerFusion, width=16, num_heads=2)
STILL = partial(SMALL, dropout=0.0)
BOTTLENECKS = partial(STILL, num_bottlenecks=2, fusion_layer=1)


def samples(num_modalities, *, is_complete=False, number=3, steps=None):
    """Batches of features or of sequences; one half of the first has no audio at all."""
    rng = torch.Generator().manual_seed(3)
    data = batches(number, num_modalities)
    for batch in data:
        if steps:
            for name in batch["inputs"]:
                x = torch.randn(len(batch["label"]), steps, 5, generator=rng)
                x[::2, steps - 1 :] = 0
                batch["inputs"][name] = x
        if is_complete:
            continue
        present = batch["present"]
        present["audio"][4:] = present["audio"][1] = False
        present["visual"][0] = False
        for name, has in present.items():
            x = batch["inputs"][name]
            batch["inputs"][name] = x * has.view(-1, *[1] * (x.ndim - 1))
    return data


def trained(method, fusion, data, *, is_complete, epochs=2, accumulate=1, **options):
    parts = {"is_complete": is_complete, "accumulate": accumulate}
    module = build(method, fusion, data, parts=parts, **options)
    steps = Gradients(module).steps
    losses = fit(module, data, epochs=epochs, precision="64-true")
    return module, losses, steps


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_without_modality_dropout_it_is_joint_training_bit_for_bit(num_modalities, is_complete):
    data = samples(num_modalities, is_complete=is_complete)
    one, losses, _ = trained(Joint, SMALL, data, is_complete=is_complete)
    other, others, _ = trained(SimBaMM, SMALL, data, is_complete=is_complete, modality_dropout=0.0)
    assert losses == others
    assert torch.equal(weights(one), weights(other))


@pytest.mark.parametrize("fusion", [STILL, BOTTLENECKS])
@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_dropped_modalities_are_masked_as_absent_ones(
    monkeypatch, num_modalities, is_complete, fusion
):
    data, drawn = samples(num_modalities, is_complete=is_complete), []
    kept = SimBaMM.kept
    monkeypatch.setattr(
        SimBaMM, "kept", lambda module, chunk: drawn.append(kept(module, chunk)) or drawn[-1]
    )
    one, losses, _ = trained(
        SimBaMM, fusion, data, is_complete=is_complete, modality_dropout=0.6, epochs=1
    )
    absent = [{**batch, "present": mask} for batch, mask in zip(data, drawn, strict=True)]
    other, others, _ = trained(Joint, fusion, absent, is_complete=False, epochs=1)
    for batch, mask in zip(data, drawn, strict=True):
        for name, has in batch["present"].items():
            assert not (mask[name] & ~has).any()
        assert bool(torch.stack([*mask.values()]).any(dim=0).all())
    for found, expected in zip(losses, others, strict=True):
        assert found == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-9, atol=1e-12)
    usual, _, _ = trained(Joint, fusion, data, is_complete=is_complete, epochs=1)
    assert not torch.allclose(weights(usual), weights(one))


def test_what_is_dropped_depends_on_seed_epoch_and_batch(monkeypatch):
    drawn, places = [], []
    kept, start = SimBaMM.kept, SimBaMM.on_train_batch_start

    def recording(module, chunk):
        mask = kept(module, chunk)
        drawn.append(torch.stack([*mask.values()]))
        places.append((module.current_epoch, module.trainer.fit_loop.batch_idx))
        return mask

    def started(module, batch, batch_idx):
        given.append((module.current_epoch, batch_idx))
        start(module, batch, batch_idx)

    monkeypatch.setattr(SimBaMM, "kept", recording)
    monkeypatch.setattr(SimBaMM, "on_train_batch_start", started)
    data = samples(3, is_complete=True)
    for batch in data:
        batch["index"] = torch.arange(len(batch["label"]))  # as of plain batches

    def masks(**options):
        drawn.clear()
        module = build(SimBaMM, STILL, data, modality_dropout=0.5, **options)
        fit(module, data, epochs=2)
        return list(drawn)

    given = []
    first = masks()
    assert given == places
    assert all(torch.equal(a, b) for a, b in zip(first, masks(), strict=True))
    different = {tuple(mask.flatten().tolist()) for mask in first}
    assert len(different) == len(first) == 6
    assert not torch.equal(first[0], masks(parts={"seed": 1})[0])
    halves = masks(parts={"accumulate": 2})
    assert torch.equal(torch.cat(halves[:2], dim=1), first[0])


def test_nothing_is_dropped_in_evaluation():
    data = samples(2, is_complete=True)
    module, _, _ = trained(SimBaMM, STILL, data, is_complete=True, modality_dropout=1.0)
    batch = data[0] | {"inputs": {m: x.double() for m, x in data[0]["inputs"].items()}}
    module.eval()
    expected = module.fusion(module.features(batch))
    torch.testing.assert_close(module.evaluate_batch(batch)["multi"], expected)


def test_a_probability_out_of_range_is_an_error():
    for p in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=rf"modality_dropout must be in \[0, 1\], got {p}"):
            build(SimBaMM, SMALL, batches(1), modality_dropout=p)


class OwnSteps(Steps):
    def __init__(self):
        super().__init__(5)
        self.scale = torch.nn.Parameter(torch.ones(5))

    def forward(self, x):
        return super().forward(x) * self.scale


@pytest.mark.parametrize(
    ("num_modalities", "is_complete", "steps"),
    [(2, True, None), (3, False, None), (2, False, 4), (3, True, 4)],
)
@pytest.mark.parametrize("method", [Joint, JointUnimodal, SimBaMM])
def test_chunks_give_the_gradient_of_the_batch(method, num_modalities, is_complete, steps):
    data = samples(num_modalities, is_complete=is_complete, steps=steps, number=2)
    options = {"encoder": OwnSteps} if steps else {}
    if method is SimBaMM:
        options["modality_dropout"] = 0.5
    fusion = STILL if num_modalities == 2 else BOTTLENECKS
    whole = trained(method, fusion, data, is_complete=is_complete, epochs=1, **options)
    cut = trained(method, fusion, data, is_complete=is_complete, epochs=1, accumulate=3, **options)
    for found, expected in zip(cut[1], whole[1], strict=True):
        assert found == pytest.approx(expected, rel=1e-9)
    for found, expected in zip(cut[2], whole[2], strict=True):
        assert found.keys() == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-8, atol=1e-10)
    assert any(key.startswith("encoders.") and g.any() for key, g in whole[2][0].items())


def test_the_losses_of_single_modalities_are_those_with_all_others_missing():
    data = samples(3, number=1)
    module = build(JointUnimodal, STILL, data, parts={"is_complete": False})
    fitted = fit(module, data, precision="64-true")
    other = build(JointUnimodal, STILL, data, parts={"is_complete": False}).double()
    batch = data[0]
    features = other.features(
        batch | {"inputs": {m: x.double() for m, x in batch["inputs"].items()}}
    )
    for name, has in batch["present"].items():
        alone = {m: has if m == name else torch.zeros_like(has) for m in features}
        logits = other.fusion(features, alone)
        expected = torch.nn.functional.cross_entropy(logits[has], batch["label"][has])
        assert fitted[0][name] == pytest.approx(expected.item(), rel=1e-9)
    assert logits.shape[1] == NUM_CLASSES


@pytest.mark.parametrize("is_complete", [True, False])
def test_two_ranks_drop_what_one_process_drops(is_complete):
    options = {"is_complete": is_complete, "modality_dropout": 0.5}
    first, second = on_ranks(lambda: train("simbamm", num_ranks=2, **options))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first, train("simbamm", **options), rtol=0, atol=1e-10)
    assert train("simbamm", is_complete=is_complete)["epochs"] != first["epochs"]


@pytest.mark.parametrize("method", ["concat", "simbamm"])
def test_runs_on_the_transformer_resume_bit_for_bit(tmp_path, method):
    words = {
        "concat": ("fusion@method.fusion=transformer", "method.fusion.num_bottlenecks=2"),
        "simbamm": ("method.modality_dropout=0.4", "missing=anchor"),
    }[method]
    words = (f"method={method}", *words, "method.fusion.width=16")
    whole = make_job(tmp_path / "whole", *words)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words, "checkpoint.every_n_batches=1")
    assert killed(job, (MultimodalModule, "training_step", 14)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))
