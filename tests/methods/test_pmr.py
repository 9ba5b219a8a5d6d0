"""PMR: prototypes of each epoch and the losses on them, against a plain loop."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import SIZE, build_method, incomplete_batch
from tests.methods.harness import NUM_CLASSES, Linear, Loader, batches, build, fit, weights

from mla_lightning.batch import slice_batch
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.fusion import BiGated, Concat, Sum, TransformerFusion
from mla_lightning.methods import PMR, Joint
from mla_lightning.randomness import derive_seed

LR = 0.3
DropOut = partial(Linear, dropout=0.5)


def pmr(data, fusion=Concat, **options):
    parts = {"train_batches": lambda: Loader(data)} | options.pop("parts", {})
    return build(PMR, fusion, data, lr=LR, parts=parts, **options)


def data_of(num_modalities=2, number=3):
    """Batches of which each has all classes."""
    data = [incomplete_batch(num_modalities, is_complete=True, seed=s) for s in range(number)]
    for batch in data:
        batch["label"] = torch.arange(SIZE) % NUM_CLASSES
    return data


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def encoded(module, batch):
    return {m: batch["inputs"][m] @ e.weight.T + e.bias for m, e in module.encoders.items()}


def drawn(batch, epoch, number, fraction):
    """The rows of a batch that prototypes are of."""
    seed = derive_seed(0, "prototypes", epoch, number)
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(seed)) < fraction


@pytest.mark.parametrize(
    "options",
    [
        {"entropy_epochs": 2},
        {"coefficient": "binary", "entropy_weight": 0.0, "proto_momentum": 0.6, "alpha": 2.0},
        {"proto_fraction": 0.5, "entropy_weight": 0.3, "start_epoch": 1, "end_epoch": 2},
        {"normalise": True, "proto_momentum": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_steps_are_those_of_the_algorithm(num_modalities, options):
    data = data_of(num_modalities)
    settings = {
        "optimizer": partial(torch.optim.SGD, lr=LR),
        "train_batches": lambda: Loader(data),
    } | options
    ours = build_method("pmr", data[0], **settings)
    plain = build_method("pmr", data[0], **settings).double()
    fit(ours, data, epochs=4, precision="64-true")
    optimizer, prototypes = torch.optim.SGD(plain.parameters(), lr=LR), {}
    mu, epsilon = options.get("entropy_weight", 0.01), options.get("proto_momentum", 0.2)
    num_behind = 0
    for epoch in range(4):
        is_active = options.get("start_epoch", 0) <= epoch <= options.get("end_epoch", 100)
        for m in plain.modalities if is_active else ():
            fraction = options.get("proto_fraction", 1.0) if prototypes.keys() >= {m} else 1.0
            chosen = [
                drawn(b, epoch, i, fraction) if fraction < 1 else torch.ones(SIZE).bool()
                for i, b in enumerate(data)
            ]
            with torch.no_grad():
                pairs = zip(data, chosen, strict=True)
                h = torch.cat([encoded(plain, b)[m][rows] for b, rows in pairs])
            y = torch.cat([b["label"][rows] for b, rows in zip(data, chosen, strict=True)])
            if options.get("normalise"):
                h = (h - h.mean(dim=0)) / (h.var(dim=0, unbiased=False) + 1e-5).sqrt()
            old = prototypes.get(m)
            means = []
            for k in range(NUM_CLASSES):
                mean = h[y == k].mean(dim=0) if (y == k).any() else old[k]
                is_mixed = old is not None and bool((y == k).any())
                means.append((1 - epsilon) * mean + epsilon * old[k] if is_mixed else mean)
            prototypes[m] = torch.stack(means)
        for batch in data:
            optimizer.zero_grad()
            features, y, head = encoded(plain, batch), batch["label"], plain.fusion.head
            z = torch.cat([*features.values()], dim=1) @ head.weight.T + head.bias
            loss = nll(z, y).mean()
            if is_active:
                if options.get("normalise"):
                    features = {
                        m: (h - h.mean(dim=0)) / (h.var(dim=0, unbiased=False) + 1e-5).sqrt()
                        for m, h in features.items()
                    }
                u = {
                    m: -(h[:, None] - prototypes[m]).square().sum(dim=2).sqrt()
                    for m, h in features.items()
                }
                s = {m: float((-nll(x, y)).exp().sum().detach()) for m, x in u.items()}
                behind = {}
                for m in u:
                    others = sum(v for j, v in s.items() if j != m) / (len(s) - 1)
                    behind[m] = min(max(others / s[m] - 1, 0.0), 1.0)
                    if options.get("coefficient") == "binary":
                        behind[m] = float(s[m] < others)
                    loss = loss + options.get("alpha", 1.0) * behind[m] * nll(u[m], y).mean()
                    num_behind += behind[m] > 0
                if epoch < options.get("entropy_epochs", 5):
                    p = u[max(s, key=s.get)].softmax(dim=1)
                    entropy = -(p * p.log()).sum(dim=1).mean()
                    loss = loss - mu * max(behind.values()) * entropy
            loss.backward()
            optimizer.step()
    assert num_behind >= 6
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-6, atol=1e-8)
    for m, expected in prototypes.items():
        torch.testing.assert_close(ours.prototypes(m), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("fusion", [Concat, Sum, BiGated])
def test_without_weights_it_is_joint_training_with_any_fusion(fusion):
    data = data_of()
    data = [b | {"inputs": {m: x.float() for m, x in b["inputs"].items()}} for b in data]
    joint = build(Joint, fusion, data, lr=LR)
    rebalanced = pmr(data, fusion, alpha=0.0, entropy_weight=0.0)
    assert fit(joint, data, epochs=2) == fit(rebalanced, data, epochs=2)
    assert torch.equal(weights(joint), weights(rebalanced))


OPTIONS = [
    {"alpha": 2.0},
    {"coefficient": "binary"},
    {"entropy_weight": 0.0},
    {"entropy_epochs": 1},
    {"proto_momentum": 0.7},
    {"proto_fraction": 0.5},
    {"normalise": True},
    {"start_epoch": 1},
    {"end_epoch": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_setting_has_an_effect(options):
    data = batches(4, seed=2)
    usual, other = pmr(data), pmr(data, **options)
    fit(usual, data, epochs=3)
    fit(other, data, epochs=3)
    assert not torch.equal(weights(usual), weights(other))


def test_prototypes_are_computed_in_evaluation_mode_without_a_graph():
    data = batches(4, seed=2)
    module = pmr(data, encoder=DropOut)
    fit(module, data)
    assert not module.prototypes("audio").requires_grad
    again = pmr(data, encoder=DropOut)
    fit(again, data)
    assert torch.equal(module.prototypes("audio"), again.prototypes("audio"))


@pytest.mark.parametrize("normalise", [False, True])
def test_half_precision_has_the_prototypes_of_single_precision(normalise):
    data = batches(3, seed=2)
    half, single = pmr(data, normalise=normalise), pmr(data, normalise=normalise)
    losses = fit(half, data, precision="bf16-mixed")
    fit(single, data)
    assert torch.equal(half.prototypes("audio"), single.prototypes("audio"))  # of the first epoch
    assert all(torch.tensor([*step.values()]).isfinite().all() for step in losses)


class Steps(torch.nn.Module):
    """Gives sequences of five steps, of which the last is padding where the input is negative."""

    gives_sequences, out_features = True, 6

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 6)

    def forward(self, x):
        steps = self.layer(x[:, :, None])
        return torch.cat([steps[:, :-1], steps[:, -1:] * (x[:, -1:, None] > 0)], dim=1)


def test_prototypes_of_sequences_are_means_of_their_present_steps():
    data = batches(3, seed=2)
    fusion = partial(TransformerFusion, width=8, num_layers=1, num_heads=2)
    module = pmr(data, fusion, encoder=Steps)
    features = [module.features(batch) for batch in data]
    y = torch.cat([batch["label"] for batch in data])
    pooled = {}
    for m in module.modalities:
        h = torch.cat([of_batch[m] for of_batch in features]).detach()
        num_steps = torch.cat([4 + (batch["inputs"][m][:, -1] > 0).long() for batch in data])
        pooled[m] = h.sum(dim=1) / num_steps[:, None]
    fit(module, data)
    for m, h in pooled.items():
        expected = torch.stack([h[y == k].mean(dim=0) for k in range(NUM_CLASSES)])
        torch.testing.assert_close(module.prototypes(m), expected)
    of_sequences = module._prototype_losses(features[0], data[0])
    vectors = {m: h[: len(data[0]["label"])] for m, h in pooled.items()}
    of_vectors = module._prototype_losses(vectors, data[0])
    for key, loss in of_vectors.items():
        torch.testing.assert_close(of_sequences[key].detach(), loss)


def test_a_batch_of_one_sample_is_normalised_by_the_running_statistics():
    data = batches(2, seed=2)
    data.append({**slice_batch(data[0], slice(0, 1)), "index": torch.tensor([16])})
    module = pmr(data, normalise=True)
    losses = fit(module, data, epochs=2)
    assert all(torch.tensor([*step.values()]).isfinite().all() for step in losses)
    module.train()
    norm = module.norms["audio"]
    before = norm.running_mean.clone()
    h = {m: torch.randn(1, 6) for m in module.modalities}
    found = module._normalised(h, data[2])["audio"]
    torch.testing.assert_close(found, (h["audio"] - before) / (norm.running_var + 1e-5).sqrt())
    assert torch.equal(norm.running_mean, before)
    assert int(norm.num_batches_tracked) == 4


def test_a_class_outside_the_fraction_keeps_its_prototype():
    data = batches(4, seed=2)
    module = pmr(data, proto_fraction=1e-9)
    fit(module, data, epochs=2)
    first = pmr(data)
    fit(first, data, epochs=1)
    for name in module.modalities:  # of all samples the first time, of none the second
        assert torch.equal(module.prototypes(name), first.prototypes(name))
    assert bool(module.prototypes("audio").isfinite().all())


def test_a_class_without_samples_is_refused():
    data = batches(1)
    data[0]["label"][:] = 1
    with pytest.raises(DataError, match="class 0 has none"):
        fit(pmr(data), data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha must be >= 0"),
        ({"entropy_weight": -1.0}, "entropy_weight must be >= 0"),
        ({"coefficient": "grade"}, "coefficient must be one of"),
        ({"proto_momentum": 1.0}, "proto_momentum must be in"),
        ({"proto_fraction": 0.0}, "proto_fraction must be in"),
        ({"entropy_epochs": 0}, "use method.entropy_weight=0"),
        ({"entropy_epochs": 7, "entropy_weight": 0.0}, "has no effect with"),
        ({"start_epoch": 5}, "Use method.entropy_weight=0, or more epochs"),
        ({"start_epoch": 3, "end_epoch": 2}, "lies before"),
        ({"parts": {"accumulate": 2}}, "cannot be computed in chunks"),
        ({"parts": {"train_batches": None}}, "also reads all training samples"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        pmr(batches(1), **options)


def test_a_window_that_is_never_reached_is_refused():
    data = batches(1)
    with pytest.raises(ConfigError, match="never reached"):
        fit(pmr(data, start_epoch=4), data, epochs=2)
