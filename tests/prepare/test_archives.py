"""Archives: unpack_archives completely, resumed after a kill, and never outside of their folder."""

import io
import stat
import tarfile
import zipfile

import pytest

from mla_lightning.errors import DataError, RunError
from mla_lightning.prepare import archives
from mla_lightning.prepare.archives import UNFINISHED, unpack, unpack_archives

FILES = {"set/wav/a.wav": b"a" * 3000, "set/wav/b.wav": b"b" * 10, "set/labels.csv": b"1,2\n"}


def make_zip(path, files=FILES, mode=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            if mode is not None:
                entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return path


def make_tar(path, files=FILES, more=()):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in more:
            archive.addfile(entry)
    return path


def special_entry(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


MAKERS = {".zip": make_zip, ".tar": make_tar, ".tar.gz": make_tar, ".tgz": make_tar}


@pytest.mark.parametrize("suffix", MAKERS)
def test_an_archive_is_unpacked_into_a_folder_of_its_name(tmp_path, suffix, capsys):
    archive = MAKERS[suffix](tmp_path / f"official{suffix}")
    raw = unpack_archives(archive)
    assert raw == tmp_path / "official" / "set"  # it holds one folder and nothing else
    for name, content in FILES.items():
        assert (tmp_path / "official" / name).read_bytes() == content
    assert "3 files, 0.0 MB" in capsys.readouterr().out
    assert unpack_archives(archive) == raw  # nothing to do
    assert capsys.readouterr().out == ""


def test_archives_in_a_folder_are_unpacked_into_their_folders(tmp_path):
    (tmp_path / "train").mkdir()
    make_tar(tmp_path / "train" / "part_0.tar.gz", {"a.mp4": b"a"})
    make_tar(tmp_path / "train" / "part_1.tar.gz", {"b.mp4": b"b"})
    make_zip(tmp_path / "texts.zip", {"texts/t.csv": b"t"})
    assert unpack_archives(tmp_path) == tmp_path
    assert (tmp_path / "train" / "a.mp4").read_bytes() == b"a"
    assert (tmp_path / "train" / "b.mp4").read_bytes() == b"b"
    assert (tmp_path / "texts" / "t.csv").read_bytes() == b"t"
    assert not archives.is_unfinished(tmp_path)


OUT = "/etc/passwd"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leaves the folder"),
        ("set/../../evil.txt", "leaves the folder"),
        ("/tmp/evil.txt", "leaves the folder"),
        ("..\\evil.txt", "leaves the folder"),
        ("C:\\evil.txt", "leaves the folder"),
    ],
)
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_no_path_leaves_the_folder(tmp_path, suffix, name, reason):
    (tmp_path / "in").mkdir()
    archive = MAKERS[suffix](tmp_path / f"evil{suffix}", {"good.txt": b"", name: b"evil"})
    with pytest.raises(DataError, match=reason):
        unpack(archive, tmp_path / "in")
    assert not list(tmp_path.rglob("evil.txt"))
    if suffix == ".zip":  # its table of contents is checked before anything is written
        assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (special_entry("link", tarfile.SYMTYPE, OUT), "links out of it"),
        (special_entry("set/link", tarfile.SYMTYPE, "../../x"), "links out of it"),
        (special_entry("link", tarfile.LNKTYPE, "../x"), "links out of it"),
        (special_entry("link", tarfile.SYMTYPE, "set/nothing"), "which is not in it"),
        (special_entry("pipe", tarfile.FIFOTYPE), "is a device or pipe"),
        (special_entry("disk", tarfile.BLKTYPE), "is a device or pipe"),
    ],
)
def test_no_link_or_device_is_created(tmp_path, entry, reason):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=reason):
        unpack(make_tar(tmp_path / "evil.tar", more=[entry]), tmp_path / "in")
    assert not (tmp_path / "in" / entry.name).exists()
    assert not (tmp_path / "in" / entry.name).is_symlink()


def test_a_link_in_a_zip_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    archive = make_zip(tmp_path / "evil.zip", {"link": OUT.encode()}, stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="is a link or device"):
        unpack(archive, tmp_path / "in")


def test_a_link_inside_a_tar_becomes_a_copy_of_the_linked_file(tmp_path):
    (tmp_path / "in").mkdir()
    links = [
        special_entry("set/again.wav", tarfile.SYMTYPE, "wav/a.wav"),
        special_entry("hard.wav", tarfile.LNKTYPE, "set/wav/b.wav"),
    ]
    unpack(make_tar(tmp_path / "a.tar.gz", more=links), tmp_path / "in")
    for name, content in (("set/again.wav", b"a" * 3000), ("hard.wav", b"b" * 10)):
        assert not (tmp_path / "in" / name).is_symlink()
        assert (tmp_path / "in" / name).read_bytes() == content


def test_nothing_is_written_through_a_link_to_the_outside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="through the link"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "in")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_unpacking_continues_after_a_kill(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "official.tar.gz")
    written = []
    original = archives._write

    def write_or_die(archive, member, path):
        if len(written) == 1:
            raise SystemExit
        written.append(path.name)
        original(archive, member, path)

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_write", write_or_die)
        with pytest.raises(SystemExit):
            unpack_archives(archive)
    folder = tmp_path / "official"
    assert (folder / UNFINISHED).exists()
    stamp = (folder / "set/wav/a.wav").stat().st_mtime_ns
    assert unpack_archives(archive) == folder / "set"
    assert (folder / "set/wav/a.wav").stat().st_mtime_ns == stamp
    assert (folder / "set/labels.csv").read_bytes() == b"1,2\n"
    assert not (folder / UNFINISHED).exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar"])
def test_broken_archives_are_errors(tmp_path, suffix):
    archive = MAKERS[suffix](tmp_path / f"a{suffix}")
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"is broken"):
        unpack_archives(archive)
    archive.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"is broken"):
        unpack_archives(archive)


def test_existing_files_of_another_size_are_kept(tmp_path):
    (tmp_path / "in" / "set").mkdir(parents=True)
    (tmp_path / "in" / "set" / "labels.csv").write_text("mine, much longer")
    with pytest.raises(DataError, match="already exists, with another size"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "in")
    assert (tmp_path / "in" / "set" / "labels.csv").read_text() == "mine, much longer"


def test_too_little_space_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    archive = make_zip(tmp_path / "a.zip")
    free = type("Usage", (), {"free": 100})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: free)
    with pytest.raises(RunError, match="is full"):
        unpack(archive, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())
