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


def test_the_lowest_error_of_a_regression_wins(tmp_path):
    levels = {
        "concat": (3.00, 3.10, 3.20),
        "mla": (2.00, 2.15, 2.20),
        "sum": (4.00, 4.15, 4.20),
        "unimodal": (2.50, 2.65, 2.70),
        "logistic": (2.75, 2.75, 2.75),
    }
    for method, errors in levels.items():
        for seed, error in enumerate(errors):
            scores = {"image": error, "text": error, "multi": error}
            write_run(tmp_path, method, seed, accuracy=scores, task="regression")
    best, versus, concat, mla, reference, *_ = sentences(tmp_path)
    assert best == "openmoji: MLA has the lowest mean test MAE of 3 methods, 2.12 (3 seeds)."
    # The differences of Sum are 1, 1.05, 1: t = 61, p = 1 - t / sqrt(t^2 + 2) = 2.69e-4, times 2 by
    # Holm, which raises to it that of MLA: -1, -0.95, -1, t = 59, p = 2.87e-4.
    assert "significantly better: MLA −0.98 (corrected p = 5.4e-04)" in versus
    assert "significantly worse: Sum +1.02 (corrected p = 5.4e-04)" in versus
    assert "significantly worse: image +0.48 (corrected p = " in concat
    assert "significantly better" not in mla  # 0.5 at every seed: no variance to test against
    assert reference.startswith("Without a network, Ridge reaches 2.75: MLA minus Ridge −0.63 ")
    assert not any("accura" in text or "%" in text for text in sentences(tmp_path))


def test_sets_of_labels_are_compared_by_their_f1(tmp_path):
    for method, level in (("concat", 0.5), ("mla", 0.6)):
        for seed in range(2):
            scores = dict.fromkeys(("image", "text", "multi"), level + seed / 100)
            write_run(tmp_path, method, seed, accuracy=scores, task="multilabel")
    best, *_ = sentences(tmp_path)
    assert (
        best == "openmoji: MLA has the highest mean test micro F1 of 2 methods, 60.5 % (2 seeds)."
    )
