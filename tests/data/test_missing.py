"""Missing modalities: distributions of masks, equal masks for all methods, no leaks."""

import json

import numpy as np
import pytest
import torch

from mla_lightning.cli.main import main
from mla_lightning.data.base import Split
from mla_lightning.data.mask_files import checked_mask
from mla_lightning.data.missing import SAMPLERS, Missing
from mla_lightning.data.splits import SPLITS
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError, DataError

NAMES = ("audio", "image", "text")


def rates_of(missing, num=40_000, seed=0):
    mask = missing.mask("train", num, NAMES, seed)
    assert mask.any(dim=1).all()
    return 1 - mask.double().mean(dim=0)


@pytest.mark.parametrize("sampler", ["anchor", "bernoulli_resample", "bernoulli_restore"])
@pytest.mark.parametrize("rate", [0.1, 0.4, 0.6])
def test_samplers_realise_the_rate_in_each_modality(sampler, rate):
    rates = rates_of(Missing(rate, sampler))
    assert (rates - rate).abs().max() < 0.012


def test_other_protocols_realise_their_rates():
    assert (rates_of(Missing(None, "patterns")) - 0.5).abs().max() < 0.012
    assert (rates_of(Missing(0.6, "sample_fraction")) - 0.2).abs().max() < 0.012
    uneven = rates_of(Missing({"audio": 0.6, "text": 0.1}, "bernoulli_restore"))
    assert (uneven - torch.tensor([0.6, 0.0, 0.1])).abs().max() < 0.012
    clipped = rates_of(Missing(0.7, clip=True))
    assert abs(clipped.mean() - 2 / 3) < 1e-9


def test_masks_depend_only_on_seed_split_and_protocol():
    missing = Missing(0.4)
    mask = missing.mask("train", 100, NAMES, 0)
    assert torch.equal(mask, Missing(0.4, val=False).mask("train", 100, NAMES, 0))
    for other in (
        missing.mask("val", 100, NAMES, 0),
        missing.mask("train", 100, NAMES, 1),
        Missing(0.5).mask("train", 100, NAMES, 0),
        Missing(0.4, "bernoulli_restore").mask("train", 100, NAMES, 0),
        missing.mask("train", 100, NAMES, 0, fold="session 1"),
    ):
        assert not torch.equal(mask, other)
    assert torch.equal(mask, missing.mask("train", 100, NAMES, 0, epoch=1))
    redrawn = Missing(0.4, resample_train_masks=True)
    assert not torch.equal(*(redrawn.mask("train", 100, NAMES, 0, epoch=e) for e in (0, 1)))
    assert torch.equal(*(redrawn.mask("val", 100, NAMES, 0, epoch=e) for e in (0, 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.3, "sampler": "anker"}, "Did you mean 'anchor'"),
        ({"rate": 0.3, "policy": "zero"}, "Did you mean 'zero_input'"),
        ({"rate": 1.3}, "between 0 and 1"),
        ({"rate": 0}, "hides nothing"),
        ({"rate": None}, "missing.rate is missing"),
        ({"rate": 0.3, "sampler": "patterns"}, "no effect with sampler=patterns"),
        ({"rate": {"audio": 0.3}}, "needs missing.sampler=bernoulli_restore"),
        ({"rate": 0.3, "train": False, "val": False, "test": False}, "no effect"),
        ({"rate": 0.3, "train": False, "resample_train_masks": True}, "no effect"),
        ({"rate": 0.9, "sampler": "sample_fraction", "clip": True}, "clip has no effect"),
        ({"rate": None, "sampler": "patterns", "clip": True}, "clip has no effect"),
    ],
)
def test_wrong_settings_are_errors(settings, message):
    with pytest.raises(ConfigError, match=message):
        Missing(**settings)


def test_rates_are_checked_against_the_modalities():
    with pytest.raises(ConfigError, match=r"at most 0.6667 of the cells.*missing.clip=true"):
        Missing(0.7).check(NAMES)
    with pytest.raises(ConfigError, match=r"at most 0.5000"):
        Missing(0.6).check(NAMES[:2])
    Missing(0.7, clip=True).check(NAMES)
    with pytest.raises(ConfigError, match="at least two modalities"):
        Missing(0.3).check(NAMES[:1])
    with pytest.raises(ConfigError, match=r"at most \{audio:0.996,image:0.100,text:0.100\}.*clip"):
        Missing({"audio": 1.0, "image": 0.1, "text": 0.1}, "bernoulli_restore").check(NAMES)
    Missing({"audio": 1.0, "image": 0.1}, "bernoulli_restore").check(NAMES)
    Missing({"audio": 1, "image": 1, "text": 1}, "bernoulli_restore", clip=True).check(NAMES)
    with pytest.raises(ConfigError, match=r"rate.audi: no such modality. Did you mean 'audio'"):
        Missing({"audi": 0.3}, "bernoulli_restore").check(NAMES)


