"""The public packages: complete, described by purpose, and with an example for every name."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mla_lightning as mla
from mla_lightning import (
    config,
    encoders,
    errors,
    functional,
    fusion,
    identity,
    inputs,
    methods,
    metrics,
    run_folder,
    tasks,
)
from mla_lightning.module import MultimodalModule

PACKAGES = (functional, tasks, fusion, encoders, inputs, methods, metrics)
NAMES = [(package, name) for package in PACKAGES for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_public_name_has_an_example_and_is_described(package, name):
    assert "Example:" in getattr(package, name).__doc__
    assert f"``{name}``" in package.__doc__


@pytest.mark.parametrize("name", [n for n in mla.__all__ if n != "__version__"])
def test_every_name_of_the_package_is_described_by_example(name):
    value = getattr(mla, name)
    if inspect.ismodule(value):
        return  # its names have examples of their own
    assert ">>> " in value.__doc__
    if inspect.isclass(value):
        for key, member in vars(value).items():
            if inspect.isfunction(member) and not key.startswith("_"):
                assert ">>> " in (member.__doc__ or ""), f"{name}.{key}"


@pytest.mark.parametrize("module", [errors, run_folder, identity, config], ids=lambda m: m.__name__)
def test_every_name_of_the_ground_floor_has_an_example(module):
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", "").startswith(module.__name__)
        if is_own and not name.startswith("_") and (inspect.isclass(value) or callable(value)):
            assert ">>> " in value.__doc__, f"{module.__name__}.{name}"


@pytest.mark.parametrize(
    ("package", "base"),
    [
        (fusion, fusion.Fusion),
        (encoders, encoders.Encoder),
        (inputs, inputs.Input),
        (methods, MultimodalModule),
    ],
    ids=["fusion", "encoders", "inputs", "methods"],
)
def test_every_class_can_be_imported_from_its_package(package, base):
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            is_class = isinstance(value, type) and issubclass(value, base)
            if is_class and value.__module__ == module.__name__ and not value.__subclasses__():
                assert name in package.__all__, f"{package.__name__} does not have {name}"


def test_type_checkers_know_the_names_of_the_package():
    stub = ast.parse(Path(mla.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = {a.name for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert imported == set(mla.__all__) - {"__version__"}


def test_methods_are_found_by_their_sources_and_imported_when_used():
    code = """
import sys
from mla_lightning import methods
assert {"MLA", "TATE"} < set(dir(methods)) and "torch" not in sys.modules
assert not {"Taught", "MultimodalModule"} & {*dir(methods), *methods.__all__}
assert methods.QMF.__module__ == "mla_lightning.methods.qmf"
assert "mla_lightning.methods.tate" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match=r"no attribute 'OGM'\. Did you mean 'OGMGE'"):
        _ = methods.OGM
    with pytest.raises(AttributeError):
        _ = methods.Reference  # a class, but no method
