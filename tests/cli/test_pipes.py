"""Commands whose output is not read to the end: they finish their work."""

import os
import subprocess
import sys
from pathlib import Path

from mla_lightning.cli import main as main_module

SOURCE = Path(main_module.__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from mla_lightning.cli import main
def work(words):
    for number in range(20_000):
        print(number, flush=number < 2)
    Path(words[0]).write_text("done")
    return 0
main._run = work
sys.exit(main.main(sys.argv[1:]))
"""


def started(path, **options):
    words = [sys.executable, "-c", PROGRAM, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def test_the_work_is_finished_after_the_reader_has_ended(tmp_path):
    with started(tmp_path / "file") as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "file").read_text() == "done"


def test_a_reader_that_stays_gets_every_line_in_order(tmp_path):
    out, err = started(tmp_path / "file").communicate(timeout=60)
    assert out.splitlines() == [str(number) for number in range(20_000)]
    assert err == ""


def test_output_that_is_no_pipe_is_left_alone(capsys):
    before = sys.stdout
    assert main_module.main(["list", "ablations"]) == 0
    assert sys.stdout is before
    assert "no_df" in capsys.readouterr().out
