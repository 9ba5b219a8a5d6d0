"""CAV-MAE's single-modality paths: the public layout of weights, and features by formulas."""

import plain_vit as plain
import pytest
import torch

from mla_lightning.encoders.cav_mae import CAVMAEAudio, CAVMAEVisual
from mla_lightning.errors import ConfigError, DataError

SMALL = {"width": plain.WIDTH, "depth": plain.DEPTH, "num_heads": plain.HEADS}
NORMS = ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v")
NAMES = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2", "norms": NORMS}
#: Patches of the audio path (frequency, time) and of the visual one.
GRID = {"a": (2, 4), "v": (3, 3)}


def cav_checkpoint():
    """Draw random tensors in the layout of CAV-MAE's pretraining checkpoints, decoder included."""
    torch.manual_seed(4)
    width = plain.WIDTH
    tensors = {}
    for letter, channels in (("a", 1), ("v", 3)):
        number = GRID[letter][0] * GRID[letter][1]
        tensors[f"patch_embed_{letter}.proj.weight"] = torch.randn(width, channels, 16, 16) / 16
        tensors[f"patch_embed_{letter}.proj.bias"] = torch.randn(width)
        tensors[f"pos_embed_{letter}"] = torch.randn(1, number, width)
        tensors[f"modality_{letter}"] = torch.randn(1, 1, width)
        tensors |= plain.random_norm(f"norm_{letter}")
        for number in range(plain.DEPTH - 1):
            tensors |= plain.random_block(f"blocks_{letter}.{number}.", NAMES)
    tensors |= plain.random_block("blocks_u.0.", NAMES) | plain.random_norm("norm")
    tensors |= {
        "decoder_embed.weight": torch.zeros(2, 2),
        "mask_token": torch.zeros(1),
        "decoder_pos_embed_a": torch.zeros(3),
        "decoder_blocks.0.norm1.weight": torch.zeros(3),
        "decoder_pred_a.weight": torch.zeros(3),
        "mlp_head.0.weight": torch.zeros(3),
    }
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return cav_checkpoint()


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("cav") / "cav.pth"
    torch.save({f"module.{name}": values for name, values in tensors.items()}, path)
    return str(path)


def expected(tensors, images, letter):
    """Compute the features of images (B, C, H, W) by one path, in plain formulas."""
    rows, columns = GRID[letter]
    kernel = tensors[f"patch_embed_{letter}.proj.weight"]
    tokens = []
    for r in range(rows):
        for c in range(columns):
            patch = images[:, :, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16]
            tokens.append(torch.einsum("bchw,ochw->bo", patch, kernel))
    x = torch.stack(tokens, dim=1) + tensors[f"patch_embed_{letter}.proj.bias"]
    x = x + tensors[f"pos_embed_{letter}"] + tensors[f"modality_{letter}"]
    options = {"eps": 1e-5, "kind": "exact"}
    for number in range(plain.DEPTH - 1):
        prefix = f"blocks_{letter}.{number}."
        x = plain.block(x, tensors, prefix, NAMES, ("norm1", "norm2"), **options)
    norms = (f"norm1_{letter}", f"norm2_{letter}")
    x = plain.block(x, tensors, "blocks_u.0.", NAMES, norms, **options)
    norm = (tensors[f"norm_{letter}.weight"], tensors[f"norm_{letter}.bias"])
    return plain.layer_norm(x, *norm, 1e-5).mean(1)


@pytest.mark.parametrize("training", [True, False])
def test_spectrograms_are_encoded_as_by_the_formulas(tensors, file, training):
    path = CAVMAEAudio(num_frames=64, num_mels=32, checkpoint=file, **SMALL).train(training)
    spectrograms = torch.randn(2, 1, 64, 32)  # time first
    with torch.set_grad_enabled(training):
        features = path(spectrograms)
        assert torch.allclose(features, path(spectrograms[:, 0]), atol=1e-6)
    by_formulas = expected(tensors, spectrograms.transpose(2, 3), "a")
    assert torch.allclose(features, by_formulas, atol=1e-5)


def test_images_are_encoded_as_by_the_formulas(tensors, file):
    path = CAVMAEVisual(image_size=48, checkpoint=file, **SMALL).eval()
    images = torch.randn(2, 3, 48, 48)
    assert torch.allclose(path(images), expected(tensors, images, "v"), atol=1e-5)
    video = torch.stack([images, images.flip(0)], dim=2)
    frames = expected(tensors, images, "v")
    assert torch.allclose(path(video), (frames + frames.flip(0)) / 2, atol=1e-5)


def test_number_of_parameters():
    with torch.device("meta"):
        audio, visual = CAVMAEAudio(), CAVMAEVisual()
    assert sum(p.numel() for p in audio.parameters()) == 85_647_360
    blocks = sum(p.numel() for p in audio.blocks.parameters())
    assert sum(p.numel() for p in visual.parameters()) == blocks + 590_592 + 196 * 768 + 768
    assert audio.positions.shape == (1, 512, 768)


def test_positions_start_as_sines_of_time_and_frequency():
    path = CAVMAEAudio(num_frames=64, num_mels=32, **SMALL)
    assert torch.allclose(path.positions[0], plain.grid_code(2, 4, plain.WIDTH), atol=1e-6)
    path(torch.randn(2, 64, 32)).square().sum().backward()
    assert all(p.grad is not None for p in path.parameters())


def test_errors_list_the_weights_that_do_not_fit(tensors, tmp_path):
    file = tmp_path / "cav.pth"
    broken = {k: v for k, v in tensors.items() if k != "blocks_u.0.norm1_a.weight"}
    broken["pos_embed_a"] = torch.zeros(1, 9, plain.WIDTH)
    broken["blocks_a.1.attn.qkv.scale"] = torch.zeros(1)
    broken["norm_a.bias"] = torch.full((plain.WIDTH,), float("nan"))
    torch.save(broken, file)
    with pytest.raises(DataError) as caught:
        CAVMAEAudio(num_frames=64, num_mels=32, checkpoint=str(file), **SMALL)
    message = str(caught.value)
    assert "missing: blocks_u.0.norm1_a.weight." in message
    assert "unexpected: blocks_a.1.attn.qkv.scale." in message
    assert (
        "other shapes: pos_embed_a is (1, 9, 24) in the file, (1, 8, 24) in the encoder." in message
    )
    assert "not finite: norm_a.bias." in message
    with pytest.raises(DataError, match=r"unexpected: blocks_a\.1\.attn\.qkv\.weight"):
        CAVMAEAudio(num_frames=64, num_mels=32, checkpoint=str(file), **(SMALL | {"depth": 2}))


def test_wrong_sizes_raise_an_error():
    with pytest.raises(ConfigError, match="num_frames must be a multiple of 16, got 1000"):
        CAVMAEAudio(num_frames=1000)
    with pytest.raises(ConfigError, match=r"spectrograms \(B, 1, 64, 32\)"):
        CAVMAEAudio(num_frames=64, num_mels=32, **SMALL)(torch.rand(2, 1, 32, 64))
    with pytest.raises(ConfigError, match=r"images \(B, 3, 48, 48\)"):
        CAVMAEVisual(image_size=48, **SMALL)(torch.rand(2, 1, 48, 48))
