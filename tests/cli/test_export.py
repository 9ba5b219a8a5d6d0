"""`mla export`: what an ONNX file computes, against the predictions of the run."""

import onnxruntime
import pytest
import torch

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.encoders import CAVMAEAudio, M3AEImage, M3AEText
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.run import onnx_file

RUNS = {
    "entropy weights": ("data=synthetic", "method=mla"),
    "features in place of weights": ("data=synthetic", "method=bigated"),
    "an epoch by modality": ("data=synthetic", "method=unimodal"),
    "an average of models": ("data=synthetic", "method=ensemble"),
    "means of absent features": ("data=synthetic", "method=simbamm"),
    "regression": ("data=synthetic", "method=mla", "data.task=regression"),
    "labels": ("data=synthetic", "method=late_fusion", "data.task=multilabel"),
    "pictures and texts": ("data=openmoji", "method=mla", "trainer.max_epochs=1"),
}


SLOW = ("features in place of weights", "means of absent features")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in RUNS]
)
def test_a_file_computes_what_is_predicted(kind, tmp_path):
    epochs = () if "trainer.max_epochs=1" in RUNS[kind] else ("trainer.max_epochs=2",)
    run = mla.train(*RUNS[kind], *epochs, folder=tmp_path)
    written = run.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(written.path)
    run.loaded.data.setup()
    batch = next(iter(run.loaded.data.loader("val")))
    inputs = {m: x[:7] for m, x in batch["inputs"].items()}
    true = torch.ones(7, dtype=torch.bool)
    feed = {**inputs, **{f"present_{m}": true for m in inputs}}
    values = session.run(None, {name: x.numpy() for name, x in feed.items()})
    outputs = dict(zip(written.outputs, map(torch.from_numpy, values), strict=True))
    expected = run.predict(inputs)
    for name, logits in expected.logits.items():
        torch.testing.assert_close(outputs[f"logits_{name}"], logits, rtol=1e-4, atol=1e-4)
    for name, weight in expected.weights.items():
        torch.testing.assert_close(outputs[f"weight_{name}"], weight, rtol=1e-4, atol=1e-4)
    if run.result.task == "classification":
        names = [expected.class_names[k] for k in outputs["prediction"].tolist()]
        assert names == expected.classes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return mla.train("data=synthetic", "method=mla", "trainer.max_epochs=2", folder=folder)


def test_an_absent_modality_does_not_change_the_fused_logits(run, tmp_path):
    session = onnxruntime.InferenceSession(run.export(tmp_path / "model.onnx").path)
    audio, true = torch.randn(4, 16), torch.ones(4, dtype=torch.bool)
    feed = {"audio": audio, "present_audio": true, "present_visual": ~true}
    results = [
        session.run(
            ["logits_multi", "logits_audio", "weight_visual"],
            {k: x.numpy() for k, x in (feed | {"visual": visual}).items()},
        )
        for visual in (torch.zeros(4, 16), torch.full((4, 16), torch.nan))
    ]
    for fused, own, weight in results:
        torch.testing.assert_close(torch.from_numpy(fused), torch.from_numpy(own))
        assert not weight.any()


def test_the_command_writes_one_file_and_says_what_it_holds(run, tmp_path, capfd):
    path = tmp_path / "model.onnx"
    assert main(["export", str(run.folder), f"output={path}"]) == 0
    out = capfd.readouterr().out
    assert "inputs   audio, visual, present_audio, present_visual" in out
    assert "Largest difference" in out
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert main(["export", str(run.folder), f"output={path}"]) == 2
    assert "exists already" in capfd.readouterr().err


def test_a_file_that_differs_is_not_kept(run, tmp_path, monkeypatch):
    class Other(onnx_file.Graph):
        def forward(self, *tensors):
            return tuple(
                x + 0.01 if x.is_floating_point() else x for x in super().forward(*tensors)
            )

    monkeypatch.setattr(onnx_file, "Graph", Other)
    with pytest.raises(RunError, match=r"differs by 0\.01.*No file was written"):
        run.export(tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_graph_that_would_be_too_long_is_refused_before_any_work(tmp_path, monkeypatch):
    run = mla.train(
        *("data=synthetic", "method=cpm_net", "trainer.max_epochs=1", "optimizer.lr=0.001"),
        folder=tmp_path / "runs",
    )
    monkeypatch.setattr(onnx_file, "Graph", None)
    with pytest.raises(ConfigError, match=r"CrossPartial.*200 steps.*format=safetensors"):
        run.export(tmp_path / "model.onnx")
    assert run.export(tmp_path / "model", format="safetensors").difference == 0


def test_a_graph_that_does_not_run_is_not_kept(run, tmp_path, monkeypatch):
    class Session(onnxruntime.InferenceSession):
        def run(self, *arguments):
            raise OSError("FAIL : Non-zero status code returned while running Reshape node")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(RunError, match=r"a batch of 24 samples.*Reshape.*No file was"):
        run.export(tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("kind", "options", "x"),
    [
        (M3AEImage, {"image_size": 32}, torch.rand(3, 3, 32, 32)),
        (M3AEText, {"num_tokens": 40}, torch.randint(1, 40, (3, 6))),
        (CAVMAEAudio, {"num_frames": 32, "num_mels": 16}, torch.rand(3, 32, 16)),
    ],
)
def test_a_graph_of_a_tower_takes_any_number_of_samples(kind, options, x):
    encoder = kind(width=8, depth=1, num_heads=2, **options).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(encoder, (x,), dynamic_shapes=sizes).module()
    several = torch.cat([x, x])
    torch.testing.assert_close(program(several), encoder(several))


def test_a_missing_package_is_named_with_its_command(run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "onnx_not_there"))
    with pytest.raises(ConfigError, match=r"onnx_not_there.*mla_lightning\[export\]"):
        run.export(tmp_path / "model.onnx")
