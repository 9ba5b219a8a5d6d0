"""Jobs: identity, run folder, order of a sweep, a user's own code, and checks of arguments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mla_lightning.config import compose_jobs, plan
from mla_lightning.config.naming import slug_of
from mla_lightning.errors import ConfigError
from mla_lightning.identity import NOT_IDENTITY

TINY = ("data=synthetic",)


def identity(*overrides: str) -> str:
    (job,) = compose_jobs([*TINY, *overrides])
    return job.identity


@pytest.fixture(scope="module")
def default() -> str:
    return identity()


@pytest.mark.parametrize(
    "override",
    [
        "name=other/name",
        "logger=tensorboard",
        "logger=wandb",
        "launcher=serial",
        "launcher.jobs=1",
        "paths.output_dir=/tmp/elsewhere",
        "overwrite=true",
        "run_dir=/tmp/one",
        "force_resume=true",
        "trainer.progress_bar=false",
        "data.num_workers=1",
        "experiment=null",
        "optimizer.lr=0.05",  # the recipe's own value
    ],
)
def test_settings_that_change_no_number_do_not_change_the_identity(
    default: str, override: str
) -> None:
    assert identity(override) == default


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "method=concat",
        "method.alpha=0.2",
        "method.hgm=false",
        "ablation=no_hgm",
        "protocol=paper",
        "evaluate_test=false",
        "evaluate_probe=false",
        "trainer.compile=true",
        "optimizer.lr=0.051",
        "optimizer.momentum=0.8",
        "+optimizer.nesterov=true",
        "scheduler.gamma=0.2",
        "scheduler=null",
        "trainer.max_epochs=5",
        "trainer.threads=2",
        "trainer.precision=bf16-mixed",
        "trainer.clip_norm=1.0",
        "trainer.accumulate=2",
        "trainer.deterministic=false",
        "trainer.log_every_n_batches=7",
        "checkpoint.keep=3",
        "data.batch_size=16",
        "loss.class_weights=balanced",
        "trainer=fast",
        "callbacks=ema",
        "callbacks=model_summary",
        "optimizer=adam",
        "scheduler=cosine",
        "~optimizer.momentum",
    ],
)
def test_all_other_settings_change_the_identity(default: str, override: str) -> None:
    assert identity(override) != default


def test_every_key_is_in_the_identity_or_listed_as_not(default: str) -> None:
    (job,) = plan(TINY)
    known = {"seed", "protocol", "evaluate_test", "modalities", "checkpoint", "choices", "trainer"}
    known |= {
        "select_by",
        "task",
        "loss",
        "diagnostics",
        "evaluate_probe",
        "missing",
        "encoder",
        "optimizer",
        "scheduler",
        "data",
        "method",
        "callbacks",
    }
    assert job.config.keys() == known | set(NOT_IDENTITY)


def test_tuned_rates_of_other_methods_are_not_in_the_config() -> None:
    (job,) = plan(["data=openmoji", "method=mla"])
    assert "tuned_lr" not in job.config
    assert isinstance(job.config["optimizer"]["lr"], float)


def test_a_job_has_the_same_folder_alone_and_in_a_sweep() -> None:
    single = compose_jobs([*TINY, "name=a/b", "method=qmf", "seed=1", "optimizer.lr=0.2"])
    sweep = compose_jobs(
        [*TINY, "name=a/b", "method=concat,qmf", "seed=0,1", "optimizer.lr=0.2"], multirun=True
    )
    assert single[0].run_dir in [job.run_dir for job in sweep]
    assert len({job.run_dir for job in sweep}) == 4
    (again,) = compose_jobs(sweep[0].overrides)
    assert (again.identity, again.run_dir) == (sweep[0].identity, sweep[0].run_dir)


def test_a_folder_is_named_by_the_distinguishing_overrides(tmp_path: Path) -> None:
    (job,) = compose_jobs(
        [
            *TINY,
            f"paths.output_dir={tmp_path}",
            "name=sweeps/one",
            "seed=7",
            "ablation=no_df",
            "optimizer.lr=0.2",
            "method.projection=owm",
            "trainer.progress_bar=false",
            "data.num_workers=1",
        ]
    )
    assert job.run_dir.parent == tmp_path / "sweeps" / "one"
    expected = f"synthetic-mla-no_df-projection_owm-lr_0.2-seed7-{job.identity[:10]}"
    assert job.run_dir.name == expected  # overrides in the order of their keys
    assert job.distinguishing_overrides == {"optimizer.lr": 0.2, "method.projection": "owm"}
    assert job.title == "sweeps/one: synthetic mla no_df projection=owm-lr=0.2 seed=7"


@pytest.mark.parametrize("value", ["a b", "a/b", "ä'\"", "x" * 300, "..", "a:b|c*?"])
def test_a_slug_is_a_safe_file_name(value: str) -> None:
    slug = slug_of({"data.root": value, "seed": None, "x": [True, 1.5]})
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=.+-")
    assert "/" not in slug


def test_a_long_override_gives_a_valid_folder_name(tmp_path: Path) -> None:
    order = "[" + ",".join(["audio_of_a_very_long_name"] * 40) + "]"
    (job,) = compose_jobs([*TINY, f"method.order={order}", f"paths.output_dir={tmp_path}"])
    job.run_dir.mkdir(parents=True)
    assert job.run_dir.is_dir()


def test_run_dir_is_used_unchanged(tmp_path: Path) -> None:
    (job,) = compose_jobs([*TINY, f"run_dir={tmp_path}/mine"])
    assert job.run_dir == tmp_path / "mine"


# ---------------------------------------------------------------------- sweeps


def cells(*overrides: str, **options: object) -> list[tuple[str, int]]:
    jobs = plan(overrides, multirun=True, **options)
    return [(job.config["choices"]["method"], job.config["seed"]) for job in jobs]


def test_the_last_axis_varies_fastest() -> None:
    assert cells("method=sum,mla", "seed=0,1") == [("sum", 0), ("sum", 1), ("mla", 0), ("mla", 1)]


def test_hydras_sweep_grammar_is_supported() -> None:
    assert [seed for _, seed in cells("seed=range(3)")] == [0, 1, 2]
    assert [seed for _, seed in cells("seed=choice(4,2)")] == [4, 2]
    assert [method for method, _ in cells("method=glob(mla*)")] == [
        "mla",
        "mla_balancemm",
        "mla_paper",
        "mla_released",
    ]


def test_a_mapping_argument_is_passed_unchanged() -> None:
    words = ["method=mla", "missing=bernoulli_restore", "missing.rate={image: 0.5},{text: 0.1}"]
    jobs = plan(words, multirun=True, checks_signatures=True)
    assert [job.config["missing"]["rate"] for job in jobs] == [{"image": 0.5}, {"text": 0.1}]
    assert [job.distinguishing_overrides["missing.rate"] for job in jobs] == [
        {"image": 0.5},
        {"text": 0.1},
    ]


def test_the_command_line_replaces_axes_of_a_grid() -> None:
    assert len(cells("experiment=table1/openmoji")) == 27
    assert cells("experiment=table1/openmoji", "seed=5", "method=mla") == [("mla", 5)]
    assert len(cells("experiment=table3/openmoji", "seed=range(10)")) == 40
    assert len(cells("experiment=table3/openmoji", "trainer.max_epochs=1,2")) == 24
    (single,) = plan(["experiment=table1/openmoji"])
    assert single.config["choices"]["method"] == "mla"


def test_each_experiment_of_a_sweep_has_its_own_grid() -> None:
    assert len(cells("experiment=table1/openmoji,table3/openmoji")) == 27 + 12


def test_a_grid_may_contain_any_value(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "grid:\n"
        "  modalities: [null, [image], [image, text]]\n"
        "  evaluate_test: [true, false]\n"
        "  trainer.clip_norm: [null, 1.0e-3]\n"
        "  name: ['a b', 'null', '1']\n"
        "  fusion@method.fusion: [shared_head]\n"
    )
    jobs = plan(["experiment=mine"], multirun=True, config_dir=tmp_path)
    assert len(jobs) == 36
    assert {job.config["name"] for job in jobs} == {"a b", "null", "1"}
    assert {job.config["trainer"]["clip_norm"] for job in jobs} == {None, 1e-3}
    assert [job.config["modalities"] for job in jobs][-1] == ["image", "text"]
    (again,) = plan(jobs[-1].overrides[2:], config_dir=tmp_path)
    assert again.config == jobs[-1].config


def test_a_config_dir_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "my conf's, [new]" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    (job,) = plan(["experiment=mine"], config_dir=folder.parent)
    assert job.config["name"] == "mine"


def test_choices_hold_the_chosen_options() -> None:
    (job,) = plan(["method=ogm_ge", "fusion@method.fusion=sum", "data=synthetic"])
    choices = job.config["choices"]
    assert (choices["method"], choices["fusion"]) == ("ogm_ge", "sum")
    assert (choices["data"], choices["recipe"]) == ("synthetic", "synthetic")
    assert choices["ablation"] == "none"


def test_data_choose_encoder_and_recipe_unless_overridden() -> None:
    (own,) = plan(["data=synthetic"])
    (other,) = plan(["data=synthetic", "recipe=paper"])
    assert own.config["choices"]["encoder"] == other.config["choices"]["encoder"]
    assert other.config["optimizer"]["lr"] == 1e-3
    assert own.config["data"]["batch_size"] != other.config["data"]["batch_size"]


# ---------------------------------------------------------------------- a user's own code

OWN_METHOD = """
from mla_lightning.methods.joint import Joint

