"""The README's examples run as they stand, only outside the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(language, containing):
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_the_examples_of_a_method_and_a_data_set_train(tmp_path):
    package = tmp_path / "own"
    for kind, name, word in (
        ("methods", "scaled_losses", "ScaledLosses"),
        ("data", "views", "Views"),
    ):
        (package / kind).mkdir(parents=True)
        (package / kind / f"{name}.py").write_text(block("python", f"class {word}("))
        folder = tmp_path / "conf" / {"methods": "method", "data": "data"}[kind]
        folder.mkdir(parents=True)
        yaml = block("yaml", f".{word}\n").replace("mla_lightning.", "own.")
        (folder / f"{name}.yaml").write_text(yaml)
    rng, arrays = np.random.default_rng(0), {}
    for split, number in (("train", 40), ("val", 10), ("test", 12)):
        arrays[f"label_{split}"] = label = rng.permutation(number) % 2
        for modality, width in (("audio", 74), ("visual", 35)):
            noise = rng.normal(size=(number, width))
            arrays[f"{modality}_{split}"] = (noise + label[:, None]).astype(np.float32)
    np.savez(tmp_path / "views.npz", **arrays)
    command = [sys.executable, "-m", "mla_lightning.cli.main", "train"]
    command += ["--config-dir", "conf", "--allow-target", "own"]
    command += ["data=views", "method=scaled_losses", "trainer.max_epochs=5", "optimizer.lr=0.1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["test"]["multi"]["accuracy"] > 0.7
