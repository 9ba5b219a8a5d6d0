"""Configs are read once per process, as long as no file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mla_lightning.config import compose, compose_jobs
from mla_lightning.config.compose import state_of_files

DATA = ("data=synthetic",)


def test_an_edited_file_is_read_again_and_a_changed_config_changes_no_later_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "conf" / "recipe" / "own.yaml"
    path.parent.mkdir(parents=True)

    def epochs(number: int | None) -> int:
        if number is not None:
            text = (
                f"# @package _global_\ndefaults: [synthetic]\ntrainer: {{max_epochs: {number}}}\n"
            )
            path.write_text(text)
        (job,) = compose_jobs([*DATA, "recipe=own"], config_dir=tmp_path / "conf")
        trainer = job.config.tree["trainer"]
        found, trainer["max_epochs"] = trainer["max_epochs"], 1
        return int(found)

    assert [epochs(number) for number in (3, 4, None, 5)] == [3, 4, 4, 5]


def test_a_folder_of_configs_may_have_links_in_a_circle_and_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "again").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    assert state_of_files((tmp_path,)) == state_of_files((tmp_path,))
    target = tmp_path.parent / "linked"
    target.mkdir()
    (tmp_path / "method").symlink_to(target)
    before = state_of_files((tmp_path,))
    (target / "own.yaml").write_text("defaults: [mla]")
    assert state_of_files((tmp_path,)) != before
    monkeypatch.setattr(compose, "MAX_ENTRIES", 2)
    assert state_of_files((tmp_path,)) != state_of_files((tmp_path,))
