"""`mla tune`: equal budgets, no test split, resumed without repetition, values that are used."""

import csv
import json
import shlex

import pytest
import yaml

from mla_lightning.cli.main import main
from mla_lightning.config import plan
from mla_lightning.run_folder import write_json
from mla_lightning.run_folder.reader import RunFiles
from tests.fakes.ray import Ray

WORDS = [
    *("tune", "data=synthetic", "data.num_train=60", "data.num_val=20", "data.num_test=20"),
    *("trainer.max_epochs=1", "scheduler=null", "batch=2", "launcher=serial"),
]
METHODS = "method=ogm_ge,unimodal"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    words = [*WORDS, METHODS, "trials=4", f"paths.output_dir={folder}"]
    assert main(words) == 0
    return folder / "tune" / "synthetic"


def trials_of(folder):
    with (folder / "search" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def runs_of(folder):
    return sorted(path.parent for path in folder.glob("*/result.json"))


def test_every_method_has_the_same_budget_and_no_run_reads_the_test_split(folder):
    rows = trials_of(folder)
    assert [row["method"] for row in rows] == ["ogm_ge"] * 4 + ["unimodal"] * 4
    runs = runs_of(folder)
    assert sorted(row["runs"] for row in rows) == [run.name for run in runs]
    for run in runs:
        result = json.loads((run / "result.json").read_text())
        assert result["test"] is None
        assert result["seed"] == 100
    assert not [row for row in rows if row["method"] == "unimodal" and row["method.alpha"]]


def test_another_launcher_draws_the_same_trials_with_the_same_scores(folder, tmp_path, monkeypatch):
    ray = Ray()
    ray.install(monkeypatch)
    words = [word for word in WORDS if not word.startswith(("launcher", "batch"))]
    more = [
        "launcher=ray",
        "launcher.jobs=1",
        "batch=1",
        "trials=2",
        f"paths.output_dir={tmp_path}",
    ]
    assert main([*words, METHODS, *more]) == 0
    assert len(ray.inits) == 1  # for both rounds
    assert not ray.is_up
    rows = trials_of(tmp_path / "tune" / "synthetic")
    before = trials_of(folder)
    same = ("runs", "val_accuracy_percent", "optimizer.lr", "reason")
    for row, other in zip(rows, [*before[:2], *before[4:6]], strict=True):
        assert [row[key] for key in same] == [other[key] for key in same]


def test_runs_that_have_not_ended_stop_a_search_and_count_as_no_failed_trial(
    tmp_path, monkeypatch, capsys
):
    def leave(jobs, launcher):
        """End like a sweep whose jobs go on elsewhere."""
        jobs[0].run_dir.mkdir(parents=True)
        write_json(jobs[0].run_dir / "status.json", {"state": "preempted"})
        return 1

    monkeypatch.setattr("mla_lightning.launchers.sweep.run_sweep", leave)
    words = [*WORDS, METHODS, "trials=4", f"paths.output_dir={tmp_path}"]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "depend on runs that have not ended: 1 preempted, 3 not started. The same" in message
    assert not (tmp_path / "tune" / "synthetic" / "conf").exists()


def test_the_best_trial_is_chosen_by_validation_accuracy(folder):
    recipe = yaml.safe_load((folder / "conf" / "recipe" / "tuned.yaml").read_text())
    for method in ("ogm_ge", "unimodal"):
        accuracies = {}
        for row in trials_of(folder):
            if row["method"] == method:
                val = RunFiles(folder / row["runs"]).result.val
                modalities = [m for m in val if m != "multi"]
                names = modalities if method == "unimodal" else ["multi"]
                accuracy = sum(val[m]["accuracy"] for m in names) / len(names)
                assert float(row["val_accuracy_percent"]) == pytest.approx(100 * accuracy)
                accuracies[row["runs"]] = accuracy
        best = max(accuracies, key=accuracies.get)
        (chosen,) = [r for r in trials_of(folder) if r["method"] == method and r["chosen"]]
        assert chosen["runs"] == best
        values = recipe["tuned"][method]
        assert values == {key: float(chosen[key]) for key in values}
        config = RunFiles(folder / best).config
        assert config.optimizer["lr"] == values["optimizer.lr"]


def test_the_first_trial_is_the_recipe_itself(folder):
    (job,) = plan(["data=synthetic", "method=ogm_ge"])
    (first, *_) = trials_of(folder)
    assert float(first["optimizer.lr"]) == job.config["optimizer"]["lr"]
    assert float(first["method.alpha"]) == job.config["method"]["alpha"]


def test_a_second_call_repeats_nothing_and_more_trials_go_on(folder, monkeypatch):
    before = trials_of(folder)
    times = {run: (run / "result.json").stat().st_mtime_ns for run in runs_of(folder)}
    words = [*WORDS, METHODS, f"paths.output_dir={folder.parent.parent}"]
    assert main([*words, "trials=4"]) == 0
    assert {run: (run / "result.json").stat().st_mtime_ns for run in runs_of(folder)} == times
    assert trials_of(folder) == before
    assert main([*words, "trials=6"]) == 0
    after = trials_of(folder)
    assert [row["runs"] for row in after if row["method"] == "ogm_ge"][:4] == [
        row["runs"] for row in before if row["method"] == "ogm_ge"
    ]
    assert len(runs_of(folder)) == 12


def test_the_printed_command_trains_with_the_chosen_values(folder, capsys):
    words = [*WORDS, METHODS, f"paths.output_dir={folder.parent.parent}"]
    assert main([*words, "trials=4"]) == 0
    output = capsys.readouterr().out
    (line,) = [text for text in output.splitlines() if text.startswith("Train with them: ")]
    command = shlex.split(line.partition(": ")[2])
    assert command[:3] == ["mla", "train", "-m"]
    overrides = command[5:]
    jobs = plan(overrides, True, config_dir=folder / "conf")
    recipe = yaml.safe_load((folder / "conf" / "recipe" / "tuned.yaml").read_text())
    assert {job.config["choices"]["method"] for job in jobs} == {"ogm_ge", "unimodal"}
    assert len(jobs) == 20
    for job in jobs:
        values = recipe["tuned"][job.config["choices"]["method"]]
        assert job.config["optimizer"]["lr"] == values["optimizer.lr"]
        assert job.config["optimizer"]["weight_decay"] == values["optimizer.weight_decay"]
        assert job.config["trainer"]["max_epochs"] == 1
        assert job.config["evaluate_test"] is True
    for name in ("search.png", "search.svg", "search.pdf"):
        assert (folder / "search" / name).stat().st_size > 1000


def test_an_override_wins_over_a_tuned_value_and_other_methods_have_none(folder, capsys):
    conf = folder / "conf"
    words = ["data=synthetic", "recipe=tuned"]
    (job,) = plan([*words, "method=ogm_ge", "optimizer.lr=0.3"], config_dir=conf)
    assert job.config["optimizer"]["lr"] == 0.3
    assert "tuned" not in job.config
    assert main(["train", "--config-dir", str(conf), *words, "method=film", "--cfg"]) == 2
    message = capsys.readouterr().err
    assert "recipe=tuned has no values for method=film, only for ogm_ge, unimodal" in message
    assert "mla tune" in message


def test_a_diverged_trial_is_recorded_and_not_chosen(tmp_path, capsys):
    (tmp_path / "conf" / "search").mkdir(parents=True)
    (tmp_path / "conf" / "search" / "wild.yaml").write_text(
        "keys: {optimizer.lr: [0.01, 1.0e+30]}\n"
    )
    words = [*WORDS, "method=concat", "trials=6", "search=wild", f"paths.output_dir={tmp_path}"]
    assert main([*words, "--config-dir", str(tmp_path / "conf")]) == 0
    rows = trials_of(tmp_path / "tune" / "synthetic")
    assert {row["optimizer.lr"] for row in rows if row["reason"]} == {"1e+30"}
    assert {row["optimizer.lr"] for row in rows if row["chosen"]} == {"0.01"}
    assert "trials failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=synthetic"], "mla tune needs method="),
        (["method=mla", "seed=1"], "does not take seed=1: write seeds="),
        (["method=mla", "evaluate_test=true"], "a search never reads the test split"),
        (["method=mla", "experiment=table1/mfeat"], "does not take experiment="),
        (["method=mla", "protocol=paper"], "selects on validation"),
        (["method=mla,mla"], "method=mla is given twice"),
        (["method=mla", "trials=0"], "trials must be at least 1"),
        (["method=mla,majority"], "method=majority takes no optimisation steps"),
        (["method=mla", "trials=2", "batch=3"], "batch must be at most 2"),
        (["method=mla", "trials=x"], "trials"),
        (["method=mla", "seeds=1,1"], "a number twice"),
        (["method=mla", "search=nowhere"], "Unknown search 'nowhere'"),
        (["method=mlaa"], "Did you mean 'mla'?"),
        (["method=cca", "data=mfeat"], "cca"),
    ],
)
def test_a_wrong_command_starts_nothing(tmp_path, capsys, words, message):
    data = [] if any(word.startswith("data=") for word in words) else ["data=synthetic"]
    code = main(["tune", *data, *words, f"paths.output_dir={tmp_path}"])
    assert code in (2, 3)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_key_that_a_method_does_not_have_is_refused(tmp_path, capsys):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text("keys: {method.alpha: {low: 0.1, high: 1}}\n")
    words = ["tune", "data=synthetic", "method=concat", "search=mine"]
    assert main([*words, "--config-dir", str(tmp_path), f"paths.output_dir={tmp_path}"]) == 2
    assert "the key method.alpha, which method=concat" in capsys.readouterr().err


