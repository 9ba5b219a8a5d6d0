"""Stages: what a stage does not train stays the same bits, and the optimiser begins anew once."""

from functools import partial

import pytest
import torch
from tests.methods.harness import batches, build, fit
from tests.train.jobs import in_child, killed, make_job, outcome, same

from mla_lightning.fusion import Concat
from mla_lightning.methods.mechanisms.stages import Stages
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job

STEP = (MultimodalModule, "training_step")


class Halves(Stages):
    """Encoders for two epochs, the head for one, then everything but a bias frozen from outside."""

    begun = ()

    def stage_of(self, epoch):
        return max(epoch - 1, 0)

    def trained_in(self, stage):
        return (self.encoders.parameters(), self.fusion.parameters(), None)[stage]

    def begin_stage(self, stage):
        self.begun += ((stage, len(self.trainer.optimizers[0].state)),)

    def fit_batch(self, batch):
        def losses_of(chunk):
            return {"joint": self.parts.loss(self.fusion(self.features(chunk)), chunk)}

        self.seen.append({k: v.clone() for k, v in self.state_dict().items()})
        self.num_states.append(len(self.trainer.optimizers[0].state))
        losses = self.step_on(batch, losses_of)
        self.gradients.append({k for k, p in self.named_parameters() if p.grad is not None})
        return losses


@pytest.fixture
def trained():
    data = batches(2)
    module = build(Halves, Concat, data)
    module.seen, module.num_states, module.gradients = [], [], []
    module.fusion.head.bias.requires_grad_(False)  # of the user, not of a stage
    fit(module, data, epochs=4)
    return module


def test_parameters_outside_of_a_stage_stay_the_same_bits(trained):
    last = {k: v.clone() for k, v in trained.state_dict().items()}
    states = [*trained.seen, last]
    encoders = {k for k, _ in trained.named_parameters() if k.startswith("encoders")}
    expected = [encoders] * 4 + [{"fusion.head.weight"}] * 2
    expected += [encoders | {"fusion.head.weight"}] * 2
    assert trained.gradients == expected
    for before, after, moved in zip(states, states[1:], expected, strict=False):
        changed = {k for k in before if not torch.equal(before[k], after[k])} - {"begun_stage"}
        assert changed == moved


def test_a_change_clears_the_optimiser_once(trained):
    num = len(list(trained.encoders.parameters()))
    assert trained.num_states == [0, num, num, num, 0, 1, 0, num + 1]
    assert trained.begun == ((1, num), (2, 1))
    assert int(trained.begun_stage) == 2
    group = trained.trainer.optimizers[0].param_groups[0]
    assert len(group["params"]) == len(list(trained.parameters()))


def test_after_training_only_what_was_frozen_before_is_frozen(trained):
    frozen = {k for k, p in trained.named_parameters() if not p.requires_grad}
    assert frozen == {"fusion.head.bias"}


def test_the_stage_is_a_buffer_that_any_subclass_may_name():
    class Named(Halves):
        stage_buffer = "is_late"

    module = build(Named, Concat, batches(1))
    assert int(module.is_late) == 0
    assert "begun_stage" not in module.state_dict()
    plain = build(Stages, Concat, batches(1))
    with pytest.raises(NotImplementedError, match="Stages does not define stage_of"):
        plain.stage_of(0)


def test_a_run_killed_at_a_change_of_stages_and_within_them_resumes(tmp_path):
    """With momentum, and stages of unimodal training, two turns and their rectifications."""
    words = ("method=reconboost", "trainer.max_epochs=5", "data.num_train=32")
    words += tuple(f"method.{key}_epochs=1" for key in ("teacher", "stage", "rectify"))
    whole = make_job(tmp_path / "whole", *words, "checkpoint.every_n_batches=1")
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words, "checkpoint.every_n_batches=1")
    # Epochs have 4 batches. Killed at batch 5 in all: the first of the first turn; then at batches
    # 6 (within), 9 (rectification), 10 (within), 13 (second turn).
    for batch in (5, 2, 4, 2, 4):
        assert killed(job, (*STEP, batch)) == -9
    assert in_child(partial(run_job, job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))
