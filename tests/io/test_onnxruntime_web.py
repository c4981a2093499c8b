"""The npm package for browsers: from the registry that npm would ask, and only as npm published it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agcam.errors import DataError
from agcam.io.onnxruntime_web import VERSION, read_onnxruntime_web
from serving import serving

FILE = f"onnxruntime-web-{VERSION}.tgz"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a registry was asked for that gives another file; the cache is empty."""
    paths: list[str] = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"another file")

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(Registry) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}/npm/")
        yield paths


def test_another_file_than_npm_published_is_refused_and_not_kept(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SHA512 \w+, expected ab4cbe26.*the download was removed"):
        read_onnxruntime_web()
    assert asked == [f"/npm/onnxruntime-web/-/{FILE}"]
    assert list((tmp_path / "cache/agcam").iterdir()) == []


def test_a_file_that_is_not_the_package_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"another file")
    with pytest.raises(DataError, match=f"not onnxruntime-web {VERSION} as npm published it; `npm pack"):
        read_onnxruntime_web(tmp_path / FILE)


def test_without_a_network_the_message_says_how_to_give_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="--onnxruntime-web"):
        read_onnxruntime_web()
