"""Backbones of timm: the real ones where timm imports, and a small module of its API elsewhere."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.encoders.timm_image import TimmImage, import_timm
from mla_lightning.errors import ConfigError, DataError

IMAGES = ("data=openmoji", "modalities=[image]", "method=unimodal", "encoder=timm")


def real_timm():
    """Return timm if it and its torchvision fit the installed torch, else None."""
    try:
        return import_timm()
    except ConfigError:
        return None


REAL = real_timm()
needs_timm = pytest.mark.skipif(REAL is None, reason="timm does not import beside this torch")


class Backbone(nn.Module):
    """A backbone as timm has them: one that takes 8 x 8 images alone, and one that takes all."""

    num_features = 5  # of the map; the classifier gets more

    def __init__(self, name, in_chans, img_size=None):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 7)
        self.head_hidden_size = 7
        side = img_size or 8
        self.pretrained_cfg = {
            "architecture": name.partition(".")[0],
            "input_size": (3, side, side),
            "fixed_input_size": name.startswith("vit"),
        }

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean(dim=(2, 3)))


def create_model(name, pretrained=False, num_classes=1000, in_chans=3, **options):
    assert num_classes == 0, "the classifier is left out"
    if options and not name.startswith("vit"):
        raise TypeError("ResNet.__init__() got an unexpected keyword argument 'img_size'")
    if pretrained and name.endswith(".absent"):
        raise RuntimeError("No pretrained weights exist for it.")
    model = Backbone(name, in_chans, **options)
    if pretrained:
        nn.init.constant_(model.head.bias, 3.0)
    return model


@pytest.fixture
def fake(monkeypatch):
    module = ModuleType("timm")
    names = ["resnet18", "resnet50", "vit_small"]
    module.__spec__ = SimpleNamespace(name="timm")
    module.create_model = create_model
    module.list_models = lambda: names
    module.is_model = names.__contains__
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_width_channels_and_size_are_those_of_the_backbone(fake):
    encoder = TimmImage(name="resnet18.a1", in_channels=1)
    assert encoder.out_features == 7
    assert encoder(torch.randn(2, 1, 12, 10)).shape == (2, 7)
    with pytest.raises(ConfigError, match=r"expects images \(B, 1, H, W\)"):
        encoder(torch.randn(2, 3, 12, 10))
    fixed = TimmImage(name="vit_small")
    assert fixed(torch.randn(2, 3, 8, 8)).shape == (2, 7)
    with pytest.raises(ConfigError, match=r"expects images \(B, 3, 8, 8\)"):
        fixed(torch.randn(2, 3, 12, 10))
    assert TimmImage(name="vit_small", size=12)(torch.randn(2, 3, 12, 12)).shape == (2, 7)


def test_the_feature_of_a_video_is_the_mean_over_its_frames(fake):
    encoder = TimmImage(name="resnet18").eval()
    video = torch.randn(2, 3, 4, 9, 9)
    frames = torch.stack([encoder(video[:, :, t]) for t in range(4)])
    torch.testing.assert_close(encoder(video), frames.mean(dim=0))


def test_weights_are_pretrained_or_random_trained_or_frozen(fake):
    assert (TimmImage(name="resnet18").model.head.bias == 3).all()
    assert not (TimmImage(name="resnet18", pretrained=False).model.head.bias == 3).any()
    assert all(p.requires_grad for p in TimmImage(name="resnet18").parameters())
    frozen = TimmImage(name="resnet18", tune="none").train()
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.model.norm.training


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"name": "resnet19"}, ConfigError, "no model 'resnet19'. Did you mean 'resnet1?8?"),
        ({"name": "resnet18", "size": 9}, ConfigError, "img_size=9.*Leave size out"),
        ({"name": "resnet18", "in_channels": 0}, ConfigError, "in_channels must be at least 1"),
        (
            {"name": "resnet18.absent"},
            DataError,
            "weights.*hf download timm/resnet18",
        ),
    ],
)
def test_wrong_options_are_refused(fake, options, kind, message):
    with pytest.raises(kind, match=message):
        TimmImage(**options)


def test_a_run_trains_and_its_model_is_built_again_without_the_weights(fake, tmp_path):
    words = [*IMAGES, "trainer.max_epochs=1", "optimizer.lr=0.01"]
    run = mla.train(*words, "encoder.image.name=resnet18.a1", folder=tmp_path)
    model = mla.load_exported(run.export(tmp_path / "model", format="safetensors").path)
    assert isinstance(model.module.encoders["image"], TimmImage)
    text = (tmp_path / "model" / "config.json").read_text()
    assert '"name": "resnet18"' in text
    assert '"pretrained": false' in text


def test_without_the_extra_nothing_starts_and_the_command_is_named(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(
        "mla_lightning.run.submission.find_spec",
        lambda name: None if name == "timm" else importlib.util.find_spec(name),
    )
    words = [*IMAGES, f"paths.output_dir={tmp_path / 'runs'}"]
    assert main(["train", *words]) == 2
    assert "encoder.image needs timm" in (error := capfd.readouterr().err)
    assert "pip install 'mla_lightning[timm]'" in error
    assert not (tmp_path / "runs").exists()


def test_a_timm_for_another_torch_is_an_error_before_anything_starts(monkeypatch, tmp_path, capfd):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms is absent')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*IMAGES, "encoder.image.name=resnet18", f"paths.output_dir={tmp_path / 'runs'}"]
    assert main(["train", *words, "optimizer.lr=0.01"]) == 2
    assert "encoder.image needs timm, which cannot be imported" in (error := capfd.readouterr().err)
    assert "torchvision::nms is absent" in error
    assert not (tmp_path / "runs").exists()


def test_a_timm_that_does_not_import_is_named_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*torchvision, which must be"):
        TimmImage(name="resnet18")


@needs_timm
@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("resnet18", {}, 40),
        ("mobilenetv3_small_050", {"in_channels": 1}, 64),
        ("vit_tiny_patch16_224", {"size": 32}, 32),
        ("swin_tiny_patch4_window7_224", {}, 224),
    ],
)
def test_backbones_of_timm_give_the_width_that_they_say(name, options, side):
    encoder = TimmImage(name=name, pretrained=False, **options).eval()
    x = torch.randn(2, options.get("in_channels", 3), side, side)
    with torch.no_grad():
        feature = encoder(x)
        expected = encoder.model.forward_head(encoder.model.forward_features(x), pre_logits=True)
    assert feature.shape == (2, encoder.out_features)
    assert torch.equal(feature, expected)


@needs_timm
def test_names_of_timm_are_checked():
    with pytest.raises(ConfigError, match="no model 'resnet19'"):
        TimmImage(name="resnet19")
    with pytest.raises(ConfigError, match="Leave size out"):
        TimmImage(name="resnet18", size=32, pretrained=False)
