"""The command line: verbs, examples, exit codes, and imports."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mla_lightning
from mla_lightning.cli import main as cli
from mla_lightning.cli.main import main
from mla_lightning.errors import DataError

SOURCES = str(Path(cli.__file__).parents[1])


def run_python(code: str, *, expected: int = 0, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


LIGHT = """
import contextlib, io, json, sys
from mla_lightning.cli.main import main
seen = {}
for words in %r:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    heavy = {"torch", "lightning", "hydra", "omegaconf", "wandb", "matplotlib"} & set(sys.modules)
    seen[" ".join(words)] = [code, len(out.getvalue()), sorted(heavy)]
print(json.dumps(seen))
"""


def test_help_and_lists_and_configs_are_shown_without_torch() -> None:
    light = [["--help"], [], ["--version"], ["train", "--help"], ["list", "--help"], ["list"]]
    light += [["list", kind] for kind in ("methods", "data", "experiments", "encoders")]
    light += [["list", kind] for kind in ("fusions", "ablations", "loggers", "trainers")]
    with_hydra = [["train", "--cfg"], ["train", "-m", "--cfg", "experiment=table3/openmoji"]]
    seen = json.loads(run_python(LIGHT % [*light, *with_hydra]))
    for words in light:
        code, length, heavy = seen[" ".join(words)]
        assert (code, heavy) == (0, []), words
        assert length > 0
    for words in with_hydra:
        code, length, heavy = seen[" ".join(words)]
        assert code == 0
        assert set(heavy) <= {"hydra", "omegaconf"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mla_lightning; print(sorted(sys.modules))"
    assert not {"torch", "numpy", "yaml", "hydra"} & set(eval(run_python(code)))


def test_a_module_run_works_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mla_lightning.cli.main", "train", "method=ogmge", "--cfg"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: Unknown method 'ogmge'. Did you mean 'ogm_ge'?")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_contains_its_configs(tmp_path: Path) -> None:
    package = Path(mla_lightning.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(package, tmp_path / "site" / "mla_lightning", ignore=ignored)
    shutil.copytree(config_dir(), tmp_path / "site" / "mla_lightning" / "conf")
    code = (
        "import sys; sys.path.insert(0, 'site')\n"
        "from mla_lightning.cli.main import main\n"
        "from mla_lightning.config import conf_dir\n"
        "assert 'site' in str(conf_dir()), conf_dir()\n"
        "sys.exit(main(['train', '--cfg', 'experiment=table1/openmoji']))"
    )
    assert "name: table1/openmoji" in run_python(code, cwd=tmp_path)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"mla {verb}" in text.partition("examples:")[2]


def test_every_kind_of_report_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from mla_lightning.report.tables.kinds import kinds

    assert main(["list", "reports"]) == 0
    listed = capsys.readouterr().out
    assert [kind for kind in kinds() if f"\n{kind} " not in f"\n{listed}"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "Unknown verb 'trian'. Did you mean 'train'?"),
        (["train", "--multi-run"], "unknown option --multi-run. Did you mean '--multirun'?"),
        (["train", "--api-key=s3cret"], "unknown option --api-key."),
        (["train", "seed=1", "-m", "sed=2"], "Unknown key 'sed'. Did you mean 'seed'?"),
        (["list", "method5"], "mla list: unknown kind 'method5'. Did you mean 'method'"),
        (["eval"], "the following arguments are required: RUN"),
        (
            ["eval", "x", "spilt=val"],
            "mla eval takes split=..., data.path=..., noise=..., output=..., not 'spilt=val'",
        ),
        (["report", "table1"], "mla report table1 needs folders of runs, such as runs/table1"),
        (["list", "methods", "x"], "Unknown method 'x'."),
        (
            ["data", "prepare", "openmojis"],
            "Unknown data set 'openmojis'. Did you mean 'openmoji'?",
        ),
        (["data", "repare", "openmoji"], "no action 'repare'. Did you mean 'prepare'?"),
        (["train", "--cfg", "--allow-target", "a b"], "is not the name of a package"),
    ],
)
def test_wrong_commands_end_with_code_2_and_one_message(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert expected in err
    assert "Traceback" not in out + err
    assert "s3cret" not in out + err


def test_overrides_after_an_option_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "seed=3", "--cfg", "method=qmf"]) == 0
    out = capsys.readouterr().out
    assert "seed: 3" in out
    assert "method: qmf" in out


def test_a_multirun_shows_every_config(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert main(["train", "-m", "--cfg", "seed=0,1", "method=concat,mla"]) == 0
    configs = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [(c["seed"], c["choices"]["method"]) for c in configs] == [
        (0, "concat"),
        (0, "mla"),
        (1, "concat"),
        (1, "mla"),
    ]


def config_dir() -> Path:
    from mla_lightning.config import conf_dir

    return conf_dir()


def test_errors_have_their_exit_code_and_contain_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value")

    def fail(**_: object) -> None:
        raise DataError("no data at https://very-secret-value.example")

    monkeypatch.setattr("mla_lightning.config.compose_jobs", fail)
    assert main(["train"]) == 3
    assert capsys.readouterr().err == "error: no data at https://***.example\n"


def test_ctrl_c_ends_with_130_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr("mla_lightning.config.compose_jobs", interrupt)
    # A shell starts background processes with Ctrl-C ignored; here it must arrive.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["train"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_closed_output_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m mla_lightning.cli.main list methods | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )
    assert done.stderr == ""
