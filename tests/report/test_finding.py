"""The finding of Table 1 in sentences: only what is significant is claimed."""

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.finding import finding


def write_seeds(root, method, levels, image=None):
    for seed, level in enumerate(levels):
        one = level if image is None else image[seed]
        accuracy = {"image": one / 100, "text": level / 100, "multi": level / 100}
        write_run(root, method, seed, accuracy=accuracy)


def sentences(root):
    (block,) = blocks(read_runs([root]))
    return finding(block)


def test_differences_are_claimed_only_with_a_test(tmp_path):
    write_seeds(tmp_path, "concat", (50, 51, 52))
    write_seeds(tmp_path, "mla", (60, 61.5, 62))
    write_seeds(tmp_path, "sum", (49, 53, 51))
    write_seeds(tmp_path, "film", (40, 41.5, 42))
    best, versus, *_ = sentences(tmp_path)
    assert best == (
        "openmoji: MLA has the highest mean test accuracy of 4 methods, 61.2 % (3 seeds)."
    )
    # The differences of MLA are 10, 10.5, 10: t = 61 with 2 degrees of freedom,
    # p = 1 - t / sqrt(t^2 + 2) = 0.000269, times 3 by Holm; those of FiLM are -10, -9.5, -10:
    # p = 0.000287, times 2, which Holm raises to that of MLA.
    assert versus == (
        "Compared with Concat, significantly better: MLA +10.2 (corrected p = 8.1e-04); "
        "significantly worse: FiLM −9.8 (corrected p = 8.1e-04); "
        "no other difference is significant."
    )


def test_one_seed_claims_no_difference(tmp_path):
    write_seeds(tmp_path, "concat", (50,))
    write_seeds(tmp_path, "mla", (90,))
    text = " ".join(sentences(tmp_path))
    assert "MLA +40.0 (no test): too few seeds for a test" in text
    assert "significantly" not in text


def test_laziness_is_told_of_concat_and_of_the_best(tmp_path):
    write_seeds(tmp_path, "concat", (50, 51, 52), image=(20, 21.5, 22))
    write_seeds(tmp_path, "mla", (50, 51, 54), image=(30, 31, 32.5))
    write_seeds(tmp_path, "unimodal", (50, 52, 51), image=(30, 31, 32))
    text = sentences(tmp_path)
    (concat,) = [t for t in text if t.startswith("In Concat, compared with each modality")]
    assert "significantly less accurate: image −9.8" in concat
    assert "text" not in concat
    (mla,) = [t for t in text if t.startswith("In MLA, compared with each modality")]
    assert "no difference is significant" in mla


@pytest.mark.parametrize(("level", "sign"), [(70, "−8.8"), (30, "+31.2")])
def test_references_are_compared_with_the_best(tmp_path, level, sign):
    write_seeds(tmp_path, "mla", (60, 61.5, 62))
    write_seeds(tmp_path, "logistic", (level, level, level))
    (text,) = [t for t in sentences(tmp_path) if t.startswith("Without a network")]
    assert f"Logistic reaches {level}.0 %: MLA minus Logistic {sign} " in text


def test_references_alone_have_no_winner(tmp_path):
    write_seeds(tmp_path, "majority", (30, 30))
    assert sentences(tmp_path) == ["openmoji: no method but references has a result on test."]
