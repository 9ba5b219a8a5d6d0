"""Joint and independent training, QMF, OGM-GE and AE against plain loops of their formulas."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import SIZE, build_method, incomplete_batch
from tests.methods.harness import fit
from torch import nn

from mla_lightning.randomness import derive_seed

LR = 0.05


def of_rows(loss_B, has_B):
    """Mean over the samples that have the modality."""
    return (loss_B * has_B).sum() / has_B.sum()


def nll(z, y):
    """Cross-entropy of each sample."""
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def encoded(module, batch):
    """Features, zeros where absent."""
    return {
        m: (batch["inputs"][m] @ e.weight.T + e.bias) * batch["present"][m][:, None]
        for m, e in module.encoders.items()
    }


def own_logits(module, batch):
    heads = module.fusion.heads
    return {m: h @ heads[m].weight.T + heads[m].bias for m, h in encoded(module, batch).items()}


def concat_logits(module, batch):
    features, head = encoded(module, batch), module.fusion.head
    weights = dict(zip(features, head.weight.chunk(len(features), dim=1), strict=True))
    own = {m: h @ weights[m].T + head.bias / len(features) for m, h in features.items()}
    return sum(own.values()), own


def unimodal(module, batch, state):
    y = batch["label"]
    return sum(
        of_rows(nll(z, y), batch["present"][m]) for m, z in own_logits(module, batch).items()
    )


def with_mean(module, batch, state):
    present, own = batch["present"], own_logits(module, batch)
    fused = sum(z * present[m][:, None] for m, z in own.items()) / sum(present.values())[:, None]
    return unimodal(module, batch, state) + 2 * nll(fused, batch["label"]).mean()


def with_sum(module, batch, state):
    present = batch["present"]
    fused = sum(z * present[m][:, None] for m, z in own_logits(module, batch).items())
    return nll(fused, batch["label"]).mean()


def concat(module, batch, state):
    return nll(concat_logits(module, batch)[0], batch["label"]).mean()


def joint_unimodal(module, batch, state):
    fused, own = concat_logits(module, batch)
    y = batch["label"]
    parts = [of_rows(nll(z, y), batch["present"][m]) for m, z in own.items()]
    return nll(fused, y).mean() + 0.5 * sum(parts)


def qmf(module, batch, state, *, mode="margin", update="before", rank=0.1, joint=1.0):
    """QMF's losses; the state is the cumulative loss of every sample."""
    present, y = batch["present"], batch["label"]
    own = own_logits(module, batch)
    losses = {m: nll(z, y) for m, z in own.items()}
    history = {m: state.setdefault(m, torch.zeros(SIZE).double()) for m in own}
    confidence = {m: z.exp().sum(dim=1).log() / 10 for m, z in own.items()}
    is_complete = torch.stack([*present.values()]).all(dim=0)
    usable = {
        m: torch.where(is_complete, c, c.clamp(min=0)) * present[m] for m, c in confidence.items()
    }
    weights = {m: c.detach() for m, c in usable.items()}
    total = joint * nll(sum(weights[m][:, None] * z for m, z in own.items()), y).mean()

    def remember():
        for m in own:
            history[m].add_(losses[m].detach() * present[m])

    if update == "before":
        remember()
    for m in own:
        total = total + of_rows(losses[m], present[m])
        low, high = history[m].min(), history[m].max()
        n = (history[m] - low) / (high - low) if high > low else torch.zeros(SIZE)
        rows = present[m].nonzero()[:, 0]
        ranked = []
        for i, j in zip(rows.tolist(), rows.roll(-1).tolist(), strict=True):
            sign, gap = torch.sign(n[i] - n[j]), (n[i] - n[j]).abs()
            shift = gap if mode == "margin" else -gap
            ranked.append((sign * (confidence[m][i] - confidence[m][j]) + shift).clamp(min=0))
        total = total + rank * sum(ranked) / len(ranked)
    if update == "after":
        remember()
    return total


def ae(module, batch, state, *, target="oracle"):
    """Cross-entropy, and errors of the targets averaged over features and summed over samples."""
    joined = torch.cat([*encoded(module, batch).values()], dim=1)
    reconstruction = module.fusion.reconstruct(joined)
    total = nll(module.fusion.classifier(reconstruction), batch["label"]).mean()
    for m, decode in module.decoders.items():
        is_target = batch["hidden"][m] if target == "oracle" else batch["present"][m]
        x = batch["truth"][m] if target == "oracle" else batch["inputs"][m]
        error = (decode(reconstruction) - x).square().sum(dim=1) / x.shape[1]
        total = total + module.weight * (error * is_target).sum()
    return total


