"""Jobs are composed, checked and listed without torch, exactly as with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

import mla_lightning
from mla_lightning.config.jobs import data_of_config, describe_data
from mla_lightning.config.targets import locate, targets_of
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.encoders.hf import import_transformers
from mla_lightning.errors import MLAError
from mla_lightning.inputs.names import ATTRIBUTES
from mla_lightning.prepare.import_arrays import import_arrays

CONF = Path(mla_lightning.__file__).parents[2] / "conf"
HEAVY = ("torch", "lightning", "transformers", "torchmetrics", "scipy", "matplotlib", "sklearn")
LIST = """
import json, sys
from mla_lightning.cli.main import main
imported = {}
for words in json.loads(sys.argv[1]):
    assert main(words) == 0, words
    imported[" ".join(words)] = [name for name in %r if name in sys.modules]
print(json.dumps(imported))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import a store of three kinds of arrays, of which one is absent from some samples."""
    folder, rng = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    np.savez(
        folder / "my.npz",
        **{
            "label": np.arange(60) % 2,
            "face": rng.normal(size=(60, 5)),
            "words": rng.normal(size=(60, 8, 3)),
            "words.present": np.arange(60) % 7 > 0,
            "sound": rng.normal(size=(60, 16, 16)),
        },
    )
    import_arrays(
        folder / "my.npz", folder / "my", kinds={"sound": "spectrogram", "words": "sequence"}
    )
    return folder / "my"


def run_without(commands: list[list[str]]) -> dict[str, list[str]]:
    """Run commands in one new process; return which heavy packages each of them has imported."""
    process = subprocess.run(
        [sys.executable, "-c", LIST % (HEAVY,), json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_composing_checking_and_listing_jobs_does_not_import_torch(
    store: Path, tmp_path: Path
) -> None:
    methods = ",".join(sorted(path.stem for path in (CONF / "method").glob("*.yaml")))
    train = ["train", "-m", "--dry-run", f"paths.output_dir={tmp_path}"]
    scaled = "{sound:{_target_:mla_lightning.inputs.spectrograms.Spectrograms,mean:1.0}}"
    commands = [
        ["list", "methods"],
        ["data", "list"],
        [*train, "data=openmoji", f"method={methods}", "optimizer.lr=0.1"],
        [*train, "experiment=table1/openmoji"],
        [*train, "data=synthetic", "missing=bernoulli_restore", "missing.rate=0.2,0.3"],
        [*train, "data=synthetic", "recipe=small,incomplete,paper", "trainer.max_epochs=3"],
        [*train, "data=synthetic", "data.task=regression", "method=mla", "select_by=mae"],
        [*train, "data=store", f"data.path={store}", "method=mla,concat", f"data.inputs={scaled}"],
        [*train, "data=store", f"data.path={store}", "recipe=small"],
    ]
    assert run_without(commands) == {" ".join(words): [] for words in commands}


def test_what_cannot_be_read_is_imported(tmp_path: Path) -> None:
    train = ["train", "--dry-run", "data=synthetic", f"paths.output_dir={tmp_path}"]
    (imported,) = run_without([[*train, "optimizer._target_=torch.optim.RMSprop"]]).values()
    assert "torch" in imported  # whether such an optimiser can be built is tried with it


SUBMIT = """
import sys
from mla_lightning.config import compose_jobs, instantiate, schedule_note
from mla_lightning.launchers.fork import warm_up
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run.submission import check_before_submission
jobs = compose_jobs(sys.argv[1:], multirun=True)
check_before_submission(jobs)
assert not [schedule_note(job.config.tree) for job in jobs if schedule_note(job.config.tree)]
instantiate(jobs[0].config.launcher)
assert "torch" not in sys.modules
warm_up(jobs)
nodes = jobs[0].config.data, jobs[1].config.method
modules = {node["_target_"].rpartition(".")[0] for node in nodes}
assert {"torch", "lightning", "mla_lightning.run.train", *modules} <= sys.modules.keys()
"""


def test_jobs_are_checked_without_torch_and_a_parent_imports_it_before_it_forks(
    tmp_path: Path,
) -> None:
    words = ["data=synthetic", "method=mla,qmf", f"paths.output_dir={tmp_path}"]
    process = subprocess.run(
        [sys.executable, "-c", SUBMIT, *words], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


# --------------------------------------------------------------- descriptions of data sets


def data_targets() -> set[str]:
    """List the data sets that the YAMLs of the package name."""
    contents = [yaml.safe_load(p.read_text("utf-8")) for p in (CONF / "data").rglob("*.yaml")]
    nodes = [dict(targets_of(content)).get("data") for content in contents]
    return {str(node["_target_"]) for node in nodes if node is not None}


@pytest.mark.parametrize("target", sorted(data_targets()))
def test_a_data_set_adds_only_samples_to_its_description(target: str) -> None:
    cls = locate(target)
    description = cls.__mro__[1]
    assert description.__name__ == f"{cls.__name__}Description"
    assert not issubclass(description, MultimodalDataModule)
    described = {n for base in description.__mro__[:-1] for n in vars(base) if n[:2] != "__"}
    assert described >= {"fingerprint", "default_encoders", "incomplete", "num_train"}
    for added in (cls, MultimodalDataModule):
        assert not described & vars(added).keys()
        assert "__init__" not in vars(added)


def config_of(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"seed": 0, "modalities": None, "missing": None, "data": {**data, **changes}}


FACTS = (
    *("name", "modalities", "all_modalities", "class_names", "task", "split_name", "num_classes"),
    *("fingerprint", "num_train", "default_epochs", "incomplete", "batch_size", "seed"),
)
NAMES = {
    "openmoji": "mla_lightning.data.openmoji.OpenMoji",
    "synthetic": "mla_lightning.data.synthetic.Synthetic",
    "prepared": "mla_lightning.data.prepared.Prepared",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_description_says_what_the_data_module_says(name: str, store: Path) -> None:
    options = {"path": str(store)} if name == "prepared" else {}
    tree = config_of({"_target_": NAMES[name], "batch_size": 8, **options})
    described, data = describe_data(tree), data_of_config(tree)
    assert isinstance(data, type(described))
    assert isinstance(data, MultimodalDataModule)
    assert not isinstance(described, MultimodalDataModule)
    for fact in FACTS:
        assert getattr(described, fact) == getattr(data, fact), fact
    assert described.default_encoders() == data.default_encoders()
    data.setup()  # the counted samples are those that are read
    assert described.num_train in (None, len(data.splits["train"]))
    lacking = [m for m, has in data.splits["train"].present.items() if not has.all()]
    assert set(described.incomplete) >= set(lacking)
    assert bool(described.incomplete) == (name == "prepared")


WRONG = [
    ("synthetic", {"batch_size": 0}),
    ("synthetic", {"num_classes": 1}),
    ("synthetic", {"task": "regresion"}),
    ("synthetic", {"signal": [1.0]}),
    ("openmoji", {"eval_batch_size": -1}),
    ("prepared", {"path": "nowhere"}),
    ("prepared", {"scale": "robustt"}),
    ("prepared", {"split": "no such split"}),
    ("prepared", {"inputs": {"smell": {"_target_": "mla_lightning.inputs.features.Features"}}}),
    ("prepared", {"inputs": {"face": {"_target_": "mla_lightning.inputs.images.Images"}}}),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_wrong_options_are_the_same_error(name: str, change: dict, store: Path) -> None:
    options = {"path": str(store)} if name == "prepared" else {}
    tree = config_of({"_target_": NAMES[name], "batch_size": 8, **options}, **change)
    with pytest.raises(MLAError) as described:
        describe_data(tree)
    with pytest.raises(MLAError) as error:
        data_of_config(tree)
    assert str(described.value) == str(error.value)
    assert type(described.value) is type(error.value)


def test_names_of_modalities_are_refused_that_torch_refuses() -> None:
    # A model of transformers adds a method to every torch module.
    transformers = import_transformers()
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_attention_heads": 1}
    transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, **sizes))
    assert "smart_apply" in dir(nn.Module)
    assert {*dir(nn.ModuleDict()), *dir(nn.ParameterDict())} <= ATTRIBUTES
