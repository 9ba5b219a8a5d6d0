"""The Python interface: the same runs as those of the command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mla_lightning as mla
from mla_lightning.api import runs as runs_module
from mla_lightning.api import start
from mla_lightning.cli.main import main
from mla_lightning.config import bind, targets
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError, DataError, RunError
from mla_lightning.identity.code import code_of
from mla_lightning.identity.sources import find_source
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.run_folder import read_json

TINY = (
    *("data=synthetic", "data.num_train=80", "data.num_val=24", "data.num_test=24"),
    *("data.batch_size=8", "trainer.max_epochs=2", "optimizer.lr=0.05"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run per kind of evaluation: fused epoch, each modality's own epoch, weighted logits."""
    folder = tmp_path_factory.mktemp("runs")
    return {m: mla.train(*TINY, method=m, folder=folder) for m in ("concat", "unimodal", "mla")}


def test_importing_is_quick_and_without_torch():
    code = "import mla_lightning, sys; assert 'torch' not in sys.modules; dir(mla_lightning)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_public_names_exist():
    for name in mla.__all__:
        assert getattr(mla, name) is not None
    assert set(mla.__all__) <= set(dir(mla))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = mla.trian


def test_a_run_equals_that_of_the_command_line(trained, tmp_path):
    words = ["train", *TINY, "method=mla", f"paths.output_dir={tmp_path}"]
    assert main(words) == 0
    (other,) = (tmp_path / "train").iterdir()
    api, cli = (read_json(path / "result.json") for path in (trained["mla"].folder, other))
    assert {k: api[k] for k in ("val", "test", "identity", "code")} == {
        k: cli[k] for k in ("val", "test", "identity", "code")
    }


