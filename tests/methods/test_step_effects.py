"""What steps do to each modality: against plain loops, and nothing left behind."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from tests.methods.harness import WIDTH, Linear, Loader, batches, build, fit
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from mla_lightning.callbacks.diagnostics import EpochDiagnostics, at_head
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.unimodal import Unimodal
from mla_lightning.metrics.geometry import modality_gap
from mla_lightning.metrics.probe import ridge_probe

NAMES = ("audio", "visual")


class Normed(nn.Sequential):
    """Its running statistics move with every forward pass in training."""

    def __init__(self):
        super().__init__(nn.Linear(5, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh())
        self.out_features = WIDTH


def watched(module, data, *, epochs=1, mode="epoch", val=None, **trainer):
    """Train with a callback that watches; return each epoch's numbers, and the callback."""
    probed = {"train": data, "val": val or data}
    callback = EpochDiagnostics(mode, data[0], probed, len(data))
    rows = []
    own = module.on_train_epoch_end

    def keeping():
        rows.append(dict(module.epoch_metrics))
        own()

    module.on_train_epoch_end = keeping
    runner = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[callback],
        **trainer,
    )
    runner.fit(module, Loader(data), Loader(data[:1]))
    return rows, callback


def losses_on(module, fixed):
    """Each modality's own loss and accuracy in evaluation mode."""
    module.eval()
    with torch.no_grad():
        logits = module.evaluate_batch(fixed)
    module.train()
    label = fixed["label"]
    return {
        m: (
            float(cross_entropy(logits[m], label)),
            float((logits[m].argmax(1) == label).float().mean()),
        )
        for m in NAMES
    }


def by_hand(module, data, *, watch, lr, momentum, is_shared=True):
    """Alternate in a plain loop; measure around the steps of one batch.

    Returns:
        The changes by whole steps and by their own gradients, and the gradients of the head.
    """
    one = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum, weight_decay=1e-2)
    optimizers = dict.fromkeys(NAMES, one)
    if not is_shared:  # an optimiser per modality has a momentum of the head for each
        for name in NAMES:
            parts = [*module.encoders[name].parameters(), *module.fusion.head.parameters()]
            optimizers[name] = torch.optim.SGD(parts, lr=lr, momentum=momentum, weight_decay=1e-2)
    whole, own, gradients = {}, {}, {}
    for number, batch in enumerate(data):
        for step in NAMES:
            optimizer = optimizers[step]
            module.zero_grad()
            logits = module.fusion.head(module.encoders[step](batch["inputs"][step]))
            cross_entropy(logits, batch["label"]).backward()
            if number != watch:
                optimizer.step()
                continue
            gradients[step] = module.fusion.head.weight.grad.clone()
            before, weights = losses_on(module, data[0]), deepcopy(module.state_dict())
            with torch.no_grad():
                for p in module.parameters():
                    if p.grad is not None:
                        p.sub_(lr * p.grad)
            alone = losses_on(module, data[0])
            module.load_state_dict(weights)
            optimizer.step()
            after = losses_on(module, data[0])
            for m in NAMES:
                for table, later in ((whole, after), (own, alone)):
                    table[step, m] = tuple(x - y for x, y in zip(later[m], before[m], strict=True))
    return whole, own, gradients


