"""Several ranks train as one process does: every method, with parts of any size and without any."""

import pytest
import torch
from tests.methods.catalogue import takes_incomplete
from tests.train.rank_processes import NUM_TRAIN, SomeRows, catalogue, on_ranks, split, train
from torch import nn

from mla_lightning import ranks
from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.composition import takes_ranks
from mla_lightning.data.order import Request
from mla_lightning.encoding import EncodingModule
from mla_lightning.errors import ConfigError
from mla_lightning.methods import Joint, Remix
from mla_lightning.module import MultimodalModule
from mla_lightning.tasks import Classification, Multilabel, Regression

#: Method and data -> options. Encoders have a batch normalisation unless they are plain.
METHODS = {
    (name, is_complete): {}
    for name in catalogue()
    for is_complete in (True, False)
    if (is_complete and " " not in name)
    or (not is_complete and takes_incomplete(name.partition(" ")[0]))
}


def plain():
    return SomeRows(5, 8)


def weighted():
    return Classification(class_weights=torch.tensor([1.0, 2.0, 3.0, 0.5]))


CLASS_WEIGHTS_IN_CHUNKS = {"make_task": weighted, "accumulate": 2, "encoder": plain}
#: Words of a setting -> method, whether samples are complete, options.
SETTINGS = {
    "clipped": ("concat", True, {"clip_norm": 0.05}),
    "clipped by modality": ("late_fusion", False, {"clip_norm": 0.05}),
    "chunks": ("concat", False, {"accumulate": 3, "encoder": plain}),
    "more chunks than samples": ("mla", False, {"accumulate": 8, "encoder": plain}),
    "chunks of memories": ("mla class_means", False, {"accumulate": 2, "encoder": plain}),
    "chunks of sums": ("ae", False, {"accumulate": 2, "encoder": plain}),
    "chunks of scores": ("ogm_ge", True, {"accumulate": 2, "encoder": plain}),
    "chunks of gradients apart": ("mmpareto", True, {"accumulate": 2, "encoder": plain}),
    "direction of weights": ("cggm", True, {"direction": "weights"}),
    "masked head": ("amss", True, {"mask_head": True, "unbiased": True}),
    "drops and gradients": ("opm", True, {"ogm_alpha": 0.4}),
    "inputs of zeros": ("agm", True, {"absent": "input"}),
    "class weights": ("joint_unimodal", False, {"make_task": weighted}),
    "class weights in chunks": ("mla", False, CLASS_WEIGHTS_IN_CHUNKS),
    "history after": ("qmf", False, {"history_update": "after", "rank_mode": "released"}),
    "projected update": ("mla moments", False, {"project_update": True, "project_bias": True}),
    "resets": ("mla owm", False, {"reset_every": 2, "source": "current"}),
    "fused loss": ("late_fusion", False, {"joint_weight": 0.5}),
    "residuals": (
        *("mla", False),
        {"make_task": lambda: Regression(mean=0.0, std=1.0), "num_classes": 1},
    ),
    "normalised prototypes": ("pmr", True, {"proto_fraction": 0.5, "normalise": True}),
    "chunks of traces": (
        *("inforeg", True),
        {"unimodal_weight": 1.0, "accumulate": 2, "encoder": plain},
    ),
    "chunks of probabilities": ("pdf", False, {"accumulate": 3, "encoder": plain}),
    "chunks of teachers' scores": ("g2d", True, {"accumulate": 2, "encoder": plain}),
    "a leader by validation": ("g2d", True, {"leader": "once"}),
    "a weight by second derivatives": ("lfm", True, {"weight": "learnable"}),
    "zeroed gradients": ("aug", True, {"step": "alternating", "legacy_zero_grad": True}),
    "planned rows in chunks": ("valuation", True, {"accumulate": 2, "encoder": plain}),
    "planned rows of masked encoders": ("remix", True, {"masked_encoders": "run"}),
    "planned rows apart": ("remix", True, {"encoder": plain, "order": "mixed"}),
    "labels": ("qmf", False, {"make_task": Multilabel, "num_classes": 3}),
}
#: Number of ranks -> the settings that are tried with it.
SETTINGS_OF = {
    2: [*SETTINGS],
    3: ["clipped by modality", "more chunks than samples", "chunks of scores", "labels", "resets"],
}