@pytest.mark.parametrize("method", ["concat", "unimodal", "mla"])
def test_predictions_are_those_that_the_run_wrote(trained, method):
    run = trained[method]
    prediction = run.predict()
    with np.load(run.folder / "predictions.npz") as arrays:
        for name, z in prediction.logits.items():
            np.testing.assert_allclose(z.numpy(), arrays[f"logits_{name}"], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(prediction.label.numpy(), arrays["label"])
    accuracy = (prediction.logits["multi"].argmax(1) == prediction.label).double().mean()
    assert float(accuracy) == pytest.approx(run.scores["test"]["multi"]["accuracy"])
    assert len(run.metrics) == 2
    assert run.changed_files == ()


def test_fused_logits_are_the_weighted_sum_of_the_modalities(trained):
    prediction = trained["mla"].predict()
    fused = sum(prediction.weights[m][:, None] * prediction.logits[m] for m in prediction.weights)
    torch.testing.assert_close(fused, prediction.logits["multi"])
    assert trained["concat"].predict().weights == {}


def test_any_batches_can_be_predicted(trained):
    run = trained["mla"]
    split = run.loaded.data
    split.setup()
    inputs = {m: split.splits["test"].inputs[m] for m in ("audio", "visual")}
    whole = run.predict().logits["multi"]
    arrays = {m: np.asarray(x) for m, x in inputs.items()}
    torch.testing.assert_close(run.predict(arrays, batch_size=7).logits["multi"], whole)
    loader = [{m: x[:10] for m, x in inputs.items()}, {m: x[10:] for m, x in inputs.items()}]
    torch.testing.assert_close(run.predict(loader).logits["multi"], whole)
    with pytest.raises(DataError, match="The batch has no 'visual'"):
        run.predict({"audio": arrays["audio"]})
    with pytest.raises(DataError, match="differ in length"):
        run.predict({"audio": arrays["audio"], "visual": arrays["visual"][:3]})


def test_inputs_may_be_lists_columns_and_any_numeric_arrays(trained):
    run = trained["mla"]
    rng = np.random.default_rng(0)
    x = {m: rng.normal(size=(6, 16)).astype(np.float32) for m in ("audio", "visual")}
    expected = run.predict(x).logits["multi"]
    for convert in (
        lambda a: a.tolist(),
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
        lambda a: a.astype(">f4"),
        lambda a: [torch.from_numpy(row) for row in a],
        lambda a: pandas.Series(list(a)),
        pandas.DataFrame,
    ):
        inputs = {m: convert(a) for m, a in x.items()}
        torch.testing.assert_close(run.predict(inputs, batch_size=4).logits["multi"], expected)
    torch.testing.assert_close(run.predict([{"inputs": x}]).logits["multi"], expected)


def test_errors_of_inputs_name_the_modality_and_what_is_accepted(trained):
    run = trained["mla"]
    good = np.zeros((5, 16), np.float32)
    damaged = good.copy()
    damaged[3, 2] = np.nan
    pairs = DataLoader(TensorDataset(torch.zeros(8, 16), torch.zeros(8, 16)), batch_size=4)
    accepted = "Give a dict of modality -> array"
    for inputs, options, message in (
        (good, {}, accepted),
        (torch.zeros(5, 16), {}, accepted),
        ([good, good], {}, accepted),
        (pairs, {}, accepted),
        (5, {}, accepted),
        ("audio", {}, accepted),
        ({"audio": good, "visual": [["a"] * 16] * 5}, {}, "'visual' has the data type"),
        ({"audio": good, "visual": [[1.0], [1.0, 2.0]]}, {}, "'visual' cannot be an array"),
        ({"audio": good, "visual": 1.0}, {}, "'visual' is 1.0"),
        ({"audio": good, "visual": damaged}, {"batch_size": 2}, "'visual' has NaN.* row 3"),
        ({"audio": good, "visual": good + np.inf}, {}, "'visual' has NaN or infinite"),
        ({"audio": good, "visual": good[:, :7]}, {}, r"cannot take 'visual' .*shape \(7,\)"),
        ({"audio": good, "visual": good}, {"batch_size": 0}, "batch_size=0 must be"),
        (Synthetic(names=["audio", "text"], batch_size=8), {}, "has no 'visual'"),
    ):
        with pytest.raises(DataError, match=message):
            run.predict(inputs, **options)
    present = {"audio": np.ones(5, bool), "visual": np.arange(5) != 3}
    prediction = run.predict({"audio": good, "visual": damaged, "present": present})
    assert len(prediction.ids) == 5


def test_predictions_are_written_to_a_path_given_as_text(trained, tmp_path):
    trained["mla"].predict().write(str(tmp_path / "new.csv"))
    assert (tmp_path / "new.csv").is_file()


def test_runs_are_sliced_compared_and_found_below_folders(trained, monkeypatch):
    folder = trained["mla"].folder.parent
    runs = mla.Runs([str(folder)])
    assert len(runs) == 3
    assert len(mla.Runs(str(folder))) == 3
    assert isinstance(runs[1:], mla.Runs)
    assert [*runs[1:]] == [*runs][1:]
    assert runs[:2].folders == runs.folders[:2]
    monkeypatch.chdir(folder)
    run = mla.load(trained["mla"].folder.name)
    monkeypatch.chdir("/")
    assert run == trained["mla"]
    assert run != trained["concat"]
    assert len({run, trained["mla"]}) == 1
    assert run.folder.is_absolute()
    assert run.result.method == "mla"


def test_empty_and_unfinished_runs_are_shown_without_errors(trained, tmp_path):
    assert repr(mla.Runs([])) == "<0 runs>"
    assert mla.Runs([])._repr_html_() == "<pre>&lt;0 runs&gt;</pre>"
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained["mla"].folder, unfinished)
    (unfinished / "result.json").unlink()
    (tmp_path / "nothing").mkdir()
    for folder in (unfinished, tmp_path / "nothing", tmp_path / "absent"):
        assert "is not finished" in repr(mla.Run(folder))
        assert isinstance(mla.Run(folder)._repr_html_(), str)
    with pytest.raises(ConfigError, match="write it with `mla report page") as error:
        trained["mla"].table("page")
    assert "Did you mean" not in str(error.value)


def test_the_module_is_in_evaluation_mode_with_the_selected_weights(trained):
    for method, run in trained.items():
        module = run.module
        assert not module.training
        best = (
            torch.load(run.folder / "checkpoints/best-acc.ckpt") if method != "unimodal" else None
        )
        if best is not None:
            state = module.state_dict()
            assert all(torch.equal(state[k], v) for k, v in best["state_dict"].items())


