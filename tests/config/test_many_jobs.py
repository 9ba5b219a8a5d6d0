"""Jobs of one sweep share what they have in common, and each is the job that is composed alone."""

from __future__ import annotations

import re
from typing import Any

import omegaconf
import pytest

from mla_lightning.config import compose_jobs, plan
from mla_lightning.config.interpolation import Resolver, resolve_interpolations
from mla_lightning.errors import ConfigError

TINY = ("data=synthetic",)
SWEEPS = {
    "methods": [*TINY, "method=mla,sum,majority", "seed=0,1"],
    "values": [*TINY, "optimizer.lr=0.05,0.1", "data.num_features=8,16"],
    "choices": ["data=openmoji", "recipe=small,openmoji", "method=mla,concat", "seed=0,1"],
    "ablations": [*TINY, "ablation=none,no_df", "seed=3,1"],
    "missing": [*TINY, "missing=bernoulli_restore", "missing.rate=0.1,0.2"],
    "modalities": [*TINY, "method=unimodal", "modalities=[visual],[audio],null"],
    "epochs": [*TINY, "trainer.max_epochs=auto,3"],
    "seed that is read": [*TINY, "name='x/${seed}'", "seed=0,1"],
    "seed that is read from a section": [*TINY, "name='x/${.seed}'", "seed=0,1"],
    "seed that is read by what is read": [
        *(*TINY, "name='${paths.data_dir}'", "paths.data_dir='a/${seed}'", "seed=0,1"),
    ],
    "values that are read": [
        *(*TINY, "name='${choices.method}-${optimizer.lr}'", "method=mla,sum"),
        "optimizer.lr=0.1,0.2",
    ],
}
WRONG = {
    "values": [*TINY, "method=mla,sum", "optimizer.lr=-1,0.1", "seed=0,-1"],
    "choices": [*TINY, "method=mla,sum", "scheduler.step=3", "trainer.devices=1,2"],
    "targets": [*TINY, "seed=0,1", "data._target_=os.system,torch.nn.ReLU"],
    "interpolations": [*TINY, "seed=0,1", "name='${nothing}','${oc.env:HOME}'"],
    "relations": [*TINY, "seed=0,1", "trainer.accumulate=64", "data.batch_size=32,64"],
    "data": [*TINY, "missing=bernoulli_restore", "missing.rate=0.2", "method=mla,ogm_ge"],
}


@pytest.mark.parametrize("words", SWEEPS.values(), ids=SWEEPS)
def test_a_job_of_a_sweep_is_the_job_composed_alone(words: list[str]) -> None:
    jobs = plan(words, multirun=True, checks_signatures=True)
    assert len(jobs) > 1
    for job in jobs:
        (alone,) = plan(job.overrides, checks_signatures=True)
        assert repr(alone) == repr(job)  # the order of the keys and the types, too


def test_a_job_has_the_identity_and_folder_of_the_job_composed_alone() -> None:
    words = ["data=openmoji", "method=mla,sum", "trainer.max_epochs=auto", "seed=0,1"]
    jobs = compose_jobs(words, multirun=True)
    assert len({job.identity for job in jobs}) == len(jobs) == 4
    for job in jobs:
        (alone,) = compose_jobs(job.overrides)
        assert repr(alone) == repr(job)
        assert repr(alone.config.tree) == repr(job.config.tree)


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_the_problems_of_a_sweep_are_those_of_its_jobs_alone(words: list[str]) -> None:
    axes = [word.partition("=") for word in words]
    choices: list[list[str]] = [[]]
    for key, _, values in axes:
        texts = [f"{key}={value}" for value in values.split(",")]
        choices = [[*chosen, text] for chosen in choices for text in texts]
    expected = {message for chosen in choices for message in problems_of(chosen, multirun=False)}
    assert problems_of(words, multirun=True) == expected != set()


def problems_of(words: list[str], *, multirun: bool) -> set[str]:
    """Return the messages without the jobs that they name."""
    try:
        compose_jobs(words, multirun)
    except ConfigError as error:
        lines = [line.removeprefix("  - ") for line in str(error).splitlines()]
        several = len(lines) > 1 and lines[0].endswith("problems:")
        return {re.sub(r" \(in .* jobs?.*\)$", "", line) for line in lines[several:]}
    return set()


def test_more_seeds_need_no_more_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    def num_trees(num_seeds: int) -> int:
        calls = []
        create = omegaconf.OmegaConf.create

        def counted(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            return create(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(omegaconf.OmegaConf, "create", counted)
            assert len(plan([*TINY, f"seed=range({num_seeds})"], multirun=True)) == num_seeds
        return len(calls)

    assert num_trees(12) - num_trees(2) <= 1  # Hydra's own reading of the words may differ


def test_jobs_share_the_sections_in_which_they_do_not_differ() -> None:
    first, second = compose_jobs([*TINY, "seed=0,1"], multirun=True)
    for key, section in first.config.tree.items():
        if isinstance(section, dict | list) and section:
            assert section is second.config.tree[key], key
    first, second = compose_jobs([*TINY, "optimizer.lr=0.1,0.2"], multirun=True)
    rates = [job.config.tree["optimizer"]["lr"] for job in (first, second)]
    assert rates == [0.1, 0.2]


def test_a_resolver_follows_what_is_read_through_others() -> None:
    resolver = Resolver()
    for seed in (0, 1):
        config = {"a": {"x": "${b.y}"}, "b": {"y": "${c}"}, "c": "seed${seed}", "seed": seed}
        assert resolver.resolve(config, [])["a"] == {"x": f"seed{seed}"}
    for name in ("p", "q"):
        nested = {"value": "${of.${name}}", "of": {"p": 1, "q": 2}, "name": name}
        assert resolver.resolve(nested, [])["value"] == {"p": 1, "q": 2}[name]


def test_a_resolver_tells_values_of_different_types_apart() -> None:
    resolver = Resolver()
    for value in (1, 1.0, True, "1", None):
        resolved = resolver.resolve({"a": {"x": "${b}"}, "b": value}, [])
        assert repr(resolved) == repr({"a": {"x": value}, "b": value})


def test_problems_are_reported_again_for_each_config() -> None:
    resolver = Resolver()
    for seed in (0, 1):
        problems: list[str] = []
        resolver.resolve({"name": "${nothing}", "seed": seed}, problems)
        assert problems == [
            "name=${nothing} cannot be resolved: Interpolation key 'nothing' not found"
        ]


def test_resolving_once_returns_a_config_of_its_own() -> None:
    config = {"data": {"path": "here"}}
    resolve_interpolations(config, [])["data"]["path"] = "there"
    assert config == {"data": {"path": "here"}}