CASES = [
    ("sum", {}, with_sum),
    ("concat", {}, concat),
    ("late_fusion", {}, unimodal),
    ("late_fusion", {"joint_weight": 2.0}, with_mean),
    ("unimodal", {}, unimodal),
    ("joint_unimodal", {"unimodal_weight": 0.5}, joint_unimodal),
    ("qmf", {}, qmf),
    ("qmf", {"rank_weight": 0.7}, partial(qmf, rank=0.7)),
    ("qmf", {"joint_weight": 0.5}, partial(qmf, joint=0.5)),
    ("qmf", {"rank_weight": 2.0, "rank_mode": "released"}, partial(qmf, rank=2.0, mode="released")),
    (
        "qmf",
        {"rank_weight": 2.0, "history_update": "after"},
        partial(qmf, rank=2.0, update="after"),
    ),
    *[(m, {"weight": 0.2}, ae) for m in ("ae", "cra")],
    ("ae", {"weight": 0.2, "recon_target": "observed"}, partial(ae, target="observed")),
]


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize(
    ("name", "options", "loss_of"), CASES, ids=[f"{n}{o}" for n, o, _ in CASES]
)
def test_a_method_trains_on_its_formula(name, options, loss_of, num_modalities):
    batch = incomplete_batch(num_modalities)
    ours = build_method(name, batch, **options)
    plain = build_method(name, batch, **options).double()
    fit(ours, [batch], epochs=3, precision="64-true")
    state, optimizer = {}, torch.optim.SGD(plain.parameters(), lr=LR)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(plain, batch, state).backward()
        optimizer.step()
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)
    for row, name in enumerate(plain.modalities) if state else ():
        torch.testing.assert_close(ours.history_MN[row], state[name], rtol=1e-8, atol=1e-10)


class Convolution(nn.Module):
    """Has parameters of four, two and one axes."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 6, (1, 5)), nn.Linear(6, 8)

    def forward(self, x):
        return self.linear(self.conv(x[:, None, None]).flatten(1).tanh())


NUM_AXES = {"all": (1, 2, 4), "ndim>=2": (2, 4), "conv": (4,)}


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("param_filter", NUM_AXES)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_ogm_ge_is_its_formula(num_modalities, param_filter, noise):
    batch = incomplete_batch(num_modalities, is_complete=True)
    settings = {"alpha": 0.4, "noise": noise, "param_filter": param_filter, "end_epoch": 2}

    def build():
        torch.manual_seed(3)
        encoders = {name: Convolution() for name in batch["inputs"]}
        return build_method("ogm_ge", batch, encoders=encoders, **settings)

    ours, plain = build(), build().double()
    optimizer, y, is_damped = torch.optim.SGD(plain.parameters(), lr=LR), batch["label"], []
    fit(ours, [batch], epochs=5, precision="64-true")
    for epoch in range(5):
        optimizer.zero_grad()
        features = {m: e(batch["inputs"][m]) for m, e in plain.encoders.items()}
        head = plain.fusion.head
        weights = head.weight.chunk(num_modalities, dim=1)
        own = [
            h @ w.T + head.bias / num_modalities
            for h, w in zip(features.values(), weights, strict=True)
        ]
        nll(sum(own), y).mean().backward()
        scores = [float((-nll(z, y)).exp().sum().detach()) for z in own]
        torch.manual_seed(derive_seed(plain.parts.seed, "batch", epoch, 0))
        for encoder, score in zip(plain.encoders.values(), scores, strict=True):
            ratio = score / ((sum(scores) - score) / (num_modalities - 1))
            factor = 1 - torch.tanh(torch.tensor(0.4 * ratio)) if ratio > 1 else 1.0
            is_damped.append(ratio > 1)
            for parameter in encoder.parameters() if epoch <= 2 else ():
                if parameter.ndim in NUM_AXES[param_filter]:
                    raw = parameter.grad.clone()
                    deviation = ((raw - raw.mean()) ** 2).sum() / (raw.numel() - 1)
                    parameter.grad = raw * factor
                    if noise:
                        drawn = torch.randn(raw.shape, dtype=raw.dtype)
                        parameter.grad += drawn * (deviation.sqrt() + 1e-8)
        optimizer.step()
    assert set(is_damped) == {True, False}
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-5, atol=1e-8)
