"""Script and list of jobs of an array of SLURM, and the lines of squeue, as pure texts."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers.slurm import SlurmLauncher
from mla_lightning.launchers.slurm_script import (
    ArrayScript,
    JobLine,
    Resources,
    check_options,
    read_list,
)
from mla_lightning.run_folder.squeue import parse_queue

ROOT = Path(__file__).parents[2]
ONE = Resources(nodes=1, ranks=1, threads=1, gpus=0)


def script(**more):
    options = {"num_jobs": 6, "resources": ONE, "time_min": 60, "grace_s": 120}
    place = {"name": "table1", "folder": Path("/runs/.slurm/table1"), "directory": Path("/home")}
    return ArrayScript(**{**place, "python": "/venv/python", **options, **more})


def options_of(text):
    """Read the options as sbatch does: from the lines before the first command."""
    head = text.split("\nset -e\n")[0]
    lines = re.findall(r"^#SBATCH (.*)$", head, re.MULTILINE)
    assert len(lines) == text.count("#SBATCH")
    pairs = [shlex.split(line)[0].removeprefix("--").partition("=") for line in lines]
    assert all(len(shlex.split(line)) == 1 for line in lines)
    return {key: value for key, _, value in pairs}


def test_the_script_of_jobs_on_one_core():
    text = script().text()
    assert options_of(text) == {
        "job-name": "table1",
        "array": "0-5",
        "chdir": "/home",
        "output": "/runs/.slurm/table1/%A_%a.log",
        "open-mode": "append",
        "time": "60",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "1",
        "no-requeue": "",
        "signal": "USR2@120",
    }
    assert text.startswith("#!/bin/bash\n")
    assert text.endswith(
        "srun --kill-on-bad-exit=1 --cpus-per-task=1 /venv/python -m mla_lightning.launchers.task "
        '/runs/.slurm/table1/jobs.txt "$SLURM_ARRAY_TASK_ID"\n'
    )
    assert "MASTER" not in text


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({"jobs": 4}, {"array": "0-5%4"}),
        ({"num_jobs": 1}, {"array": "0-0"}),
        ({"max_requeues": 3}, {"requeue": ""}),
        ({"time_min": 1440, "grace_s": 300}, {"time": "1440", "signal": "USR2@300"}),
        ({"resources": Resources(2, 4, 3, 4)}, {"nodes": "2", "ntasks-per-node": "4"}),
        ({"resources": Resources(2, 4, 3, 4)}, {"cpus-per-task": "3", "gres": "gpu:4"}),
        ({"options": {"comment": "a 'b' $c", "mem": "8G"}}, {"comment": "a 'b' $c", "mem": "8G"}),
        ({"options": {"exclusive": True}}, {"exclusive": ""}),
        ({"folder": Path("/my runs/50%/a")}, {"output": "/my runs/50%%/a/%A_%a.log"}),
        ({"directory": Path("/my home")}, {"chdir": "/my home"}),
    ],
)
def test_settings_change_options_of_the_script(more, options):
    assert options.items() <= options_of(script(**more).text()).items()


def test_the_script_is_a_valid_one_that_sets_threads_and_runs_the_setup():
    text = script(
        resources=Resources(2, 2, 3, 0),
        setup=["module load cuda", "export A='b c'"],
        max_requeues=5,
    ).text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    lines = text.splitlines()
    assert "export OMP_NUM_THREADS=3" in lines
    assert lines.index("module load cuda") < lines.index("export A='b c'") == len(lines) - 2
    assert lines[-1].endswith('"$SLURM_ARRAY_TASK_ID" --max-requeues=5')


def test_processes_of_a_job_meet_at_the_first_node_and_at_another_port_after_a_restart(tmp_path):
    """Run the lines of the script with a stand-in for scontrol."""
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\ncase "$2" in\nhostnames) echo n7; echo n8;;\n'
        "node) echo \"NodeName=$3\"; echo '   NodeAddr=10.0.0.7 NodeHostName=n7 Port=1';;\nesac\n"
    )
    (tmp_path / "scontrol").chmod(0o755)
    text = script(resources=Resources(2, 2, 1, 0)).text()
    lines = [line for line in text.splitlines() if not line.startswith(("srun", "#SBATCH"))]
    lines.append('echo "$MASTER_ADDR $MASTER_PORT"')

    def run(**variables):
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[7-8]"}
        done = subprocess.run(
            ["bash"], input="\n".join(lines), text=True, env=path | variables, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    answers = [
        run(SLURM_JOB_ID="12345"),
        run(SLURM_JOB_ID="12345", SLURM_RESTART_COUNT="1"),
        run(SLURM_JOB_ID="12346"),
    ]
    assert [address for address, _ in answers] == ["10.0.0.7"] * 3
    ports = [int(port) for _, port in answers]
    assert len(set(ports)) == 3
    assert all(10_000 <= port < 30_000 for port in ports)


WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


@given(
    words=st.lists(WORD),
    floor=st.lists(st.floats(-1, 1), max_size=3),
    folder=WORD,
    tag=st.integers(),
)
def test_any_words_survive_the_list_of_jobs(tmp_path_factory, words, floor, folder, tag):
    line = JobLine(f"{tag & 0xFF:x}", "2b", Path("runs") / folder, tuple(words), tuple(floor))
    path = tmp_path_factory.getbasetemp() / "jobs.txt"
    path.write_text(f"# comment\n{line.text()}\n{line.text()}\n", encoding="utf-8")
    assert read_list(path) == [line, line]


def test_a_damaged_list_is_an_error(tmp_path):
    (tmp_path / "jobs.txt").write_text("1a 2b 'runs/a\n")
    with pytest.raises(RunError, match=r"jobs.txt cannot be read"):
        read_list(tmp_path / "jobs.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": 5}, "use launcher.time_min"),
        ({"array": "0-3"}, "use launcher.jobs"),
        ({"chdir": "/"}, "leave it out"),
        ({"partition": "gpu"}, "use launcher.partition"),
        ({"ntasks_per_node": 2}, "Did you mean 'ntasks-per-node'?"),
        ({"--exclusive": True}, "Did you mean 'exclusive'?"),
        ({"exclusive": False}, "true for an option without a value"),
        ({"constraint": ["a"]}, "must be a text, a number"),
        ({"comment": "a\nb"}, "line break"),
    ],
)
def test_options_of_sbatch_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_options(options, {"partition": "cpu"})


def test_an_option_is_free_where_its_setting_is_not_in_use():
    check_options({"partition": "gpu", "gres": "gpu:a100:2"}, {"partition": None, "gpus": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_min": 2, "grace_s": 60}, "leaves no time to train"),
        ({"setup": ["a\nb"]}, "is not one line"),
        ({"partition": "a\nrm -r runs"}, "is no name"),
        ({"qos": ""}, "is no name"),
        ({"sbatch": {"signal": "USR1"}}, "use launcher.grace_s"),
        ({"memory_gb": 2, "sbatch": {"mem": "4G"}}, "use launcher.memory_gb"),
    ],
)
def test_settings_that_contradict_each_other(options, message):
    with pytest.raises(ConfigError, match=message):
        SlurmLauncher(**options)


def test_lines_of_squeue():
    tasks = parse_queue(
        "17_0|COMPLETED|0|0|None|n1|\n"
        "17_1|FAILED|36608|0|NonZeroExitCode|n1|\n"  # 143 << 8
        "17_2|OUT_OF_MEMORY|9|0|OutOfMemory|n2|\n"
        "17_3|PENDING|0|1|BeginTime||\n"
        "17_[4-6,9,20-26:3%2]|PENDING|0|0|Resources|(null)|\n"
        "18|CANCELLED|15|2|None||\n"
        "a line of something else\n"
    )
    assert [*tasks] == [
        *(
            "17_0",
            "17_1",
            "17_2",
            "17_3",
            "17_4",
            "17_5",
            "17_6",
            "17_9",
            "17_20",
            "17_23",
            "17_26",
        ),
        "18",
    ]
    assert [tasks[f"17_{i}"].exit_code for i in range(3)] == [0, 143, -9]
    assert tasks["18"].exit_code == -15
    assert (tasks["17_3"].restart, tasks["17_3"].reason) == (1, "BeginTime")
    assert tasks["17_9"].is_waiting
    assert not tasks["17_0"].is_active
    assert tasks["17_0"].reason == ""


@pytest.mark.parametrize("target", ["table1", "table2", "table3", "projection"])
def test_make_passes_launcher_and_options_on(target):
    words = ["LAUNCHER=slurm", "OPTIONS=launcher.partition=gpu launcher.time_min=90"]
    command = ["make", "-n", f"reproduce-{target}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "mla train" in line]
    assert line.endswith(" launcher=slurm launcher.partition=gpu launcher.time_min=90")
