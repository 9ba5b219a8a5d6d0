"""Settings that follow the length of the run where they are null, for runs of any length."""

import math

import pytest
from tests.methods.catalogue import build_method, incomplete_batch, method_node
from tests.methods.harness import batches, build, fit

from mla_lightning.errors import ConfigError
from mla_lightning.functional import fitted_classification_weight
from mla_lightning.fusion import Concat, SharedHead
from mla_lightning.methods import OPM, ReconBoost
from mla_lightning.methods.mechanisms.window import share_of_epochs

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode")

#: Setting and method -> how a built method says its number for a run, and numbers for some lengths.
FOLLOWING = {
    ("relearning", "every"): (
        lambda method, epochs: method.interval_of(epochs),
        {3: 2, 5: 2, 10: 4, 20: 8, 40: 16, 50: 20, 100: 40},
    ),
    ("remix", "warmup_epochs"): (
        lambda method, epochs: method.num_warmup_epochs(epochs),
        {2: 1, 6: 1, 7: 2, 10: 2, 20: 4, 40: 7, 60: 10, 100: 17},
    ),
    ("valuation", "warmup_epochs"): (
        lambda method, epochs: method.num_warmup_epochs(epochs),
        {2: 1, 10: 1, 12: 1, 13: 2, 20: 2, 40: 4, 60: 5, 100: 9},
    ),
}


def made(name, num_modalities=2, **options):
    return build_method(name, incomplete_batch(num_modalities, is_complete=True), **options)


@pytest.mark.parametrize(("name", "setting"), FOLLOWING)
def test_null_is_the_share_of_the_published_run_and_a_number_is_itself(name, setting):
    number_of, expected = FOLLOWING[name, setting]
    assert method_node(name)[setting] is None
    method = made(name)
    assert {epochs: number_of(method, epochs) for epochs in expected} == expected
    assert all(1 <= number_of(method, epochs) < epochs for epochs in range(2, 400))
    given = made(name, **{setting: 3})
    assert {number_of(given, epochs) for epochs in (-1, *expected)} == {3}
    with pytest.raises(ConfigError, match=rf"{setting}=null is a share of .* which is -1"):
        number_of(method, -1)


def test_shares_are_rounded_up_without_rounding_errors():
    for epochs in range(1, 3000):
        assert share_of_epochs("every", 5 * epochs, 20, 50) == 2 * epochs
        assert share_of_epochs("every", 5 * epochs + 1, 20, 50) == 2 * epochs + 1


@pytest.mark.parametrize("epochs", [3, 4, 7])
def test_the_shortest_runs_have_a_diagnosis(epochs):
    method, seen = made("relearning"), []
    original = method._purities
    method._purities = lambda data, part: seen.append(method.current_epoch) or original(data, part)
    batch = incomplete_batch(2, is_complete=True)
    fit(method, [batch], epochs=epochs, precision="64-true")
    interval = math.ceil(0.4 * epochs)
    assert sorted({*seen}) == [e for e in range(1, epochs) if e % interval == 0] != []


@pytest.mark.parametrize(("name", "epochs", "warmup"), [("remix", 7, 2), ("valuation", 13, 2)])
def test_the_warmup_lasts_as_long_as_it_says(name, epochs, warmup):
    method, counted = made(name), []
    original = method.count_rows
    method.count_rows = lambda: counted.append(method.current_epoch) or original()
    batch = incomplete_batch(2, is_complete=True)
    for key in ("hidden", "truth"):
        del batch[key]
    fit(method, [batch], epochs=epochs, precision="64-true")
    assert counted == [*range(warmup, epochs)]


def test_one_epoch_is_too_short_for_a_warmup_and_a_diagnosis():
    batch = incomplete_batch(2, is_complete=True)
    for name, message in (("remix", "warmup_epochs=1 leaves no"), ("relearning", "every=1: the")):
        with pytest.raises(ConfigError, match=message):
            fit(made(name), [batch], epochs=1, precision="64-true")


