"""Workflows, hooks and templates: every target, path and option that they name exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def steps(path):
    """Yield the steps of all jobs of a workflow."""
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_targets_extras_and_paths_that_exist(path):
    text = path.read_text(encoding="utf-8")
    commands = "\n".join(step.get("run", "") for step in steps(path))
    assert set(re.findall(r"make ([a-z0-9-]+)", commands)) <= TARGETS
    for extra in re.findall(r"\.\[(\w+)\]", commands):
        assert extra in PYPROJECT["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for place in re.findall(r"build/[a-z]+", text):
        assert place in makefile


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_actions_have_versions(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert all("@" in step["uses"] for step in steps(path) if "uses" in step)
    may_write = {n for n, job in workflow["jobs"].items() if "permissions" in job}
    assert may_write <= {"publish"}


def test_only_a_tag_publishes_and_no_token_is_stored():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    publish = yaml.safe_load(text)["jobs"]["publish"]
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in text


def test_a_release_is_installed_and_trains_before_it_is_published():
    """`make release-check` itself takes minutes: an environment for each of sdist and wheel."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    build = workflow["jobs"]["build"]["steps"]
    (check,) = (i for i, step in enumerate(build) if step.get("run") == "make release-check")
    (upload,) = (i for i, step in enumerate(build) if "upload-artifact" in step.get("uses", ""))
    assert check < upload
    assert build[upload]["with"]["path"] == "build/release/dist"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\nrelease-check:")[2].partition("\n\n")[0]
    words = ("-m build --outdir", "for file in build/release/dist/*", "-m venv build/release/venv")
    words += ("pip --disable-pip-version-check install", "unset PYTHONPATH", "mla train -m")
    places = [recipe.index(word) for word in words]
    assert places == sorted(places)


def test_licence_and_citation_are_of_this_package():
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PYPROJECT["project"]["license"] == "MIT"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == PYPROJECT["project"]["name"]
    assert citation["license"] == "MIT"
    assert citation["authors"]


def test_every_supported_python_is_tested():
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["test"]["strategy"]["matrix"]
    assert ">=" + matrix["python"][0] == PYPROJECT["project"]["requires-python"]
    assert {row["dependencies"] for row in matrix["include"]} == {"lowest-direct", "highest"}


def test_hooks_and_the_image_use_what_is_there():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    development = " ".join(PYPROJECT["project"]["optional-dependencies"]["dev"])
    for entry in entries:
        assert Path(entry.split()[0]).name in development
    assert "constraints.txt" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_lock_has_every_dependency_in_its_tested_version_with_a_hash():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock  # no registry, and nothing from elsewhere
    entries = re.findall(
        r"^([\w.-]+)==(\S+) \\((?:\n    --hash=sha256:\w+(?: \\)?)+)", lock, re.MULTILINE
    )
    locked = {name: version for name, version, _ in entries}
    assert len(locked) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE))
    project = PYPROJECT["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    for text in asked:
        name = re.split(r"[<>=!~\[ ]", text)[0].lower().replace("_", "-")
        assert name in locked or name == "mla-lightning", name
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.lower().replace("_", "-").partition("==")
        if version and name in locked:
            assert locked[name] == version.replace("-", "_"), name


def test_the_version_is_the_same_everywhere():
    package = (ROOT / "src/mla_lightning/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.+)"', package)[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) - ", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest[1] == version
