"""The small encoders: shapes, gradients, learning, and errors."""

import pytest
import torch
from torch import nn

from mla_lightning.encoders.bag_of_tokens import BagOfTokens
from mla_lightning.encoders.base import Encoder
from mla_lightning.encoders.mlp import MLP
from mla_lightning.encoders.resnet18 import ResNet18
from mla_lightning.encoders.small_cnn import SmallCNN
from mla_lightning.errors import ConfigError


def images(size=4, channels=3, side=32):
    return torch.rand(size, channels, side, side)


def tokens(size=4, length=7):
    return torch.randint(1, 50, (size, length))


BUILT = {
    "cnn": (lambda: SmallCNN(3, out_features=10), images),
    "bag": (lambda: BagOfTokens(50, out_features=10), tokens),
    "mlp": (lambda: MLP(6, hidden=8, out_features=10, dropout=0.1), lambda n=4: torch.rand(n, 6)),
}


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("size", [1, 4])
def test_features_and_gradients(name, size):
    build, inputs = BUILT[name]
    encoder = build()
    assert isinstance(encoder, Encoder)
    assert type(encoder.out_features) is int
    features = encoder(inputs(size))
    assert features.shape == (size, encoder.out_features) == (size, 10)
    features.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize("name", BUILT)
def test_weights_are_a_function_of_the_seed(name):
    build, _ = BUILT[name]
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.detach().flatten() for p in build().parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", BUILT)
def test_evaluation_does_not_depend_on_the_rest_of_the_batch(name):
    build, inputs = BUILT[name]
    encoder, x = build(), inputs(6)
    encoder(x)  # sets the statistics of batch norm
    encoder.eval()
    together = encoder(x)
    separate = torch.cat([encoder(x[:2]), encoder(x[2:3]), encoder(x[3:])])
    assert torch.allclose(together, separate, atol=1e-6)


@pytest.mark.parametrize("name", BUILT)
def test_all_operations_are_deterministic(name):
    build, inputs = BUILT[name]
    encoder = build().eval()
    x = inputs(5)
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            encoder.zero_grad()
            encoder(x).square().sum().backward()
            gradients.append([p.grad.clone() for p in encoder.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, *gradients))


def test_the_cnn_has_three_convolutions_of_growing_width():
    widths = [m.out_channels for m in SmallCNN(1).modules() if isinstance(m, nn.Conv2d)]
    assert widths == [16, 32, 64]
    assert SmallCNN(1)(images(channels=1, side=8)).shape == (4, 64)
    assert SmallCNN(3)(torch.rand(2, 3, 40, 24)).shape == (2, 64)


@pytest.mark.parametrize("build", [SmallCNN, ResNet18])
def test_channels_last_is_the_same_function(build):
    torch.manual_seed(0)
    last, first = (build(3, channels_last=value).double() for value in (True, False))
    first.load_state_dict(last.state_dict())
    x = images().double()  # only the order of the sums differs
    results = []
    for encoder in (last, first):
        features = encoder(x)
        features.square().mean().backward()
        results.append((features.detach(), [p.grad for p in encoder.parameters()]))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-9)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)
    assert last.state_dict().keys() == first.state_dict().keys()


def test_padding_has_no_effect():
    encoder = BagOfTokens(50, out_features=6)
    short = torch.tensor([[3, 9, 0, 0]])
    assert torch.equal(encoder(short), encoder(short[:, :2]))
    assert torch.allclose(encoder(torch.tensor([[9, 3]])), encoder(short[:, :2]))
    encoder(short).sum().backward()
    rows = encoder.embedding.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert rows == [3, 9]


def test_a_text_without_tokens_has_a_finite_feature():
    encoder = BagOfTokens(50)
    batch = torch.tensor([[0, 0], [4, 0]])
    features = encoder(batch)
    assert features.isfinite().all()
    features.square().sum().backward()
    assert encoder.embedding.weight.grad.isfinite().all()


def test_the_mlp_has_num_layers_linear_layers():
    for number in (1, 2, 4):
        encoder = MLP(6, hidden=8, out_features=3, num_layers=number)
        assert sum(isinstance(m, nn.Linear) for m in encoder.modules()) == number
        assert encoder(torch.rand(2, 6)).shape == (2, 3)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    encoder, x = MLP(6, hidden=64, dropout=0.5), torch.rand(3, 6)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(6, num_layers=0), "num_layers must be at least 1, got 0"),
        (lambda: MLP(0), "in_features must be at least 1, got 0"),
        (lambda: MLP(6, dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: BagOfTokens(1), "num_tokens must be at least 2, got 1"),
        (lambda: SmallCNN(3, out_features=0), "out_features must be at least 1, got 0"),
        (lambda: ResNet18(0), "in_channels must be at least 1, got 0"),
    ],
)
def test_sizes_out_of_range_raise_an_error(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


CNN_TAKES = "SmallCNN expects images (B, 3, H, W) or video (B, 3, T, H, W), H and W at least 8"


@pytest.mark.parametrize(
    ("encoder", "shape", "expected"),
    [
        (SmallCNN(3), (2, 32, 32), CNN_TAKES),
        (SmallCNN(3), (2, 1, 32, 32), CNN_TAKES),
        (SmallCNN(3), (2, 3, 32, 7), CNN_TAKES),
        (BagOfTokens(9), (4, 5), "BagOfTokens expects token ids (B, L) of an integer type"),
        (MLP(6), (4, 5), "MLP expects vectors (B, 6)"),
        (MLP(6), (4, 2, 3), "MLP expects vectors (B, 6)"),
        (ResNet18(1), (4, 6), "images (B, 1, H, W) or video (B, 1, T, H, W)"),
        (ResNet18(1), (4, 3, 64, 64), "images (B, 1, H, W) or video (B, 1, T, H, W)"),
    ],
)
def test_inputs_of_another_shape_raise_an_error(encoder, shape, expected):
    with pytest.raises(ConfigError) as caught:
        encoder(torch.rand(shape))
    assert f"{expected}, got {shape} of torch.float32" in str(caught.value)


def test_token_ids_of_another_shape_raise_an_error():
    with pytest.raises(ConfigError, match=r"token ids .* got \(4,\) of torch.int64"):
        BagOfTokens(9)(torch.ones(4, dtype=torch.int64))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_small_encoders_learn_the_embedded_data(modality):
    """After a few epochs, validation accuracy is far above the most frequent class (23.5 %)."""
    from mla_lightning.data.openmoji import OpenMoji

    torch.set_num_threads(1)
    data = OpenMoji(batch_size=32, modalities=[modality])
    torch.manual_seed(0)
    encoder = SmallCNN(3) if modality == "image" else BagOfTokens(4096)
    net = nn.Sequential(encoder, nn.Linear(encoder.out_features, data.num_classes))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    loader = data.train_dataloader()
    for _ in range(5):
        for batch in loader:
            optimizer.zero_grad()
            logits = net(batch["inputs"][modality])
            nn.functional.cross_entropy(logits, batch["label"]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        val = data.splits["val"]
        accuracy = (net(val.inputs[modality]).argmax(1) == val.label).float().mean().item()
    assert accuracy > 0.32
