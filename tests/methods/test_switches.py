"""Every switch changes something, and a switch that would not is an error."""

from functools import partial

import pytest
import torch
from tests.methods.harness import Conv, batches, build, fit, weights

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.energy import EnergyFusion
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.head.settings import MODES
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.joint_unimodal import JointUnimodal
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.mla_released import MLAReleased
from mla_lightning.methods.ogm_ge import OGMGE
from mla_lightning.methods.qmf import QMF
from mla_lightning.methods.unimodal import Unimodal

TRAINING_SWITCHES = [
    (MLA, SharedHead, {"hgm": False}),
    *[(MLA, SharedHead, {"projection": mode}) for mode in MODES if mode != "others"],
    (MLA, SharedHead, {"alpha": 1.0}),
    (MLA, SharedHead, {"project_bias": True}),
    (MLA, SharedHead, {"project_update": True}),
    (MLA, SharedHead, {"reset_every": 2}),
    (MLA, SharedHead, {"order": ["visual", "audio"]}),
    (LateFusion, LateLogits, {"joint_weight": 1.0}),
    (JointUnimodal, Concat, {"unimodal_weight": 0.5}),
    (OGMGE, Concat, {"alpha": 0.1}),
    (OGMGE, Concat, {"noise": False}),
    (OGMGE, Concat, {"start_epoch": 1}),
    (OGMGE, Concat, {"end_epoch": 0}),
    (OGMGE, Concat, {"param_filter": "conv"}),
    (OGMGE, Concat, {"param_filter": "ndim>=2"}),
    (QMF, EnergyFusion, {"rank_weight": 1.0}),
    (QMF, EnergyFusion, {"joint_weight": 0.0}),
    (QMF, EnergyFusion, {"rank_mode": "released"}),
    (QMF, EnergyFusion, {"history_update": "after"}),
    (MLAReleased, SharedHead, {"legacy_zero_grad": False}),
]


@pytest.mark.parametrize(("method", "fusion", "switch"), TRAINING_SWITCHES)
def test_a_training_switch_changes_the_weights(method, fusion, switch):
    data = batches(4)
    default = build(method, fusion, data, encoder=Conv)
    switched = build(method, fusion, data, encoder=Conv, **switch)
    fit(default, data, epochs=3)
    fit(switched, data, epochs=3)
    assert not torch.equal(weights(default), weights(switched))


def test_modes_are_all_different_and_their_settings_change_the_weights():
    data, trained = batches(4), {}
    settings = [{"projection": mode} for mode in MODES]
    settings += [
        {"projection": "moments", "forgetting": 0.5},
        {"projection": "moments", "project_bias": True},
        {"projection": "moments", "project_update": True},
        {"projection": "moments", "reset_every": 2},
        {"projection": "class_means", "alpha": 1.0},
    ]
    for setting in settings:
        module = build(MLA, SharedHead, data, encoder=Conv, **setting)
        fit(module, data, epochs=3)
        trained[str(setting)] = tuple(weights(module).tolist())
    assert len(set(trained.values())) == len(settings)


def test_the_source_of_the_projector_changes_the_weights():
    data, trained = batches(4), []
    for source in ("previous", "current"):
        module = build(MLA, SharedHead, data, encoder=Conv, projection="owm", source=source)
        fit(module, data, epochs=3)
        trained.append(weights(module))
    assert not torch.equal(*trained)


@pytest.mark.parametrize(
    ("method", "switch"),
    [
        (MLA, {"df": False}),
        (MLA, {"dynamic_weighting": "batch_entropy"}),
        (MLAReleased, {"df": True}),
    ],
)
def test_a_fusion_switch_changes_fused_logits_and_no_weight(method, switch):
    data = batches(4)
    default, switched = build(method, SharedHead, data), build(method, SharedHead, data, **switch)
    fit(default, data)
    fit(switched, data)
    assert torch.equal(weights(default), weights(switched))
    default.eval(), switched.eval()
    with torch.no_grad():
        one, other = default.evaluate_batch(data[0]), switched.evaluate_batch(data[0])
    assert torch.equal(one["audio"], other["audio"])
    assert not torch.allclose(one["multi"], other["multi"])


def test_the_head_sees_another_gradient_than_the_raw_one():
    """The released code's projection never touched a gradient; ours must."""
    data = batches(2)
    module = build(MLA, SharedHead, data)
    differ = []
    original = module.modification.apply_projector

    def watching(gradient, projector):
        result = original(gradient, projector)
        differ.append(not torch.allclose(gradient, result))
        return result

    module.modification.apply_projector = watching
    fit(module, data)
    assert differ == [False, True, True, True]  # nothing to protect before the first step


def test_released_weights_are_fixed_by_the_order_of_the_steps():
    data = batches(1)
    module = build(MLAReleased, SharedHead, data, order=["visual", "audio"])
    module.eval()
    with torch.no_grad():
        logits = module.evaluate_batch(data[0])
    expected = 0.55 * logits["visual"] + 0.45 * logits["audio"]
    torch.testing.assert_close(logits["multi"], expected)


def test_qmf_remembers_every_sample_once_per_epoch():
    data = batches(3)
    module = build(QMF, EnergyFusion, data)
    fit(module, data)
    assert module.history_MN.shape == (2, 24)
    assert (module.history_MN > 0).all()


