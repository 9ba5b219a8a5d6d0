"""A queue of SLURM whose jobs are stand-ins for training, for sweeps in this process."""

from tests.fake_slurm import FakeSlurm
from tests.sweep.stand_in import run_stand_in, write_status

from mla_lightning.launchers.slurm import SlurmLauncher
from mla_lightning.launchers.slurm_script import read_list
from mla_lightning.run_folder.squeue import ask_queue


class Cluster(FakeSlurm):
    """A queue in which every question of a watching sweep moves the jobs on."""

    def __init__(self, folder):
        super().__init__(folder)
        self.jobs = {}  # by run folder
        self.starts = []
        self.num_polls = 0
        self.on_poll = lambda number: None

    def job_of(self, task):
        number = task.partition("_")[2]
        for folder in self.root.rglob(".slurm/*/jobs.txt"):
            name = self.read()["tasks"][task]["name"]
            if folder.parent.name == name:
                return self.jobs[read_list(folder)[int(number)].run_dir]
        raise AssertionError(task)

    def step(self):
        """Start the jobs that wait, and end those that run as their behaviour says."""
        for task, entry in self.read()["tasks"].items():
            if entry["state"] == "PENDING" and entry["reason"] != "JobHeldUser":
                self.move(task, "RUNNING", node="n1")
            elif entry["state"] == "RUNNING":
                self.end(task)

    def end(self, task):
        job = self.job_of(task)
        self.starts.append(job.title)
        match job.behaviour.split():
            case ["finish"]:
                assert run_stand_in(job) == 0
                self.move(task, "COMPLETED")
            case ["fail"]:
                write_status(job, "running")
                write_status(job, "failed", exit_code=3, reason="its data are gone")
                self.move(task, "FAILED", exit_code=3 << 8)
            case ["no", "python"]:
                (place,) = self.root.rglob(f".slurm/{self.read()['tasks'][task]['name']}")
                (place / f"{task}.log").write_text("srun: error\nexecve: No such file\n\n")
                self.move(task, "FAILED", exit_code=2 << 8)
            case [("OUT_OF_MEMORY" | "NODE_FAIL" | "TIMEOUT") as state]:
                write_status(job, "running")
                self.move(task, state)
            case ["CANCELLED"]:
                self.move(task, "CANCELLED", exit_code=15)
            case ["TIMEOUT", "preempted"]:
                write_status(job, "running")
                write_status(job, "preempted", exit_code=143, reason="Ended by SIGUSR2")
                self.move(task, "TIMEOUT")
            case other:
                raise AssertionError(other)

    def ask(self, tasks):
        self.num_polls += 1
        self.on_poll(self.num_polls)
        self.step()
        return ask_queue(tasks)


def launcher(**options):
    return SlurmLauncher(**{"poll_s": 0.001, **options})
