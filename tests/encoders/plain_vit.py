"""Random tensors with public names, and a vision transformer in plain formulas."""

import math

import torch

WIDTH, DEPTH, HEADS = 24, 3, 4


def random_block(prefix, names, width=WIDTH):
    """Draw the tensors of one block; `names` are those of qkv, proj, fc1, fc2 and the norms."""
    shapes = {
        names["qkv"]: (3 * width, width),
        names["proj"]: (width, width),
        names["fc1"]: (4 * width, width),
        names["fc2"]: (width, 4 * width),
    }
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{prefix}{name}.weight"] = torch.randn(shape) / math.sqrt(shape[1])
        tensors[f"{prefix}{name}.bias"] = torch.randn(shape[0]) * 0.1
    for norm in names["norms"]:
        tensors |= random_norm(f"{prefix}{norm}", width)
    return tensors


def random_norm(name, width=WIDTH):
    return {
        f"{name}.weight": 1 + 0.1 * torch.randn(width),
        f"{name}.bias": torch.randn(width) * 0.1,
    }


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def gelu(x, kind):
    if kind == "exact":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def block(x, tensors, prefix, names, norms, *, eps, kind, padding=None, heads=HEADS):
    def linear(x, name):
        weight, bias = tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"]
        return torch.einsum("bli,oi->blo", x, weight) + bias

    def norm(x, name):
        return layer_norm(
            x, tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"], eps
        )

    size, length, width = x.shape
    qkv = linear(norm(x, norms[0]), names["qkv"]).view(size, length, 3, heads, width // heads)
    query, key, value = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    scores = query @ key.transpose(2, 3) / math.sqrt(width // heads)
    if padding is not None:
        scores = scores - 1e7 * padding[:, None, None, :]
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(size, length, width)
    x = x + linear(mixed, names["proj"])
    return x + linear(gelu(linear(norm(x, norms[1]), names["fc1"]), kind), names["fc2"])


def sines(position, width):
    """Compute the code of one position: sines, then cosines."""
    angles = [position / 10000 ** (i / (width // 2)) for i in range(width // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def grid_code(rows, columns, width):
    """Compute the codes of a grid, row by row: first half the column, second half the row."""
    half = width // 2
    return torch.tensor(
        [sines(c, half) + sines(r, half) for r in range(rows) for c in range(columns)]
    )
