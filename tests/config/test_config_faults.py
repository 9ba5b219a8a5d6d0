"""Every fault of a command line is found before a job starts, with the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mla_lightning.config import load, plan
from mla_lightning.errors import ConfigError


def refused(*overrides: str, multirun: bool = False, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(overrides, multirun, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method=ogmge", "Unknown method 'ogmge'. Did you mean 'ogm_ge'? Known: ae, bigated, "),
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
        ("optimizer.nesterov=true", "+optimizer.nesterov=... adds one that its YAML does not"),
        ("seed.x=1", "Unknown key 'seed.x': seed is a value, it has no keys."),
        ("seed={x: 1}", "Unknown key 'seed.x': seed is a value, it has no keys."),
        ("trainer={max_epoch: 3}", "Did you mean 'trainer.max_epochs'?"),
        ("+foo=1", "+foo: nothing reads 'foo'"),
        ("+foo.bar=1", "+foo.bar: nothing reads 'foo.bar'"),
        ("+seed=1", "+seed: the key is there; write seed=... to change it"),
        ("+trainer.foo=1", "Unknown key 'trainer.foo'."),
        ("~method", "~method: nothing can be removed; write method=null if it may be left out"),
        ("+experiment=table1/openmoji", "write experiment=table1/openmoji"),
        ("fusion=sum", "Did you mean to override fusion@method.fusion?"),
        ("method=null", "method=null: one has to be chosen: ae, bigated, cca, concat,"),
        ("method=[mla,concat]", "choose one, not several"),
        ("experiment=1", "Unknown experiment '1'."),
        ("seed", "'seed' is no setting: write key=value"),
        ("seed=[1", "'seed=[1' cannot be read"),
        ("hydra.run.dir=x", "Hydra's own settings do nothing"),
        ("choices.method=mla", "choices.method cannot be set: it is filled in from the groups"),
        ("tuned_lr.mla=1", "tuned_lr.mla cannot be set: write optimizer.lr=..."),
        ("grid.seed=[1]", "grid.seed cannot be set: write the values of a key"),
        ("trainer.max_epochs=ten", "trainer.max_epochs must be a whole number >= 1, got 'ten'"),
        ("trainer.max_epochs=0", "trainer.max_epochs must be a whole number >= 1, got 0"),
        ("trainer.max_epochs=2.5", "must be a whole number >= 1, got 2.5"),
        ("seed=-1", "seed must be a whole number >= 0, got -1"),
        ("seed=true", "seed must be a whole number >= 0, got true"),
        ("seed=null", "seed must be a whole number >= 0, got null"),
        ("evaluate_test=1", "evaluate_test must be true or false, got 1"),
        ("trainer.clip_norm=0", "trainer.clip_norm must be a number > 0 or null, got 0"),
        ("protocol=test", "protocol must be one of validation, paper, got 'test'"),
        ("trainer.precision=half", "trainer.precision must be one of 32-true, "),
        ("trainer.accelerator=tpu", "trainer.accelerator must be one of auto, cpu, "),
        ("trainer.devices=2", "trainer.devices is no setting: a job uses one device."),
        ("trainer.gradient_clip_val=1", "write trainer.clip_norm."),
        ("modalities=[image,txt]", "unknown modality 'txt'. Did you mean 'text'? Known: image,"),
        ("modalities=[]", "modalities must name at least one modality"),
        ("modalities=[text,text]", "names one twice"),
        ("modalities=text", "modalities must be a list of text or null, got 'text'"),
        ("paths.output_dir=${nowhere}", "paths.output_dir=${nowhere} cannot be resolved"),
        ("checkpoint.keep=???", "checkpoint.keep has no value: give one with checkpoint.keep=..."),
    ],
)
def test_one_fault(override: str, expected: str) -> None:
    assert expected in refused(override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method.alpha={x: 1}", "method.alpha must be a number, got {'x': 1}"),
        ("optimizer.lr={x: 1}", "optimizer.lr must be a number or Tensor, got {'x': 1}"),
        ("missing.rate={x: half}", "a number or a mapping of names to a number or null, got {'x'"),
    ],
)
def test_a_mapping_for_a_value_is_checked_against_the_class(override: str, expected: str) -> None:
    assert expected in refused("method=mla", "missing=bernoulli_restore", override, binds=True)


def test_all_faults_together_and_once_each() -> None:
    text = refused(
        "method=ogmge", "sed=3", "trainer.max_epochs=ten", "optimizer.lrr=1", "protocol=test"
    )
    assert text.startswith("5 faults:\n")
    for part in ("'ogm_ge'", "'seed'", "got 'ten'", "'optimizer.lr'", "got 'test'"):
        assert text.count(part) == 1


def test_an_unknown_choice_hides_no_fault_and_makes_none_up() -> None:
    text = refused("method=ogmge", "method.rank_weight=0.3", "seed=x")
    assert text.startswith("2 faults:\n")
    text = refused("data=openmojis", "data.batch_size=7", "optimizer.lr=0.2", "protocol=test")
    assert text.startswith("2 faults:\n")


def test_a_fault_of_some_jobs_names_the_first() -> None:
    text = refused("method=mla,concat", "method.alpha=0.2", "seed=0,1", multirun=True)
    assert "Unknown key 'method.alpha'" in text
    assert "(in 2 jobs, first: method=concat" in text


def test_several_values_need_a_multirun() -> None:
    assert "seed=0,1,2 names several values: add -m" in refused("seed=0,1,2")
    assert "method=mla,concat names several values: add -m" in refused("method=mla,concat")


def test_a_seed_is_not_used_twice_for_one_cell() -> None:
    assert "seed=0,0 names a value twice" in refused("seed=0,0", multirun=True)
    assert "seed is given twice" in refused("seed=0", "seed=1")


def test_two_equal_experiments_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for name in ("a", "b"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nname: x\n")
    text = refused("experiment=a,b", multirun=True, config_dir=tmp_path)
    assert "Two jobs of this sweep are the same" in text


def test_an_ablation_is_not_taken_back(tmp_path: Path) -> None:
    text = refused("ablation=no_hgm", "method.hgm=true")
    assert text == "method.hgm=true takes back what ablation=no_hgm sets; leave one of them out"
    plan(["ablation=no_hgm", "method.hgm=false"])
    (tmp_path / "experiment").mkdir()
    content = "# @package _global_\nmethod: {df: true}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(content)
    assert "takes back" in refused("experiment=mine", "ablation=no_df", config_dir=tmp_path)


def test_one_folder_is_not_for_many_jobs(tmp_path: Path) -> None:
    text = refused(f"run_dir={tmp_path}", "seed=0,1", multirun=True)
    assert "run_dir is one folder for many jobs" in text


def test_a_method_without_a_tuned_rate_asks_for_one(tmp_path: Path) -> None:
    own = tmp_path / "conf" / "method"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [concat]\n")
    text = refused("method=mine", config_dir=tmp_path / "conf")
    assert "no learning rate was tuned for method 'mine' on data 'openmoji'" in text
    (job,) = plan(["method=mine", "optimizer.lr=0.3"], config_dir=tmp_path / "conf")
    assert job.config["optimizer"]["lr"] == 0.3
    assert job.overrides[:2] == ("--config-dir", str(tmp_path / "conf"))


def test_a_config_dir_must_be_there_and_shadow_nothing(tmp_path: Path) -> None:
    assert "no such folder" in refused(config_dir=tmp_path / "none")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mla.yaml").write_text("")
    assert "repeats method/mla.yaml of mla_lightning" in refused(config_dir=tmp_path)


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
def test_faults_of_a_users_yaml(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(content)
    assert expected in refused("experiment=mine", multirun=True, config_dir=tmp_path)


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "~/up", "..", "a\\..\\b", "''"])
def test_a_name_stays_in_the_output_folder(name: str) -> None:
    assert "name" in refused(f"name={name}")


@pytest.mark.parametrize("character", ["\n", "\0", "\x1b", "\r"])
@pytest.mark.parametrize("key", ["name", "run_dir", "paths.output_dir"])
def test_a_path_holds_no_control_character(tmp_path: Path, key: str, character: str) -> None:
    top, _, leaf = key.rpartition(".")
    value = f'"a{character.encode("unicode_escape").decode()}b"'
    content = f"{leaf}: {value}" if not top else f"{top}: {{{leaf}: {value}}}"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    text = refused("experiment=mine", config_dir=tmp_path)
    assert f"{key}=" in text
    assert "holds a control character" in text


def test_a_stored_config_must_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content in ("- a\n", "a: [\n", "a: !!python/name:os.system\n"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"config\.yaml"):
            load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")
