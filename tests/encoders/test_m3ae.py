"""M3AE's towers: the public layout of weights, and features by formulas."""

import plain_vit as plain
import pytest
import torch

from mla_lightning.encoders.m3ae import M3AEImage, M3AEText
from mla_lightning.errors import ConfigError, DataError

SMALL = {"width": plain.WIDTH, "depth": plain.DEPTH, "num_heads": plain.HEADS}
NAMES = {
    "qkv": "attention.qkv_linear",
    "proj": "attention.fc",
    "fc1": "transformer_mlp.fc1",
    "fc2": "transformer_mlp.fc2",
    "norms": ("layer_norm1", "layer_norm2"),
}


def port_checkpoint(num_tokens=40):
    """Draw random tensors in the layout of MLA's port of M3AE."""
    torch.manual_seed(3)
    width = plain.WIDTH
    tensors = {
        "cls_token": torch.randn(1, 1, width),
        "encoder_image_type_embedding": torch.randn(1, 1, width),
        "encoder_text_type_embedding": torch.randn(1, 1, width),
        "text_embedding.weight": torch.randn(num_tokens, width),
        "image_embedding.weight": torch.randn(width, 768) / 28,
        "image_embedding.bias": torch.randn(width),
    }
    for number in range(plain.DEPTH):
        tensors |= plain.random_block(f"encoder.blocks.{number}.", NAMES)
    return tensors | plain.random_norm("encoder.layer_norm")


@pytest.fixture(scope="module")
def tensors():
    return port_checkpoint()


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("m3ae") / "m3ae.pth"
    torch.save(tensors, path)
    return str(path)


def expected_sequence(tensors, embedded, code, padding=None, *, eps=1e-6, kind="tanh"):
    """Compute [CLS] and tokens after all blocks and the last norm, in plain formulas."""
    cls = tensors["cls_token"].expand(len(embedded), 1, -1)
    x = torch.cat([cls, embedded + tensors[code]], dim=1)
    if padding is not None:
        padding = torch.cat([torch.zeros(len(x), 1), padding.float()], dim=1)
    for number in range(plain.DEPTH):
        prefix = f"encoder.blocks.{number}."
        norms = NAMES["norms"]
        x = plain.block(x, tensors, prefix, NAMES, norms, eps=eps, kind=kind, padding=padding)
    norm = (tensors["encoder.layer_norm.weight"], tensors["encoder.layer_norm.bias"])
    return plain.layer_norm(x, *norm, eps)


def embedded_images(tensors, images, order):
    """Embed the patches of images one by one, and add the code of their place."""
    rows = []
    side = images.shape[2] // 16
    for r in range(side):
        for c in range(side):
            patch = images[:, :, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16]
            patch = patch.permute(0, 2, 3, 1) if order == "row_col_channel" else patch
            rows.append(patch.reshape(len(images), 768))
    tokens = torch.stack(rows, dim=1) @ tensors["image_embedding.weight"].T
    code = plain.grid_code(side, side, plain.WIDTH)
    return tokens + tensors["image_embedding.bias"] + code


@pytest.mark.parametrize("order", ["row_col_channel", "released"])
@pytest.mark.parametrize(("kind", "eps"), [("tanh", 1e-6), ("exact", 1e-5)])
@pytest.mark.parametrize("training", [True, False])
def test_images_are_encoded_as_by_the_formulas(tensors, file, order, kind, eps, training):
    images = torch.randn(2, 3, 64, 64)
    embedded = embedded_images(tensors, images, order)
    code = "encoder_image_type_embedding"
    sequence = expected_sequence(tensors, embedded, code, eps=eps, kind=kind)
    expected = {
        "mean_tokens": sequence[:, 1:].mean(1),
        "cls": sequence[:, 0],
        "released_mean": sequence.mean(1),
    }
    for pooling, features in expected.items():
        options = {"pooling": pooling, "patch_order": order, "gelu": kind, "layer_norm_eps": eps}
        tower = M3AEImage(image_size=64, checkpoint=file, **SMALL, **options).train(training)
        with torch.set_grad_enabled(training):
            assert torch.allclose(tower(images), features, atol=1e-5), pooling


@pytest.mark.parametrize("training", [True, False])
def test_texts_are_encoded_as_by_the_formulas(tensors, file, training):
    ids = torch.tensor([[7, 3, 39, 0, 0, 0], [5, 5, 1, 2, 9, 8]])
    padding = ids == 0
    code = torch.tensor([plain.sines(i, plain.WIDTH) for i in range(6)])
    embedded = tensors["text_embedding.weight"][ids] + code
    sequence = expected_sequence(tensors, embedded, "encoder_text_type_embedding", padding)
    is_token = (~padding)[..., None]
    expected = {
        "mean_tokens": (sequence[:, 1:] * is_token).sum(1) / is_token.sum(1),
        "cls": sequence[:, 0],
        "released_mean": sequence.mean(1),
    }
    for pooling, features in expected.items():
        tower = M3AEText(num_tokens=40, checkpoint=file, pooling=pooling, **SMALL).train(training)
        with torch.set_grad_enabled(training):
            assert torch.allclose(tower(ids), features, atol=1e-5), pooling


