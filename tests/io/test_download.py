import hashlib
import io
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from agcam.errors import DataError
from agcam.io.download import Archive, fetch
from serving import serving


class RangeHandler(SimpleHTTPRequestHandler):
    """A file server that honours `Range: bytes=N-`, as real ones do, and remembers what was asked for."""

    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.asked.append(asked)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, start = path.read_bytes(), int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    RangeHandler.asked.clear()
    with serving(partial(RangeHandler, directory=str(folder))) as address:
        yield folder, address


def pack(path: Path, members: dict[str, bytes], link: tuple[str, str] | None = None) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link is not None:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_an_archive_is_fetched_verified_and_unpacked_once(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"hello", "beside.txt": b"extra"})
    archive = Archive(f"{url}/d.tgz", md5, "D")
    root = tmp_path / "root"
    assert fetch(archive, root) == root / "D"
    assert (root / "D/a.txt").read_bytes() == b"hello"
    assert (root / "beside.txt").read_bytes() == b"extra"
    fetch(archive, root)
    assert len(RangeHandler.asked) == 1


def test_a_broken_download_is_resumed(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"hello" * 1000})
    root = tmp_path / "root"
    root.mkdir()
    (root / "d.tgz.part").write_bytes((folder / "d.tgz").read_bytes()[:40])
    fetch(Archive(f"{url}/d.tgz", md5, "D"), root)
    assert RangeHandler.asked == ["bytes=40-"]
    assert (root / "D/a.txt").read_bytes() == b"hello" * 1000


def test_a_wrong_checksum_is_refused_and_the_next_try_starts_clean(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"hello"})
    root = tmp_path / "root"
    root.mkdir()
    (root / "d.tgz.part").write_bytes(b"garbage that was never part of it")
    archive = Archive(f"{url}/d.tgz", md5, "D")
    with pytest.raises(DataError, match=f"expected {md5}; the download was removed"):
        fetch(archive, root)
    assert not (root / "D").exists()
    assert fetch(archive, root).is_dir()


@pytest.mark.parametrize("name", ["../evil.txt", "D/../../evil.txt", "D/../../../evil.txt"])
def test_members_cannot_leave_the_folder(name: str, server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"ok", name: b"evil"})
    root = tmp_path / "deep" / "root"
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch(Archive(f"{url}/d.tgz", md5, "D"), root)
    assert not list(tmp_path.glob("**/evil.txt"))
    assert not (root / "D").exists()


def test_absolute_members_are_refused(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    outside = tmp_path / "outside.txt"
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"ok", str(outside): b"evil"})
    with pytest.raises(DataError, match=r"outside\.txt' would leave the folder"):
        fetch(Archive(f"{url}/d.tgz", md5, "D"), tmp_path / "root")
    assert not outside.exists()


def test_a_refused_archive_leaves_nothing_behind(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    md5 = pack(folder / "d.tgz", {"D/a.txt": b"ok"}, link=("D/out", "/etc/passwd"))
    with pytest.raises(DataError, match=r"d\.tgz: cannot be unpacked: 'D/out' is neither file nor folder"):
        fetch(Archive(f"{url}/d.tgz", md5, "D"), tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["d.tgz"]


def test_an_unreachable_server_is_one_clear_line(server: tuple[Path, str], tmp_path: Path) -> None:
    _, url = server
    with pytest.raises(DataError, match="the server answered 404"):
        fetch(Archive(f"{url}/none.tgz", "0", "D"), tmp_path / "root")
    with pytest.raises(DataError, match=r"broke off.*run the same command again"):
        fetch(Archive("http://127.0.0.1:9/none.tgz", "0", "D"), tmp_path / "root")