def test_errors_are_exceptions(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'concat'"):
        mla.train(method="cncat")
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        mla.train("data=store", "optimizer.lr=0.1")
    with pytest.raises(RunError, match="loss is nan"):
        mla.train(*TINY[:-1], "optimizer.lr=1e30", method="concat", folder=tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        mla.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(3), "3"),
        (np.float32(0.5), "0.5"),
        (np.arange(2), "0,1"),
        (torch.tensor(3), "3"),
        ({2, 10}, "2,10"),
        ((seed for seed in (0, 1)), "0,1"),
        (Path("a b"), "'a b'"),
        ([[0, np.int64(1)]], "[0,1]"),
        ({"audio": np.float64(0.5), "visual": "a b"}, "{audio:0.5,visual:'a b'}"),
        (None, "null"),
    ],
)
def test_keyword_arguments_may_be_arrays_paths_and_iterables(value, text):
    assert start._all_overrides((), start._axes({"key": value}), None) == [f"key={text}"]


def test_errors_of_keyword_arguments(tmp_path):
    for values, message in (
        ({"seed": object()}, "seed cannot be set to a value of type object"),
        ({"seed": b"1"}, "seed cannot be set to a value of type bytes"),
        ({"seed": []}, r"seed=\[\] is an axis of a sweep without values"),
        ({"method": ["mla", "concat"]}, r"has several values\. Use mla\.sweep"),
        ({"optimizer.lr": float("nan")}, r"optimizer\.lr=nan is not finite"),
        ({"optimizer.lr": float("-inf")}, r"optimizer\.lr=-inf is not finite"),
    ):
        with pytest.raises(ConfigError, match=message):
            mla.train("data=synthetic", folder=tmp_path, **values)
    for value in (5, ["seed=1"]):
        with pytest.raises(ConfigError, match=r"not .*(int|list)"):
            mla.train(value)
    with pytest.raises(ConfigError, match="without values"):
        mla.sweep("data=synthetic", seed=range(0), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="cannot be used"):
        mla.train(*TINY, method="concat", folder=tmp_path / "file")
    with pytest.raises(RunError, match=r"failed: its folder cannot be used: .*file"):
        mla.sweep(*TINY, method="concat", folder=tmp_path / "file")


