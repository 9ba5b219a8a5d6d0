"""Choosing the optimiser, the schedule, callbacks and loggers, and removing keys."""

from __future__ import annotations

import pytest
import torch

from mla_lightning.config import compose_jobs, plan
from mla_lightning.config.schedule import _rates_of
from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import instantiate
from mla_lightning.errors import ConfigError

WORDS = ("data=synthetic", "method=mla")


def config_of(*words: str, **how) -> dict:
    (job,) = plan([*WORDS, *words], checks_signatures=True, **how)
    return job.config


def problem_of(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan([*WORDS, *words], checks_signatures=True)
    return str(caught.value)


@pytest.mark.parametrize("recipe", ["synthetic", "openmoji", "incomplete", "small", "paper"])
@pytest.mark.parametrize("name", options(search_path(None), "optimizer"))
def test_an_optimiser_replaces_that_of_any_recipe_as_a_whole(recipe: str, name: str) -> None:
    """No setting of the recipe's class is left, which another class may not have, or read."""
    node = config_of(f"recipe={recipe}", f"optimizer={name}", "optimizer.lr=0.02")["optimizer"]
    alone = config_of("recipe=synthetic", f"optimizer={name}", "optimizer.lr=0.02")["optimizer"]
    assert node == alone
    optimizer = instantiate(node)([torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer).__name__.lower() == name
    assert optimizer.defaults["lr"] == 0.02


@pytest.mark.parametrize("recipe", ["synthetic", "small"])
@pytest.mark.parametrize("name", options(search_path(None), "scheduler"))
def test_a_schedule_replaces_that_of_any_recipe_as_a_whole(recipe: str, name: str) -> None:
    words = (f"recipe={recipe}", f"scheduler={name}", "trainer.max_epochs=10")
    alone = config_of("recipe=incomplete", *words[1:])["scheduler"]
    (job,) = compose_jobs([*WORDS, *words])  # which also checks it with the task of the data
    assert job.config.scheduler == alone


def test_schedules_follow_the_number_of_epochs() -> None:
    """The step is at 70 % of any number of epochs; the cosine ends one epoch before 0."""
    for epochs in (10, 20):
        words = ("optimizer=sgd", "optimizer.lr=0.1", f"trainer.max_epochs={epochs}")
        step = _rates_of(config_of(*words, "scheduler=step"))
        expected = [0.1] * (7 * epochs // 10) + [0.01] * (3 * epochs // 10)
        assert step == pytest.approx(expected)
        cosine = torch.tensor(_rates_of(config_of(*words, "scheduler=cosine")))
        angle = torch.arange(epochs) * torch.pi / epochs
        assert torch.allclose(cosine, 0.05 * (1 + torch.cos(angle)))


def test_an_experiment_chooses_and_changes_an_optimiser(tmp_path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\ndefaults:\n  - override /optimizer: rmsprop\n"
        "optimizer:\n  momentum: 0.9\n"
    )
    node = config_of("experiment=mine", config_dir=tmp_path)["optimizer"]
    assert (node["_target_"], node["momentum"]) == ("torch.optim.RMSprop", 0.9)
    with pytest.raises(ConfigError, match="Adam has no parameter 'momentum'"):
        config_of("experiment=mine", "optimizer=adam", config_dir=tmp_path)


def test_a_tuned_recipe_gives_no_rate_of_another_optimiser() -> None:
    recipe = ("data=mfeat", "method=mmcosine", "recipe=benchmark_mfeat")
    (tuned,) = plan(recipe)
    (other,) = plan([*recipe, "optimizer=adam"])
    assert tuned.config["optimizer"]["lr"] == 0.00218
    assert other.config["optimizer"]["lr"] == 1e-3
    assert other.config["method"]["fusion"]["scale"] == 4.31  # of the method, so it holds
    assert "is not tuned for it" in other.notes[-1]
    assert not plan([*recipe, "optimizer=adam", "optimizer.lr=0.01"])[0].notes
    by_class = ("optimizer._target_=torch.optim.Adam", "~optimizer.momentum")
    assert "0.00218 is not tuned for it" in plan([*recipe, *by_class])[0].notes[-1]


def test_the_fusion_needs_no_place() -> None:
    words = ["data=synthetic", "method=concat"]
    (short,), (long,) = (plan([*words, w]) for w in ("fusion=sum", "fusion@method.fusion=sum"))
    assert short == long
    assert short.config["choices"]["fusion"] == "sum"


def test_groups_are_axes_and_name_the_jobs() -> None:
    words = [*WORDS, "optimizer=sgd,adamw", "scheduler=null,cosine"]
    jobs = plan(words, multirun=True, checks_signatures=True)
    assert len({job.title for job in jobs}) == 4
    assert jobs[0].slug == "optimizer=sgd-scheduler=null"
    assert jobs[0].config["scheduler"] is None


def test_runs_without_these_choices_are_those_of_earlier_versions() -> None:
    """An identity of version 0.1.0, without groups and callbacks; null stays a value."""
    config = config_of("scheduler=null")
    assert "scheduler" not in config["choices"]
    assert config["callbacks"] == {}
    (job,) = compose_jobs([*WORDS])
    (other,) = compose_jobs([*WORDS, "callbacks=model_summary"])
    assert job.identity[:10] == "8267a4a725"
    assert other.identity != job.identity


def test_a_removed_key_has_the_default_of_the_class() -> None:
    assert "momentum" not in config_of("~optimizer.momentum")["optimizer"]
    assert config_of("~scheduler")["scheduler"] is None
    adamw = config_of("optimizer._target_=torch.optim.AdamW", "~optimizer.momentum")
    assert instantiate(adamw["optimizer"])([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"]
    two = ("logger=[tensorboard,wandb]", "~logger.wandb")
    assert list(config_of(*two)["logger"]) == ["tensorboard"]
    (job,) = plan([*WORDS, "~optimizer.momentum"])
    assert job.overrides[-1] == "~optimizer.momentum"
    assert job.slug == "momentum=null"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer._target_=torch.optim.AdamW"], "~optimizer.momentum, or choose an option"),
        (["~optimizer.momentun"], "Did you mean 'optimizer.momentum'"),
        (["~optimizer"], "a run needs it"),
        (["~method"], "write method=..."),
        (["~trainer.max_epochs"], "trainer names none"),
        (["~optimizer._target_"], "names the class"),
        (["~optimizer.lr=0.1"], "write ~optimizer.lr, without a value"),
        (["optimizer=torch.optim.AdamW"], "optimizer._target_=torch.optim.AdamW"),
        (["optimizer=adamm"], "Did you mean 'adam'"),
        (["logger=[csv,csv]"], "name each option once"),
        (["logger=[csv,wanbd]"], "Did you mean 'wandb'"),
        (["method=[mla,sum]"], "choose a single one"),
        (["callbacks=early_stopping"], "patience=10 has no effect in trainer.max_epochs=4"),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "protocol=paper"],
            "selected on the test split",
        ),
        (
            ["callbacks=early_stopping", "trainer.max_epochs=20", "method=majority"],
            "Majority, which fits all",
        ),
        (
            ["+callbacks.m._target_=lightning.pytorch.callbacks.ModelCheckpoint"],
            "checkpoint.every_n_batches",
        ),
        (["callbacks=early_stopping", "callbacks.early_stopping.patience=0"], "number >= 1"),
    ],
)
def test_refusals_name_what_to_write(words: list[str], message: str) -> None:
    assert message in problem_of(*words)
