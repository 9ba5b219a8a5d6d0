"""What is made of runs' diagnostics: columns, curves, figures."""

import json

import pytest

from mla_lightning.report.diagnosed_columns import crossed, diagnosed_columns


def write_run(folder, rows, numbers=None):
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(columns)]
    lines += [",".join(str(row.get(key, "")) for key in columns) for row in rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "diagnostics.json").write_text(json.dumps(numbers or {}))


def test_forgetting_is_of_a_modality_by_another_ones_step(tmp_path):
    rows = [
        {"epoch": 1, "step": 3, "forgetting/loss/a/a": -0.5, "forgetting/loss/a/b": 0.002},
        {"epoch": 2, "step": 6, "forgetting/loss/b/a": 0.004, "forgetting/own_loss/a/b": 0.001},
    ]
    write_run(tmp_path / "run", rows)
    assert crossed(rows, "forgetting/loss/") == pytest.approx([2, 4])
    found = diagnosed_columns(tmp_path / "run")
    assert found["forgetting"] == pytest.approx(3)
    assert found["forgetting_own"] == pytest.approx(1)


@pytest.mark.parametrize("step", ["joint", "a+b", "a+b+joint+rank/a+rank/b"])
def test_a_step_on_all_modalities_is_no_forgetting(step):
    rows = [{f"forgetting/loss/{step}/{m}": -0.1 for m in "ab"}]
    assert crossed(rows, "forgetting/loss/") == []
