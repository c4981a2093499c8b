"""Broken tar archives, plain and gzipped: nothing appears outside of the folder, whatever they hold."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

from harness import fuzz, inputs
from hypothesis import strategies as st
from mutations import broken_bytes

from agcam.io.archives import unpack

OUTSIDE = Path("/tmp/agcam-outside")
NAMES = ["a.txt", "D/b", "D/", str(OUTSIDE), "../outside", "D/../../outside", "", ".", "x" * 300, "é\udcff", "a\0b"]
TYPES = [b"0", b"0", b"0", b"5", tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"]


@st.composite
def members(draw: st.DrawFn) -> list[tarfile.TarInfo]:
    """Members of every type, with names and links that lead anywhere."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        info = tarfile.TarInfo(draw(st.sampled_from(NAMES)))
        info.type = draw(st.sampled_from(TYPES))
        info.linkname = draw(st.sampled_from(["", "/etc", "..", "a.txt", "../../outside"]))
        info.size = draw(st.sampled_from([0, 5, 600])) if info.type == b"0" else 0
        info.mode = draw(st.sampled_from([0o644, 0o4777, 0]))
        found.append(info)
    return found


def packed(found: list[tarfile.TarInfo], style: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as tar:
        for info in found:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def valid() -> list[tarfile.TarInfo]:
    found = [tarfile.TarInfo(name) for name in ("D/a.txt", "D/" + "long/" * 40 + "b.txt", "c.txt")]
    for info in found:
        info.size = 700
    return found


@inputs(500)
def test_archives(examples: int, tmp_path: Path) -> None:
    path, root = tmp_path / "data.tar", tmp_path / "root"
    pax, gnu = packed(valid()), packed(valid(), tarfile.GNU_FORMAT)
    strategy = st.one_of(
        broken_bytes(pax),
        broken_bytes(gnu),
        broken_bytes(gzip.compress(gnu, mtime=0)),
        broken_bytes(pax).map(lambda found: gzip.compress(found, 1, mtime=0)),
        members().map(packed),
    )

    def read(content: bytes) -> None:
        path.write_bytes(content)
        root.mkdir()
        try:
            unpack(path, root / "staging")
        finally:
            everything = [*tmp_path.rglob("*")]
            here = {path, root, root / "staging"}
            assert all(found in here or found.is_relative_to(root / "staging") for found in everything)
            assert not any(found.is_symlink() or not (found.is_file() or found.is_dir()) for found in everything)
            assert not OUTSIDE.exists()
            shutil.rmtree(root)

    fuzz("archives", strategy, read, path, examples)
