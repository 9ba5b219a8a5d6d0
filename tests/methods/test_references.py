"""Majority and logistic regression: equal to scikit-learn called directly, also when absent."""

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from tests.methods.catalogue import build_method
from tests.methods.harness import NUM_CLASSES, Loader

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.encoders.plain import Plain
from mla_lightning.inputs.spectrograms import Spectrograms
from mla_lightning.methods.logistic import COSTS, cost_text, fit_logistic
from mla_lightning.metrics.classification import accuracy, macro_f1
from mla_lightning.metrics.outcome import Outcome


def by_accuracy(logits, label):
    return float(accuracy(Outcome(logits, label)))


def by_macro_f1(logits, label):
    return float(macro_f1(Outcome(logits, label)))


def drawn(num, *, seed, absent=0.0):
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(NUM_CLASSES, (num,), generator=rng)
    x = {
        m: scale * (label[:, None] * torch.eye(4)[label][:, [0, 1, 2, 3, 0]] + noise)
        for m, scale in (("audio", 1.0), ("visual", 100.0))
        for noise in [torch.randn(num, 5, generator=rng) + 3]
    }
    has_audio = torch.rand(num, generator=rng) >= absent
    x["audio"][~has_audio] = 0.0
    present = {"audio": has_audio, "visual": torch.ones(num, dtype=torch.bool)}
    return {"inputs": x, "label": label, "index": torch.arange(num), "present": present}


def tuned(x, y, x_val, y_val):
    """Fit scikit-learn's models over the grid; the first best one is the result."""
    models = [LogisticRegression(C=c, max_iter=1000).fit(x, y) for c in COSTS]
    return models[int(np.argmax([model.score(x_val, y_val) for model in models]))]


def fitted(method, train, val):
    """Fit a method to one batch, with another one for validation."""
    is_complete = bool(train["present"]["audio"].all())
    options = {"train_batches": lambda: Loader([train]), "is_complete": is_complete}
    module = build_method(method, train, num_classes=NUM_CLASSES, **options)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, Loader([train]), Loader([val]))
    assert trainer.current_epoch == 1
    return module


@pytest.mark.parametrize("absent", [0.0, 0.4])
def test_logistic_is_scikit_learns_with_the_cost_of_the_best_validation_accuracy(absent):
    train, val = drawn(60, seed=0, absent=absent), drawn(40, seed=1, absent=absent)
    module = fitted("logistic", train, val)
    with torch.no_grad():
        logits = module.evaluate_batch(val)
    x, x_val, y, y_val = {}, {}, train["label"].numpy(), val["label"].numpy()
    pairs = {}
    for m in ("audio", "visual"):
        has, has_val = train["present"][m].numpy(), val["present"][m].numpy()
        scaler = StandardScaler().fit(train["inputs"][m][has].double().numpy())
        x[m] = scaler.transform(train["inputs"][m].double().numpy())
        x_val[m] = scaler.transform(val["inputs"][m].double().numpy())
        x[m][~has], x_val[m][~has_val] = 0.0, 0.0  # the mean
        pairs[m] = x[m][has], y[has], x_val[m][has_val], y_val[has_val]
        model = tuned(*pairs[m])
        expected = model.predict_proba(x_val[m][has_val])
        actual = logits[m].softmax(dim=1).numpy()[has_val]
        np.testing.assert_allclose(actual, expected, atol=2e-3)
    both = [np.concatenate([*values.values()], axis=1) for values in (x, x_val)]
    pairs["all modalities"] = both[0], y, both[1], y_val
    expected = tuned(*pairs["all modalities"]).predict_proba(both[1])
    np.testing.assert_allclose(logits["multi"].softmax(dim=1).numpy(), expected, atol=2e-3)
    accuracy = (expected.argmax(axis=1) == y_val).mean()
    assert module.epoch_metrics["val/acc"] == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.6
    costs = {m: tuned(*pair).C for m, pair in pairs.items()}
    (note,) = module.notes
    assert note == f"Logistic: C selected on validation: {cost_text(costs)}"


def test_the_cost_is_selected_on_the_given_samples_and_ties_go_to_the_strongest_penalty():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 30)), rng.integers(3, size=40)
    x_val, y_val = rng.normal(size=(50, 30)), rng.integers(3, size=50)
    model = fit_logistic((x, y), (x, y), 3, by_accuracy)
    assert model.cost > COSTS[0]  # more of the noise is fitted
    assert fit_logistic((x, y), (x_val[:0], y_val[:0]), 3, by_accuracy).cost == COSTS[0]
    models = [LogisticRegression(C=c).fit(x, y) for c in COSTS]
    scores = [f1_score(y_val, m.predict(x_val), average="macro") for m in models]
    assert (
        fit_logistic((x, y), (x_val, y_val), 3, by_macro_f1).cost == COSTS[int(np.argmax(scores))]
    )
    assert np.argmax(scores) != np.argmax([m.score(x_val, y_val) for m in models])
    accuracies = [LogisticRegression(C=c).fit(x, y).score(x_val, y_val) for c in COSTS]
    assert (
        fit_logistic((x, y), (x_val, y_val), 3, by_accuracy).cost
        == COSTS[int(np.argmax(accuracies))]
    )


