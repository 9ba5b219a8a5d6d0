"""Finished runs after a change of the code: kept or trained again, never mixed and never lost."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.train.jobs import TINY, in_child, killed, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs, targets
from mla_lightning.errors import ConfigError
from mla_lightning.identity import code
from mla_lightning.run.train import run_job, train_job

METHOD = """
from torch.nn.functional import cross_entropy
from mla_lightning.module import MultimodalModule

class Signed(MultimodalModule):
    '''A joint rule whose sign can be changed.'''

    def fit_batch(self, batch):
        def losses_of(chunk):  # comment
            fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
            return {"joint": SIGN * cross_entropy(fused, chunk["label"])}

        return self.step_on(batch, losses_of)
"""
YAML = """\
# A joint rule whose sign can be changed.
defaults: [/fusion@fusion: concat]
_target_: signed_method.Signed
"""


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """Change to a folder with a user's method; return a function that changes its sign."""
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "conf/method/signed.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "_BY_USER", [])

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions within a second

    def write(sign, comment="", *, is_noticed=True):
        text = METHOD.replace("SIGN", sign).replace("# comment", f"# {comment}")
        (tmp_path / "signed_method.py").write_text(text)
        sys.modules.pop("signed_method", None)
        if is_noticed:
            code.forget_code()

    write("1.0")
    yield write
    sys.modules.pop("signed_method", None)


USER_CODE = ("--config-dir", "conf", "--allow-target", "signed_method")


def sweep(*more, method="signed,concat"):
    """Run a sweep in a new process, which imports the method again."""
    words = ["train", "-m", *USER_CODE, f"method={method}", *TINY, "paths.output_dir=runs", *more]
    return in_child(lambda: main(words))


def job_of(*more, method="signed"):
    overrides = {text.partition("=")[0]: text for text in ("paths.output_dir=runs", *more)}
    (job,) = compose_jobs(
        [f"method={method}", *TINY, *overrides.values()],
        config_dir=Path("conf"),
        allowed=["signed_method"],
    )
    return job


def run(job):
    return in_child(lambda: run_job(job))


def test_a_changed_sign_trains_its_jobs_again_and_keeps_the_earlier_result(signed, capfd):
    assert sweep() == 0
    first, other = job_of(), job_of(method="concat")
    before = {job.run_dir: (job.run_dir / files.RESULT).read_bytes() for job in (first, other)}
    signed("1.0", comment="another comment")
    capfd.readouterr()
    assert sweep() == 0
    assert (
        "2 jobs: 2 finished before and not run again, 0 finished by other code, 0 not finished."
        in capfd.readouterr().out
    )

    signed("-1.0")
    assert sweep() == 0
    printed = capfd.readouterr().out
    assert (
        "2 jobs: 1 finished before and not run again, 1 finished by other code, 0 not finished."
        in printed
    )
    assert "1 job finished by other code (signed_method.py changed since): trained again" in printed
    assert (other.run_dir / files.RESULT).read_bytes() == before[other.run_dir]
    assert (first.run_dir / "earlier/1" / files.RESULT).read_bytes() == before[first.run_dir]
    assert (first.run_dir / "earlier/1/checkpoints").is_dir()
    assert json.loads((first.run_dir / files.RESULT).read_text())["code"] == job_of().code.hash
    assert list(files.find_runs(first.run_dir.parent)) == sorted(before)

    signed("2.0")
    assert sweep(method="signed") == 0
    assert (first.run_dir / "earlier/2" / files.RESULT).is_file()


def test_keep_accepts_results_of_other_code_with_a_note_in_every_table(signed, capfd):
    assert sweep() == 0
    result = (job_of().run_dir / files.RESULT).read_bytes()
    signed("-1.0")
    capfd.readouterr()
    assert sweep("stale=keep") == 0
    assert "kept as they are (stale=keep)" in capfd.readouterr().out
    assert (job_of().run_dir / files.RESULT).read_bytes() == result
    for kind, page in (("table1", "table1.md"), ("runs", "runs.md"), ("page", "page.html")):
        assert main(["report", kind, "runs/train", "--output", f"out-{kind}"]) == 0
        text = (Path(f"out-{kind}") / page).read_text()
        assert "signed_method.py" in text, kind
        assert "1 of 2 runs" in text, kind
    assert main(["report", "table1", "out-table1/results.csv", "--output", "again"]) == 0
    assert "signed_method.py" in Path("again/table1.md").read_text()


