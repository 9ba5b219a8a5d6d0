"""`mla export format=safetensors`: a folder from which the same model is built, and its card."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.own_sets import write_media, write_wild_arrays

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.errors import ConfigError, DataError, NoRunError, RunError
from mla_lightning.run import model_folder

KINDS = {
    "mla": ("data=synthetic", "method=mla"),
    "concat": ("data=synthetic", "method=concat"),
    "missing modalities": ("data=synthetic", "method=mla", "missing=anchor", "missing.rate=0.3"),
    "an epoch by modality": ("data=synthetic", "method=unimodal"),
    "images and tokens": ("data=openmoji", "method=concat", "trainer.max_epochs=1"),
}
SLOW = {
    "snapshots": ("data=synthetic", "method=sum", "trainer.snapshots=2", "trainer.max_epochs=4"),
    "regression": ("data=synthetic", "method=late_fusion", "data.task=regression"),
    "labels": ("data=synthetic", "method=late_fusion", "data.task=multilabel"),
    "widths of the data": ("data=openmoji", "method=logistic"),
    "a number of the method": ("data=synthetic", "method=reconboost", "trainer.max_epochs=8"),
    "a method that hides modalities itself": ("data=synthetic", "method=remix"),
    "state of the method": ("data=synthetic", "method=dcca"),
}

PREDICT = """
import sys, torch
import mla_lightning as mla
for name in sys.argv[1:]:
    inputs = torch.load(f"{name}/inputs.pt", weights_only=True)
    torch.save(mla.load_exported(f"{name}/model").predict(inputs).logits, f"{name}/logits.pt")
