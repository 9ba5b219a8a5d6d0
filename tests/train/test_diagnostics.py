"""Diagnostics: their files and columns, their values, and that they change no number."""

import csv
import itertools
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.cli.main import main
from mla_lightning.metrics.flops import StepFlops
from mla_lightning.tasks import Classification

BASE = ["train", "data=synthetic", "data.num_train=96", "data.num_val=40", "data.num_test=40"]
BASE += ["trainer.max_epochs=3", "evaluate_probe=false"]


def rows_of(path):
    with (path / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def trained(tmp_path, name, *words):
    by_key = {word.partition("=")[0]: word for word in [*BASE[1:], *words]}
    assert main(["train", *by_key.values(), f"run_dir={name}"]) == 0
    return tmp_path / name


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("method", ["mla", "late_fusion", "ogm_ge", "unimodal"])
def test_no_number_of_the_training_changes(tmp_path, method):
    plain = trained(tmp_path, "plain", f"method={method}")
    for mode in ("cost", "epoch", "full"):
        measured = trained(tmp_path, mode, f"method={method}", f"diagnostics={mode}")
        one, two = (np.load(run / "predictions.npz") for run in (plain, measured))
        assert all(np.array_equal(one[key], two[key]) for key in one.files)
        for before, after in zip(rows_of(plain), rows_of(measured), strict=True):
            expected = {k: v for k, v in before.items() if not k.startswith("time/")}
            assert {k: after[k] for k in expected} == expected
        assert (measured / "diagnostics.json").is_file() == (mode != "cost")
    assert not (plain / "diagnostics.json").exists()


def test_forgetting_has_columns_for_each_step_and_modality(tmp_path):
    run = trained(tmp_path, "run", "method=mla", "diagnostics=epoch")
    for row in rows_of(run):
        for step in ("audio", "visual"):
            for name in ("audio", "visual"):
                assert f"forgetting/loss/{step}/{name}" in row
                assert f"forgetting/acc/{step}/{name}" in row
        assert -1 <= row["gradient/raw/audio/visual"] <= 1
        assert row["gradient/raw/audio/visual"] != row["gradient/edited/audio/visual"]
        assert 0 <= row["projector/smallest/audio"] <= row["projector/trace/audio"] <= 1
        assert 0 <= row["probe/acc/audio"] <= 1
        assert 0 <= row["gap/audio/visual"] <= 2
    first = rows_of(run)[0]
    assert first["forgetting/loss/audio/audio"] < 0  # its own step helps
    assert first["cost/step_flops"] > 0


def gflop_of(run):
    return json.loads((run / "result.json").read_text()).get("train_gflop")


def test_the_flops_of_a_training_are_those_of_its_steps(tmp_path):
    words = ("data.batch_size=64", "diagnostics=cost")  # batches of 64 and 32 samples
    run = trained(tmp_path, "run", "method=late_fusion", *words)
    first, *others = rows_of(run)
    assert gflop_of(run) == pytest.approx(3 * first["cost/step_flops"] * 96 / 64 / 1e9)
    assert not any(key.startswith(("cost/", "probe/", "gap/")) for row in others for key in row)
    assert gflop_of(trained(tmp_path, "off", "method=late_fusion")) is None
    taught = trained(tmp_path, "taught", "method=umt", *words, "trainer.max_epochs=5")
    flops = [row.get("cost/step_flops") for row in rows_of(taught)]
    student = next(place for place, value in enumerate(flops[1:], start=1) if value)
    assert flops[student] > flops[0]  # the teachers look at the same batches
    epochs = student * flops[0] + (5 - student) * flops[student]
    assert gflop_of(taught) == pytest.approx(epochs * 96 / 64 / 1e9)


def test_passes_over_the_data_are_counted(tmp_path):
    run = trained(tmp_path, "run", "method=pmr", "data.batch_size=32", "diagnostics=cost")
    steps = 3 * rows_of(run)[0]["cost/step_flops"] * 96 / 32
    encoders, means = 2 * 2 * (16 * 32 + 32 * 16), 2 * 2 * 4 * 16  # per sample; of 4 classes
    assert gflop_of(run) * 1e9 == pytest.approx(steps + 3 * 96 * (encoders + means))


def test_epochs_on_trial_are_counted(tmp_path):
    flops = {
        (ahead, epochs): gflop_of(
            trained(
                *(tmp_path, f"{ahead}-{epochs}", "method=gblend", "diagnostics=cost"),
                *("method.super_epoch=1", "data.num_train=384", "data.batch_size=32"),
                *(f"method.lookahead_epochs={ahead}", f"trainer.max_epochs={epochs}"),
            )
        )
        for ahead, epochs in ((1, 1), (2, 1), (3, 1), (1, 2))
    }
    one_more = flops[2, 1] - flops[1, 1]
    assert one_more == pytest.approx(flops[3, 1] - flops[2, 1])
    # an epoch on trial has the steps of an epoch, once with the modalities' losses and once jointly
    step = rows_of(tmp_path / "1-1")[0]["cost/step_flops"]
    assert 9 * step / 1e9 < one_more < 2 * 9 * step / 1e9
    assert flops[1, 2] == pytest.approx(2 * flops[1, 1])


@pytest.mark.parametrize(("method", "mode"), [("mla", "cost"), ("mla", "epoch"), ("pmr", "cost")])
@pytest.mark.parametrize("after", [2, 4])
def test_a_run_killed_within_an_epoch_has_all_its_diagnostics(tmp_path, after, method, mode):
    """Killed before and after the measured batch, which is the third of six."""
    words = [
        f"method={method}",
        f"diagnostics={mode}",
        "data.batch_size=16",
        "checkpoint.every_n_batches=1",
    ]
    whole = trained(tmp_path, "whole", *words)
    pid = os.fork()
    if pid == 0:
        from mla_lightning.module import MultimodalModule

        step, trained_batches = MultimodalModule.training_step, []

        def step_and_die(self, batch, batch_idx):
            if len(trained_batches) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            trained_batches.append(batch_idx)
            step(self, batch, batch_idx)

        MultimodalModule.training_step = step_and_die
        trained(tmp_path, "killed", *words)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    killed = trained(tmp_path, "killed", *words)
    for one, other in zip(rows_of(whole), rows_of(killed), strict=True):
        assert one.keys() == other.keys()
        assert any(key.startswith("forgetting/own_loss/") for key in one) == (mode == "epoch")
        for key in one:
            assert key.startswith("time/") or one[key] == other[key], key
    assert "cost/step_flops" in rows_of(killed)[0]
    assert gflop_of(killed) == gflop_of(whole) > 0


def test_subsets_are_evaluated_in_the_precision_of_the_run(tmp_path, monkeypatch):
    from mla_lightning.run import diagnose

    original, is_autocast = diagnose.subset_scores, []

    def recording(*args):
        is_autocast.append(torch.is_autocast_enabled("cpu"))
        return original(*args)

    monkeypatch.setattr(diagnose, "subset_scores", recording)
    words = ["method=mla", "diagnostics=epoch", "trainer.max_epochs=1"]
    trained(tmp_path, "mixed", *words, "trainer.precision=bf16-mixed")
    trained(tmp_path, "plain", *words)
    assert is_autocast == [True, False]


def test_diagnostics_in_double_precision(tmp_path):
    run = trained(tmp_path, "run", "method=mla", "diagnostics=epoch", "trainer.precision=64-true")
    numbers = json.loads((run / "diagnostics.json").read_text())
    result = json.loads((run / "result.json").read_text())
    assert numbers["subsets"]["audio"] == pytest.approx(result["test"]["audio"]["accuracy"])
    assert sum(numbers["parameters"].values()) == result["num_parameters"]


def test_peak_memory_is_that_of_training(tmp_path, monkeypatch):
    from mla_lightning.run import fit, measure

    order = []
    for module, name in ((fit, "peak_memory_mb"), (measure, "predict"), (measure, "diagnose")):
        original = getattr(module, name)

        def recording(*args, name=name, original=original, **options):
            order.append(name)
            return original(*args, **options)

        monkeypatch.setattr(module, name, recording)
    trained(tmp_path, "run", "method=mla", "diagnostics=epoch", "trainer.max_epochs=1")
    assert order[0] == "peak_memory_mb"
    assert order.count("peak_memory_mb") == 1
    assert order[-1] == "diagnose"


def test_times_do_not_include_diagnostics(tmp_path, monkeypatch):
    from mla_lightning.callbacks import epoch_table

    now = [0.0]
    monkeypatch.setattr(epoch_table.time, "perf_counter", lambda: now[0])
    module = SimpleNamespace(diagnostics_s=0.0, epoch_metrics={}, device=torch.device("cpu"))
    monkeypatch.setattr(epoch_table, "MultimodalModule", SimpleNamespace)
    trainer = SimpleNamespace(current_epoch=0, global_step=0, loggers=[], is_global_zero=True)
    table = EpochTable(tmp_path)
    table.on_train_start(trainer, module)
    for _ in range(4):
        now[0] += 1.0
        table.on_train_batch_end(trainer, module, None, None, 0)
    now[0], module.diagnostics_s = now[0] + 3.0, 3.0  # measured steps
    table.on_validation_start(trainer, module)
    now[0] += 2.0  # validation
    now[0], module.diagnostics_s = now[0] + 5.0, 8.0  # a probe
    table.on_train_epoch_end(trainer, module)
    (row,) = rows_of(tmp_path)
    assert row["time/step_s"] == pytest.approx(1.0)
    assert row["time/epoch_s"] == pytest.approx(6.0)
    assert row["time/diagnostics_s"] == pytest.approx(8.0)


def test_contribution_is_of_the_test_split_and_sums_up(tmp_path):
    run = trained(tmp_path, "run", "method=mla", "diagnostics=epoch", "trainer.max_epochs=6")
    numbers = json.loads((run / "diagnostics.json").read_text())
    result = json.loads((run / "result.json").read_text())["test"]
    assert numbers["split"] == "test"
    accuracy = numbers["subsets"]
    assert accuracy["audio+visual"] == pytest.approx(result["multi"]["accuracy"])
    assert accuracy["audio"] == pytest.approx(result["audio"]["accuracy"])
    total = sum(numbers["shapley"].values())
    assert total == pytest.approx(accuracy["audio+visual"] - accuracy[""])
    assert sum(numbers["agreement"].values()) == pytest.approx(1)
    assert numbers["calibration"]["multi"]["before"]["width"]["ece"] == pytest.approx(
        result["multi"]["ece"], abs=1e-6
    )
    weights = numbers["fusion"]
    assert sum(weights[m]["mean"] for m in ("audio", "visual")) == pytest.approx(1)
    planes = np.load(run / "planes.npz")
    assert planes["pca/audio"].shape == (40, 2)
    assert numbers["parameters"]["audio"] > 0


def test_diagnostics_with_missing_modalities(tmp_path):
    words = ["method=late_fusion", "missing=anchor", "missing.rate=0.4", "diagnostics=full"]
    run = trained(tmp_path, "run", *words)
    numbers = json.loads((run / "diagnostics.json").read_text())
    assert set(numbers["shapley"]) == {"audio", "visual"}
    assert np.isfinite(list(numbers["gap"].values())).all()
    assert "tsne/audio" in np.load(run / "planes.npz").files


def test_a_modality_that_no_test_sample_has(tmp_path, capsys):
    words = ["method=late_fusion", "missing=bernoulli_restore", "missing.rate={audio:1.0}"]
    words += ["missing.train=false", "missing.val=false", "diagnostics=full", "evaluate_probe=true"]
    run = trained(tmp_path, "run", *words)
    result = json.loads((run / "result.json").read_text())
    assert set(result["test"]["audio"].values()) == {None}
    assert result["val"]["audio"]["accuracy"] > 0
    assert result["test"]["multi"] == result["test"]["visual"]
    numbers = json.loads((run / "diagnostics.json").read_text())
    assert set(numbers["calibration"]) == set(numbers["entropy"]) == {"multi", "visual"}
    assert not numbers["gap"]
    assert numbers["shapley"]["audio"] == 0
    assert main(["eval", "run"]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("audio"))
    assert line.split() == ["audio"] + ["–"] * 5
    assert main(["report", "page", "run", "--output", "page"]) == 0


def test_step_effects_measure_the_change_of_a_step():
    """A head moved by hand: the change is the difference of the losses."""
    from mla_lightning.callbacks.step_effects import StepEffects

    class SharedHeadOnly(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.fusion = torch.nn.Module()
            self.fusion.head = torch.nn.Linear(2, 2)
            self.task = Classification()

        def evaluate_batch(self, batch):
            return {"a": self.fusion.head(batch["inputs"]["a"])}

    module = SharedHeadOnly()
    present = {"a": torch.ones(4, dtype=torch.bool)}
    label = torch.tensor([0, 1, 0, 1])
    batch = {"inputs": {"a": torch.randn(4, 2)}, "label": label, "present": present}
    effects = StepEffects(module, batch, torch.optim.SGD(module.parameters(), lr=0.1))
    loss = torch.nn.functional.cross_entropy

    def current_loss():
        return float(loss(module.fusion.head(batch["inputs"]["a"]), label).detach())

    before = current_loss()
    effects.before_step("a")
    with torch.no_grad():
        module.fusion.head.weight.add_(1.0)
        module.fusion.head.bias.copy_(torch.tensor([1.0, -1.0]))
    effects.finish()
    assert effects.changes[("a", "a")][0][0] == pytest.approx(current_loss() - before, abs=1e-6)
    assert module.training


@pytest.mark.parametrize("method", ["mla", "late_fusion"])
def test_an_unchanged_encoder_is_not_evaluated_again(tmp_path, monkeypatch, method):
    """Encoders with and without running statistics; every recorded value stays the same."""
    from mla_lightning.callbacks.step_effects import StepEffects
    from mla_lightning.module import MultimodalModule

    original, encoded = MultimodalModule.encode, []

    def recording(self, name, batch):
        if len(batch["label"]) == 128:
            encoded.append(name)
        return original(self, name, batch)

    monkeypatch.setattr(MultimodalModule, "encode", recording)
    words = [f"method={method}", "data=openmoji", "diagnostics=epoch", "trainer.max_epochs=1"]
    words += ["data.batch_size=200"]
    by_key = {word.partition("=")[0]: word for word in words}
    numbers = {}
    for kind in ("reused", "again"):
        encoded.clear()
        assert main(["train", *by_key.values(), "evaluate_probe=false", f"run_dir={kind}"]) == 0
        numbers[kind] = len(encoded)
        monkeypatch.setattr(
            StepEffects, "_logits", lambda self: self.module.evaluate_batch(self.fixed)
        )
    for one, other in zip(*(rows_of(tmp_path / kind) for kind in numbers), strict=True):
        assert any(key.startswith("forgetting/own_loss/") for key in one)
        assert {k: v for k, v in one.items() if not k.startswith("time/")} == {
            k: v for k, v in other.items() if not k.startswith("time/")
        }
    # Two steps of three evaluations by two encoders, or one step that moves both encoders.
    assert numbers == ({"reused": 6, "again": 12} if method == "mla" else {"reused": 6, "again": 6})


def test_flops_are_the_sum_over_the_layers(tmp_path):
    """Two perceptrons and two heads: 2 B in out for a forward pass, twice that backward."""
    words = ["method=late_fusion", "diagnostics=epoch", "trainer.max_epochs=1"]
    run = trained(tmp_path, "run", *words, "data.batch_size=32", "data.num_classes=4")
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text())
    total = 0
    for encoder in config["encoder"].values():
        widths = [encoder["in_features"], encoder["hidden"], encoder["out_features"], 4]
        for place, (a, b) in enumerate(itertools.pairwise(widths)):
            # The first layer's input needs no gradient.
            total += 2 * 32 * a * b * (2 if place == 0 else 3)
    assert rows_of(run)[0]["cost/step_flops"] == total


def test_profiler_marks_have_no_flops():
    with StepFlops() as counter, torch.autograd.profiler.record_function("mark"):
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert counter.get_total_flops() == 16
    assert counter.uncounted == set()