def test_an_accelerator_that_is_absent_is_a_config_error(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has the accelerator")
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu .* cannot be used"):
        mla.train(*TINY, "trainer.accelerator=gpu", method="concat", folder=tmp_path)


def test_wrong_options_of_the_data_are_reported_when_a_run_is_loaded(trained):
    folder = trained["mla"].folder
    with pytest.raises(ConfigError, match=r"data\.num_tests.*Did you mean 'num_test'"):
        mla.load(folder, num_tests=5)
    with pytest.raises(ConfigError, match=r"data\.num_test must be"):
        mla.load(folder, num_test="five")
    assert len(mla.load(folder, num_test=np.int64(6)).predict().ids) == 6


OWN_METHOD = """
from mla_lightning.methods import MLA

class Own(MLA):
    def fit_batch(self, batch):
        BODY
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that trains a method of the user with a given body."""
    (tmp_path / "conf/method").mkdir(parents=True)
    text = Path(mla.__file__).parents[2] / "conf/method/mla.yaml"
    text = text.read_text().replace("mla_lightning.methods.mla.MLA", "own_method.Own")
    (tmp_path / "conf/method/own.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def train(body, code=OWN_METHOD):
        Path("own_method.py").write_text(code.replace("BODY", body))
        for function in (find_source, code_of, bind._node_problems, bind.parameters_of):
            function.cache_clear()
        sys.modules.pop("own_method", None)
        start._first_times.pop("own_method", None)
        return mla.train(*TINY, method="own", config_dir="conf", allow=["own_method"])

    yield train
    sys.modules.pop("own_method", None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [("raise KeyError('text')", "KeyError: 'text'"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_errors_of_own_code_are_run_errors(own, body, reason):
    with pytest.raises(RunError, match=f"{reason} .*run folder: runs/train") as info:
        own(body)
    assert info.value.__cause__ is not None
    (folder,) = Path("runs/train").iterdir()
    status = read_json(folder / "status.json")
    assert (status["state"], status["reason"]) == ("failed", reason)


@pytest.mark.parametrize(
    ("code", "message"),
    [("def", "SyntaxError: .*own_method.py"), ("raise RuntimeError('no key')", "no key")],
)
def test_own_modules_that_cannot_be_imported_are_config_errors(own, code, message):
    with pytest.raises(ConfigError, match=f"own_method.Own cannot be imported: .*{message}"):
        own("", code)
    assert not Path("runs").exists()


def test_packages_are_allowed_for_one_call_and_for_its_runs(own):
    run = own("return super().fit_batch(batch)")
    assert not targets.is_allowed("own_method.Own")
    with pytest.raises(ConfigError, match="is not allowed"):
        mla.train(*TINY, method="own", config_dir="conf")
    assert type(mla.load(run.folder).module).__name__ == "Own"
    runs_module._packages.clear()
    with pytest.raises(ConfigError, match="is not allowed"):
        _ = mla.load(run.folder).module
    assert type(mla.load(run.folder, allow=["own_method"]).module).__name__ == "Own"
    assert not targets.is_allowed("own_method.Own")


def test_settings_of_the_process_are_restored_after_a_run(tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state()
    mla.train(*TINY, method="sum", folder=tmp_path)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_prediction_changes_no_setting_of_the_process(trained):
    run = mla.load(trained["mla"].folder)
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run.predict()
    _ = mla.load(run.folder).module
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_prediction_is_in_evaluation_mode_and_restores_the_mode(trained):
    run = mla.load(trained["mla"].folder)
    modes = []
    run.module.encoders["audio"].register_forward_hook(lambda m, *_: modes.append(m.training))
    run.module.train()
    run.module.encoders["visual"].eval()
    run.predict()
    assert modes
    assert not any(modes)
    assert run.module.encoders["audio"].training
    assert not run.module.encoders["visual"].training


def test_two_threads_train_the_same_runs_as_the_main_thread(trained, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(mla.train, *TINY, method=m, folder=tmp_path) for m in ("concat", "mla")
        ]
        runs = [call.result() for call in calls]
    for run in runs:
        same = trained[run.result.method]
        for key, value in same.module.state_dict().items():
            assert torch.equal(run.module.state_dict()[key], value), key


def test_a_sweep_runs_in_other_processes_and_shows_its_table(tmp_path):
    runs = mla.sweep(*TINY, method=["concat", "mla"], seed=range(2), folder=tmp_path)
    assert [(r.result.method, r.config.seed) for r in runs] == [
        ("concat", 0),
        ("concat", 1),
        ("mla", 0),
        ("mla", 1),
    ]
    assert runs.unfinished == []
    page = runs._repr_html_()
    assert page.startswith('<div class="mla-report">')
    assert "Test accuracy in percent" in page
    frame = runs.to_pandas()
    assert len(frame) == 4 * 2 * 3
    assert set(frame["method"]) == {"concat", "mla"}
    with pytest.raises(RunError, match=r"(?s)1 of 2 jobs did not finish.*loss is"):
        mla.sweep(*TINY[:-1], "optimizer.lr=0.05,1e30", method="concat", folder=tmp_path)
    some = mla.sweep(
        *TINY[:-1], "optimizer.lr=0.05,1e30", method="concat", folder=tmp_path, check=False
    )
    assert len(some) == 1
    assert "1e" in some.unfinished[0][0]


def test_code_that_was_edited_since_it_was_imported_is_refused(trained, monkeypatch):
    monkeypatch.setitem(start._first_times, "mla_lightning.module", 0.0)
    with pytest.raises(RunError, match=r"module\.py was changed since this process imported it"):
        mla.train(*TINY, method="mla", folder=trained["mla"].folder.parents[1])


def test_code_that_was_edited_between_its_import_and_the_first_run_is_refused(tmp_path):
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "my_rules").mkdir()
    (tmp_path / "conf/method/mine.yaml").write_text(
        "# Mine.\ndefaults: [/fusion@fusion: concat]\n_target_: my_rules.mine.Mine\n"
    )
    rule = "from mla_lightning.methods import Joint\n\nclass Mine(Joint):\n    x = 1\n"
    (tmp_path / "my_rules/mine.py").write_text(rule)
    code = f"""
import my_rules.mine
from pathlib import Path
import mla_lightning as mla
Path("my_rules/mine.py").write_text({rule!r} + "    y = 10\\n")
try:
    mla.train("data=synthetic", "trainer.max_epochs=1", "optimizer.lr=0.1", method="mine",
              config_dir="conf", allow=["my_rules"])
except mla.errors.RunError as error:
    assert "was changed since this process imported it" in str(error)
else:
    raise AssertionError("it was trained")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------- mla predict


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """A labelled store, and one of its first samples without labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    arrays = {m: rng.normal(size=(60, 4)).astype(np.float32) for m in ("one", "two")}
    np.savez("old.npz", label=label, **arrays)
    np.savez("new.npz", id=[f"n{k:02d}" for k in range(8)], **{m: x[:8] for m, x in arrays.items()})
    import_arrays(Path("old.npz"), Path("old"))
    assert main(["data", "import", "new.npz", "target=new", "labels=none"]) == 0
    return arrays


def test_samples_without_labels_are_predicted(stores, capfd):
    run = mla.train(
        "data=store", "data.path=old", "method=mla", "trainer.max_epochs=2", "optimizer.lr=0.1"
    )
    capfd.readouterr()
    assert main(["predict", str(run.folder), "data.path=new"]) == 0
    assert "8 samples (all of new)" in capfd.readouterr().out
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"n{k:02d}" for k in range(8)]
    assert "label" not in rows[0]
    expected = run.predict({m: x[:8] for m, x in stores.items()})
    assert [row["prediction"] for row in rows] == expected.classes
    p = expected.probabilities["multi"]
    assert [float(row["p_1"]) for row in rows] == pytest.approx(p[:, 1].tolist(), abs=1e-5)
    assert main(["predict", str(run.folder), "data.path=new", "output=new_predictions.npz"]) == 0
    with np.load("new_predictions.npz") as arrays:
        np.testing.assert_allclose(arrays["logits_multi"], expected.logits["multi"], atol=1e-6)
        assert arrays["class_names"].tolist() == ["0", "1"]
    assert main(["predict", str(run.folder), "output=own.csv", "split=val"]) == 0
    assert "id,label,prediction," in Path("own.csv").read_text()


def test_errors_of_predict(stores, capfd):
    run = mla.train(
        "data=store", "data.path=old", "method=concat", "trainer.max_epochs=1", "optimizer.lr=0.1"
    )
    Path("existing.csv").write_text("kept")
    np.savez("other.npz", label=[0, 1] * 10, one=np.zeros((20, 4), dtype=np.float32))
    import_arrays(Path("other.npz"), Path("other"))
    for words, code, message in (
        (["data.pth=new"], 2, "Did you mean 'data.path'"),
        (["output=x.txt"], 2, "must end with .csv or .npz"),
        (["output=existing.csv"], 2, "exists already"),
        (["output=nodir/x.csv"], 2, "no folder nodir"),
        (["split=tst"], 2, "Did you mean 'test'"),
        (["data.path=nowhere"], 3, "nowhere"),
        (["data.path=other"], 2, "'two'"),
    ):
        assert main(["predict", str(run.folder), *words]) == code, words
        assert message in capfd.readouterr().err
    assert Path("existing.csv").read_text() == "kept"
    assert main(["predict", "old"]) == 1
    assert main(["train", "data=store", "data.path=new", "optimizer.lr=0.1"]) == 3
    assert "mla predict RUN data.path=new" in capfd.readouterr().err


def test_errors_of_the_file_system_are_one_line(monkeypatch, capfd):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "runs/x")

    monkeypatch.setattr("mla_lightning.cli.main._run", fail)
    assert main(["report", "table1"]) == 1
    assert capfd.readouterr().err == "error: runs/x: Permission denied\n"


def test_errors_of_an_import_without_labels(stores, tmp_path, capfd):
    assert main(["data", "import", "old.npz", "target=x", "labels=none"]) == 3
    assert "has label; leave out labels=none" in capfd.readouterr().err
    Path("new.csv").write_text("id,words\na,one two\nb,three\n")
    assert main(["data", "import", "new.csv", "target=texts"]) == 3
    assert "labels=none" in capfd.readouterr().err
    assert main(["data", "import", "new.csv", "target=texts", "labels=none"]) == 0
    assert main(["data", "check", "texts"]) == 0
    assert json.loads(Path("texts/manifest.json").read_text())["class_names"] == []


def test_the_tutorial_runs(tmp_path):
    path = Path(__file__).parents[1] / "docs/tutorials/arrays_to_table.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "validation accuracy:" in done.stdout