def synthetic(missing=None, **options):
    sizes = {"num_train": 60, "num_val": 30, "num_test": 30, "batch_size": 16}
    data = Synthetic(missing=missing, **(sizes | options))
    data.setup()
    return data


def test_hidden_inputs_are_zeros_in_batches():
    complete, data = synthetic(), synthetic(Missing(0.4))
    assert complete.is_complete
    assert not data.is_complete
    for split in SPLITS:
        batches = zip(data.loader(split), complete.loader(split), strict=True)
        for batch, complete_batch in batches:
            assert torch.equal(batch["index"], complete_batch["index"])
            for name, visible in batch["present"].items():
                x = batch["inputs"][name]
                assert torch.equal(
                    visible, data.masks[split][batch["index"]].T[data.modalities.index(name)]
                )
                assert (x[~visible] == 0).all()
                assert torch.equal(x[visible], complete_batch["inputs"][name][visible])
            assert "truth" not in batch
    zeroed = next(iter(synthetic(Missing(0.4, policy="zero_input")).loader("test")))
    dropped = next(iter(data.loader("test")))
    assert all(present.all() for present in zeroed["present"].values())
    assert all(torch.equal(zeroed["inputs"][m], dropped["inputs"][m]) for m in data.modalities)
    assert synthetic(Missing(0.4, policy="zero_input")).is_complete


def test_modalities_are_hidden_only_in_the_chosen_splits():
    data = synthetic(Missing(0.4, train=False, val=False))
    assert data.masks["train"].all()
    assert data.masks["val"].all()
    assert not data.masks["test"].all()


def test_training_batches_hold_the_truth_on_request():
    data = synthetic(Missing(0.4))
    data.splits["train"].hidden.keeps_truth = True
    batch = next(iter(data.train_dataloader()))
    for name, visible in batch["present"].items():
        assert torch.equal(batch["hidden"][name], ~visible)
        assert batch["truth"][name][~visible].abs().sum() > 0
    assert all("truth" not in b for b in data.loader("train"))
    assert all("truth" not in b for b in data.loader("test"))


def test_files_of_masks_are_only_valid_for_their_data_and_protocol(tmp_path):
    data = synthetic(Missing(0.4), seed=3)
    data.write_masks(tmp_path)
    (path,) = tmp_path.iterdir()
    again = synthetic(Missing(0.4, manifest=str(path)), seed=3)
    assert all(torch.equal(again.masks[split], data.masks[split]) for split in SPLITS)
    with pytest.raises(DataError, match="is of other data: data"):
        synthetic(Missing(0.4, manifest=str(path)), seed=3, num_train=61)
    with pytest.raises(DataError, match="is no file of masks"):
        synthetic(Missing(0.4, manifest=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match=r"rate 0.4, here 0.3.*Set missing="):
        synthetic(Missing(0.3, manifest=str(path)), seed=3)
    with pytest.raises(DataError, match="sampler 'anchor', here 'bernoulli_restore'"):
        synthetic(Missing(0.4, "bernoulli_restore", manifest=str(path)), seed=3)
    again.write_masks(tmp_path)
    synthetic(Missing(0.4), seed=3, data_seed=1).write_masks(tmp_path)  # other data, same masks
    assert len(list(tmp_path.iterdir())) == 2
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays["test_id"].tolist() == data.sample_names("test", range(30))
    metadata = json.loads(str(arrays["about"]))
    assert metadata["rate"] == 0.4
    assert metadata["split"] == data.split_name
    assert abs(metadata["realised_rate"]["train"] - 0.4) < 0.1


def test_damaged_files_of_masks_are_errors(tmp_path):
    data = synthetic(Missing(0.4))
    data.write_masks(tmp_path)
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        arrays = dict(file)

    def with_train(mask):
        changed = tmp_path / "changed.npz"
        np.savez(changed, **{**arrays, "train": mask})
        return Missing(0.4, manifest=str(changed))

    empty = arrays["train"].copy()
    empty[7] = False
    with pytest.raises(DataError, match="'train': sample 7 is left without a modality"):
        synthetic(with_train(empty))
    with pytest.raises(DataError, match=r"needs a mask \(60, 2\) of torch.bool, found .*int64"):
        synthetic(with_train(arrays["train"].astype(np.int64)))
    with pytest.raises(DataError, match="needs a mask"):
        synthetic(with_train(arrays["train"][1:]))
    present = torch.ones(60, 2, dtype=torch.bool)
    present[5, 1] = False
    masks = {**arrays, "train": torch.ones(60, 2, dtype=torch.bool)}
    with pytest.raises(DataError, match="sample 5 has a modality by the mask that is absent from"):
        checked_mask(path, masks, "train", present)


def test_absent_inputs_may_hold_any_value_and_are_not_used():
    split = synthetic().load_splits()["train"]
    has_b = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.5
    inputs = {m: x.clone() for m, x in split.inputs.items()}
    inputs["b"][~has_b] = float("nan")

    class Incomplete(Synthetic):
        def load_splits(self):
            return {**super().load_splits(), "train": Split(inputs, split.label, present=present)}

    present = {"b": has_b}
    data = Incomplete(num_train=60, num_val=30, num_test=30, batch_size=16)
    data.setup()
    batches = list(data.train_dataloader())
    assert all(batch["inputs"]["b"].isfinite().all() for batch in batches)
    assert sum(int((~batch["present"]["b"]).sum()) for batch in batches) == int((~has_b).sum())
    present = {"b": torch.ones(60, dtype=torch.bool)}
    with pytest.raises(DataError, match="not finite"):
        Incomplete(num_train=60, num_val=30, num_test=30, batch_size=16).setup()


def test_a_modality_that_is_absent_from_training_is_an_error():
    with pytest.raises(DataError, match="'b' is absent from all training samples"):
        synthetic(Missing({"b": 1.0}, "bernoulli_restore"))


TINY = ["data=synthetic", "trainer.max_epochs=2", "missing=anchor", "missing.rate=0.4"]


@pytest.mark.parametrize(
    "method", ["late_fusion", "qmf", "mla", "unimodal", "concat", "sum", "film", "joint_unimodal"]
)
def test_methods_for_missing_modalities_train_and_ignore_hidden_inputs(
    tmp_path, monkeypatch, method
):
    """Replace the inputs of hidden cells by NaN: no number changes."""
    monkeypatch.chdir(tmp_path)
    words = ["train", *TINY, f"method={method}"]
    assert main([*words, "run_dir=clean"]) == 0
    load_splits = Synthetic.load_splits

    def poisoned(self):
        splits = load_splits(self)
        for name, split in splits.items():
            arguments = (name, len(split.label), self.modalities, self.seed)
            mask = self.missing.mask(*arguments, fold=self.split_name)
            for column, modality in enumerate(self.modalities):
                split.inputs[modality][~mask[:, column]] = float("nan")
        return splits

    monkeypatch.setattr(Synthetic, "load_splits", poisoned)
    monkeypatch.setattr("mla_lightning.data.base.check_finite", lambda *_: None)
    assert main([*words, "run_dir=poisoned"]) == 0
    clean, other = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("clean", "poisoned")
    )
    for key in ("val", "test", "probe_accuracy", "missing", "best_epoch"):
        assert clean[key] == other[key], key
    arrays = [np.load(tmp_path / name / "predictions.npz") for name in ("clean", "poisoned")]
    assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])


