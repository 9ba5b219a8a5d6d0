"""Diagnosing & Re-learning: encoders are pulled back by the gap of their clusters' purities."""

import copy
from collections import Counter

import pytest
import torch
from tests.methods.harness import NUM_CLASSES, Loader, batches, build, fit, weights
from tests.train.jobs import make_job
from torch import nn
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.functional import k_means
from mla_lightning.fusion import Concat, Sum
from mla_lightning.methods import Joint, Relearning
from mla_lightning.randomness import derive_seed
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.finished import evaluate_run, load_run
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import RESULT, read_json


def build_relearning(data, fusion=Concat, parts=None, method=Relearning, **options):
    held_out = batches(2, len(data[0]["inputs"]), seed=5)
    given = {"train_batches": lambda: Loader(data), "held_out_batches": lambda: Loader(held_out)}
    return build(method, fusion, data, parts=given | (parts or {}), **options)


def counted_purity(x, label, seed):
    low, high = x.min(dim=0).values, x.max(dim=0).values
    cluster = k_means(2 * (x - low) / (high - low) - 1, NUM_CLASSES, seed).tolist()
    pairs = Counter(zip(cluster, label.tolist(), strict=True))
    return sum(max(n for (c, _), n in pairs.items() if c == k) for k in set(cluster)) / len(label)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_those_of_a_plain_loop(num_modalities):
    data = batches(1, num_modalities, size=20)
    module = build_relearning(data, every=1, times=1, strength=3.0)
    plain, initial = copy.deepcopy(module), copy.deepcopy(module.encoders)
    held_out = list(module.parts.held_out_batches())
    fit(module, data, epochs=3)
    parameters = [*plain.encoders.parameters(), *plain.fusion.parameters()]
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
    gaps = []
    for epoch in range(3):
        if epoch == 1:
            for name, encoder in plain.encoders.items():
                values = []
                for part, of_part in (("train", data), ("held out", held_out)):
                    with torch.no_grad():
                        x = torch.cat([encoder(batch["inputs"][name]) for batch in of_part])
                    label = torch.cat([batch["label"] for batch in of_part])
                    seed = derive_seed(0, "relearning", 1, name, part)
                    values.append(counted_purity(x, label, seed))
                gaps.append(abs(values[0] - values[1]))
                w = torch.tensor(3 * gaps[-1]).tanh()
                for p, first in zip(encoder.parameters(), initial[name].parameters(), strict=True):
                    p.data = w * first.data + (1 - w) * p.data
        sgd.zero_grad()
        features = [e(data[0]["inputs"][m]) for m, e in plain.encoders.items()]
        logits = torch.cat(features, dim=1) @ plain.fusion.head.weight.T + plain.fusion.head.bias
        cross_entropy(logits, data[0]["label"]).backward()
        sgd.step()
    assert max(gaps) > 0
    torch.testing.assert_close(weights(module), weights(plain), rtol=1e-5, atol=1e-6)


def diagnoses(monkeypatch, epochs, **options):
    """Return the epochs at whose start there is a diagnosis, and the module."""
    seen = []
    original = Relearning._purities

    def recorded(self, batches, part):
        seen.append((self.current_epoch, part))
        return original(self, batches, part)

    monkeypatch.setattr(Relearning, "_purities", recorded)
    data = batches(2)
    module = build_relearning(data, **options)
    fit(module, data, epochs=epochs)
    return [epoch for epoch, part in seen if part == "train"], module


def test_a_diagnosis_is_after_every_so_many_epochs_and_so_many_times(monkeypatch):
    assert diagnoses(monkeypatch, 8, every=2, times=3)[0] == [2, 4, 6]
    assert diagnoses(monkeypatch, 8, every=2, times=2)[0] == [2, 4]
    assert diagnoses(monkeypatch, 5, every=2, times=9)[0] == [2, 4]


def ends(method=Relearning, changes=None, **options):
    data = batches(2)
    module = build_relearning(data, method=method, **options)
    for name, value in (changes or {}).items():
        setattr(module, name, value)
    fit(module, data, epochs=3)
    return weights(module)


