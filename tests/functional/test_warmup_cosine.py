"""Schedules of the learning rate, and the recipe for data of one's own."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.optim.lr_scheduler import CosineAnnealingLR

from mla_lightning.config import instantiate, plan
from mla_lightning.config.schedule import schedule_note
from mla_lightning.functional.schedule import warmup_cosine

ROOT = Path(__file__).parents[2]


def rates(*words):
    """Return the learning rate of every epoch of a job."""
    config = plan(["data=synthetic", "recipe=small", *words])[0].config
    optimizer = instantiate(config["optimizer"])(torch.nn.Linear(1, 1).parameters())
    scheduler = instantiate(config["scheduler"])(optimizer)
    values = []
    for _ in range(config["trainer"]["max_epochs"]):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert schedule_note(config) == ""
    return values


def test_without_a_warm_up_it_is_the_cosine_of_torch():
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = CosineAnnealingLR(optimizer, T_max=12)
    for epoch in range(12):
        expected = optimizer.param_groups[0]["lr"]
        assert warmup_cosine(epoch, num_epochs=12, warmup=0) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("epochs", [1, 20])
def test_the_recipe_rises_and_falls_over_the_epochs_of_the_run(epochs):
    values = rates(f"trainer.max_epochs={epochs}")
    peak = values.index(max(values))
    assert max(values) == pytest.approx(5e-3)
    assert peak == epochs // 10
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert min(values) > 0
    assert epochs == 1 or values[-1] < 0.03 * max(values)


def test_another_warm_up_changes_the_rates():
    words = ("trainer.max_epochs=20", "scheduler.lr_lambda.warmup=0.5")
    assert rates(*words).index(5e-3) == 10
    assert rates("trainer.max_epochs=20").index(5e-3) == 2


@pytest.mark.parametrize("kind", ["table1", "table3", "tuning"])
def test_the_experiments_on_any_store_compare_what_those_on_a_prepared_one_do(kind):
    folder = ROOT / "conf" / "experiment" / kind
    ours, theirs = (yaml.safe_load((folder / f"{n}.yaml").read_text()) for n in ("store", "mfeat"))
    references = ["logistic", "majority"] if kind == "table1" else []
    assert ours["grid"].get("method", []) == theirs["grid"].get("method", []) + references
    assert ours["grid"].get("ablation") == theirs["grid"].get("ablation")


def test_the_tuning_of_any_store_is_around_the_rate_of_its_recipe():
    jobs = plan(["experiment=tuning/store"], multirun=True)
    assert {job.config["choices"]["recipe"] for job in jobs} == {"small"}
    rates_tried = sorted({job.config["optimizer"]["lr"] for job in jobs})
    assert rates_tried[0] < 5e-3 < rates_tried[-1]
    assert not any(job.config["evaluate_test"] for job in jobs)
