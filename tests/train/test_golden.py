"""The first losses of every method are those of golden_losses.json, also with absent modalities."""

import json
from pathlib import Path

import pytest
from tests.methods.incomplete_runs import METHODS as INCOMPLETE
from tests.methods.incomplete_runs import OWN_WORDS
from tests.train.jobs import METHODS, in_child, make_job

from mla_lightning.config.listing import list_entries
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job

GOLDEN = Path(__file__).parent / "golden_losses.json"
MISSING = ("missing=anchor", "missing.rate=0.3", "evaluate_probe=false")
#: Words by which a method for missing modalities takes steps of both stages within two epochs.
WORDS = {
    method: (*MISSING, *OWN_WORDS.get(method, ()), *more)
    for method in INCOMPLETE
    for more in [["method.pretrain_epochs=1"] if method in ("mmin", "if_mmin", "tate") else []]
}
OPTIMISER = ("recipe=incomplete", "optimizer.lr=0.001", "data.batch_size=40")
WORDS |= {method: (*words, *OPTIMISER) for method, words in WORDS.items()}
WORDS["cca"] = (*WORDS["cca"], "scheduler=null")  # takes no steps
WORDS |= dict.fromkeys(("logistic", "majority"), ("scheduler=null",))  # nor do these
CASES = METHODS | WORDS
CASES |= {
    f"{method} incomplete": MISSING
    for method in ("concat", "joint_unimodal", "late_fusion", "mla", "qmf", "unimodal")
}


def test_every_method_is_pinned():
    assert {case.split()[0] for case in CASES} == {entry.name for entry in list_entries("method")}
    assert json.loads(GOLDEN.read_text()).keys() == CASES.keys()


@pytest.mark.parametrize("case", CASES)
def test_golden_losses(tmp_path, case):
    """To accept a change of numerics: python -m tests.train.test_golden"""
    assert first_losses(tmp_path, case) == pytest.approx(
        json.loads(GOLDEN.read_text())[case], rel=1e-6, abs=1e-5
    )


def first_losses(root, case):
    """Return the first twenty losses; of a method without steps, logits of its first evaluation."""
    job, losses = make_job(root, f"method={case.split()[0]}", *CASES[case]), root / "losses.json"

    def recording():
        values, logits = [], []
        step_on, logits_of = MultimodalModule.step_on, MultimodalModule.evaluate_batch

        def recorded_step(self, *args, **kwargs):
            result = step_on(self, *args, **kwargs)
            values.extend(value.item() for value in result.values())
            return result

        def recorded_logits(self, batch):
            result = logits_of(self, batch)
            logits.extend(result["multi"].flatten().tolist())
            return result

        MultimodalModule.step_on = recorded_step
        MultimodalModule.evaluate_batch = recorded_logits
        code = run_job(job)
        losses.write_text(json.dumps((values or logits)[:20]))
        return code

    assert in_child(recording) == 0
    return [round(value, 7) for value in json.loads(losses.read_text())]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        pinned = {}
        for number, name in enumerate(CASES):
            (Path(folder) / str(number)).mkdir()
            pinned[name] = first_losses(Path(folder) / str(number), name)
    GOLDEN.write_text(json.dumps(pinned, indent=1) + "\n")