def test_unimodal_selects_each_modality_by_its_own_accuracy():
    module = build(Unimodal, LateLogits, batches(1))
    assert module.selections() == {"audio": "acc/audio", "visual": "acc/visual"}
    assert set(build(Joint, Concat, batches(1)).selections().values()) == {"acc"}


@pytest.mark.parametrize(
    ("method", "fusion", "options", "message"),
    [
        (MLA, SharedHead, {"projection": "own"}, "Did you mean 'owm'"),
        (MLA, SharedHead, {"alpha": 0.0}, "alpha must be > 0"),
        (MLA, SharedHead, {"source": "next"}, "source"),
        (MLA, SharedHead, {"order": ["audio"]}, "order"),
        (MLA, SharedHead, {"reset_every": 0}, "reset_every"),
        (MLA, SharedHead, {"projection": "others", "source": "current"}, "no effect"),
        (MLA, SharedHead, {"projection": "moments", "source": "current"}, "no effect"),
        (MLA, SharedHead, {"forgetting": 0.9}, "forgetting has no effect"),
        (MLA, SharedHead, {"hgm": False, "alpha": 0.2}, "method.alpha would have no effect"),
        (MLA, SharedHead, {"hgm": False, "projection": "owm"}, "projection would have no effect"),
        (MLA, SharedHead, {"hgm": False, "project_update": True}, "project_update would"),
        (MLA, SharedHead, {"static_weighting": [0.5, 0.5]}, "static_weighting would have no"),
        (MLA, SharedHead, {"df": False, "dynamic_weighting": "batch_entropy"}, "would have no"),
        (MLA, SharedHead, {"projection": "conflict", "alpha": 0.2}, "no projector"),
        (MLA, SharedHead, {"projection": "means", "forgetting": 1.0}, r"in \[0, 1\)"),
        (MLA, SharedHead, {"projection": "centred", "project_bias": True}, "no projector"),
        (MLA, SharedHead, {"projection": "conflict", "reset_every": 3}, "no projector"),
        (MLA, SharedHead, {"projection": "own_momentum", "alpha": 0.2}, "no projector"),
        (OGMGE, Concat, {"param_filter": "conv"}, "selects no trained parameter"),
        (OGMGE, Concat, {"param_filter": "convs"}, "Did you mean 'conv'"),
        (OGMGE, Concat, {"alpha": -1.0}, "alpha"),
        (OGMGE, Concat, {"start_epoch": 3, "end_epoch": 2}, "before"),
        (QMF, EnergyFusion, {"rank_mode": "margins"}, "rank_mode"),
        (QMF, EnergyFusion, {"rank_weight": -1.0}, "rank_weight"),
        (QMF, EnergyFusion, {"rank_weight": 0.0, "rank_mode": "released"}, "nothing is ranked"),
        (QMF, EnergyFusion, {"rank_weight": 0.0, "history_update": "after"}, "nothing is ranked"),
        (LateFusion, LateLogits, {"joint_weight": -1.0}, "joint_weight"),
        (JointUnimodal, Concat, {"unimodal_weight": 0.0}, "method=concat"),
    ],
)
def test_a_bad_value_is_named(method, fusion, options, message):
    with pytest.raises(ConfigError, match=message):
        build(method, fusion, batches(1), **options)


def test_settings_that_would_never_act_are_refused():
    with pytest.raises(ConfigError, match="no effect on Unimodal"):
        build(Unimodal, partial(LateLogits, weighting="entropy"), batches(1))
    ogm = build(OGMGE, Concat, batches(1), start_epoch=2)
    with pytest.raises(ConfigError, match=r"start_epoch=2 .*never reached in trainer.max_epochs=2"):
        fit(ogm, batches(1), epochs=2)


@pytest.mark.parametrize(
    ("optimizer", "is_refused"),
    [
        (partial(torch.optim.SGD, lr=0.1), True),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), False),
        (partial(torch.optim.Adam, lr=0.1, betas=(0.0, 0.9)), False),
        (partial(torch.optim.Adagrad, lr=0.1), False),
    ],
)
def test_own_momentum_wants_an_optimiser_that_remembers(optimizer, is_refused):
    def make():
        return build(
            MLA,
            SharedHead,
            batches(1),
            projection="own_momentum",
            parts={"optimizer": optimizer},
        )

    if is_refused:
        with pytest.raises(ConfigError, match=r"no effect .* optimizer.momentum"):
            make()
    else:
        assert make().modification is not None


def test_a_weighting_that_mla_would_replace_is_refused():
    with pytest.raises(ConfigError, match="no effect on MLA"):
        build(MLA, partial(SharedHead, weighting="mean"), batches(1))


def test_one_modality_is_for_unimodal_only():
    data = batches(1, num_modalities=1)
    with pytest.raises(ConfigError, match="method=unimodal"):
        build(Joint, Concat, data)
    assert build(Unimodal, LateLogits, data).modalities == ("audio",)


def test_a_loss_that_is_not_finite_is_named():
    data = batches(3)
    data[2]["inputs"]["visual"][0, 0] = float("nan")
    with pytest.raises(RunError, match=r"visual loss is nan in epoch 1, batch 3"):
        fit(build(MLA, SharedHead, data), data)
