"""Files of weights: which are read, which raise an error, and that no code in them is run."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_m3ae import SMALL, port_checkpoint

from mla_lightning.encoders import convert_m3ae
from mla_lightning.encoders.checkpoints import load_checkpoint, read_tensors
from mla_lightning.encoders.m3ae import M3AEImage, M3AEText
from mla_lightning.encoders.resnet18 import ResNet18
from mla_lightning.errors import ConfigError, DataError


def resnet_file(path, *, counts=True):
    """Save a file like torchvision's, with three colours and a classifier; old ones: no counts."""
    torch.manual_seed(1)
    model = ResNet18(3)
    state = {k: torch.rand_like(v.float()) + 0.5 for k, v in model.state_dict().items()}
    state = {k: v for k, v in state.items() if counts or "num_batches" not in k}
    state = {k: v.long() if "num_batches" in k else v for k, v in state.items()}
    torch.save(state | {"fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)}, path)
    return state


@pytest.mark.parametrize("counts", [True, False])
def test_weights_of_torchvisions_resnet18_are_loaded(tmp_path, counts):
    state = resnet_file(tmp_path / "resnet18.pth", counts=counts)
    encoder = ResNet18(3, checkpoint=str(tmp_path / "resnet18.pth"))
    for name, values in encoder.state_dict().items():
        assert torch.equal(values, state.get(name, torch.tensor(0))), name


def test_the_stem_for_one_channel_is_the_sum_of_the_colours(tmp_path):
    state = resnet_file(tmp_path / "resnet18.pth")
    file = str(tmp_path / "resnet18.pth")
    grey, colour = ResNet18(1, checkpoint=file, stem="rgb_sum").eval(), ResNet18(3, checkpoint=file)
    assert torch.allclose(grey.conv1.weight, state["conv1.weight"].sum(1, keepdim=True))
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        maps = [e.bn1(e.conv1(y)) for e, y in ((grey, x), (colour.eval(), x.expand(-1, 3, -1, -1)))]
    assert torch.allclose(*maps, rtol=1e-4)
    with pytest.raises(DataError, match=r"conv1\.weight is \(64, 3, 7, 7\) in the file, \(64, 1"):
        ResNet18(1, checkpoint=file)
    for wrong in ({"stem": "rgb_sum"}, {"in_channels": 3, "stem": "rgb_sum", "checkpoint": file}):
        with pytest.raises(ConfigError, match="stem=rgb_sum needs"):
            ResNet18(**({"in_channels": 1} | wrong))


def test_own_weights_are_loaded_from_either_format_and_from_a_wrapper(tmp_path):
    saved = M3AEText(num_tokens=40, **SMALL)
    torch.save({"epoch": 3, "state_dict": saved.state_dict()}, tmp_path / "own.pth")
    save_file(saved.state_dict(), tmp_path / "own.safetensors")
    for name in ("own.pth", "own.safetensors"):
        loaded = M3AEText(num_tokens=40, checkpoint=str(tmp_path / name), **SMALL)
        for key, values in loaded.state_dict().items():
            assert torch.equal(values, saved.state_dict()[key])


def test_nothing_is_loaded_if_something_does_not_fit(tmp_path):
    tower = M3AEText(num_tokens=40, **SMALL)
    before = {k: v.clone() for k, v in tower.state_dict().items()}
    wrong = port_checkpoint()
    del wrong["cls_token"]
    torch.save(wrong, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"nothing was loaded\. missing: cls_token, modality_code"):
        load_checkpoint(tower, tmp_path / "x.pth")
    assert all(torch.equal(v, before[k]) for k, v in tower.state_dict().items())


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"weight": torch.zeros(2), "more": Evil(tmp_path / "was_run")}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"not opened, since that runs its code.*convert_m3ae"):
        read_tensors(tmp_path / "x.pth")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "cannot be read as plain tensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04broken", "cannot be read as plain tensors"),
    ],
)
def test_each_kind_of_broken_file_has_its_own_message(tmp_path, content, message):
    for name in ("x.pth", "x.safetensors"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_tensors(tmp_path / name)


def test_other_content_raises_an_error(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(DataError, match="has no named tensors"):
        read_tensors(tmp_path / "list.pth")
    torch.save({"a": torch.zeros(2), "lr": 0.1}, tmp_path / "more.pth")
    with pytest.raises(DataError, match="has more than tensors: lr"):
        read_tensors(tmp_path / "more.pth")


# ---------------------------------------------------------------------- the pickle of JAX


def flax_tree(tensors):
    """Build the tree of parameters of Flax that is converted to the tensors of the port."""
    tree = {}
    renamed = {
        "attention.qkv_linear": "Attention_0.Dense_0",
        "attention.fc": "Attention_0.Dense_1",
        "transformer_mlp": "TransformerMLP_0",
        "layer_norm1": "LayerNorm_0",
        "layer_norm2": "LayerNorm_1",
        "encoder.layer_norm": "encoder.LayerNorm_0",
        "encoder.blocks.": "encoder.Block_",
    }
    for name, tensor in tensors.items():
        values, is_norm = tensor.numpy(), "layer_norm" in name
        for port_name, flax_name in renamed.items():
            name = name.replace(port_name, flax_name)
        if name == "text_embedding.weight":
            name = "text_embedding.embedding"
        elif is_norm:
            name = name.replace("weight", "scale")
        elif name.endswith("weight"):
            name, values = name.replace("weight", "kernel"), values.T
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.ascontiguousarray(values)
    tree["decoder"] = {"Block_0": {"fc1": {"kernel": np.zeros((2, 2), np.float32)}}}
    tree["decoder_input_projection"] = {"bias": np.zeros(2, np.float32)}
    tree["text_mask_embedding"] = np.zeros(2, np.float32)
    return tree


class FrozenDict:
    """Like the class of Flax, which the reader does not have."""

    def __init__(self, tree):
        self.tree = tree

    def __reduce__(self):
        return FrozenDict, (self.tree,)


class TrainState:
    """Like the class of Flax: its state is its attributes."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_jax_is_converted_to_the_weights_of_the_port(tmp_path, protocol, capsys):
    tensors = port_checkpoint()
    state = TrainState(
        step=7,
        apply_fn=Evil(tmp_path / "was_run"),
        params=FrozenDict({"params": flax_tree(tensors)}),
    )
    content = {"step": 7, "epoch": np.float32(2.0), "variant": {"lr": 0.1}, "state": state}
    source, target = tmp_path / "in.pkl", tmp_path / "out.safetensors"
    source.write_bytes(pickle.dumps(content, protocol=protocol))
    assert convert_m3ae.main([str(source), str(target)]) == 2
    assert "--i-trust-this-file" in capsys.readouterr().err
    assert convert_m3ae.main([str(source), str(target), "--i-trust-this-file"]) == 0
    assert not (tmp_path / "was_run").exists()
    written = load_file(target)
    assert written.keys() == tensors.keys()
    for name, values in tensors.items():
        assert torch.equal(written[name], values), name
    assert "left out 3 of the decoder" in capsys.readouterr().out
    M3AEImage(image_size=32, checkpoint=str(target), **SMALL)
    M3AEText(num_tokens=40, checkpoint=str(target), **SMALL)


class DeviceArray:
    """Pickled as an array of JAX is: by a function of JAX, with NumPy's arguments and JAX's."""

    def __init__(self, values):
        self.values = values

    def __reduce__(self):
        build, arguments, state = self.values.__reduce__()
        return sys.modules["jax._src.array"]._reconstruct_array, (build, arguments, state, {})


def test_arrays_of_jax_are_read_without_jax(tmp_path, monkeypatch):
    stub = types.ModuleType("jax._src.array")

    def _reconstruct_array(build, arguments, state, aval_state):
        raise AssertionError("this must not be run")

    _reconstruct_array.__module__ = stub.__name__
    _reconstruct_array.__qualname__ = "_reconstruct_array"
    stub._reconstruct_array = _reconstruct_array
    for name in ("jax", "jax._src"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    values = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    tree = {"cls_token": DeviceArray(values), "encoder": {"Block_0": {}}}
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(tree))
    assert convert_m3ae.convert(tmp_path / "in.pkl", tmp_path / "o.safetensors")[0] == ["cls_token"]
    assert torch.equal(load_file(tmp_path / "o.safetensors")["cls_token"], torch.from_numpy(values))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"state": {"w": np.zeros(2)}}), "it has no entry cls_token"),
        (pickle.dumps({"cls_token": "text"}), "cls_token is not an array"),
        (b"no pickle", "cannot be read as a pickle"),
    ],
)
def test_other_pickles_raise_an_error(tmp_path, content, message):
    (tmp_path / "in.pkl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        convert_m3ae.convert(tmp_path / "in.pkl", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_an_existing_target_is_not_overwritten(tmp_path):
    (tmp_path / "out.safetensors").write_text("mine")
    for name, message in (("out.safetensors", "exists"), ("out.pth", "must end in .safetensors")):
        with pytest.raises(ConfigError, match=message):
            convert_m3ae.convert(tmp_path / "in.pkl", tmp_path / name)