def run(jobs, num_ranks):
    """Train all jobs in a row; return key -> what they end with."""
    return {
        key: train(name, is_complete=is_complete, num_ranks=num_ranks, **options)
        for key, (name, is_complete, options) in jobs.items()
    }


def runs(jobs, num_ranks=2):
    """Return key -> (the ends on each rank, the end of one process)."""
    of_ranks, of_one = on_ranks(lambda: run(jobs, num_ranks), num_ranks), run(jobs, 1)
    return {key: ([ended[key] for ended in of_ranks], of_one[key]) for key in jobs}


@pytest.fixture(scope="module")
def of_methods():
    return runs({key: (*key, options) for key, options in METHODS.items()})


@pytest.fixture(scope="module")
def of_settings():
    return {
        number: runs({s: SETTINGS[s] for s in SETTINGS_OF[number]}, number) for number in (2, 3)
    }


def assert_as_one(ends, one, atol=1e-10):
    """Check that all ranks have the same bits, and the numbers of one process."""
    first, *others = ends
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0, equal_nan=True)
    assert [epoch.keys() for epoch in first["epochs"]] == [e.keys() for e in one["epochs"]]
    torch.testing.assert_close(first, one, rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "is_complete"), METHODS)
def test_two_ranks_train_as_one_process(name, is_complete, of_methods):
    ends, one = of_methods[name, is_complete]
    assert_as_one(ends, one)
    losses = [value for key, value in one["epochs"][0].items() if key.startswith("train/loss/")]
    assert losses
    assert one["epochs"][0] != one["epochs"][1]


@pytest.mark.parametrize(
    ("num_ranks", "setting"),
    [(number, key) for number in SETTINGS_OF for key in SETTINGS_OF[number]],
)
def test_ranks_train_as_one_process_with(setting, num_ranks, of_settings):
    assert_as_one(*of_settings[num_ranks][setting])


@pytest.mark.parametrize("masked_encoders", ["skip", "run"])
@pytest.mark.parametrize("encoder", [None, plain])
def test_a_batch_of_planned_rows_may_be_smaller_than_the_number_of_ranks(
    monkeypatch, masked_encoders, encoder
):
    def twelve_and_fifteen(module):  # batches of 10 and 5, and of 10 and 2
        is_first = torch.arange(NUM_TRAIN) % 9 < 4
        return torch.stack([0 * is_first, is_first, ~is_first], dim=1).to(torch.uint8)

    monkeypatch.setattr(Remix, "count_rows", twelve_and_fifteen)
    options = {"masked_encoders": masked_encoders} | ({"encoder": encoder} if encoder else {})
    assert_as_one(*runs({0: ("remix", True, options)}, num_ranks=3)[0])


def test_every_setting_has_an_effect(of_settings, of_methods):
    for setting, (name, is_complete, options) in SETTINGS.items():
        if not {"accumulate", "encoder", "num_classes"} & options.keys():
            usual = of_methods[name, is_complete][1]["epochs"]
            assert of_settings[2][setting][1]["epochs"] != usual, setting


def test_statistics_of_each_device_are_another_algorithm_with_equal_ranks(of_methods):
    options = {"sync_batchnorm": False}
    jobs = {"own statistics": ("concat", True, options), "of some": ("late_fusion", False, options)}
    for key, ends in runs(jobs).items():
        first, second = ends[0]
        torch.testing.assert_close(second, first, rtol=0, atol=0)
        name, is_complete, _ = jobs[key]
        one = of_methods[name, is_complete][1]["state"]
        difference = (
            first["state"]["encoders.visual.1.running_var"] - one["encoders.visual.1.running_var"]
        )
        assert difference.abs().max() > 1e-3


class Spread(nn.Sequential):
    """An encoder whose batch normalisation has several values per sample."""

    out_features = 8

    def __init__(self):
        layers = SomeRows(5, 8), nn.Unflatten(1, (2, 4)), nn.BatchNorm1d(2), nn.Flatten()
        super().__init__(*layers)


def test_chunks_with_statistics_of_all_devices_wait_for_no_one():
    options = {"accumulate": 3, "encoder": Spread}
    jobs = {name: (name, False, options) for name in ("mla", "late_fusion", "mmin")}
    first, second = on_ranks(lambda: run(jobs, 2))
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_ranks_relearn_by_the_diagnosis_of_the_first(monkeypatch):
    """Features of the ranks differ in their last bits, which may decide on a cluster."""
    name = "mla_lightning.methods.relearning.relearning_weights"
    monkeypatch.setattr(name, lambda gaps, _: torch.full_like(gaps, 0.1 + 0.1 * ranks.rank()))
    assert_as_one(*runs({0: ("relearning", True, {"every": 1})})[0])


