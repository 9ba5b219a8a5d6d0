"""The page of features: every test, verb, target and setting of a group that it names exists."""

import re
from pathlib import Path

import pytest

from mla_lightning.config import conf_dir
from mla_lightning.config.search import options

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/features.md").read_text(encoding="utf-8")
SHOWN, _, NOT = PAGE.partition("\n## Not, or in part\n")
TESTS = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_shows_a_feature_exists(name):
    path, _, function = name.partition("::")
    assert function, "name the function, not the file"
    assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8")


def test_every_feature_is_shown_by_a_test():
    rows = [x for x in SHOWN.splitlines() if x.startswith("| ") and not x.startswith("| feature")]
    assert len(rows) > 70
    assert [row for row in rows if not re.search(r"`tests/[^`]+` \|$", row)] == []
    assert len({row.split(" | ")[0] for row in rows}) == len(rows)


def test_what_does_not_hold_has_a_state():
    rows = [x.strip("| ").split(" | ") for x in NOT.splitlines() if x.startswith("| ")]
    assert len(rows) > 3
    assert all(len(row) == 2 and len(row[1]) > 4 for row in rows)


def test_verbs_targets_and_options_exist():
    from mla_lightning.cli.main import main
    from mla_lightning.publish.wandb_dashboard import PLAIN

    for verb in set(re.findall(r"`mla ([a-z]+)", PAGE)):
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0
    for verb, kind in re.findall(r"`mla (report|dashboard) (?!page)(\w+)", PAGE):
        known = {*options((conf_dir(),), "report"), *([PLAIN] if verb == "dashboard" else [])}
        assert kind in known
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", PAGE):
        assert f"\n{target}:" in makefile
    groups = "launcher|trainer|callbacks|debug|optimizer|scheduler|logger|data|experiment"
    chosen = re.findall(rf"[` ]({groups})=([\w/]+)", PAGE)
    assert len(chosen) > 8
    for group, option in chosen:
        assert option in options((conf_dir(),), group), f"{group}={option}"
