"""The records of a run that was killed equal those of the uninterrupted run, for every method."""

from pathlib import Path

import pytest
from tests.methods.incomplete_runs import words_of
from tests.train.jobs import in_child, kill_at, killed, make_job, outcome, same

import mla_lightning.run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint, resumable
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO, checksum_of, is_valid
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.cli.main import main
from mla_lightning.module import MultimodalModule
from mla_lightning.run import measure
from mla_lightning.run.train import run_job

#: Also the hashes of files that hold times and paths; the arrays are compared themselves.
OF_MACHINE = ("peak_memory_mb", "identity", "overrides", "files", "sha256")
SLOW = pytest.mark.slow


def records_of(run_dir):
    """Return all that a run records except times, memory and its place."""
    result = files.read_json(run_dir / files.RESULT)
    result = {k: v for k, v in result.items() if not k.endswith("_s") and k not in OF_MACHINE}
    rows = files.read_metrics(run_dir)
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    header = (run_dir / files.METRICS).read_text().partition("\n")[0]
    diagnostics = files.read_json(run_dir / files.DIAGNOSTICS)
    arrays = (run_dir / files.PREDICTIONS).read_bytes()
    return result, header, rows, diagnostics, arrays


def command(root, method, *more):
    """Return a function that trains a method of either comparison, each in its own folders."""
    if method == "qmf":
        job = make_job(root, "method=qmf", f"run_dir={root / 'run'}", *more)
        return lambda: run_job(job)
    words = words_of(method, f"paths.output_dir={root}", f"run_dir={root / 'run'}", *more)
    return lambda: main(words)


def killed_then_resumed(root, train, *calls, before=True):
    def action():
        for owner, name, number in calls:
            kill_at(owner, name, number, before=before)
        return train()

    assert in_child(action) == -9
    assert in_child(train) == 0
    return records_of(root / "run")


WRITE_RESULT = (measure, "build_result", 1)
SAVE = (RunCheckpoint, "_save", 2)
TRAINING = (MultimodalModule, "training_step", 25)
TABLE = (EpochTable, "on_train_epoch_end", 1)


@pytest.mark.parametrize(
    ("method", "more", "points"),
    [
        ("cca", ("missing.rate=0.5",), [[WRITE_RESULT], [TABLE]]),
        ("dcca", ("data.batch_size=32",), [[WRITE_RESULT]]),
        ("mmin", ("diagnostics=epoch",), [[SAVE]]),
        pytest.param("qmf", ("diagnostics=full",), [[WRITE_RESULT]], marks=SLOW),
    ],
)
def test_records_equal_the_uninterrupted_ones(tmp_path, method, more, points):
    more = ("trainer.max_epochs=3", *more) if method != "mmin" else more
    train = command(tmp_path / "whole", method, *more)
    assert in_child(train) == 0
    whole = records_of(tmp_path / "whole" / "run")
    if method in ("cca", "dcca"):
        assert whole[0]["notes"]
    for number, calls in enumerate(points):
        root = tmp_path / f"killed{number}"
        records = killed_then_resumed(root, command(root, method, *more), *calls)
        assert same(records, whole), (method, calls)


@pytest.mark.slow
def test_cca_stays_one_epoch_however_often_it_is_killed(tmp_path):
    train = command(tmp_path, "cca")
    for _ in range(2):

        def action():
            kill_at(*WRITE_RESULT)
            return train()

        assert in_child(action) == -9
    assert in_child(train) == 0
    assert files.read_json(tmp_path / "run" / files.RESULT)["epochs"] == 1
    assert len(files.read_metrics(tmp_path / "run")) == 1


