"""Short runs of the methods for missing modalities."""

import json

from mla_lightning.config import compose_jobs
from mla_lightning.run.build import build_data, build_module

METHODS = ("ae", "cra", "mmin", "if_mmin", "cca", "dcca", "dccae", "cpm_net", "tate")
TAUGHT = ("mmin", "if_mmin", "tate")
BASE = [
    *("train", "data=synthetic", "data.num_train=80", "data.num_val=40", "data.num_test=40"),
    *("missing=anchor", "missing.rate=0.3", "recipe=incomplete", "trainer.max_epochs=4"),
    *("data.batch_size=40", "evaluate_probe=false"),
]


OWN_WORDS = {
    "mmin": ["method.pretrain_epochs=2"],
    "if_mmin": ["method.pretrain_epochs=2"],
    "tate": ["method.pretrain_epochs=2", "method.fusion.width=24"],
    "dcca": ["method.num_components=4"],
    "dccae": ["method.num_components=4"],
    "cpm_net": ["method.fusion.num_latent=16"],
}


def words_of(method, *more):
    """Words that train a method for a moment, with a third of the cells missing."""
    given = [*BASE[1:], f"method={method}", *OWN_WORDS.get(method, []), *more]
    by_key = {word.partition("=")[0]: word for word in given}  # the later one counts
    return ["train", *by_key.values()]


def result_of(path):
    """Read the result of a run."""
    return json.loads((path / "result.json").read_text())


def built(method, *more):
    """Build a method and its data as a run would."""
    words = words_of(method, *more)[1:]
    (job,) = compose_jobs([w for w in words if not w.startswith("run_dir=")], multirun=False)
    data = build_data(job.config)
    return build_module(job.config, data), data
