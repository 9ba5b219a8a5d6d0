"""ResNet-18: torchvision's network and parameter names, without torchvision."""

import sys

import pytest
import torch

from mla_lightning.encoders.resnet18 import ResNet18


def torchvision_names():
    """Return the names in torchvision's resnet18, without its classifier."""
    statistics = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", *(f"bn1.{name}" for name in statistics)}
    for layer in range(1, 5):
        for block in range(2):
            prefix = f"layer{layer}.{block}"
            for number in (1, 2):
                names.add(f"{prefix}.conv{number}.weight")
                names |= {f"{prefix}.bn{number}.{name}" for name in statistics}
            if layer > 1 and block == 0:
                names.add(f"{prefix}.downsample.0.weight")
                names |= {f"{prefix}.downsample.1.{name}" for name in statistics}
    return names


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize(("channels", "number"), [(1, 11_170_240), (3, 11_176_512)])
def test_number_of_parameters(channels, number):
    encoder = ResNet18(channels)
    assert sum(p.numel() for p in encoder.parameters()) == number
    assert encoder.out_features == 512


def test_names_are_those_of_torchvision():
    encoder = ResNet18(3)
    assert set(encoder.state_dict()) == torchvision_names()
    assert encoder.conv1.weight.shape == (64, 3, 7, 7)
    assert encoder.layer3[0].downsample[0].weight.shape == (256, 128, 1, 1)
    assert encoder.layer4[1].conv2.weight.shape == (512, 512, 3, 3)
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), (7, 7)), ((257, 188), (9, 6)), ((129, 626), (5, 20)), ((1024, 128), (32, 4))],
)
def test_maps_are_halved_five_times(size, expected):
    encoder = ResNet18(1).eval()
    with torch.no_grad():
        assert encoder.maps(torch.rand(1, 1, *size)).shape == (1, 512, *expected)


def test_video_is_pooled_over_time_and_space():
    encoder = ResNet18(3).eval()
    x = torch.rand(2, 3, 3, 64, 64)
    with torch.no_grad():
        features = encoder(x)
        frames = x.permute(0, 2, 1, 3, 4).reshape(6, 3, 64, 64)
        maps = encoder.maps(frames).reshape(2, 3, 512, 2, 2).permute(0, 2, 1, 3, 4)
    assert features.shape == (2, 512)
    pooled = torch.nn.functional.adaptive_avg_pool3d(maps, 1).flatten(1)
    assert torch.allclose(features, pooled, atol=1e-5)


def test_frames_are_averaged_within_their_sample():
    encoder = ResNet18(3).eval()
    x = torch.rand(2, 3, 2, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encoder(x)[1], encoder(x[1:])[0], atol=1e-5)
        assert torch.allclose(encoder(x), encoder(x.flip(2)), atol=1e-5)  # a mean has no order


def test_one_frame_is_an_image():
    encoder = ResNet18(3).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encoder(x), encoder(x.unsqueeze(2)), atol=1e-5)


def test_weights_are_initialised_as_in_the_papers_code():
    torch.manual_seed(0)
    encoder = ResNet18(3)
    for name, value in encoder.named_parameters():
        if value.ndim == 4:  # Kaiming-normal, fan-out, gain of ReLU
            expected = (2 / (value.shape[0] * value.shape[2] * value.shape[3])) ** 0.5
            assert value.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(value.mean().item()) < expected * 0.05
        else:
            assert (value == (1 if name.endswith("weight") else 0)).all(), name


def test_maps_are_channels_last_if_set():
    for channels_last in (True, False):
        encoder = ResNet18(3, channels_last=channels_last).eval()
        with torch.no_grad():
            maps = encoder.maps(torch.rand(2, 3, 96, 64))
        assert maps.is_contiguous(memory_format=torch.channels_last) == channels_last
        assert maps.is_contiguous() != channels_last


def test_all_weights_get_a_finite_gradient():
    encoder = ResNet18(1)
    encoder(torch.rand(2, 1, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