@pytest.mark.parametrize(
    ("momentum", "settings"),
    [(0.0, {"hgm": False}), (0.9, {"hgm": False}), (0.9, {"projection": "own_momentum"})],
)
def test_changes_are_those_of_a_plain_loop(momentum, settings):
    data = batches(5)
    ours, plain = (build(MLA, SharedHead, data, momentum=momentum, **settings) for _ in range(2))
    (row,), _ = watched(ours, data)
    is_shared = "projection" not in settings
    whole, own, gradients = by_hand(
        plain, data, watch=2, lr=0.1, momentum=momentum, is_shared=is_shared
    )
    for (step, m), (loss, accuracy) in whole.items():
        assert row[f"forgetting/loss/{step}/{m}"] == pytest.approx(loss, abs=1e-5)
        assert row[f"forgetting/acc/{step}/{m}"] == pytest.approx(accuracy, abs=1e-6)
    for (step, m), (loss, accuracy) in own.items():
        assert row[f"forgetting/own_loss/{step}/{m}"] == pytest.approx(loss, abs=1e-5)
        assert row[f"forgetting/own_acc/{step}/{m}"] == pytest.approx(accuracy, abs=1e-6)
    apart = [abs(whole[key][0] - own[key][0]) for key in whole]
    assert (max(apart) > 0.01) == (momentum > 0)  # only momentum makes them differ
    expected = cosine_similarity(*(g.flatten() for g in gradients.values()), dim=0)
    assert row["gradient/raw/audio/visual"] == pytest.approx(float(expected), abs=1e-5)


def test_a_step_of_no_length_changes_nothing_whatever_batch_norm_does():
    data = batches(5, size=32)
    module = build(
        MLA, SharedHead, data, hgm=False, encoder=Normed, lr=1e-12, order=["visual", "audio"]
    )
    (row,), _ = watched(module, data)
    changes = [value for key, value in row.items() if key.startswith("forgetting/")]
    assert len(changes) == 16
    assert max(map(abs, changes)) < 1e-6


def test_the_own_gradient_is_the_whole_step_without_momentum_and_decay():
    data = batches(5)
    module = build(MLA, SharedHead, data, hgm=False)
    module.parts = replace(module.parts, optimizer=partial(torch.optim.SGD, lr=0.1))
    (row,), _ = watched(module, data)
    for step in NAMES:
        for m in NAMES:
            whole = row[f"forgetting/loss/{step}/{m}"]
            assert row[f"forgetting/own_loss/{step}/{m}"] == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("encoder", [Linear, Normed])
@pytest.mark.parametrize("mode", ["epoch", "full"])
def test_weights_buffers_and_optimiser_are_the_same_bit_for_bit(encoder, mode):
    data = batches(5)
    plain, seen = (build(MLA, SharedHead, data, encoder=encoder) for _ in range(2))
    fit(plain, data, epochs=2)
    watched(seen, data, epochs=2, mode=mode)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, seen.state_dict()[key]), key
    states = [m.trainer.optimizers[0].state_dict()["state"] for m in (plain, seen)]
    for key, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][key][name]), (key, name)


def test_an_update_projected_after_the_step_is_told_as_applied():
    data = batches(6)
    options = {"projection": "owm", "alpha": 1e-3}
    edited = build(MLA, SharedHead, data, **options)
    (row,), _ = watched(edited, data)
    assert "gradient/edited/audio/visual" in row
    assert row["gradient/edited/audio/visual"] != row["gradient/raw/audio/visual"]
    assert "forgetting/own_loss/audio/visual" in row
    later = build(MLA, SharedHead, data, project_update=True, **options)
    moved = []
    original = later._fit_modality

    def keeping(name, batch, **options):
        before = later.fusion.head.weight.detach().clone()
        losses = original(name, batch, **options)
        moved.append((before - later.fusion.head.weight.detach()).flatten())
        return losses

    later._fit_modality = keeping
    (row,), _ = watched(later, data)
    at = 2 * 2  # the third batch of six is watched; two steps each
    expected = float(cosine_similarity(moved[at], moved[at + 1], dim=0))
    assert row["gradient/applied/audio/visual"] == pytest.approx(expected, abs=1e-5)
    assert row["gradient/applied/audio/visual"] != row["gradient/raw/audio/visual"]
    assert not any(key.startswith(("gradient/edited", "forgetting/own")) for key in row)