def test_trials_are_compared_by_the_metric_that_selects_epochs(tmp_path):
    words = [*WORDS, "method=concat", "trials=6", "search=rate", "select_by=macro_f1"]
    assert main([*words, f"paths.output_dir={tmp_path}"]) == 0
    folder = tmp_path / "tune" / "synthetic"
    rows = trials_of(folder)
    scores = [RunFiles(folder / row["runs"]).result.val["multi"] for row in rows]
    for row, score in zip(rows, scores, strict=True):
        assert float(row["val_macro_f1_percent"]) == pytest.approx(
            100 * score["macro_f1"], abs=1e-4
        )
    best = max(range(6), key=lambda number: scores[number]["macro_f1"])
    assert [bool(row["chosen"]) for row in rows] == [number == best for number in range(6)]
    assert [s["macro_f1"] for s in scores] != [s["accuracy"] for s in scores]


def test_few_trials_need_no_batch(tmp_path):
    words = [word for word in WORDS if not word.startswith("batch=")]
    assert main([*words, "method=concat", "trials=1", f"paths.output_dir={tmp_path}"]) == 0


def test_a_recipe_of_the_user_is_not_replaced(tmp_path, capsys):
    own = tmp_path / "conf" / "recipe" / "tuned.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# mine\n")
    words = [*WORDS, "method=concat", "trials=2", f"paths.output_dir={tmp_path / 'runs'}"]
    assert main([*words, "--config-dir", str(tmp_path / "conf")]) == 2
    assert "was not written by a search" in capsys.readouterr().err
    assert own.read_text() == "# mine\n"
    assert not (tmp_path / "runs").exists()


