"""ONNX Runtime for browsers, from its npm package: fetched once, verified, kept in the user's cache."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agcam.errors import DataError, brief
from agcam.io.download import fetch_file, hash_file

VERSION = "1.30.0"
_SHA512 = base64.b64decode(
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm notes it
).hex()
_NAME = f"onnxruntime-web-{VERSION}.tgz"
_SCRIPT, _WASM = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
_REGISTRY = "https://registry.npmjs.org"


@dataclass(frozen=True)
class OnnxruntimeWeb:
    """What a browser needs to run ONNX files on its processor.

    Attributes:
        script: an ECMAScript module.
        wasm: the WebAssembly that it runs.
    """

    script: bytes
    wasm: bytes


def read_onnxruntime_web(file: Path | None = None) -> OnnxruntimeWeb:
    """Read the npm package `onnxruntime-web`, fetched from npm's registry (33 MB) if the cache does not have it.

    The registry is that of `npm_config_registry` or of npm's own configuration, the cache `agcam` in `XDG_CACHE_HOME`
    or in `~/.cache`.

    Args:
        file: the package as `npm pack` writes it; nothing is fetched then.

    Raises:
        DataError: if it cannot be fetched, is not that package in that version, or not as npm published it.
    """
    if file is None:
        file = _cache() / _NAME
        url = f"{_registry()}/onnxruntime-web/-/{_NAME}"
        try:
            advice = f"give the package as a file: --onnxruntime-web {_NAME}"
            fetch_file(url, file, _SHA512, "sha512", advice)
        except OSError as error:
            raise DataError(f"{file}: cannot be kept ({brief(error)}); make room or set XDG_CACHE_HOME") from error
    elif not file.is_file():
        raise DataError(f"{file}: no such file; `npm pack onnxruntime-web@{VERSION}` fetches it")
    elif hash_file(file, "sha512") != _SHA512:
        raise DataError(
            f"{file}: not onnxruntime-web {VERSION} as npm published it; "
            f"`npm pack onnxruntime-web@{VERSION}` fetches it"
        )
    with tarfile.open(file) as archive:  # verified: it holds these files, and nothing is unpacked
        script, wasm = (_member(archive, name) for name in (_SCRIPT, _WASM))
    return OnnxruntimeWeb(script, wasm)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None  # a file of a package whose checksum is known
    return stream.read()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agcam"


def _registry() -> str:
    """Return the registry that npm would ask."""
    found = next((value for name, value in os.environ.items() if name.lower() == "npm_config_registry" and value), "")
    if not found and (npm := shutil.which("npm")):
        with suppress(subprocess.SubprocessError, OSError):  # npm may be broken; its usual registry is asked then
            command = [npm, "config", "get", "registry"]
            found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    if not found.startswith(("https://", "http://")):
        return _REGISTRY
    return re.sub("//[^/@]*@", "//", found).rstrip("/")  # messages name it, and nobody's password
