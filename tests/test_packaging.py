"""What a user gets: the wheel with its configs and data, documents that are true, safe pins."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from mla_lightning.config import conf_dir, plan
from mla_lightning.config.catalogue import methods_page
from mla_lightning.config.search import options
from mla_lightning.errors import MLAError

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMED_BY_USER = (
    *("torch", "lightning", "hydra-core", "omegaconf"),
    *("torchmetrics", "wandb", "torchaudio", "transformers"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_configs_data_and_licences(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {p.relative_to(ROOT).as_posix() for p in (ROOT / "conf").rglob("*.yaml")}
    assert {f"mla_lightning/{name}" for name in configs} <= names
    for name in ("data/openmoji.npz", "data/openmoji-LICENSE.txt", "report/paper/table1.csv"):
        assert f"mla_lightning/{name}" in names
    assert "mla_lightning/py.typed" in names
    assert "mla_lightning/run/templates/model_card.md" in names


def test_the_wheel_trains_from_any_folder(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "else where ü"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    overrides = ["data=openmoji", "trainer.max_epochs=1", "method=concat"]
    subprocess.run(
        [sys.executable, "-m", "mla_lightning.cli.main", "train", *overrides],
        cwd=elsewhere,
        env=environment,
        check=True,
        capture_output=True,
    )
    (result,) = elsewhere.rglob("result.json")
    assert (result.parent / "predictions.npz").is_file()


def test_the_packages_that_the_user_named_are_plain_dependencies():
    names = {re.split(r"[<>=!~ ]", text)[0] for text in PYPROJECT["project"]["dependencies"]}
    assert set(NAMED_BY_USER) <= names


def test_known_bad_releases_are_out():
    bounds = dict(
        re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", text).groups()
        for text in PYPROJECT["project"]["dependencies"]
    )
    assert bounds["lightning"] == ">=2.6.6"  # 2.6.2 and 2.6.3 were malicious
    assert "<2.4" in bounds["omegaconf"]
    assert bounds["torch"].startswith(">=2.10")
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    assert tuple(map(int, pins["lightning"].split("."))) >= (2, 6, 6)
    assert {name.lower() for name in NAMED_BY_USER} <= {name.lower() for name in pins}


def test_no_file_names_a_registry_or_a_machine():
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".md", ".py", ".yaml", ".toml", ".txt", ".cff") or "Make" in name:
            text = path.read_text(encoding="utf-8")
            for word in ("/work" + "/main", "--index" + "-url", "--find" + "-links"):
                assert word not in text, f"{name}: {word}"


def test_methods_page_is_up_to_date():
    page = (ROOT / "METHODS.md").read_text(encoding="utf-8")
    assert page == methods_page(), "run: make docs"


def test_the_page_names_the_fusion_and_the_rule_that_a_method_has():
    """It reads the YAML of the fusion, so a method chooses a fusion with its rule."""
    rows = re.findall(r"^\| \[[^]]+\]\([^)]+\) \| `(.+?)` \|.*$", methods_page(), re.MULTILINE)
    assert "valuation" in rows
    for name in rows:
        content = yaml.safe_load((ROOT / f"conf/method/{name}.yaml").read_text(encoding="utf-8"))
        assert "unimodal_rule" not in (content.get("fusion") or {}), name
    assert re.search(r"`valuation` \|.*\| `concat_zero` \| `zero_feature` \|", methods_page())


def commands():
    """Every `mla train` line of the documents and of the configs' headers."""
    for path in [ROOT / "README.md", *sorted((ROOT / "conf").rglob("*.yaml"))]:
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.search(r"(?:^|[ `#])mla train ([^`#]*)", line)
            # What --config-dir needs is made first; tests of importing run those examples whole.
            left_out = ("...", "DIR", "--config-dir")
            if match and not any(word in line for word in left_out):
                text = re.split(r"  +| \(|\.(?: |$)", match[1])[0].strip().rstrip("\\").strip()
                yield pytest.param(text, id=f"{path.name}: {text}")


@pytest.mark.parametrize("text", list(commands()))
def test_every_command_that_a_document_shows_can_be_composed(text):
    words = [word for word in shlex.split(text) if word not in ("--cfg", "--dry-run")]
    if len(words) == 2 and words[1].startswith("experiment="):  # whose jobs are composed elsewhere
        assert words[1].partition("=")[2] in options((conf_dir(),), "experiment")
        return
    if len(words) == 1 and words[0].startswith("method="):  # each is trained elsewhere
        assert words[0].partition("=")[2] in options((conf_dir(),), "method")
        return
    try:
        jobs = plan([w for w in words if w != "-m"], multirun="-m" in words)
    except MLAError as error:
        pytest.fail(f"mla train {text}: {error}")
    assert jobs


def test_links_of_the_methods_page_lead_to_its_headings():
    page = methods_page()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert {"MLA", "OGM-GE", "Late Fusion"} < set(headings)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    links = re.findall(r"^\| \[[^]]+\]\(#([^)]+)\)", page, re.MULTILINE)
    assert len(links) > 20
    assert set(links) <= anchors