def test_a_single_job_prints_the_same(signed, capfd):
    assert run(job_of()) == 0
    capfd.readouterr()
    signed("-1.0")
    assert run(job_of("stale=keep")) == 0
    assert "finished by other code (signed_method.py changed since), kept" in capfd.readouterr().out
    assert run(job_of()) == 0
    assert "its result is kept in" in capfd.readouterr().out


def test_a_kill_while_a_result_is_set_aside_loses_nothing(signed):
    assert run(job_of()) == 0
    run_dir = job_of().run_dir
    names = {path.name for path in run_dir.iterdir()} - {"lock", "log.txt"}
    result = (run_dir / files.RESULT).read_bytes()
    signed("-1.0")
    assert killed(job_of(), (Path, "replace", 3)) == -9
    assert run(job_of()) == 0
    earlier = run_dir / "earlier/1"
    assert {path.name for path in earlier.iterdir()} == names
    assert (earlier / files.RESULT).read_bytes() == result
    assert not (run_dir / "earlier/2").exists()


def test_code_that_was_edited_since_a_command_started_is_not_recorded(signed):
    old, other = job_of(), job_of("seed=5")
    signed("-1.0", is_noticed=False)
    assert run(other) == 1
    reason = json.loads((other.run_dir / files.STATUS).read_text())["reason"]
    assert "signed_method.py changed since this command started" in reason
    assert sweep(method="signed") == 0  # by the new code
    result = (old.run_dir / files.RESULT).read_bytes()
    assert run(old) == 1
    assert (old.run_dir / files.RESULT).read_bytes() == result
    assert not (old.run_dir / "earlier").exists()


def test_a_dry_run_tells_results_of_other_code_apart(signed, capfd):
    assert sweep() == 0
    signed("-1.0")
    capfd.readouterr()
    assert sweep("--dry-run") == 0
    printed = capfd.readouterr().out
    assert "finished by other code" in printed
    assert "2 jobs: 1 finished by other code, 1 finished" in printed


@pytest.mark.parametrize("kind", ["the current folder", "other files", "other runs"])
def test_a_folder_that_is_no_runs_alone_is_refused(signed, tmp_path, kind):
    place = {"the current folder": tmp_path, "other files": tmp_path / "conf"}.get(kind)
    if place is None:
        assert run(job_of()) == 0
        place = job_of().run_dir.parent
        (place / "config.yaml").write_text("")
    names = sorted(path.name for path in place.iterdir())
    with pytest.raises(ConfigError, match=kind.removeprefix("the ")):
        train_job(job_of(f"run_dir={place}", "overwrite=true"))
    assert sorted(path.name for path in place.iterdir()) == names


def test_a_file_that_a_kill_left_half_written_is_no_other_file(signed):
    job = job_of()
    job.run_dir.mkdir(parents=True)
    (job.run_dir / ".status.json.123.tmp").write_text("{")
    assert run(job) == 0


def test_checkpoints_of_other_code_are_set_aside_unless_resume_is_forced(signed, capfd):
    often = "checkpoint.every_n_batches=2"
    step = (torch.optim.SGD, "step", 12)
    job = job_of(often)
    assert killed(job, step) == -9
    signed("0.5")
    again = job_of(often)
    assert again.run_dir == job.run_dir
    assert run(again) == 0
    assert "signed_method.py changed since its checkpoints were written" in capfd.readouterr().out
    assert list((job.run_dir / "earlier/1/checkpoints").glob("epoch=*.ckpt"))
    whole = job_of(often, "paths.output_dir=other")
    assert run(whole) == 0
    assert same(outcome(again.run_dir), outcome(whole.run_dir))

    other = job_of(often, "seed=7")
    assert killed(other, step) == -9
    signed("0.25")
    assert run(job_of(often, "seed=7", "force_resume=true")) == 0
    (note,) = json.loads((other.run_dir / files.RESULT).read_text())["notes"]
    assert note == "resumed although the code changed: signed_method.py (force_resume=true)"
