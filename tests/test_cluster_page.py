"""The commands of docs/cluster.md and docs/devices.md are ones that this package takes."""

import re
import shlex
from pathlib import Path

import pytest

from mla_lightning.config import compose_jobs, instantiate

DOCS = Path(__file__).parent.parent / "docs"
#: Words that stand for something of the reader's.
EXAMPLES = {"data=cremad": "data=openmoji", "...": "method=mla"}


def commands_of(page):
    """Return the words after `mla train` of each command of a page."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?:    |).*?mla train (.*)$", text, re.MULTILINE):
        code = re.split(r"\s{3,}", line)[0]
        if "`" not in code:
            yield [EXAMPLES.get(word, word) for word in shlex.split(code)]


def words_in_text(page):
    """Return the settings of launchers that a page names in its text and tables."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return sorted(set(re.findall(r"\blauncher\.(\w+)=", text)))


@pytest.mark.parametrize("page", ["cluster.md", "devices.md"])
def test_every_command_composes_jobs_and_its_launcher(page):
    commands = list(commands_of(page))
    assert len(commands) >= 5
    for words in commands:
        multirun = "-m" in words
        overrides = [word for word in words if not word.startswith("-")]
        jobs = compose_jobs(overrides, multirun=multirun)
        assert jobs
        instantiate(jobs[0].config.launcher)


def test_every_setting_of_a_launcher_exists():
    known = set()
    for launcher in ("fork", "slurm", "ray", "hydra"):
        plugin = ["launcher.plugin=joblib"] if launcher == "hydra" else []
        (job,) = compose_jobs(["method=mla", f"launcher={launcher}", *plugin])
        known |= set(job.config.launcher)
    named = words_in_text("cluster.md")
    assert len(named) > 10
    assert set(named) <= known


def test_slurm_settings_of_the_table_are_taken_together():
    overrides = [
        *("launcher=slurm", "launcher.partition=gpu", "launcher.account=lab", "launcher.qos=low"),
        *("launcher.jobs=8", "launcher.memory_gb=32", "launcher.time_min=240", "launcher.gpus=1"),
        *("launcher.sbatch={constraint: a100, exclude: node7}", "launcher.wait=false"),
        "launcher.setup=[module load cuda]",
    ]
    page = (DOCS / "cluster.md").read_text(encoding="utf-8")
    assert all(word in page for word in overrides)
    (job,) = compose_jobs(["method=mla", *overrides])
    assert instantiate(job.config.launcher).options["constraint"] == "a100"