@pytest.mark.parametrize(
    ("num_modalities", "given", "expected"),
    [
        (2, {}, {4: (1, 1), 5: (1, 1), 7: (1, 1), 8: (2, 2), 10: (2, 2), 12: (3, 3), 16: (4, 4)}),
        (2, {}, {20: (4, 4), 150: (4, 4), 3: (1, 1)}),
        (3, {}, {5: (1, 1), 10: (1, 1), 12: (2, 2), 20: (3, 3), 24: (4, 4)}),
        (2, {"stage_epochs": 3}, {8: (3, 1), 10: (3, 2), 14: (3, 4), 40: (3, 4), 5: (3, 1)}),
        (2, {"rectify_epochs": 0}, {2: (1, 0), 5: (2, 0), 8: (4, 0), 20: (4, 0)}),
        (2, {"stage_epochs": 6, "rectify_epochs": 5}, {5: (6, 5), 40: (6, 5)}),
    ],
)
def test_turns_are_as_long_as_every_modality_has_one(num_modalities, given, expected):
    node = method_node("reconboost")
    assert node["stage_epochs"] is node["rectify_epochs"] is None
    method = made("reconboost", num_modalities, **given)
    assert {epochs: method.parts_of_turn(epochs) for epochs in expected} == expected


def test_turns_that_are_shorter_than_the_paper_s_are_noted_and_too_few_epochs_refused():
    data = batches(1)
    method = build(ReconBoost, SharedHead, data)
    stages, original = [], method.fit_student
    method.fit_student = lambda batch: stages.append(method.training_stage) or original(batch)
    fit(method, data, epochs=9)
    assert stages == [1, 2, 3, 4, 5]  # after 4 epochs of the teachers; the last is no whole turn
    assert any("turns have 1 + 1 epochs" in note and "in 5 epochs" in note for note in method.notes)
    whole = build(ReconBoost, SharedHead, data, teacher_epochs=1)
    fit(whole, data, epochs=17)
    assert not whole.notes
    partly = build(ReconBoost, SharedHead, data, teacher_epochs=1, stage_epochs=1)
    fit(partly, data, epochs=11)
    assert not partly.notes
    with pytest.raises(ConfigError, match=r"3 of trainer.max_epochs=6 .* which need 4"):
        fit(build(ReconBoost, SharedHead, data), data, epochs=6)


@pytest.mark.parametrize("epochs", [1, 10, 40, 200, 300])
def test_the_fitted_weight_is_passed_through_in_the_whole_run(epochs, monkeypatch):
    assert method_node("lfm")["fitted_epochs"] is None
    for given, length in ((None, epochs), (200, 200), (400, 400)):
        method = made("lfm", fitted_epochs=given)
        monkeypatch.setattr(type(method), "trainer", type("T", (), {"max_epochs": epochs}))
        for epoch in {0, epochs // 2, epochs - 1}:
            monkeypatch.setattr(type(method), "current_epoch", epoch)
            expected = fitted_classification_weight(200 * epoch / length)
            assert method.loss_weights()[0] == expected
        if given == 200 and epochs > 200:
            with pytest.raises(ConfigError, match="max_epochs=300"):
                method.on_train_start()
        else:
            method.on_train_start()


def test_the_fitted_weight_needs_a_number_of_epochs(monkeypatch):
    for given, message in ((None, "is trainer.max_epochs, which is -1"), (200, "max_epochs=-1")):
        method = made("lfm", fitted_epochs=given)
        monkeypatch.setattr(type(method), "trainer", type("T", (), {"max_epochs": -1}))
        with pytest.raises(ConfigError, match=message):
            method.on_train_start()


def test_opm_refuses_runs_that_end_before_it_starts():
    data = batches(1)
    with pytest.raises(ConfigError, match=r"start_epoch=6 .*never reached in .*max_epochs=6"):
        fit(build(OPM, Concat, data), data, epochs=6)
    assert len(fit(build(OPM, Concat, data), data, epochs=7)) == 7