def test_random_numbers_of_encoders_differ_between_ranks_and_not_between_runs():
    drawn = []

    class Drawing(SomeRows):
        def forward(self, x):
            drawn.append(float(torch.rand(())))
            return super().forward(x)

    def numbers():
        drawn.clear()
        train("ogm_ge", num_ranks=ranks.world_size(), encoder=lambda: Drawing(5, 8))
        return list(drawn)

    (first, second), again, one = on_ranks(numbers), on_ranks(numbers), numbers()
    assert again == [first, second]
    for numbers_of_all in zip(first, second, one, strict=True):
        assert len(set(numbers_of_all)) == 3


def test_ranks_begin_with_the_weights_of_the_first():
    def unlike():
        encoder = plain()
        nn.init.constant_(encoder.weight, 0.1 * (1 + ranks.rank()))
        return encoder

    first, second = on_ranks(lambda: train("concat", num_ranks=2, encoder=unlike))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first, train("concat", encoder=unlike), rtol=0, atol=1e-10)


def test_diagnostics_are_those_of_the_whole_batch():
    def measured(num_ranks):
        samples = split(NUM_TRAIN, "classification")
        fixed = samples[Request(0, torch.arange(NUM_TRAIN))]
        callback = EpochDiagnostics("full", fixed, {"train": [fixed], "val": [fixed]}, 3)
        return train("mla", num_ranks=num_ranks, callbacks=[callback])["epochs"], callback.uncounted

    (first, uncounted), (second, _) = on_ranks(lambda: measured(2))
    assert first == second
    one, uncounted_of_one = measured(1)
    assert uncounted <= uncounted_of_one  # torch has operations of its own for batch norms
    assert {"forgetting/loss/audio/visual", "gradient/raw/audio/visual"} <= one[0].keys()
    flops = [epochs[0].pop("cost/step_flops") for epochs in (first, one)]
    assert flops[1] <= flops[0] < 1.2 * flops[1]  # projections are computed on each device
    for epoch, epoch_of_one in zip(first, one, strict=True):
        assert epoch == pytest.approx(epoch_of_one, abs=1e-6)  # scores are in single precision


def test_methods_that_need_all_samples_are_refused():
    assert {"mla", "concat", "tate", "qmf", "unimodal"} <= catalogue().keys()
    for name in ("cca", "dcca", "dccae", "cpm_net", "logistic", "majority"):
        assert name not in catalogue()
        with pytest.raises(ConfigError, match=r"2 devices: \w+ is for one device: it computes"):
            train(name, num_ranks=2)
    with pytest.raises(ConfigError, match=r"2 devices: .*weighting=batch_entropy"):
        train("mla", num_ranks=2, dynamic_weighting="batch_entropy")


def test_a_method_of_the_user_says_for_itself_that_it_takes_ranks():
    class Own(Joint):
        pass

    class Said(Own):
        takes_ranks = True

    assert not takes_ranks(MultimodalModule)
    assert takes_ranks(Joint)
    parts = {"encoders": {"a": plain(), "b": plain()}, "num_classes": 2, "num_ranks": 2}
    with pytest.raises(ConfigError, match=r"Own is for one device.*takes_ranks = True"):
        Own(optimizer=torch.optim.SGD, **parts)
    Said(optimizer=torch.optim.SGD, **parts)


def test_a_setup_of_the_user_must_prepare_for_ranks(monkeypatch):
    monkeypatch.setattr(EncodingModule, "setup", lambda self, stage: None)

    def reason():
        with pytest.raises(ConfigError) as raised:
            train("concat", num_ranks=2)
        return str(raised.value)

    assert on_ranks(reason) == ["Joint.setup must call super().setup(stage)"] * 2


def test_a_module_for_one_process_does_not_train_in_two():
    with pytest.raises(ConfigError, match=r"built for 2: its gradients would not be"):
        train("concat", num_ranks=2)

    def reason():
        with pytest.raises(ConfigError) as raised:
            train("concat")
        return str(raised.value)

    assert all(text.startswith("2 processes train this module") for text in on_ranks(reason))