@pytest.mark.parametrize("labels", [[0, 2], [2], [0, 1, 2]])
def test_two_classes_one_class_and_classes_without_a_sample(labels):
    rng = np.random.default_rng(0)
    y = np.array(labels * 10)
    x = rng.normal(size=(len(y), 4)) + y[:, None]
    model = fit_logistic((x, y), (x, y), 4, by_accuracy)
    probability = (torch.tensor(x) @ model.weight.T + model.bias).softmax(dim=1).numpy()
    unseen = sorted(set(range(4)) - set(labels))
    assert probability[:, unseen].max() == 0.0
    if len(labels) > 1:
        expected = LogisticRegression(C=model.cost, max_iter=1000).fit(x, y).predict_proba(x)
        np.testing.assert_allclose(probability[:, labels], expected, atol=1e-9)


@pytest.mark.parametrize("absent", [0.0, 0.4])
def test_majority_is_the_share_of_the_largest_class_of_train(absent):
    train, val = drawn(60, seed=0, absent=absent), drawn(40, seed=1, absent=absent)
    module = fitted("majority", train, val)
    counts = np.bincount(train["label"], minlength=NUM_CLASSES)
    logits = {m: z.detach() for m, z in module.evaluate_batch(val).items()}
    assert logits.keys() == {"multi", "audio", "visual"}
    for values in logits.values():
        np.testing.assert_allclose(values.softmax(dim=1)[0], counts / 60, atol=1e-6)
    share = (val["label"] == int(counts.argmax())).double().mean()
    assert module.epoch_metrics["val/acc"] == pytest.approx(float(share))


def test_inputs_become_vectors_by_their_kind():
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(3, 2, 8, 4, generator=rng)
    torch.testing.assert_close(Plain().vectors(image), image.flatten(1))
    large = image.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)  # 64 x 32
    torch.testing.assert_close(
        Plain().vectors(large), large.unflatten(2, (32, 2)).mean(dim=3).flatten(1)
    )
    frames = torch.rand(3, 2, 5, 8, 4, generator=rng)
    torch.testing.assert_close(Plain().vectors(frames), frames.mean(dim=2).flatten(1))
    steps = torch.rand(3, 5, 4, generator=rng)
    steps[:, 3:] = 0.0  # padding
    torch.testing.assert_close(Plain().vectors(steps), steps[:, :3].mean(dim=1))
    spectrogram = Spectrograms()(torch.rand(3, 10, 6, generator=rng))
    values = Plain(is_spectrogram=True).vectors(spectrogram)
    expected = [spectrogram[:, 0].mean(dim=1), spectrogram[:, 0].std(dim=1, correction=0)]
    torch.testing.assert_close(values, torch.cat(expected, dim=1))
    encoder, tokens = Plain(), torch.tensor([[1, 4, 4, 0], [2, 0, 0, 0]])
    encoder.fit(encoder.vectors(tokens))
    assert encoder.vectors(torch.tensor([[4, 99, 1, 0]])).tolist() == [[0, 1, 0, 0, 1]]


@pytest.mark.parametrize("method", ["majority", "logistic"])
def test_a_run_predicts_again_as_it_was_scored(tmp_path, method):
    words = ("data=synthetic", "data.num_train=80", "evaluate_probe=false")
    run = mla.train(*words, f"method={method}", folder=tmp_path / "run")
    result = json.loads((run.folder / "result.json").read_text())
    predicted = run.predict(split="test")
    for name in ("multi", "audio", "visual"):
        is_correct = predicted.logits[name].argmax(dim=1) == predicted.label
        accuracy = result["test"][name]["accuracy"]
        assert float(is_correct.double().mean()) == pytest.approx(accuracy)
    assert (accuracy == 0.25) == (method == "majority")  # four classes of equal size
    assert result["epochs"] == 1
    assert len([text for text in result["notes"] if "C selected" in text]) == (method != "majority")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=majority", "scheduler.step_size=2"], "scheduler has no effect on Majority"),
        (["method=logistic", "scheduler.step_size=2"], "scheduler has no effect on Logistic"),
        (["method=logistic", "trainer.accumulate=2"], "cannot be computed in chunks"),
        (["method=majority", "method.fusion.weighting=entropy"], "no effect on Majority"),
    ],
)
def test_settings_without_effect_are_refused(words, message, capsys, tmp_path):
    assert main(["train", "data=synthetic", f"run_dir={tmp_path / 'run'}", *words]) == 2
    assert message in capsys.readouterr().err
