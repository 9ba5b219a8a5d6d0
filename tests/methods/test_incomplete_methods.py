"""The methods for missing modalities, trained: hidden values stay hidden, switches act."""

import numpy as np
import pytest
from tests.methods.incomplete_runs import METHODS, TAUGHT, built, result_of, words_of

from mla_lightning.cli.main import main
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.methods.taught import Taught


@pytest.mark.parametrize("method", METHODS)
def test_each_learns(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["trainer.max_epochs=40", "optimizer.lr=0.004", "scheduler=null"]
    assert main(words_of(method, "run_dir=run", *more)) == 0
    chance = 1 / len(np.load(tmp_path / "run" / "predictions.npz")["class_names"])
    assert result_of(tmp_path / "run")["test"]["multi"]["accuracy"] > chance + 0.1


@pytest.mark.parametrize("method", METHODS)
def test_none_looks_at_what_is_hidden_in_the_test(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    more = ["optimizer.lr=0.004"]
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


@pytest.mark.parametrize("target", ["oracle", "observed"])
@pytest.mark.parametrize("method", [*TAUGHT, "ae"])
def test_what_the_data_lack_is_no_truth(method, target):
    """Cells that neither the method nor the protocol knows may hold anything."""
    module, data = built(method, f"method.recon_target={target}")
    module.eval()  # no dropout
    computed = {}
    module.step_on = lambda batch, losses_of: computed.update(losses_of(batch)) or {}
    batch = next(iter(data.train_dataloader()))
    without_audio = ~batch["present"]["audio"] & batch["present"]["visual"]
    assert without_audio.any()
    rows = int(without_audio.nonzero()[0])
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
    losses = []
    for pieces in (1, 2, 4):
        run = tmp_path / f"run{pieces}"
        words = words_of("ae", f"run_dir={run}", f"trainer.accumulate={pieces}", *exact)
        assert main(words) == 0
        head, row = (run / "metrics.csv").read_text().splitlines()[:2]
        losses.append(
            float(dict(zip(head.split(","), row.split(","), strict=True))["train/loss/recon"])
        )
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


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
    logits = {}
    for method in METHODS:
        run = tmp_path_factory.mktemp(method)
        assert main(words_of(method, f"run_dir={run}/run", f"paths.output_dir={run}")) == 0
        logits[method] = np.load(run / "run" / "predictions.npz")["logits_multi"]
    return logits


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


def test_what_cannot_be_is_refused(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main([w for w in words_of("ae") if not w.startswith("missing")]) == 2
    assert "recon_target=oracle reconstructs what is hidden" in capfd.readouterr().err
    assert main(words_of("ae", "method.recon_target=orcle")) == 2
    assert main(["train", "data=openmoji", "method=cca", "optimizer.lr=0.1"]) == 2
    assert "works on vectors" in capfd.readouterr().err
    assert main(words_of("mmin", "method.pretrain_epochs=0")) == 2
