"""Every encoder's YAML composes, fits its classes, and lists their parameters."""

import pytest

from mla_lightning.config import conf_dir, plan
from mla_lightning.config.bind import find_signature_problems, parameters_of
from mla_lightning.config.search import options
from mla_lightning.config.targets import targets_of

NAMES = [name for name in options((conf_dir(),), "encoder") if name != "auto"]


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_fits_its_classes_and_lists_every_parameter(name):
    (job,) = plan([f"encoder={name}", "data=synthetic", "method=concat"])
    nodes = job.config["encoder"]
    assert nodes
    assert find_signature_problems({"encoder": nodes}) == []
    for key, node in targets_of(nodes, "encoder"):
        takes, _ = parameters_of(node["_target_"])
        missing = takes.keys() - node.keys()
        assert not missing, f"{key}: its YAML does not show {sorted(missing)}"
