"""The campaign notices recoveries that are broken on purpose."""

import random
import shutil
import time

import pytest
import torch
from tests.faults import campaign, children, runs
from tests.faults.__main__ import BEGIN, DOCUMENT, END, write_figures
from tests.faults.children import Child
from tests.faults.flips import check_reader, flip_a_bit
from tests.faults.points import draw_point
from tests.faults.runs import Case, at_point, compare_runs, finish, scenario_of
from tests.faults.verdicts import Failed, Record, Verdict, check_message, counts, has_failed

import mla_lightning.callbacks.checkpoint_io as checkpoint_io
from mla_lightning import run_folder
from mla_lightning.callbacks import epoch_table
from mla_lightning.cli.main import main

SCENARIO = scenario_of("mla", "checkpoint.every_n_batches=1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An uninterrupted run."""
    root = tmp_path_factory.mktemp("faults")
    case = Case("test", 0, random.Random(0), root, root)
    return case.uninterrupted_run(SCENARIO)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    point = ("training", "before training_step", 14)
    action = at_point(lambda: main(SCENARIO.command(folder)), folder, point)
    assert Child(action).wait().code == -9
    return folder


@pytest.fixture
def resume(tmp_path, base, killed):
    """Return a function that resumes a killed run and compares it with the uninterrupted one."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)

    def resumed():
        finish(lambda: main(SCENARIO.command(tmp_path)))
        compare_runs(base.run, tmp_path / "run")

    return resumed


def keep_rows(change):
    """Break the table of epochs: a resumed run starts with other rows."""

    def on_train_start(self, trainer, pl_module):
        self.rows = change(run_folder.read_metrics(self.run_dir))
        epoch_table.write_rows(self.run_dir, self.rows)
        self._begin(pl_module.diagnostics_s)

    return epoch_table.EpochTable, "on_train_start", on_train_start


def load(change):
    """Break the reader of checkpoints: what it reads is changed."""
    original = checkpoint_io.read_checkpoint

    def read_checkpoint(path, map_location=None):
        content = original(path, map_location)
        change(content)
        return content

    return checkpoint_io, "read_checkpoint", read_checkpoint


def round_weights(content):
    """Lose the last bits of the weights."""
    for key, value in content["state_dict"].items():
        if value.is_floating_point():
            content["state_dict"][key] = value.to(torch.bfloat16).to(value.dtype)


def fail(error):
    """Return a function that raises."""

    def raising(*args, **kwargs):
        raise error

    return raising


def test_a_resumed_run_survives(resume):
    resume()


@pytest.mark.parametrize(
    ("broken", "verdict"),
    [
        (lambda: keep_rows(lambda rows: []), Verdict.LOST),
        (lambda: keep_rows(lambda rows: [*rows, *rows]), Verdict.DOUBLED),
        (lambda: load(round_weights), Verdict.SILENT),
        (lambda: (checkpoint_io, "read_checkpoint", fail(KeyError("epoch"))), Verdict.UNCLEAR),
        (lambda: (checkpoint_io, "read_checkpoint", fail(run_folder.RunError("no"))), Verdict.LOST),
        (lambda: (checkpoint_io, "read_checkpoint", lambda *_: time.sleep(60)), Verdict.HUNG),
    ],
)
def test_a_broken_recovery_is_counted(resume, monkeypatch, broken, verdict):
    monkeypatch.setattr(*broken())
    monkeypatch.setattr(runs, "ATTEMPTS", 1)
    if verdict is Verdict.HUNG:
        monkeypatch.setattr(Child.wait, "__kwdefaults__", {"limit_s": 1.5, "kill_after_s": None})
    with pytest.raises(Failed) as failed:
        resume()
    assert failed.value.verdict is verdict


def test_cases_that_hang_or_crash_are_counted(tmp_path, monkeypatch):
    def exit_at_once(case):
        children.os._exit(7)

    injections = {
        "good": lambda case: case.fault("nothing"),
        "lost": fail(Failed(Verdict.LOST, "all")),
        "hung": lambda case: time.sleep(60),
        "crashed": exit_at_once,
        "wrong": fail(ValueError("a fault of the campaign")),
    }
    kinds = {name: campaign.Kind(name, inject, 1) for name, inject in injections.items()}
    monkeypatch.setattr(campaign, "KINDS", kinds)
    monkeypatch.setattr(campaign, "CASE_LIMIT_S", 1.0)
    cases = campaign.plan(list(kinds), 5)
    records = list(campaign.run_cases(cases, 0, tmp_path / "work", 5))
    assert {record.kind: str(record.verdict) for record in records} == {
        "good": "survived",
        "lost": "lost",
        "hung": "hung",
        "crashed": "not judged",
        "wrong": "not judged",
    }
    assert counts(records)["all"]["injected"] == 5
    assert has_failed(records)


def test_failures_decide_the_exit_code():
    good = Record("a", 0, "", Verdict.SURVIVED)
    assert not has_failed([good, Record("a", 1, "", Verdict.UNCLEAR)])
    assert all(has_failed([good, Record("a", 1, "", verdict)]) for verdict in ("lost", "silent"))
    assert has_failed([])  # a campaign that injected nothing proves nothing


def test_choices_depend_on_the_seed_alone(base):
    points = [[draw_point(base.points, random.Random(s)) for _ in range(9)] for s in (1, 1, 2)]
    assert points[0] == points[1] != points[2]
    groups = {draw_point(base.points, random.Random(seed))[0] for seed in range(60)}
    assert groups >= {"training", "validation", "evaluation", "checkpoint files", "result files"}


@pytest.mark.parametrize(
    ("output", "is_clear"),
    [
        ("error: x.ckpt is damaged", True),
        ("error: KeyError: 'epoch'", False),
        ("Traceback (most recent call last):\nKeyError: 'epoch'", False),
        ("", False),
    ],
)
def test_messages(output, is_clear):
    check_message(0, output)
    if is_clear:
        check_message(1, output)
    else:
        with pytest.raises(Failed):
            check_message(1, output)


def test_a_reader_names_the_damage_or_gives_the_same_numbers():
    clean = (0, "accuracy 0.5\n", "0.5")
    check_reader("eval", clean, clean, "result.json")
    check_reader("eval", clean, (1, "error: result.json is damaged", ""), "result.json")
    check_reader("eval", clean, (0, "left out: result.json is damaged", ""), "result.json")
    for damaged in ((0, "accuracy 0.7\n", "0.5"), (0, "accuracy 0.5\n", "0.7")):
        with pytest.raises(Failed) as failed:
            check_reader("eval", clean, damaged, "result.json")
        assert failed.value.verdict is Verdict.SILENT


def test_one_bit_is_flipped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(9))
    flip_a_bit(path, random.Random(0))
    assert sum(byte.bit_count() for byte in path.read_bytes()) == 1


def test_the_figures_replace_those_of_the_document(tmp_path):
    copy = tmp_path / "reliability.md"
    copy.write_text(DOCUMENT.read_text())
    write_figures(copy, "| new figures |")
    text = copy.read_text()
    assert f"{BEGIN}\n\n| new figures |\n{END}" in text
    assert text.partition(BEGIN)[0] == DOCUMENT.read_text().partition(BEGIN)[0]
    assert text.partition(END)[2] == DOCUMENT.read_text().partition(END)[2]


def test_what_the_interpreter_ignores_is_no_traceback_of_the_command():
    trace = "Traceback (most recent call last):\n  File a\nRuntimeError: x\n"
    message = "error: A loader worker was killed\n"
    check_message(1, f"Exception ignored in: <function f>\n{trace}{message}")
    with pytest.raises(Failed, match="traceback"):
        check_message(1, trace + message)
    with pytest.raises(Failed, match="bare exception"):
        check_message(1, "error: Failed in training, epoch 1, batch 1: KeyError: 'epoch'\n")