class Mine(Joint):
    '''My own rule.'''

    def __init__(self, *, weight: float = 1.0, mode: str, **parts):
        super().__init__(**parts)

def factory(**parts):
    return Mine(mode='x', **parts)
"""


def test_a_users_own_method_must_be_allowed_and_is_checked_like_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_methods.py").write_text(OWN_METHOD)
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# Mine.\ndefaults: [/fusion@fusion: concat]\n_target_: my_methods.Mine\nweight: 2.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(os.sys.path))
    monkeypatch.setattr("mla_lightning.config.targets._BY_USER", [])
    own = {"config_dir": tmp_path / "conf"}
    overrides = ["method=mine", "optimizer.lr=0.1"]
    with pytest.raises(ConfigError, match="add --allow-target PACKAGE for your own"):
        plan(overrides, **own)
    own |= {"allowed": ["my_methods"], "checks_signatures": True}
    with pytest.raises(ConfigError, match=r"method\.mode is missing: Mine needs it"):
        plan(overrides, **own)
    with pytest.raises(ConfigError, match=r"method\.weight must be a number, got 'much'"):
        plan([*overrides, "+method.mode=x", "method.weight=much"], **own)
    (job,) = plan([*overrides, "+method.mode=x"], **own)
    assert job.overrides[:4] == (
        "--config-dir",
        str(own["config_dir"]),
        "--allow-target",
        "my_methods",
    )
    plan(
        [*overrides, "method._target_=my_methods.factory", "experiment=null"],
        config_dir=own["config_dir"],
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ("+method.alhpa=1",),
            "method.alhpa: MLA has no parameter 'alhpa'. Did you mean 'alpha'? Its parameters: ",
        ),
        (("+optimizer.nestrov=true",), "SGD has no parameter 'nestrov'. Did you mean 'nesterov'?"),
        (("+optimizer.params=[1]",), "optimizer.params is not a setting: training supplies it"),
        (("+data.seed=1",), "data.seed is not a setting: training supplies it"),
        (("+method.seed=1",), "method.seed is not a setting: training supplies it"),
        (("method=sum", "ablation=no_hgm"), "method.hgm: Joint has no parameter 'hgm'."),
        (("method=mla_balancemm", "ablation=no_hgm"), "MLABalanceMM has no parameter 'hgm'."),
        (("method.alpha=big",), "method.alpha must be a number, got 'big'"),
        (("method.hgm=1",), "method.hgm must be true or false, got 1"),
        (("method.reset_every=1.5",), "method.reset_every must be a whole number or null, got 1.5"),
        (("method.static_weighting=[a]",), None),
        (("method.static_weighting=3",), "must be text or a list of a number, got 3"),
        (("method._target_=mla_lightning.methods.mla.MLAA",), "has no 'MLAA'. Did you mean 'MLA'?"),
        (("method._target_=mla_lightning.methods.mal.MLA",), "cannot be imported: No module named"),
        (("optimizer._partial_=false",), "optimizer needs _partial_: true"),
        (("+data._partial_=true",), "data._partial_ must not be set"),
        (("+method._convert_=all",), "MLA has no parameter '_convert_'."),
        (
            ("optimizer={_target_: torch.optim.Adam}", "optimizer.lr=0.1"),
            "Adam has no parameter 'momentum'",
        ),
        (("scheduler._target_=torch.optim.lr_scheduler.MultiStepLR",), "milestones is missing"),
        (
            ("data.batch_size=???",),
            "data.batch_size has no value: set one with data.batch_size=...",
        ),
    ],
)
def test_arguments_are_checked_against_the_class(
    overrides: tuple[str, ...], expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(ConfigError):
            plan(overrides, checks_signatures=True)
        return
    with pytest.raises(ConfigError) as caught:
        plan(overrides, checks_signatures=True)
    assert expected in str(caught.value)


def test_problems_of_keys_and_of_classes_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(
            ["sed=1", "trainer.threads=0", "method.alpha=x", "+optimizer.foo=1"],
            checks_signatures=True,
        )
    assert str(caught.value).startswith("4 problems:\n")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("data.names=[audio,video]",), "encoder has no entry for 'video' of synthetic."),
        (("data.names=[audio,video]",), "encoder.visual: synthetic has no such modality."),
        (("encoder=mlp_synthetic3",), "encoder.text: synthetic has no such modality."),
        (("modalities=[audio]",), "MLA needs at least 2 modalities, got ['audio']. Use method=uni"),
        (("data.batch_size=0",), "data.batch_size must be at least 1, got 0"),
    ],
)
def test_a_config_that_does_not_fit_the_data_is_rejected_before_any_job(
    overrides: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_jobs([*TINY, *overrides])
    assert expected in str(caught.value)
