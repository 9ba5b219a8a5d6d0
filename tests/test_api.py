"""The Python interface: the same runs as those of the command line."""

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
from mla_lightning.api import start
from mla_lightning.cli.main import main
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError, DataError, RunError
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
    with pytest.raises(DataError, match=r"without 'visual', .* train the run with missing="):
        run.predict({"audio": good, "visual": damaged, "present": present})


def test_a_run_with_missing_modalities_predicts_samples_without_one(tmp_path):
    run = mla.train(*TINY, "missing=anchor", "missing.rate=0.3", method="mla", folder=tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    present = {"audio": np.ones(5, bool), "visual": np.arange(5) != 3}
    damaged = x.copy()
    damaged[3] = np.nan
    logits = run.predict({"audio": x, "visual": damaged, "present": present}).logits
    assert logits["multi"].isfinite().all()
    torch.testing.assert_close(logits["multi"][3], logits["audio"][3])  # the only one present
    whole = run.predict({"audio": x, "visual": x}).logits["multi"]
    assert not torch.allclose(whole[3], logits["multi"][3])
    torch.testing.assert_close(whole[:3], logits["multi"][:3])


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


def test_a_folder_that_cannot_be_used_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("kept")
    for start_runs in (mla.train, mla.sweep):
        with pytest.raises(ConfigError, match=r"cannot be created: .*file is a file"):
            start_runs(*TINY, method="concat", folder=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


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