"""


def compare_in_a_fresh_process(kinds, folder):
    """Train, export, remove the runs, and compare with what a fresh process predicts."""
    expected = {}
    for number, words in enumerate(kinds.values()):
        epochs = () if "max_epochs" in words[-1] else ("trainer.max_epochs=2",)
        run = mla.train(*words, *epochs, folder=folder / "runs")
        place = folder / str(number)
        place.mkdir()
        run.export(place / "model", format="safetensors")
        run.loaded.data.setup()
        batch = next(iter(run.loaded.data.loader("test")))
        inputs = {name: x[:50].clone() for name, x in batch["inputs"].items()}
        if any(word.startswith("missing=") for word in words):
            inputs["present"] = {name: x[:50].clone() for name, x in batch["present"].items()}
            assert not inputs["present"]["audio"].all()
        torch.save(inputs, place / "inputs.pt")
        expected[place] = run.predict(inputs).logits
    shutil.rmtree(folder / "runs")
    names = [place.name for place in expected]
    subprocess.run([sys.executable, "-c", PREDICT, *names], cwd=folder, check=True)
    for kind, (place, logits) in zip(kinds, expected.items(), strict=True):
        got = torch.load(place / "logits.pt", weights_only=True)
        assert {*got} == {*logits}
        for name, x in logits.items():
            assert x.numpy().tobytes() == got[name].numpy().tobytes(), (kind, name)


def test_a_fresh_process_computes_the_same_bits_from_the_folder_alone(tmp_path):
    compare_in_a_fresh_process(KINDS, tmp_path)


@pytest.mark.slow
def test_so_it_does_for_other_kinds_of_models(tmp_path):
    compare_in_a_fresh_process(SLOW, tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return mla.train("data=synthetic", "method=mla", "trainer.max_epochs=2", folder=folder)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("exported") / "model", format="safetensors").path


@pytest.fixture
def copied(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def test_the_weights_are_those_of_the_checkpoint_without_what_serves_training(run, exported):
    weights = load_file(exported / "model.safetensors")
    checkpoint = torch.load(run.folder / "checkpoints" / "best-acc.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    assert "modification.projectors" in state
    assert {*weights} == {key for key in state if key.startswith(("encoders.", "fusion."))}
    assert all(torch.equal(x, state[key]) for key, x in weights.items())


def test_no_file_of_the_folder_is_pickled_or_names_this_machine(run, exported, tmp_path):
    assert sorted(p.name for p in exported.iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]
    for name in ("README.md", "config.json"):
        text = (exported / name).read_text()
        assert str(run.folder.parent) not in text
        assert str(Path.home()) not in text


def test_the_card_is_one_that_the_hub_reads(run, exported):
    card = huggingface_hub.ModelCard.load(exported / "README.md")
    assert card.data.license == "unknown"
    assert card.data.library_name == "mla_lightning"
    assert {"mla", "audio", "visual"} <= {*card.data.tags}
    assert card.data.datasets == ["synthetic"]
    assert "accuracy" in card.data.metrics
    values = {
        (r.dataset_split, r.metric_name): r.metric_value for r in card.data.eval_results or ()
    }
    for split in ("val", "test"):
        for name, scores in run.scores[split].items():
            assert values[split, f"accuracy ({name})"] == scores["accuracy"]
    result = run.result
    for text in (
        f"Test, {result.num_test} samples",
        f"{result.num_train} train, {result.num_val} validation",
        f"| multi | {100 * run.scores['test']['multi']['accuracy']:.1f} |",
        "| seed | 0 |",
        run.files.provenance["git_commit"] or "",
        "## Limits",
    ):
        assert text in card.text


def test_the_code_of_the_card_runs(exported, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(exported.parent)
    names = {}
    exec(code, names)
    assert names["prediction"].logits["multi"].shape == (2, 4)


def test_the_command_writes_a_folder_and_says_how_to_load_it(run, tmp_path, capfd):
    path = tmp_path / "mine"
    words = ["export", str(run.folder), f"output={path}", "format=safetensors"]
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "Equal to the run's model, of 24 samples of test" in out
    assert f'load_exported("{path}")' in out
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert main(words) == 2
    assert "exists already" in capfd.readouterr().err


def test_a_model_that_differs_is_not_kept(run, tmp_path, monkeypatch):
    def without_bias(tensors, path, metadata):
        changed = {k: x + 1e-7 if k == "fusion.head.bias" else x for k, x in tensors.items()}
        save_file(changed, path, metadata)

    monkeypatch.setattr(model_folder, "save_file", without_bias)
    with pytest.raises(RunError, match=r"logits_\w+ differs.*Nothing was written"):
        run.export(tmp_path / "model", format="safetensors")
    assert not [*tmp_path.iterdir()]


def test_changed_weights_are_refused(copied):
    path = copied / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors is changed"):
        mla.load_exported(copied)
    path.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        mla.load_exported(copied)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "other", "another kind of config.json"),
        ("format_version", 2, r"version 2 of the format.*reads version 1"),
        ("data", {"_target_": "os.system"}, "os.system' is not allowed"),
    ],
)
def test_a_description_of_another_kind_is_refused(copied, key, value, message):
    path = copied / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises((ConfigError, NoRunError), match=message):
        mla.load_exported(copied)


def test_it_is_not_taken_for_a_run(exported):
    with pytest.raises(NoRunError, match=r"no run folder.*mla\.load_exported"):
        mla.load(exported)


def test_rows_of_a_store_are_converted_as_in_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "import", str(write_media(tmp_path)), "target=pets"]) == 0
    assert main(["data", "import", str(write_wild_arrays(tmp_path)), "target=lab"]) == 0
    short = ("data=store", "method=concat", "trainer.max_epochs=1", "data.batch_size=6")
    runs = [
        mla.train(*short, "data.path=pets"),
        mla.train(*short, "data.path=lab", "data.scale=standard"),
    ]
    for number, run in enumerate(runs):
        folder = run.export(tmp_path / str(number), format="safetensors").path
        run.loaded.data.setup()
        rows = next(iter(run.loaded.data.loader("train")))["inputs"]
        logits = run.predict(rows).logits["multi"]
        shutil.rmtree(run.folder)
        assert torch.equal(mla.load_exported(folder).predict(rows).logits["multi"], logits)
    description = json.loads((tmp_path / "0" / "config.json").read_text())
    assert description["rows"]["picture"]["dtype"] == "uint8"
    assert description["data"]["inputs"]["picture"]["_target_"].endswith(".Images")
    assert str(tmp_path) not in json.dumps(description)
    assert "scales.wild.mean" in load_file(tmp_path / "1" / "model.safetensors")


OWN_METHOD = """
import torch
from mla_lightning.methods import Joint

class Shifted(Joint):
    def __init__(self, **parts):
        super().__init__(**parts)
        self.register_buffer("counts", torch.zeros(()))

    def fit_batch(self, batch):
        self.counts += 1
        return super().fit_batch(batch)

    def logits(self, features, present):
        return {name: z + self.counts for name, z in super().logits(features, present).items()}