def test_the_best_trials_are_chosen_by_all_their_seeds(folder, tmp_path):
    words = [*WORDS, METHODS, "trials=4", f"paths.output_dir={tmp_path}"]
    assert main([*words, "finalists=2", "final_seeds=101,102"]) == 0
    rows = trials_of(tmp_path / "tune" / "synthetic")
    before = trials_of(folder)
    assert [row["val_accuracy_percent"] for row in rows] == [
        row["val_accuracy_percent"] for row in before
    ]
    for method in ("ogm_ge", "unimodal"):
        own = [row for row in rows if row["method"] == method]
        finals = [row for row in own if row["val_accuracy_percent_all_seeds"]]
        others = [row for row in own if row not in finals]
        assert len(finals) == 2
        lowest = min(float(row["val_accuracy_percent"]) for row in finals)
        assert all(float(row["val_accuracy_percent"]) <= lowest for row in others)
        for row in finals:
            names = row["runs"].split()
            results = [RunFiles(tmp_path / "tune" / "synthetic" / n).result for n in names]
            assert [result.seed for result in results] == [100, 101, 102]
            scores = []
            for result in results:
                names = [m for m in result.val if m != "multi"]
                names = names if method == "unimodal" else ["multi"]
                scores.append(sum(result.val[m]["accuracy"] for m in names) / len(names))
            mean = 100 * sum(scores) / 3
            assert float(row["val_accuracy_percent_all_seeds"]) == pytest.approx(mean, abs=1e-3)
        (chosen,) = [row for row in own if row["chosen"]]
        column = "val_accuracy_percent_all_seeds"
        assert float(chosen[column]) == max(float(row[column]) for row in finals)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["final_seeds=7"], "no effect without finalists"),
        (["finalists=9"], "finalists"),
        (["finalists=1", "final_seeds=100"], "one of seeds=100"),
    ],
)
def test_finals_that_would_mislead_are_refused(words, message, tmp_path, capsys):
    assert main([*WORDS, METHODS, "trials=4", f"paths.output_dir={tmp_path}", *words]) == 2
    assert message in capsys.readouterr().err
