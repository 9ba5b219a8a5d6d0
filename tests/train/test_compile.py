"""`trainer.compile`: the same training up to rounding, weights by the same names."""

import json

import pytest
import torch

from mla_lightning.cli.main import main

WORDS = [
    *("train", "data=synthetic", "method=concat", "trainer.max_epochs=1"),
    # Compiled code draws other numbers for dropout.
    *("encoder.audio.dropout=0", "encoder.visual.dropout=0"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own libraries are deprecated here and there
def test_compiled_encoders_train_equally(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "run_dir=plain"]) == 0
    assert main([*WORDS, "run_dir=compiled", "trainer.compile=true"]) == 0
    weights, scores = [], []
    for name in ("plain", "compiled"):
        path = next((tmp_path / name / "checkpoints").glob("*best*"))
        weights.append(torch.load(path, weights_only=True)["state_dict"])
        scores.append(json.loads((tmp_path / name / "result.json").read_text()))
    plain, compiled = weights
    assert plain.keys() == compiled.keys()
    for key, values in plain.items():
        torch.testing.assert_close(compiled[key], values, atol=1e-4, rtol=1e-4)
    gap = scores[0]["val"]["multi"]["accuracy"] - scores[1]["val"]["multi"]["accuracy"]
    assert abs(gap) < 0.05
    assert scores[0]["identity"] != scores[1]["identity"]


def test_compiling_needs_a_compiler(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert main([*WORDS, "trainer.compile=true"]) == 2
    assert "needs a C++ compiler" in capfd.readouterr().err
