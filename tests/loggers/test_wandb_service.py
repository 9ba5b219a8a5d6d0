"""Sweeps of Weights & Biases, and a server that rejects every key."""

import http.server
import itertools
import json
import threading
import time
from pathlib import Path

import pytest
import yaml
from tests.loggers.test_wandb_evidence import SIZE
from tests.loggers.wandb_files import rows_of

from mla_lightning.cli.main import main

SWEEPS = sorted((Path(__file__).parents[2] / "experiments" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_start_mla_train(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"] == {"name": "val/acc", "goal": "maximize"}
    assert "evaluate_test=false" in sweep["command"]
    command = [word for word in sweep["command"] if not word.startswith("${")]
    assert command[:2] == ["mla", "train"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    choices = [
        [f"{key}={value}" for value in range_.get("values", [range_.get("min"), range_.get("max")])]
        for key, range_ in sweep["parameters"].items()
    ]
    for chosen in itertools.islice(itertools.product(*choices), 0, None, 7):
        assert main([*command[1:], *chosen, "--dry-run"]) == 0


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that rejects every key."""

    num_requests = 0

    def do_POST(self):
        type(self).num_requests += 1
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"errors": [{"message": "invalid API key"}]}'
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def test_a_key_that_the_server_rejects_changes_nothing(tmp_path, monkeypatch, capfd):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        monkeypatch.delenv("WANDB_MODE", raising=False)
        words = ["data=synthetic", "method=concat", *SIZE, "logger=wandb_online"]
        started = time.monotonic()
        assert main(["train", *words, "run_dir=run"]) == 0
        assert time.monotonic() - started < 60
        server.shutdown()
    assert Refusing.num_requests > 0
    out = capfd.readouterr().out
    assert "W&B could not start online" in out
    assert "continuing offline" in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best_epoch"] >= 1
    assert len([row for row in rows_of(tmp_path / "run") if "val/f1_macro" in row]) == 2
