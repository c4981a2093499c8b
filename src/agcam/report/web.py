"""Write a folder with which any browser classifies photographs and shows where the model looked, without a network."""

from __future__ import annotations

import base64
import datetime
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from agcam import __version__
from agcam.data.input_config import InputConfig
from agcam.io.atomic import write_whole
from agcam.io.onnxruntime_web import VERSION, OnnxruntimeWeb
from agcam.report.encode import color_table
from agcam.report.page import embed, policy_hash, template
from agcam.visualization.overlay import SIGNED_COLORMAP

PAGE = "index.html"
_LICENSE = "LICENSE-onnxruntime-web.txt"
_PARTS = "data"
# of a script: no browser takes 0.5 GB at once; a multiple of 3, so that base64 texts can be joined
_PART_BYTES = 24 << 20
# each after those that it needs
_SHARED, _OWN = ("data", "paint", "theme"), ("resize", "photograph", "model", "cards", "start")
_STYLES = ("style.css", "web/web.css")


@dataclass(frozen=True)
class WebModel:
    """A model as the page uses it.

    Attributes:
        graph: an ONNX file from images (B, H, W, 3) uint8 to logits, targets and heatmaps, as `make_onnx` makes it.
        backbone: its architecture's name.
        class_names: in the order of its logits.
        multilabel: whether each class has a probability of its own.
        input: how photographs become images.
        extent: height and width in pixels of an image that its heatmaps cover.
    """

    graph: bytes
    backbone: str
    class_names: list[str]
    multilabel: bool
    input: InputConfig
    extent: tuple[int, int]


def write_web(folder: Path, model: WebModel, runtime: OnnxruntimeWeb) -> Path:
    """Write the page and what it loads; return the page, which is opened as a file or from a server.

    A browser that opens a file fetches no other, but runs scripts beside it: the graph and the runtime are written as
    scripts that hold them as text. The page comes last, and what an earlier one used is removed after it.

    Raises:
        OutputError: if a file cannot be written.
    """
    files = {"script": runtime.script, "wasm": runtime.wasm, "model": model.graph}
    described = {name: _write_parts(folder, name, content) for name, content in files.items()}
    write_whole(folder / _LICENSE, _license().encode())
    write_whole(folder / PAGE, render_page(model, described).encode("utf-8", errors="replace"))
    kept = {folder / part for each in described.values() for part in each["parts"]}
    for old in set((folder / _PARTS).glob("*.js")) - kept:
        with suppress(OSError):
            old.unlink()
    return folder / PAGE


def render_page(model: WebModel, files: dict[str, Any]) -> str:
    """Return the page as text; `files` names the scripts that hold the runtime and the graph."""
    assets = resources.files("agcam.report") / "assets"
    style = "".join((assets / name).read_text(encoding="utf-8") for name in _STYLES)
    names = [*(f"js/{name}.js" for name in _SHARED), *(f"web/{name}.js" for name in _OWN)]
    parts = [(assets / name).read_text(encoding="utf-8") for name in names]
    script = '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"
    config = model.input
    data = {
        "class_names": model.class_names,
        "multilabel": model.multilabel,
        "image": config.to_dict() | {"shorter": round(config.size / config.crop_pct)},
        "extent": model.extent,
        "files": files,
        "worker": (assets / "web/worker.js").read_text(encoding="utf-8"),
        "lut": color_table(),
        "signed_lut": color_table(SIGNED_COLORMAP),
    }
    count = len(model.class_names)
    return template("web/page.html.j2").render(
        title="Classify photographs",
        facts=[
            ("Model", model.backbone),
            ("Classes", str(count)),
            ("Sees", f"{config.size} × {config.size} pixels"),
        ],
        count=f"{count} classes" if count != 1 else "1 class",
        multilabel=model.multilabel,
        center_crop=config.resize != "squash",
        data=Markup(embed(data)),  # `embed` leaves no character that means something in HTML
        style=Markup(style),  # our own files
        script=Markup(script),  # our own files
        policy=_policy(style, script),
        version=__version__,
        runtime=VERSION,
        licence=_LICENSE,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d"),
    )


def _policy(style: str, script: str) -> str:
    """Return the policy of what the page may load: its own style and script, and scripts of its folder.

    The runtime and the worker are started from memory (`blob:`). Nothing may be fetched, no form sent.
    """
    return (
        f"default-src 'none'; img-src blob: data:; style-src {policy_hash(style)}; "
        f"script-src 'self' file: blob: 'wasm-unsafe-eval' {policy_hash(script)}; worker-src blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _write_parts(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    """Write a file as scripts that hold it as text; return its size and their paths from the page."""
    number = hashlib.sha256(content).hexdigest()[:12]
    parts: list[str] = []
    for start in range(0, len(content), _PART_BYTES):
        parts.append(f"{_PARTS}/{name}-{number}-{len(parts) + 1}.js")
        text = base64.b64encode(content[start : start + _PART_BYTES])
        write_whole(folder / parts[-1], b'agcamPiece("' + text + b'");\n')
    return {"bytes": len(content), "parts": parts}


def _license() -> str:
    return (resources.files("agcam.report") / "assets/web/onnxruntime-web.txt").read_text(encoding="utf-8")