def test_base_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        image, text = M3AEImage(), M3AEText()
    number = [sum(p.numel() for p in tower.parameters()) for tower in (image, text)]
    assert number == [85_648_128, 108_498_432]
    blocks = sum(p.numel() for p in image.blocks.parameters())
    assert blocks == 12 * 7_087_872 + 1_536
    # Both towers in one, as M3AE has them: the blocks and [CLS] once.
    assert sum(number) - blocks - 768 == 109_089_792
    assert image.out_features == text.out_features == 768


@pytest.mark.parametrize(("size", "shape"), [("small", (384, 12)), ("large", (1024, 24))])
def test_sizes(size, shape):
    with torch.device("meta"):
        tower = M3AEImage(size=size)
    assert (tower.out_features, len(tower.blocks.layers)) == shape


def test_padding_counts_under_released_mean_only():
    torch.manual_seed(0)
    tower = M3AEText(num_tokens=40, **SMALL).eval()
    short, long = torch.tensor([[7, 3]]), torch.tensor([[7, 3, 0, 0, 0]])
    assert torch.allclose(tower(short), tower(long), atol=1e-6)
    tower.pooling = "released_mean"
    assert not torch.allclose(tower(short), tower(long), atol=1e-2)


def test_texts_without_tokens_and_texts_longer_than_512_tokens():
    tower = M3AEText(num_tokens=40, **SMALL)
    assert torch.equal(tower(torch.zeros(2, 4, dtype=torch.int64)), torch.zeros(2, plain.WIDTH))
    assert tower(torch.ones(1, 600, dtype=torch.int64)).isfinite().all()
    assert "positions" not in tower.state_dict()


def test_video_is_the_mean_over_its_frames():
    tower = M3AEImage(image_size=32, **SMALL).eval()
    video = torch.randn(2, 3, 4, 32, 32)
    expected = torch.stack([tower(video[:, :, t]) for t in range(4)]).mean(0)
    assert torch.allclose(tower(video), expected, atol=1e-5)


def test_all_weights_get_a_gradient_and_blocks_start_different():
    tower = M3AEImage(image_size=32, **SMALL)
    tower(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    first, second = (layer.linear1.weight for layer in tower.blocks.layers[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "bass"}, "no size 'bass'. Did you mean 'base'?"),
        ({"pooling": "mean_token"}, "Did you mean 'mean_tokens'?"),
        ({"gelu": "relu"}, "gelu must be tanh or exact"),
        ({"patch_order": "rows"}, "patch_order must be row_col_channel or released"),
        ({"image_size": 40}, "image_size must be a multiple of 16, got 40"),
        ({"num_heads": 5}, "width 24 must be a multiple of 5 heads"),
    ],
)
def test_wrong_settings_raise_an_error(options, message):
    with pytest.raises(ConfigError) as caught:
        M3AEImage(**(SMALL | options))
    assert message in str(caught.value)


def test_wrong_inputs_raise_an_error():
    with pytest.raises(ConfigError, match=r"images \(B, 3, 32, 32\) or video"):
        M3AEImage(image_size=32, **SMALL)(torch.rand(2, 3, 64, 64))
    with pytest.raises(ConfigError, match="token ids"):
        M3AEText(num_tokens=40, **SMALL)(torch.rand(2, 5))


def test_a_decoder_is_left_out_and_other_names_raise_an_error(tensors, tmp_path):
    with_decoder = tensors | {
        "decoder.blocks.0.fc.weight": torch.zeros(2),
        "image_mask_embedding": torch.ones(1),
    }
    torch.save(with_decoder, tmp_path / "whole.pth")
    M3AEText(num_tokens=40, checkpoint=str(tmp_path / "whole.pth"), **SMALL)
    unknown = {"encoder.blocks.9.attention.fc.bias": torch.zeros(2)}
    torch.save(with_decoder | unknown, tmp_path / "odd.pth")
    with pytest.raises(DataError, match=r"unexpected: encoder\.blocks\.9\.attention\.fc\.bias\."):
        M3AEText(num_tokens=40, checkpoint=str(tmp_path / "odd.pth"), **SMALL)


def test_ids_of_another_vocabulary_raise_an_error():
    with pytest.raises(ConfigError, match="has the token ids 0 to 39, the data have 3 to 40"):
        M3AEText(num_tokens=40, **SMALL)(torch.tensor([[3, 40]]))


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls", "released_mean"])
def test_half_precision_is_close(pooling):
    torch.manual_seed(0)
    image = M3AEImage(image_size=32, pooling=pooling, **SMALL)
    text = M3AEText(num_tokens=40, pooling=pooling, **SMALL)
    for tower, x in ((image, torch.randn(2, 3, 32, 32)), (text, torch.tensor([[3, 4, 0]]))):
        with torch.autocast("cpu", torch.bfloat16):
            half = tower(x)
        half.float().sum().backward()
        assert torch.allclose(half.float(), tower(x), atol=0.1)
        assert all(p.grad.isfinite().all() for p in tower.parameters())
