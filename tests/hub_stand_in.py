"""A Hugging Face hub of one thread: what its client asks for to upload and to download a model, on files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlparse

from serving import serving


class Hub:
    """Models by name, each a list of commits (id, files), and the addresses that nobody answered."""

    def __init__(self) -> None:
        self.models: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.unknown: list[str] = []
        self.address = ""

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.models.get(name, [])
        return next((c for c in reversed(commits) if revision in ("main", c[0], c[0][:7])), None)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.models[name][-1][1]) if self.models[name] else {}
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        number = hashlib.sha1(repr((name, len(self.models[name]))).encode()).hexdigest()
        self.models[name].append((number, files))
        return number


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """Serve a hub on this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def say(self, value: Any, status: int = 200, **headers: str) -> None:
            self.answer(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

        def missing(self, code: str) -> None:
            hub.unknown.append(f"{self.command} {self.path}")
            self.say({"error": code}, 404, X_Error_Code=code)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            path = urlparse(self.path).path
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                status = 409 if name in hub.models else 200
                hub.models.setdefault(name, [])
                self.say({"url": f"{hub.address}/{name}"}, status)
            elif path == "/api/validate-yaml":
                self.say({"errors": [], "warnings": []})
            elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self.say({"files": files})
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                number = hub.commit(found[1], [json.loads(line) for line in body.splitlines() if line])
                self.say(
                    {"success": True, "commitOid": number, "commitUrl": f"{hub.address}/{found[1]}/commit/{number}"}
                )
            else:
                self.missing("EntryNotFound")

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                if (there := hub.files(found[1], found[2] or "main")) is None:
                    return self.missing("RevisionNotFound" if found[1] in hub.models else "RepoNotFound")
                number, files = there
                siblings = [{"rfilename": name} for name in files]
                return self.say({"id": found[1], "modelId": found[1], "sha": number, "siblings": siblings})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                there = hub.files(found[1], found[2])
                entries = (
                    []
                    if there is None
                    else [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in there[1].items()
                    ]
                )
                return self.say(entries)
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                there = hub.files(found[1], found[2])
                if there is None or found[3] not in there[1]:
                    return self.missing("EntryNotFound")
                content = there[1][found[3]]
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                return self.answer(content, ETag=etag, X_Repo_Commit=there[0])
            return self.missing("EntryNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

    with serving(Handler) as hub.address:
        yield hub
