"""Make of a report one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from agcam.io.atomic import write_whole
from agcam.report.classes import show_classes
from agcam.report.gallery import page_data
from agcam.report.model import Report

# each after those that it needs
_SCRIPTS = (
    *("data", "state", "pictures", "paint", "help", "theme", "tables", "charts", "gallery", "player", "detail", "main"),
)


def render(report: Report, output: Path) -> str:
    """Return the page as text; its links are relative to `output`'s folder."""
    assets = resources.files("agcam.report") / "assets"
    style = "".join((assets / name).read_text(encoding="utf-8") for name in ("style.css", "audit.css"))
    parts = [(assets / "js" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"
    data = page_data(report)
    return template("page.html.j2").render(
        report=report,
        classes=None if report.classes is None else show_classes(report.classes),
        data=Markup(embed(data)),  # `embed` leaves no character that means something in HTML
        style=Markup(style),  # our own file
        script=Markup(script),  # our own files
        policy=_policy(style, script),
        links=[(_relative(link.path, output), link.path.name or str(link.path), link.what) for link in report.links],
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d"),
    )


def template(name: str) -> Template:
    """Load one of our templates."""
    environment = Environment(
        loader=PackageLoader("agcam.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template(name)


def embed(data: Any) -> str:
    """Return JSON that is inert inside HTML, whatever text it holds: ASCII only, without <, > and &."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write(page: str, output: Path) -> None:
    """Write the page; it appears under its name only when whole."""
    write_whole(output, page.encode("utf-8", errors="replace"))


def _breakable(text: str) -> Markup:
    """Allow a browser to break a name where its parts are joined: after `_` rather than in the middle of a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[_:=,/.-])", text))


def _policy(style: str, script: str) -> str:
    """Return the policy of what the page may load: its own style and script, by their hashes, and embedded pictures."""
    return (
        f"default-src 'none'; img-src data:; style-src {policy_hash(style)}; script-src {policy_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def policy_hash(text: str) -> str:
    """Return what allows a style or script of this text in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _relative(path: Path, output: Path) -> str:
    found = os.path.relpath(path.resolve(), output.resolve().parent)
    return quote(Path(found).as_posix(), safe="/", errors="surrogateescape") + ("/" if path.is_dir() else "")
