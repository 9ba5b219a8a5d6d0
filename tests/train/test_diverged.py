"""A training that diverged fails in words of its own: no run is finished that cannot be read."""

import pytest

from mla_lightning.cli.main import main
from mla_lightning.module import MultimodalModule
from mla_lightning.run import measure
from mla_lightning.run_folder import RESULT, read_json

WORDS = ["train", "data=synthetic", "data.num_train=32", "data.num_val=16", "data.num_test=16"]
WORDS += ["method=concat", "trainer.max_epochs=2", "evaluate_probe=false", "run_dir=run"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_metric_of_an_epoch_that_is_too_large_to_be_measured(monkeypatch, capfd, tmp_path):
    original = MultimodalModule.on_validation_epoch_end

    def grown(self):
        original(self)
        if self.current_epoch == 1:
            self.epoch_metrics["val/acc/audio"] = 2e30

    monkeypatch.setattr(MultimodalModule, "on_validation_epoch_end", grown)
    assert main(WORDS) != 0
    assert "val/acc/audio is 2e+30 in epoch 2: the training diverged." in capfd.readouterr().err
    assert not (tmp_path / "run" / RESULT).exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(WORDS) == 0  # goes on from the checkpoint before it
    assert read_json(tmp_path / "run" / RESULT)["epochs"] == 2


def test_a_score_that_is_too_large_to_be_measured(monkeypatch, capfd, tmp_path):
    original = measure.score_predictions

    def grown(*args):
        scores = original(*args)
        scores["visual"]["accuracy"] = float("inf")
        return scores

    monkeypatch.setattr(measure, "score_predictions", grown)
    assert main(WORDS) != 0
    assert "The val accuracy of visual is inf: the training diverged." in capfd.readouterr().err
    assert not (tmp_path / "run" / RESULT).exists()
