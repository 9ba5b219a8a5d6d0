"""Schedules that the end of the run cuts off: an error if the user set them, else a note."""

from __future__ import annotations

import pytest

from mla_lightning.config import plan, schedule_note
from mla_lightning.config.schedule import _rates_of
from mla_lightning.config.search import options, search_path
from mla_lightning.errors import ConfigError

SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
SYNTHETIC = ("data=synthetic", "optimizer.lr=0.1")


def config_of(schedule: dict | None, epochs: int) -> dict:
    node = schedule and {**schedule, "_partial_": True}
    node = node and {**node, "_target_": f"torch.optim.lr_scheduler.{node['_target_']}"}
    return {"optimizer": SGD, "scheduler": node, "trainer": {"max_epochs": epochs}}


@pytest.mark.parametrize("epochs", [2, 3, 5, 8])
@pytest.mark.parametrize("step_size", [1, 2, 4, 5, 7, 9])
def test_a_step_has_a_note_exactly_if_no_epoch_follows_it(step_size: int, epochs: int) -> None:
    config = config_of({"_target_": "StepLR", "step_size": step_size, "gamma": 0.1}, epochs)
    expected = [0.5 * 0.1 ** (epoch // step_size) for epoch in range(epochs)]
    assert _rates_of(config) == pytest.approx(expected)
    assert bool(schedule_note(config)) == (step_size >= epochs)


def test_the_suggested_step_is_reached() -> None:
    config = config_of({"_target_": "StepLR", "step_size": 70}, 20)
    assert "scheduler.step_size=14" in schedule_note(config)
    assert schedule_note(config_of({"_target_": "StepLR", "step_size": 14}, 20)) == ""


@pytest.mark.parametrize(
    ("schedule", "epochs", "note"),
    [
        (None, 20, ""),
        ({"_target_": "StepLR", "step_size": 70}, 1, ""),
        ({"_target_": "MultiStepLR", "milestones": [3, 6]}, 9, ""),
        ({"_target_": "MultiStepLR", "milestones": [3, 9]}, 9, "9 is not reached"),
        ({"_target_": "MultiStepLR", "milestones": [30, 90]}, 9, "scheduler.milestones=[6]"),
        ({"_target_": "CosineAnnealingLR", "T_max": 9}, 9, ""),
        ({"_target_": "CosineAnnealingLR", "T_max": 90}, 9, "scheduler.T_max=9"),
        ({"_target_": "CosineAnnealingLR", "T_max": 4}, 9, "rises again"),
        ({"_target_": "ExponentialLR", "gamma": 0.9}, 9, ""),
        ({"_target_": "ExponentialLR", "gamma": 1.0}, 9, "in all 9 epochs. Write scheduler=null"),
        ({"_target_": "StepLR", "step_size": 2, "gamma": 1}, 9, "9 epochs. Write scheduler=null"),
        ({"_target_": "ReduceLROnPlateau", "mode": "max"}, 9, ""),
    ],
)
def test_notes(schedule: dict | None, epochs: int, note: str) -> None:
    text = schedule_note(config_of(schedule, epochs))
    assert note in text
    assert bool(note) == bool(text)


def test_no_recipe_has_a_schedule_that_it_does_not_reach() -> None:
    for recipe in options(search_path(None), "recipe"):
        (job,) = plan([*SYNTHETIC, f"recipe={recipe}"])
        assert schedule_note(job.config) == "", recipe


def test_a_setting_of_the_user_without_effect_is_an_error_and_that_of_a_recipe_is_not() -> None:
    plan([*SYNTHETIC, "trainer.max_epochs=2"], checks_signatures=True)
    plan([*SYNTHETIC, "trainer.max_epochs=2", "scheduler.step_size=1"], checks_signatures=True)
    plan([*SYNTHETIC, "trainer.max_epochs=2", "scheduler=null"], checks_signatures=True)
    with pytest.raises(ConfigError, match=r"step_size=2 is not reached.*scheduler=null"):
        plan([*SYNTHETIC, "trainer.max_epochs=2", "scheduler.step_size=2"], checks_signatures=True)
