"""Jobs of two ranks on two machines of a real SLURM: equal to ranks that are forked on one."""

import pytest

from mla_lightning import run_folder as files
from mla_lightning.run.train import run_job
from tests.test_slurm import cluster, command_of, wait_for_epochs  # noqa: F401  a fixture
from tests.train.jobs import in_child, make_job, outcome, same
from tests.train.ranked import LONG

pytestmark = pytest.mark.slurm
#: Long enough to be requeued in the middle.
SETTINGS = (*(word for word in LONG if "devices" not in word), "trainer.max_epochs=60")
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("forked"), *SETTINGS, "trainer.devices=2")
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


def test_two_machines_equal_forked_ranks_also_after_a_requeue(cluster, tmp_path, forked):  # noqa: F811
    job = make_job(tmp_path, *SETTINGS, "trainer.num_nodes=2")
    number = cluster.submit(command_of(job), *TWO_NODES, "--requeue")
    wait_for_epochs(job, 5)
    cluster.run("scontrol", "requeue", number)
    assert cluster.wait(number, "COMPLETED", "FAILED") == "COMPLETED"
    assert same(outcome(job.run_dir), forked)
    assert files.read_json(job.run_dir / files.STATUS)["attempt"] == 2


def test_a_job_with_the_wrong_number_of_tasks_says_which_is_right(cluster, tmp_path):  # noqa: F811
    job = make_job(tmp_path, *SETTINGS, "trainer.num_nodes=2")
    number = cluster.submit(command_of(job), "--nodes=1", "--ntasks=2")
    assert cluster.wait(number, "COMPLETED", "FAILED") == "FAILED"
    log = (cluster.root / f"job-{number}.log").read_text()
    assert "srun --nodes=2 --ntasks-per-node=1 mla train" in log
    assert not job.run_dir.exists()


def test_one_task_of_slurm_forks_the_ranks_of_one_machine(cluster, tmp_path, forked):  # noqa: F811
    job = make_job(tmp_path, *SETTINGS, "trainer.devices=2")
    number = cluster.submit(command_of(job), "--cpus-per-task=2")
    assert cluster.wait(number, "COMPLETED", "FAILED") == "COMPLETED"
    assert same(outcome(job.run_dir), forked)