def test_a_forced_resume_is_noted_however_often_it_is_killed(tmp_path):
    place = f"run_dir={tmp_path / 'run'}"
    job = make_job(tmp_path, "method=concat", place)
    assert killed(job, (MultimodalModule, "training_step", 14)) == -9
    forced = make_job(tmp_path, "method=concat", "seed=1", place, "force_resume=true")
    assert killed(forced, WRITE_RESULT) == -9
    assert in_child(lambda: run_job(forced)) == 0
    (note,) = files.read_json(tmp_path / "run" / files.RESULT)["notes"]
    assert "resumed from checkpoints of another job" in note


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run killed in its third epoch of four, and the outcome of the uninterrupted run."""
    words = ("method=concat", "trainer.max_epochs=4")
    whole = make_job(tmp_path_factory.mktemp("whole"), *words)
    assert in_child(lambda: run_job(whole)) == 0
    return words, outcome(whole.run_dir)


@pytest.mark.parametrize(
    ("damage", "point"),
    [
        ("removed", TRAINING),
        pytest.param("removed", WRITE_RESULT, marks=SLOW),
        ("bytes", TRAINING),
        ("cut", WRITE_RESULT),
        pytest.param("another's", TRAINING, marks=SLOW),
    ],
)
def test_the_table_of_epochs_does_not_depend_on_its_file(tmp_path, stopped, damage, point):
    words, whole = stopped
    job = make_job(tmp_path, *words)
    assert killed(job, point) == -9
    path = job.run_dir / files.METRICS
    if damage == "removed":
        path.unlink()
    else:
        text = {"bytes": b"\xff\xfe\x00", "cut": path.read_bytes()[:40], "another's": b"a,b\n1,2\n"}
        path.write_bytes(text[damage])
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


@pytest.mark.parametrize("point", [TRAINING, WRITE_RESULT])
def test_lost_rows_of_an_earlier_version_are_an_error(tmp_path, stopped, point, capfd):
    words, whole = stopped
    job = make_job(tmp_path, *words)

    def without_state(self, trainer, module, checkpoint):
        pass

    def as_before():
        EpochTable.on_save_checkpoint = without_state
        RunCheckpoint.on_save_checkpoint = without_state
        kill_at(*point)
        return run_job(job)

    assert in_child(as_before) == -9
    table = (job.run_dir / files.METRICS).read_bytes()
    (job.run_dir / files.METRICS).unlink()
    assert in_child(lambda: run_job(job)) == 1
    message = capfd.readouterr().err
    assert "metrics.csv lacks" in message
    assert "overwrite=true" in message
    (job.run_dir / files.METRICS).write_bytes(table)  # as the message advises
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


# ---------------------------------------------------------------------- best weights


@pytest.mark.parametrize(
    ("damage", "keep"),
    [
        ("flip", 1),
        pytest.param("flip", 3, marks=SLOW),
        pytest.param("remove", 1, marks=SLOW),
        ("checksum", 3),
    ],
)
def test_damaged_best_weights_are_written_again_or_named_at_the_resume(
    tmp_path, stopped, damage, keep, capfd
):
    words, whole = stopped
    job = make_job(tmp_path, *words, f"checkpoint.keep={keep}")
    assert killed(job, WRITE_RESULT) == -9
    best = job.run_dir / files.CHECKPOINTS / "best-acc.ckpt"
    epoch = whole["result"]["best_epoch"]
    match damage:
        case "flip":
            content = bytearray(best.read_bytes())
            content[len(content) // 2] ^= 1
            best.write_bytes(bytes(content))
        case "remove":
            best.unlink()
        case _:
            checksum_of(best).write_text("0" * 64)
    oldest = int(resumable(best.parent)[-1].name[6:10])

    def must_not_train():
        kill_at(MultimodalModule, "training_step", 1)
        return run_job(job)

    code = in_child(lambda: run_job(job) if oldest <= epoch else must_not_train())
    printed = capfd.readouterr()
    if oldest <= epoch:
        assert code == 0
        assert same(outcome(job.run_dir), whole)
        return
    assert code == 1
    assert f"best-acc.ckpt, the weights of epoch {epoch}, is damaged or missing" in printed.err
    assert "Add overwrite=true" in printed.err
    words = (*words, f"checkpoint.keep={keep}", "overwrite=true")
    assert in_child(lambda: run_job(make_job(tmp_path, *words))) == 0  # the advice works
    assert same(outcome(job.run_dir), whole)


def test_a_kill_while_best_weights_are_replaced_leaves_the_old_ones_valid(tmp_path, stopped):
    words, whole = stopped
    job = make_job(tmp_path, *words)
    original = CheckedCheckpointIO.save_checkpoint

    def action():
        def save(self, content, path, **options):
            if Path(path).name.startswith("best") and Path(path).exists():
                # the checksum has been replaced, the weights have not
                kill_at(Path, "replace", 2)
            original(self, content, path, **options)

        CheckedCheckpointIO.save_checkpoint = save
        return run_job(job)

    assert in_child(action) == -9
    assert is_valid(job.run_dir / files.CHECKPOINTS / "best-acc.ckpt")
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)
