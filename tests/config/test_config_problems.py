"""All problems of a command line are reported before a job starts, with the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mla_lightning.config import load_config, plan
from mla_lightning.errors import ConfigError


def error_of(*overrides: str, multirun: bool = False, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(overrides, multirun, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method=ogmge", "Unknown method 'ogmge'. Did you mean 'ogm_ge'? Known: ae, agm, "),
        ("method=ogmge", "Run `mla list methods` to see them all."),
        ("data=openmojis", "Unknown data 'openmojis'. Did you mean 'openmoji'?"),
        ("experiment=table1/openmoj", "Did you mean 'table1/openmoji'?"),
        ("fusion@method.fusion=shared", "Unknown fusion 'shared'. Did you mean 'shared_head'?"),
        ("sed=1", "Unknown key 'sed'. Did you mean 'seed'?"),
        ("method.alhpa=1", "Unknown key 'method.alhpa'. Did you mean 'method.alpha'?"),
        ("optimzer.lr=1", "Unknown key 'optimzer.lr'. Did you mean 'optimizer.lr'?"),
        ("lr=1", "Unknown key 'lr'. Did you mean 'optimizer.lr'?"),
        ("max_epoch=1", "Unknown key 'max_epoch'. Did you mean 'trainer.max_epochs'?"),
        ("method.fusion.dimm=1", "Did you mean 'method.fusion.dim'?"),
        ("data.batchsize=1", "Did you mean 'data.batch_size'?"),
        ("optimizer.nesterov=true", "+optimizer.nesterov=... adds a key that its YAML does not"),
        ("seed.x=1", "Unknown key 'seed.x': seed is a single value and has no keys."),
        ("seed={x: 1}", "Unknown key 'seed.x': seed is a single value and has no keys."),
        ("trainer={max_epoch: 3}", "Did you mean 'trainer.max_epochs'?"),
        ("+foo=1", "+foo: nothing reads 'foo'"),
        ("+foo.bar=1", "+foo.bar: nothing reads 'foo.bar'"),
        ("+seed=1", "+seed: the key exists already; write seed=... to change it"),
        ("+trainer.foo=1", "Unknown key 'trainer.foo'."),
        ("~method", "~method: one option of method is needed; write method=..."),
        ("+experiment=table1/openmoji", "write experiment=table1/openmoji"),
        ("method=null", "method=null: choose one of ae, agm, amss, aug,"),
        ("method=[mla,concat]", "choose a single one of"),
        ("experiment=1", "Unknown experiment '1'."),
        ("seed", "'seed' is not an override: write key=value"),
        ("seed=[1", "'seed=[1' cannot be read"),
        ("hydra.run.dir=x", "mla starts the runs itself; Hydra's settings have no effect"),
        ("choices.method=mla", "choices.method cannot be set: it is filled in from the groups"),
        ("tuned_lr.mla=1", "tuned_lr.mla cannot be set: write optimizer.lr=..."),
        ("grid.seed=[1]", "grid.seed cannot be set: write the values of a key"),
        (
            "trainer.max_epochs=ten",
            "trainer.max_epochs must be a whole number >= 1 or auto, got 'ten'",
        ),
        ("trainer.max_epochs=0", "trainer.max_epochs must be a whole number >= 1 or auto, got 0"),
        ("trainer.max_epochs=2.5", "must be a whole number >= 1 or auto, got 2.5"),
        ("seed=-1", "seed must be a whole number >= 0, got -1"),
        ("seed=true", "seed must be a whole number >= 0, got true"),
        ("seed=null", "seed must be a whole number >= 0, got null"),
        ("evaluate_test=1", "evaluate_test must be true or false, got 1"),
        ("trainer.clip_norm=0", "trainer.clip_norm must be a number > 0 or null, got 0"),
        ("protocol=test", "protocol must be one of validation, paper, got 'test'"),
        ("trainer.precision=half", "trainer.precision must be one of 32-true, "),
        ("trainer.accelerator=tpu", "trainer.accelerator must be one of auto, cpu, "),
        ("trainer.strategy=ddp", "trainer.strategy is not a setting: trainer.devices=2 trains"),
        ("trainer.gradient_clip_val=1", "write trainer.clip_norm."),
        ("modalities=[image,txt]", "unknown modality 'txt'. Did you mean 'text'? Known: image,"),
        ("modalities=[]", "modalities must name at least one modality"),
        ("modalities=[text,text]", "names a modality twice"),
        ("modalities=text", "modalities must be a list of text or null, got 'text'"),
        ("paths.output_dir=${nowhere}", "paths.output_dir=${nowhere} cannot be resolved"),
        ("checkpoint.keep=???", "checkpoint.keep has no value: set one with checkpoint.keep=..."),
    ],
)
def test_one_problem(override: str, expected: str) -> None:
    assert expected in error_of(override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method.alpha={x: 1}", "method.alpha must be a number, got {'x': 1}"),
        ("optimizer.lr={x: 1}", "optimizer.lr must be a number or Tensor, got {'x': 1}"),
        ("missing.rate={x: half}", "a number or a mapping of names to a number or null, got {'x'"),
    ],
)
def test_a_mapping_for_a_value_is_checked_against_the_class(override: str, expected: str) -> None:
    assert expected in error_of(
        "method=mla", "missing=bernoulli_restore", override, checks_signatures=True
    )


def test_all_problems_are_reported_together_and_once_each() -> None:
    text = error_of(
        "method=ogmge", "sed=3", "trainer.max_epochs=ten", "optimizer.lrr=1", "protocol=test"
    )
    assert text.startswith("5 problems:\n")
    for message in ("'ogm_ge'", "'seed'", "got 'ten'", "'optimizer.lr'", "got 'test'"):
        assert text.count(message) == 1


def test_an_unknown_choice_hides_no_problem_and_adds_no_false_one() -> None:
    text = error_of("method=ogmge", "method.rank_weight=0.3", "seed=x")
    assert text.startswith("2 problems:\n")
    text = error_of("data=openmojis", "data.batch_size=7", "optimizer.lr=0.2", "protocol=test")
    assert text.startswith("2 problems:\n")


def test_a_problem_of_some_jobs_names_the_first_of_them() -> None:
    text = error_of("method=mla,concat", "method.alpha=0.2", "seed=0,1", multirun=True)
    assert "Unknown key 'method.alpha'" in text
    assert "(in 2 jobs, first: method=concat" in text


def test_several_values_need_a_multirun() -> None:
    assert "seed=0,1,2 has several values. Add -m" in error_of("seed=0,1,2")
    assert "method=mla,concat has several values. Add -m" in error_of("method=mla,concat")


def test_a_seed_is_not_used_twice() -> None:
    assert "seed=0,0 names a value twice" in error_of("seed=0,0", multirun=True)
    assert "seed is given twice" in error_of("seed=0", "seed=1")


def test_two_equal_experiments_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for name in ("a", "b"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nname: x\n")
    text = error_of("experiment=a,b", multirun=True, config_dir=tmp_path)
    assert "Two jobs of this sweep are the same" in text


def test_an_override_must_not_undo_an_ablation(tmp_path: Path) -> None:
    text = error_of("ablation=no_hgm", "method.hgm=true")
    assert text == (
        "method.hgm=true replaces the value that ablation=no_hgm sets; leave one of them out"
    )
    plan(["ablation=no_hgm", "method.hgm=false"])
    (tmp_path / "experiment").mkdir()
    content = "# @package _global_\nmethod: {df: true}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(content)
    assert "replaces the value" in error_of(
        "experiment=mine", "ablation=no_df", config_dir=tmp_path
    )


def test_many_jobs_do_not_share_a_run_dir(tmp_path: Path) -> None:
    text = error_of(f"run_dir={tmp_path}", "seed=0,1", multirun=True)
    assert "run_dir is one folder for many jobs" in text


def test_a_method_without_a_tuned_learning_rate_asks_for_one(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [concat]\n")
    text = error_of("method=mine", config_dir=tmp_path / "conf")
    assert "no learning rate was tuned for method 'mine' on data 'openmoji'" in text
    (job,) = plan(["method=mine", "optimizer.lr=0.3"], config_dir=tmp_path / "conf")
    assert job.config["optimizer"]["lr"] == 0.3
    assert job.overrides[:2] == ("--config-dir", str(tmp_path / "conf"))


def test_a_config_dir_must_exist_and_repeat_no_option(tmp_path: Path) -> None:
    assert "no such folder" in error_of(config_dir=tmp_path / "none")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mla.yaml").write_text("")
    assert "repeats method/mla.yaml of mla_lightning" in error_of(config_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# @package _global_\ntrainer: {max_epoch: 3}\n", "Unknown key 'trainer.max_epoch'."),
        ("# @package _global_\ntrianer: {max_epochs: 3}\n", "Unknown key 'trianer.max_epochs'."),
        ("# @package _global_\ngrid: {seed: 3}\n", "grid.seed must be a list of values, got 3"),
        ("# @package _global_\ngrid: {sed: [3]}\n", "Unknown key 'sed'."),
        ("defaults: [override /methd: mla]\n", "Could not override"),
        ("# @package _global_\nname: !!python/object/apply:os.system [true]\n", "python/object"),
        ("a: [\n", "experiment"),
    ],
)
def test_problems_of_a_users_yaml(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(content)
    assert expected in error_of("experiment=mine", multirun=True, config_dir=tmp_path)


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "~/up", "..", "a\\..\\b", "''"])
def test_a_name_stays_in_the_output_folder(name: str) -> None:
    assert "name" in error_of(f"name={name}")


@pytest.mark.parametrize("character", ["\n", "\0", "\x1b", "\r"])
@pytest.mark.parametrize("key", ["name", "run_dir", "paths.output_dir"])
def test_a_path_contains_no_control_character(tmp_path: Path, key: str, character: str) -> None:
    top, _, leaf = key.rpartition(".")
    value = f'"a{character.encode("unicode_escape").decode()}b"'
    content = f"{leaf}: {value}" if not top else f"{top}: {{{leaf}: {value}}}"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    text = error_of("experiment=mine", config_dir=tmp_path)
    assert f"{key}=" in text
    assert "contains a control character" in text


def test_a_stored_config_must_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content in ("- a\n", "a: [\n", "a: !!python/name:os.system\n"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"config\.yaml"):
            load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