class Alternating(Unimodal):
    """Heads of their own, trained one modality after the other."""

    def fit_batch(self, batch):
        losses = {}
        for name in self.modalities:

            def losses_of(chunk, name=name):
                logits = self.fusion.heads[name](self.encoders[name](chunk["inputs"][name]))
                return {name: cross_entropy(logits, chunk["label"])}

            losses |= self.step_on(batch, losses_of)
        return losses


def test_heads_of_their_own_forget_nothing_by_anothers_step():
    data = batches(5)
    (row,), _ = watched(build(Alternating, LateLogits, data), data)
    for kind in ("loss", "acc", "own_loss", "own_acc"):
        assert row[f"forgetting/{kind}/audio/visual"] == 0
        assert row[f"forgetting/{kind}/visual/audio"] == 0
    assert row["forgetting/loss/audio/audio"] != 0
    assert row["forgetting/own_loss/visual/visual"] != 0


def test_the_probe_is_fitted_to_train_and_scored_on_validation():
    data = batches(8, size=16)
    train, val = data[:5], data[5:]
    module = build(MLA, SharedHead, train)
    probed, _ = watched(module, train, val=val, epochs=2)
    module.eval()
    for name in NAMES:
        pairs = [
            (_features(module, name, part), torch.cat([b["label"] for b in part]))
            for part in (train, val)
        ]
        probe = ridge_probe(*pairs, 4)
        is_right = probe(pairs[1][0]).argmax(dim=1) == pairs[1][1]
        assert probed[1][f"probe/acc/{name}"] == pytest.approx(float(is_right.float().mean()))
    gap = modality_gap(*(_features(module, name, val) for name in NAMES))
    assert probed[1]["gap/audio/visual"] == pytest.approx(gap)


@torch.no_grad()
def _features(module, name, part):
    return torch.cat([module.encoders[name](batch["inputs"][name]) for batch in part])


def test_features_of_other_widths_meet_where_the_head_takes_them():
    data = batches(3)
    module = build(MLA, SharedHead, data)
    module.fusion = SharedHead({"audio": WIDTH, "visual": WIDTH}, 4, dim=9)
    features = {name: torch.randn(7, WIDTH) for name in NAMES}
    at_the_head = at_head(module, features)
    assert torch.equal(at_the_head["audio"], module.fusion.adapters["audio"](features["audio"]))
    assert at_the_head["visual"].shape == (7, 9)
    assert at_head(build(Joint, LateLogits, data), features) == features


def test_a_step_of_each_stage_is_counted():
    class Staged(MLA):
        @property
        def is_selectable(self):
            return self.current_epoch >= 2

    data = batches(2)
    rows, _ = watched(build(Staged, SharedHead, data), data, epochs=4)
    assert ["cost/step_flops" in row for row in rows] == [True, False, True, False]


def test_a_single_batch_is_watched_and_counted():
    data = batches(1)
    module = build(Unimodal, LateLogits, data)
    rows, callback = watched(module, data, epochs=2)
    for row in rows:
        assert any(key.startswith("forgetting/loss/") for key in row)
    # Linear 5 -> 6 without a gradient of its input, and 6 -> 4 with: of each modality, by hand.
    assert rows[0]["cost/step_flops"] == 2 * 2 * 8 * (5 * 6 * 2 + 6 * 4 * 3)
    assert "cost/step_flops" not in rows[1]
    assert not callback.uncounted & {"mm", "addmm", "tanh", "mul"}


def test_a_batch_that_raises_leaves_nothing_behind():
    data = batches(1)
    module = build(Joint, LateLogits, data)

    def failing(batch):
        raise ValueError("no")

    module.fit_batch = failing
    with pytest.raises(ValueError, match="no"):
        watched(module, data)
    assert module.step_observer is None
    assert not _get_current_dispatch_mode_stack()


def test_double_precision_is_handed_over():
    data = batches(3)
    (row,), _ = watched(build(MLA, SharedHead, data), data, precision="64-true")
    assert row["forgetting/loss/audio/audio"] < 0
    assert 0 <= row["probe/acc/visual"] <= 1
