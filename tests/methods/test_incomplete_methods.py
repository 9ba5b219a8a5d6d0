"""The methods for missing modalities, trained: hidden values stay hidden, stages resume."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from mla_lightning.build import build_data, build_module
from mla_lightning.cli import main
from mla_lightning.config import compose_jobs
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.methods.taught import Taught
from mla_lightning.run_folder import read_metrics

METHODS = ("ae", "cra", "mmin", "if_mmin", "cca", "dcca", "dccae", "cpm_net", "tate")
TAUGHT = ("mmin", "if_mmin", "tate")
BASE = [
    *("train", "data=synthetic", "data.num_train=80", "data.num_val=40", "data.num_test=40"),
    *("missing=anchor", "missing.rate=0.3", "recipe=incomplete", "trainer.max_epochs=4"),
    *("data.batch_size=40", "evaluate_probe=false"),
]


def words_of(method, *more):
    own = {
        "mmin": ["method.pretrain_epochs=2"],
        "if_mmin": ["method.pretrain_epochs=2"],
        "tate": ["method.pretrain_epochs=2", "method.fusion.width=24"],
        "dcca": ["method.num_components=4"],
        "dccae": ["method.num_components=4"],
        "cpm_net": ["method.fusion.num_latent=16"],
    }
    given = [*BASE[1:], f"method={method}", *own.get(method, []), *more]
    by_key = {word.partition("=")[0]: word for word in given}  # the later one counts
    return ["train", *by_key.values()]


def result_of(path):
    return json.loads((path / "result.json").read_text())


def built(method, *more):
    """Build a method and its data as a run would."""
    words = words_of(method, *more)[1:]
    (job,) = compose_jobs([w for w in words if not w.startswith("run_dir=")], multirun=False)
    data = build_data(job.config)
    return build_module(job.config, data), data


@pytest.mark.parametrize("method", METHODS)
def test_each_learns_and_never_looks_at_what_is_hidden_in_the_test(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["trainer.max_epochs=40", "optimizer.lr=0.004", "scheduler.step_size=40"]
    assert main(words_of(method, "run_dir=clean", *more)) == 0
    loaded = Synthetic.load_splits

    def poisoned(self):
        splits = loaded(self)
        for part, split in splits.items():
            if part == "train":
                continue  # these methods may learn from the truth there (recon_target=oracle)
            given = (part, len(split.label), self.modalities, self.seed)
            mask = self.missing.mask(*given, fold=self.split_name)
            for place, name in enumerate(self.modalities):
                split.inputs[name][~mask[:, place]] = float("nan")
        return splits

    monkeypatch.setattr(Synthetic, "load_splits", poisoned)
    monkeypatch.setattr("mla_lightning.data.base.check_finite", lambda *_: None)
    assert main(words_of(method, "run_dir=poisoned", *more)) == 0
    clean, other = result_of(tmp_path / "clean"), result_of(tmp_path / "poisoned")
    for key in ("val", "test", "missing", "best_epoch"):
        assert clean[key] == other[key], key
    arrays = [np.load(tmp_path / name / "predictions.npz") for name in ("clean", "poisoned")]
    assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])
    chance = 1 / len(arrays[0]["class_names"])
    assert clean["test"]["multi"]["accuracy"] > chance + 0.1


@pytest.mark.parametrize("method", ["ae", "cra", *TAUGHT])
def test_observed_targets_use_nothing_hidden_in_training(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    words = words_of(method, "method.recon_target=observed")
    assert main([*words, "run_dir=clean"]) == 0
    assert main(words_of(method, "run_dir=oracle")) == 0
    loaded = Synthetic.load_splits

    def poisoned(self):
        splits = loaded(self)
        for part, split in splits.items():
            given = (part, len(split.label), self.modalities, self.seed)
            mask = self.missing.mask(*given, fold=self.split_name)
            for place, name in enumerate(self.modalities):
                split.inputs[name][~mask[:, place]] = float("nan")
        return splits

    monkeypatch.setattr(Synthetic, "load_splits", poisoned)
    monkeypatch.setattr("mla_lightning.data.base.check_finite", lambda *_: None)
    assert main([*words, "run_dir=poisoned"]) == 0
    assert result_of(tmp_path / "clean")["test"] == result_of(tmp_path / "poisoned")["test"]
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("clean", "oracle")]
    assert rows[0] != rows[1]


@pytest.mark.parametrize("method", TAUGHT)
def test_the_first_stage_is_never_selected_and_must_leave_time(
    tmp_path, monkeypatch, capfd, method
):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "run_dir=run")) == 0
    assert result_of(tmp_path / "run")["best_epoch"] >= 3
    assert main(words_of(method, "run_dir=short", "trainer.max_epochs=2")) == 2
    assert "leaves nothing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("method", "killed_after"),
    [*[(m, after) for m in TAUGHT for after in (1, 2, 3)], ("cpm_net", 2), ("ae", 2), ("dcca", 2)],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, method, killed_after):
    monkeypatch.chdir(tmp_path)
    # Elsewhere: a first stage that it leaves would be shared, and nothing be killed in it.
    assert main(words_of(method, "run_dir=whole", "paths.output_dir=elsewhere")) == 0
    pid = os.fork()
    if pid == 0:
        from mla_lightning.callbacks.checkpoint import RunCheckpoint

        save = RunCheckpoint._save

        def save_and_die(self, trainer, epoch, batch):
            save(self, trainer, epoch, batch)
            if epoch == killed_after:
                os.kill(os.getpid(), signal.SIGKILL)

        RunCheckpoint._save = save_and_die
        main(words_of(method, "run_dir=killed"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert not (tmp_path / "killed" / "result.json").exists()
    assert main(words_of(method, "run_dir=killed")) == 0
    whole, killed = result_of(tmp_path / "whole"), result_of(tmp_path / "killed")
    assert whole["test"] == killed["test"]
    assert whole["best_epoch"] == killed["best_epoch"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_within_an_epoch_goes_on_at_that_batch(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["data.batch_size=20", "checkpoint.every_n_batches=1"]
    if method in ("dcca", "dccae"):
        more += ["method.num_components=2"]
    assert main(words_of(method, "run_dir=whole", "paths.output_dir=elsewhere", *more)) == 0
    pid = os.fork()
    if pid == 0:
        from mla_lightning.module import MultimodalModule

        step, seen = MultimodalModule.training_step, []

        def step_and_die(self, batch, batch_idx):
            if len(seen) == 10 or (method == "cca" and len(seen) == 2):
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(batch_idx)
            step(self, batch, batch_idx)

        MultimodalModule.training_step = step_and_die
        main(words_of(method, "run_dir=killed", *more))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert main(words_of(method, "run_dir=killed", *more)) == 0
    whole, killed = (np.load(tmp_path / run / "predictions.npz") for run in ("whole", "killed"))
    assert all(np.array_equal(whole[key], killed[key]) for key in whole)


@pytest.mark.parametrize("method", TAUGHT)
def test_a_shared_first_stage_changes_no_number(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    whole, steps = Taught.whole, []  # what the first stage trains on

    def counting(self, chunk):
        steps.append(0)
        return whole(self, chunk)

    monkeypatch.setattr(Taught, "whole", counting)

    def run(name, *more):
        steps.clear()
        assert main(words_of(method, f"run_dir={name}", *more)) == 0
        return len(steps)

    assert run("alone", "missing.rate=0.4", "paths.output_dir=elsewhere") == 4
    assert run("first", "missing.rate=0.2") == 4
    assert run("second", "missing.rate=0.4") == 0
    assert run("third", "missing.rate=0.4", "seed=5") == 4
    assert run("other", "missing.rate=0.4", "optimizer.lr=0.002") == 4
    assert run("observed", "method.recon_target=observed") == 4
    alone, second = (np.load(tmp_path / name / "predictions.npz") for name in ("alone", "second"))
    assert all(np.array_equal(alone[key], second[key]) for key in alone)
    own, shared = read_metrics(tmp_path / "alone"), read_metrics(tmp_path / "second")
    assert [row["epoch"] for row in shared] == [1, 2, 3, 4]
    for row, other in zip(own, shared, strict=True):
        same = [key for key in other if not key.startswith("time/")]
        assert {key: row[key] for key in same} == {key: other[key] for key in same}
    assert "val/acc" not in shared[1]
    assert "val/acc" in shared[2]
    assert len(list((tmp_path / "runs" / "stages").iterdir())) == 3
    assert result_of(tmp_path / "second")["epochs"] == 4


@pytest.mark.parametrize("method", TAUGHT)
def test_the_teacher_is_frozen_and_never_in_training_mode(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    shown, seen = Taught.shown, []

    def watching(self, chunk):
        assert self.training
        assert not any(part.training for part in self.teacher.modules())
        seen.append({key: value.clone() for key, value in self.teacher.state_dict().items()})
        return shown(self, chunk)

    monkeypatch.setattr(Taught, "shown", watching)
    assert main(words_of(method, "run_dir=run")) == 0
    assert len(seen) >= 4  # two epochs of two batches, and IF-MMIN asks twice
    assert all(torch.equal(seen[0][key], late[key]) for late in seen for key in late)


@pytest.mark.parametrize("target", ["oracle", "observed"])
@pytest.mark.parametrize("method", [*TAUGHT, "ae"])
def test_what_the_data_lack_is_no_truth(method, target):
    """Cells that neither the method nor the protocol knows may hold anything."""
    module, data = built(method, f"method.recon_target={target}")
    module.eval()  # no dropout
    computed = {}
    module.step_on = lambda batch, losses_of: computed.update(losses_of(batch)) or {}
    batch = next(iter(data.train_dataloader()))
    lacking = ~batch["present"]["audio"] & batch["present"]["visual"]
    assert lacking.any()
    rows = int(lacking.nonzero()[0])
    batch["hidden"]["audio"][rows] = False  # not hidden: never there
    results = []
    for value in (0.0, 50.0):
        changed = {**batch, "inputs": {m: x.clone() for m, x in batch["inputs"].items()}}
        changed["inputs"]["audio"][rows] = value
        if "truth" in batch:
            changed["truth"] = {m: x.clone() for m, x in batch["truth"].items()}
            changed["truth"]["audio"][rows] = value
        for is_taught in (False, True) if isinstance(module, Taught) else (None,):
            if is_taught is not None:
                module.is_taught.fill_(is_taught)
            module.fit_batch(changed)
        results.append({name: loss.item() for name, loss in computed.items()})
    assert results[0] == results[1]
    assert len(results[0]) >= 2


def test_a_sum_over_the_batch_is_the_same_in_chunks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exact = ["encoder.audio.dropout=0", "encoder.visual.dropout=0", "method.dropout=0"]
    exact += ["method.fusion.dropout=0", "trainer.max_epochs=1"]
    found = []
    for pieces in (1, 2, 4):
        run = tmp_path / f"run{pieces}"
        words = words_of("ae", f"run_dir={run}", f"trainer.accumulate={pieces}", *exact)
        assert main(words) == 0
        head, row = (run / "metrics.csv").read_text().splitlines()[:2]
        found.append(
            float(dict(zip(head.split(","), row.split(","), strict=True))["train/loss/recon"])
        )
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("method", ["cca", "dcca", "dccae", "cpm_net"])
def test_losses_of_whole_batches_are_not_cut(tmp_path, monkeypatch, capfd, method):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "trainer.accumulate=2")) == 2
    assert "cannot be computed in chunks" in capfd.readouterr().err


SWITCHES = [
    *[("ae", s) for s in ("method.weight=1", "method.hidden=[8]", "method.fusion.layers=[8]")],
    *[("cra", s) for s in ("method.weight=1", "method.fusion.num_blocks=3")],
    *[("mmin", s) for s in ("method.imagination_weight=0", "method.cycle_weight=0")],
    *[("mmin", s) for s in ("method.pretrain_epochs=1", "method.fusion.hidden=[8]")],
    *[("if_mmin", s) for s in ("method.imagination_weight=0", "method.invariant_weight=0")],
    ("if_mmin", "method.fusion.variant='2022'"),
    *[("tate", s) for s in ("method.weight=1", "method.fusion.num_heads=2")],
    *[("dcca", s) for s in ("method.num_components=3", "method.ridge=0.1")],
    *[("dccae", s) for s in ("method.weight=1", "method.hidden=[8]", "method.fusion.svc_c=1")],
    *[("cca", s) for s in ("method.fusion.num_components=1", "method.fusion.ridge=1")],
    *[("cca", s) for s in ("method.fusion.svc_c=1", "method.fusion.fit_on=pairwise_complete")],
    *[("cpm_net", s) for s in ("method.clustering_weight=0", "method.num_steps=2")],
    *[("cpm_net", s) for s in ("method.codes_lr=0.1", "method.fusion.num_latent=8")],
    *[("cpm_net", s) for s in ("method.fusion.num_test_steps=5", "method.fusion.test_lr=0.5")],
]


@pytest.fixture(scope="module")
def plain_runs(tmp_path_factory):
    """Predictions of each method as it is."""
    found = {}
    for method in METHODS:
        run = tmp_path_factory.mktemp(method)
        assert main(words_of(method, f"run_dir={run}/run", f"paths.output_dir={run}")) == 0
        found[method] = np.load(run / "run" / "predictions.npz")["logits_multi"]
    return found


@pytest.mark.parametrize(("method", "switch"), SWITCHES)
def test_a_switch_changes_the_predictions(tmp_path, plain_runs, method, switch):
    words = words_of(method, f"run_dir={tmp_path}/run", f"paths.output_dir={tmp_path}", switch)
    assert main(words) == 0
    changed = np.load(tmp_path / "run" / "predictions.npz")["logits_multi"]
    assert not np.array_equal(changed, plain_runs[method])


@pytest.mark.parametrize("method", ["cca", "cpm_net"])
def test_masks_that_nobody_would_see_are_refused(tmp_path, monkeypatch, capfd, method):
    monkeypatch.chdir(tmp_path)
    assert main(words_of(method, "missing.resample_train_masks=true")) == 2
    assert "resample_train_masks has no effect" in capfd.readouterr().err


def test_dcca_answers_with_means_for_what_is_left_out():
    module, data = built("dcca")
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.eval()  # no dropout
    module.on_train_start()
    module.on_validation_start()
    batch = next(iter(data.loader("test")))
    with torch.no_grad():
        features = module.features(batch)
        answers = module.answers(features, batch["present"])
        for name in module.modalities:
            only = {m: torch.full_like(has, m == name) for m, has in batch["present"].items()}
            alone = module.answers(features, only)["multi"]
            torch.testing.assert_close(alone, answers[name])
            assert not torch.allclose(alone, answers["multi"])
    torch.testing.assert_close(answers["multi"], module.fusion(features))


def test_what_cannot_be_is_refused(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main([w for w in words_of("ae") if not w.startswith("missing")]) == 2
    assert "recon_target=oracle reconstructs what is hidden" in capfd.readouterr().err
    assert main(words_of("ae", "method.recon_target=orcle")) == 2
    assert main(["train", "data=openmoji", "method=cca", "optimizer.lr=0.1"]) == 2
    assert "works on vectors" in capfd.readouterr().err
    assert main(words_of("mmin", "method.pretrain_epochs=0")) == 2


def test_degenerate_pairs_are_told(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words_of("cca", "missing.rate=0.5", "run_dir=run")) == 0
    (note,) = result_of(tmp_path / "run")["notes"]
    assert "no training sample has both audio and visual" in note
    assert note in capfd.readouterr().err
    # So few fit perfectly: as many samples as directions correlate whatever they hold.
    assert main(words_of("cca", "missing.rate=0.45", "run_dir=few")) == 0
    (note,) = result_of(tmp_path / "few")["notes"]
    assert "training samples have both audio and visual" in note
    assert main(words_of("cca", "missing.rate=0.1", "run_dir=many")) == 0
    assert result_of(tmp_path / "many")["notes"] == []


def test_cca_of_complete_pairs_is_that_of_the_samples_that_have_both():
    from mla_lightning.functional import linear_cca

    padded_fit, _ = built("cca")
    module, _ = built("cca", "method.fusion.fit_on=pairwise_complete")
    for one in (padded_fit, module):
        one.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        one.on_validation_start()
    x, present, _ = module.training_vectors()
    both = present["audio"] & present["visual"]
    weights, *_ = linear_cca(x["audio"][both], x["visual"][both], 1e-4)
    found = module.fusion.project_audio_of_audio_visual
    torch.testing.assert_close(found, weights[:, : found.shape[1]].float())
    assert not torch.allclose(found, padded_fit.fusion.project_audio_of_audio_visual)


@pytest.mark.parametrize(("size", "steps"), [(40, 8), (50, 4), (80, 4)])
def test_dcca_passes_over_a_small_last_batch(tmp_path, monkeypatch, size, steps):
    monkeypatch.chdir(tmp_path)
    assert main(words_of("dcca", "run_dir=run", f"data.batch_size={size}")) == 0
    notes = " ".join(result_of(tmp_path / "run")["notes"])
    assert ("batches of 30 samples are passed over" in notes) == (size == 50)
    rows = read_metrics(tmp_path / "run")
    assert all(("train/loss/correlation" in row) for row in rows)
    from mla_lightning.methods.dcca import DCCA

    taken = []
    monkeypatch.setattr(DCCA, "losses_of", _counted(DCCA.losses_of, taken))
    assert main(words_of("dcca", "run_dir=again", f"data.batch_size={size}")) == 0
    assert len(taken) == steps


def _counted(function, calls):
    def wrapped(*given):
        calls.append(given)
        return function(*given)

    return wrapped


@pytest.mark.slow
def test_three_views_are_as_hard_as_they_were_elsewhere(tmp_path, monkeypatch):
    """Sanity bands: accuracy of three other views of the numerals, known from other code.

    Mean padding with logistic regression, CCA with a linear SVC, and late fusion were measured on
    another split with more training samples; these are within 4 points of it at no and at the
    largest missing rate, where CCA collapses.
    """
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "mfeat", "views=fou,kar,zer", "target=data/three"]) == 0
    base = ["train", "data=mfeat", "data.path=data/three", "recipe=incomplete", "seed=0"]
    base += ["encoder=auto", "evaluate_probe=false"]
    hidden = ["missing=anchor", "missing.rate=0.7", "missing.clip=true"]
    for method, more, expected in (
        ("cca", [], 0.935),
        ("cca", hidden, 0.298),
        ("late_fusion", [], 0.970),
        ("late_fusion", hidden, 0.852),
    ):
        run = tmp_path / f"{method}{len(more)}"
        assert main([*base, *more, f"method={method}", f"run_dir={run}"]) == 0
        assert result_of(run)["test"]["multi"]["accuracy"] == pytest.approx(expected, abs=0.04)
