"""A stand-in for SLURM's commands: a folder is the queue, and a test moves its jobs on.

The commands are this file under their names, first on the PATH. `tests.slurm_node` runs the jobs.
"""

import fcntl
import json
import os
import re
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")
FIELDS = ("state", "exit_code", "restart", "reason", "node")


class FakeSlurm:
    """The queue, as the commands and the tests see it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.file = self.folder / "queue.json"

    def install(self, monkeypatch, **settings):
        """Put the commands first on the PATH; settings are cluster, max_array and refusal."""
        monkeypatch.setenv("PATH", f"{self.make(**settings)}:/usr/bin:/bin")

    def make(self, **settings):
        """Write an empty queue and the commands; return their folder."""
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(parents=True)
        for name in COMMANDS:
            (bin_folder / name).write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
            (bin_folder / name).chmod(0o755)
        self.write({"next": 17, "tasks": {}, "calls": [], "cluster": "lab", **settings})
        return bin_folder

    @contextmanager
    def changing(self):
        """Give the queue to one process at a time, and write what it changes."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # no fork inherits it
            queue = self.read()
            yield queue
            self.write(queue)

    def read(self):
        return json.loads(self.file.read_text())

    def write(self, content):
        self.file.write_text(json.dumps(content))

    def set(self, **settings):
        self.write({**self.read(), **settings})

    def move(self, task, state, **more):
        """Change the state of a task."""
        content = self.read()
        content["tasks"][task] |= {"state": state, "reason": "", **more}
        self.write(content)

    def forget(self, *tasks):
        """Let the queue forget tasks, as some minutes after their end."""
        content = self.read()
        for task in tasks:
            del content["tasks"][task]
        self.write(content)

    def states(self):
        return {task: entry["state"] for task, entry in self.read()["tasks"].items()}

    def calls(self, command):
        return [words[1:] for words in self.read()["calls"] if words[0] == command]


def sbatch(queue, words):
    if queue.get("refusal"):
        return 1, "", queue["refusal"]
    script = Path(words[-1])
    options = {}
    for line in script.read_text().splitlines():
        if line.startswith("#SBATCH "):
            (word,) = shlex.split(line.removeprefix("#SBATCH "))
            key, _, value = word.removeprefix("--").partition("=")
            options[key] = value
    last, limit = re.fullmatch(r"0-(\d+)(?:%(\d+))?", options["array"]).groups()
    array, last = queue["next"], int(last)
    queue["next"] += last + 2
    entry = {"name": options["job-name"], "state": "PENDING", "exit_code": 0, "restart": 0}
    entry |= {"node": "", "reason": "JobHeldUser" if "--hold" in words else "Priority"}
    entry |= {"script": str(script.absolute()), "limit": int(limit or last + 1)}
    for number in range(last + 1):
        queue["tasks"][f"{array}_{number}"] = dict(entry)
    return 0, f"{array}\n", ""


def squeue(queue, words):
    if queue.get("is_down"):
        return 1, "", "slurm_load_jobs error: Unable to contact slurm controller"
    flag, wanted = next(
        (w, words[words.index(w) + 1].split(",")) for w in ("-j", "-n") if w in words
    )
    states = words[words.index("-t") + 1] if "-t" in words else "all"
    rows = []
    for task, entry in queue["tasks"].items():
        if states != "all" and entry["state"] not in states.split(","):
            continue
        if (task.partition("_")[0] if flag == "-j" else entry["name"]) in wanted:
            rows.append("|".join([task, *(str(entry[key]) for key in FIELDS)]) + "|")
    if flag == "-j" and len(wanted) == 1 and not rows:
        return 1, "", "slurm_load_jobs error: Invalid job id specified"
    return 0, "".join(f"{row}\n" for row in rows), ""


def scontrol(queue, words):
    if words[:2] == ["show", "config"]:
        size = queue.get("max_array", 1001)
        return 0, f"ClusterName = {queue['cluster']}\nMaxArraySize = {size}\n", ""
    for task, entry in queue["tasks"].items():
        if words[0] == "release" and task.startswith(f"{words[1]}_"):
            entry["reason"] = "Priority"
        if words[0] == "requeue" and task == words[1]:
            entry |= {"state": "PENDING", "reason": "BeginTime", "restart": entry["restart"] + 1}
    return 0, "", ""


def scancel(queue, words):
    for task, entry in queue["tasks"].items():
        if task in words or task.partition("_")[0] in words:
            entry |= {"state": "CANCELLED", "reason": "", "exit_code": 15}
            if "pid" in entry:  # it has processes, which end in their own time
                entry["state"] = "COMPLETING"
                os.kill(entry["pid"], signal.SIGTERM)
    return 0, "", ""


def main():
    name, place = Path(sys.argv[0]).name, Path(sys.argv[0]).parents[1]
    with FakeSlurm(place).changing() as queue:
        queue["calls"].append([name, *sys.argv[1:]])
        code, out, err = globals()[name](queue, sys.argv[1:])
    sys.stdout.write(out)
    sys.stderr.write(err and f"{name}: error: {err}\n")
    return code


if __name__ == "__main__" and os.path.basename(sys.argv[0]) in COMMANDS:
    sys.exit(main())