def test_the_result_describes_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hashes = []
    for method in ("mla", "concat"):
        assert main(["train", *TINY, f"method={method}", f"run_dir={method}"]) == 0
        result = json.loads((tmp_path / method / "result.json").read_text())
        hashes.append(result["missing"]["mask_sha256"])
        assert abs(result["missing"]["realised_rate"]["test"] - 0.4) < 0.1
        patterns = result["missing"]["patterns"]["test"].values()
        num_correct = sum(pattern["num"] * pattern["accuracy"] for pattern in patterns)
        num_samples = sum(pattern["num"] for pattern in patterns)
        assert num_samples == result["num_test"]
        assert num_correct / num_samples == pytest.approx(result["test"]["multi"]["accuracy"])
    assert hashes[0] == hashes[1]
    assert len(list((tmp_path / "runs" / "masks").iterdir())) == 1


def test_policies_and_resampling_change_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses = set()
    for number, more in enumerate(
        ([], ["missing.policy=zero_input"], ["missing.resample_train_masks=true"], ["missing=none"])
    ):
        base = TINY if "missing=none" not in more else TINY[:2]
        assert main(["train", *base, *more, "method=late_fusion", f"run_dir=r{number}"]) == 0
        rows = (tmp_path / f"r{number}" / "metrics.csv").read_text().splitlines()
        losses.add(rows[1].split(",")[3])
    assert len(losses) == 4


def test_methods_for_complete_data_are_errors(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "method=ogm"]) == 2
    assert "OGMGE has no rule for samples with missing modalities" in capfd.readouterr().err


def test_a_sweep_checks_each_protocol(tmp_path, monkeypatch, capfd):
    """The jobs share data and method; the first alone is valid."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", *TINY, "method=ogm", "missing.policy=zero_input,drop", "--dry-run"]
    assert main(words) == 2
    message = capfd.readouterr().err
    assert "OGMGE has no rule for samples with missing modalities" in message
    assert "in one job" in message
    assert "missing.policy=drop" in message


def test_all_samplers_have_a_config():
    from mla_lightning.config import plan

    for name in SAMPLERS:
        config = plan(["data=synthetic", f"missing={name}"])[0].config["missing"]
        assert config["sampler"] == name