def test_without_a_pull_it_is_joint_training():
    joint = ends(Joint)
    assert torch.equal(ends(every=1, changes={"strength": 0.0}), joint)
    assert torch.equal(ends(every=1, changes={"times": 0}), joint)
    assert not torch.equal(ends(every=1), joint)
    assert not torch.equal(ends(every=1), ends(every=1, strength=0.5))
    assert not torch.equal(ends(every=1), ends(every=2))
    assert not torch.equal(ends(every=1), ends(every=1, times=1))


def test_a_full_pull_starts_the_encoders_again_and_nothing_else(monkeypatch):
    monkeypatch.setattr(
        "mla_lightning.methods.relearning.relearning_weights", lambda g, s: g * 0 + 1
    )

    class Normalised(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6))
            self.out_features = 6

    data = batches(2)
    module = build_relearning(data, every=1, encoder=Normalised)
    first = {k: v.clone() for k, v in module.encoders.state_dict().items()}
    seen = []
    original = module.prepare_epoch

    def recorded():
        before = {k: v.clone() for k, v in module.state_dict().items()}
        momentum = copy.deepcopy(module.trainer.optimizers[0].state_dict())
        original()
        seen.append((before, {k: v.clone() for k, v in module.state_dict().items()}))
        now = module.trainer.optimizers[0].state_dict()
        for key, state in momentum["state"].items():
            assert torch.equal(state["momentum_buffer"], now["state"][key]["momentum_buffer"])

    module.prepare_epoch = recorded
    fit(module, data, epochs=2)
    before, after = seen[1]
    for key, value in after.items():
        name = key.removeprefix("encoders.")
        is_parameter = name in first and "running" not in name and "num_batches" not in name
        assert torch.equal(value, first[name] if is_parameter else before[key]), key
    assert not torch.equal(before["encoders.audio.0.weight"], first["audio.0.weight"])


def test_samples_without_a_modality_are_left_out_and_too_few_leave_it_alone():
    data = batches(2)
    for batch in data:
        batch["present"]["audio"][1:] = False  # 2 of 16 samples, for 4 classes
        batch["present"]["visual"][0] = False
    module = build_relearning(data, Sum, {"is_complete": False}, every=1)
    pulled = []
    module.initial.pull = lambda name, weight: pulled.append((name, float(weight)))
    fit(module, data, epochs=2)
    assert [name for name, _ in pulled] == ["visual"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "method.every must be at least 1"),
        ({"times": 0}, "method.times must be at least 1"),
        ({"strength": 0.0}, "method.strength must be > 0.*method=concat"),
        ({"strength": float("nan")}, "method.strength must be > 0"),
        ({"parts": {"held_out_batches": None}}, r"Set data\.held_out=0\.1"),
    ],
)
def test_wrong_settings_say_what_to_use(options, message):
    with pytest.raises(ConfigError, match=message):
        build_relearning(batches(1), **options)


def test_a_diagnosis_that_never_comes_is_an_error():
    data = batches(1)
    with pytest.raises(ConfigError, match=r"method\.every=3.*max_epochs=3"):
        fit(build_relearning(data, every=3), data, epochs=3)


def test_a_real_run_records_what_it_trained_on(tmp_path):
    job = make_job(tmp_path, "method=relearning", "method.every=1", "data.held_out=0.2")
    run_job(job)
    result = read_json(job.run_dir / RESULT)
    provenance = read_json(job.run_dir / "provenance.json")
    assert (result["num_train"], provenance["data"]["num_held_out"]) == (64, 16)
    data = build_data(job.config)
    module = build_module(job.config, data)
    assert module.parts.num_train == 64
    assert sum(len(batch["label"]) for batch in module.parts.held_out_batches()) == 16
    other = load_run(job.run_dir, {**job.config.data, "num_train": 12})  # not trained on
    assert other.module.needs_held_out
    assert not other.data.held_out
    scores = evaluate_run(job.run_dir, "held_out")
    assert 0 <= scores["multi"]["accuracy"] <= 1
