"""Faults are where they are meant to be, drawn reproducibly, and change what a function does."""

import ast
import importlib.util
import itertools
from collections import Counter

import pytest

from mla_lightning.run_folder.forks import never_destroy_inherited_objects
from tests.mutants.__main__ import row_of, summarise
from tests.mutants.campaign import CAUGHT, SURVIVED, Campaign, Verdict, put
from tests.mutants.faults import draw, list_faults

SOURCE = '''
"""A module - with a minus."""

def weighted(first: float, second: float, weight: float = 0.5) -> float:
    """Return a + b."""
    if weight < 0:
        raise ValueError(f"{weight + 1}")
    return weight * first + (1 - weight) * second


class Mean:
    def __init__(self, scale=2.0):
        self.scale = scale

    def __repr__(self):
        return "1" + "2"

    def __call__(self, x_ND):
        return self.scale * x_ND.mean(dim=0)[1:]
'''


@pytest.fixture
def faults(tmp_path):
    path = tmp_path / "sums.py"
    path.write_text(SOURCE)
    return list_faults(path, tmp_path)


def test_faults_are_of_all_kinds_and_leave_messages_and_checks_alone(faults):
    changes = {(fault.function, fault.kind, fault.before, fault.after) for fault in faults}
    mean = "x_ND.mean(dim=0)"
    for change in (
        ("weighted", "sign", "1 - weight", "1 + weight"),
        ("weighted", "dropped term", "weight * first + (1 - weight) * second", "weight * first"),
        ("weighted", "swapped", "first", "second"),
        ("weighted", "ignored setting", "weight", "0.5"),
        ("weighted", "constant", "1", "2"),
        ("Mean.__call__", "axis", mean, "x_ND.mean(dim=1)"),
        ("Mean.__call__", "reduction", mean, "x_ND.sum(dim=0)"),
        ("Mean.__call__", "index", f"{mean}[1:]", f"{mean}[:]"),
        ("Mean.__call__", "ignored setting", "self.scale", "2.0"),
    ):
        assert change in changes, change
    lines = {fault.line for fault in faults}
    assert lines.isdisjoint({2, 5, 6, 7, 16}), lines  # docstrings, the check and __repr__


def test_the_draw_is_reproducible_and_balanced(faults, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(SOURCE)
    by_file = {"sums.py": faults, "other.py": list_faults(other, tmp_path)}
    drawn = list(itertools.islice(draw(by_file), 16))
    assert drawn == list(itertools.islice(draw(by_file), 16))
    assert [fault.path for fault in drawn] == ["sums.py", "other.py"] * 8
    assert max(Counter(fault.kind for fault in drawn).values()) <= 4
    assert len(list(draw(by_file))) == sum(map(len, by_file.values()))


def test_a_fault_changes_the_loaded_function_and_nothing_else(faults, tmp_path):
    spec = importlib.util.spec_from_file_location("sums_with_faults", tmp_path / "sums.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    weighted = module.weighted  # as a module that has imported the name
    before = ast.dump(faults[0].tree)
    (fault,) = [f for f in faults if (f.kind, f.after) == ("sign", "1 + weight")]
    assert weighted(4.0, 8.0, weight=0.25) == 7.0
    put(fault, tmp_path)
    assert weighted(4.0, 8.0, weight=0.25) == 11.0
    assert ast.dump(fault.tree) == before


def test_the_report_states_what_no_test_catches(faults):
    rows = [
        row_of(faults[0], Verdict(CAUGHT, "tests/a/test_b.py::test_c[1]", "AssertionError")),
        row_of(faults[1], Verdict(SURVIVED)),
        row_of(faults[2], Verdict("crashed")),
    ]
    text, is_met = summarise(rows, 60.0, [])
    assert not is_met
    assert "**1 of 2 faults are caught (50.0%" in text
    assert "| test_b.py::test_c |" in text
    assert "| survived | **open** |" in text


def test_a_campaign_names_the_test_that_catches(tmp_path):
    never_destroy_inherited_objects()  # as after any run in this process
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "minus.py").write_text("def minus(a, b):\n    return a - b\n")
    (tmp_path / "test_minus.py").write_text(
        "from minus import minus\ndef test_one():\n    assert minus(2, 0) == 2\n"
        "def test_wrong():\n    assert minus(2, 1) == 2\n"
    )
    path = tmp_path / "minus.py"
    listed = list_faults(path, tmp_path)
    campaign = Campaign([path], lambda: iter(listed), 9, root=tmp_path)
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={tmp_path}"]
    pytest.main([*words, "-c", str(tmp_path / "pytest.ini"), str(tmp_path)], plugins=[campaign])
    (name,) = campaign.left_out  # it would catch all faults
    assert name.endswith("test_minus.py::test_wrong")
    verdicts = {fault.after: verdict for fault, verdict in campaign.verdicts}
    assert verdicts["b"].outcome == CAUGHT  # a - b -> b
    assert verdicts["b"].test.endswith("test_minus.py::test_one")
    assert verdicts["a"].outcome == verdicts["a + b"].outcome == SURVIVED  # b is 0