"""


def test_a_method_of_a_user_keeps_all_its_state_and_must_be_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab_of_export.py").write_text(OWN_METHOD)
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "conf/method/shifted.yaml").write_text(
        "# Shifted.\ndefaults:\n  - /fusion@fusion: concat\n_target_: lab_of_export.Shifted\n"
    )
    run = mla.train(
        *("data=synthetic", "method=shifted", "trainer.max_epochs=1"),
        config_dir="conf",
        allow=["lab_of_export"],
    )
    folder = run.export("model", format="safetensors").path
    assert load_file(folder / "model.safetensors")["counts"] > 0
    with pytest.raises(ConfigError, match=r"lab_of_export.*not allowed"):
        mla.load_exported(folder)
    assert mla.load_exported(folder, allow=["lab_of_export"]).task == "classification"


def test_what_cannot_be_built_elsewhere_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"encoder\.text\.vocabulary=.*file of this machine"):
        model_folder._check_no_paths({"encoder": {"text": {"vocabulary": str(tmp_path)}}})

    class Doubled:
        def __init__(self, factor=2):
            self._factor = factor

    with pytest.raises(ConfigError, match="Doubled does not keep its option 'factor'"):
        model_folder._input_node("audio", Doubled())


def test_an_exported_model_predicts_rows_and_nothing_else(exported):
    model = mla.load_exported(exported)
    assert (model.task, model.modalities) == ("classification", ("audio", "visual"))
    with pytest.raises(DataError, match=r"visual.*shape \(3,\)"):
        model.predict({"audio": torch.zeros(2, 16), "visual": torch.zeros(2, 3)})
    with pytest.raises(DataError, match="cannot be predicted"):
        model.predict(3)
    with pytest.raises(DataError, match="has no data: synthetic is not in its folder"):
        model._loaded.data.setup()


class Hub(http.server.BaseHTTPRequestHandler):
    """What an upload of small files needs of huggingface.co."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, body, self.headers["Authorization"]))
        answer: dict = {}
        if self.path == "/api/repos/create":
            name = json.loads(body)["name"]
            answer = {"url": f"{self.server.address}/me/{name}", "name": f"me/{name}"}
        elif "/preupload/" in self.path:
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            answer = {"files": [{"path": path, **modes} for path in paths]}
        elif "/commit/" in self.path:
            answer = {"commitUrl": f"{self.server.address}/me/mine/commit/1", "commitOid": "1"}
        self.reply(answer)

    def do_GET(self):
        self.reply({"id": "me/mine", "sha": "0", "siblings": []})

    def reply(self, answer):
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.calls, server.address = [], f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(run, hub, tmp_path):
    words = [f"output={tmp_path / 'mine'}", "format=safetensors", "hub=me/mine"]
    return lambda: main(["export", str(run.folder), *words])


def test_the_folder_is_uploaded_to_a_private_model(hub, publish, capfd):
    assert publish() == 0
    assert f"Uploaded to {hub.address}/me/mine" in capfd.readouterr().out
    calls = {path: body for path, body, _ in hub.calls}
    created = json.loads(calls["/api/repos/create"])  # in the words of old and of new versions
    assert created.get("visibility") == "private" or created.get("private") is True
    assert all(token == "Bearer hf_of_a_test" for *_, token in hub.calls)
    (commit,) = (body for path, body in calls.items() if "/commit/" in path)
    sent = {json.loads(line)["value"].get("path") for line in commit.decode().splitlines()}
    assert {"README.md", "config.json", "model.safetensors"} <= sent


def test_without_a_token_nothing_is_written_or_sent(hub, publish, monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("HF_TOKEN")
    assert publish() == 2
    error = capfd.readouterr().err
    assert "needs a token" in error
    assert "hf auth login" in error
    assert not (tmp_path / "mine").exists()
    assert not hub.calls


def test_a_failed_upload_leaves_the_folder_and_says_how_to_go_on(
    hub, publish, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert publish() == 1
    error = capfd.readouterr().err
    assert "could not be uploaded" in error
    assert "hf upload me/mine" in error
    assert mla.load_exported(tmp_path / "mine").task == "classification"
