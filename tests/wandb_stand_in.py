"""A W&B server of one artifact: what its client asks for to download a model, on files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from serving import serving

ENTITY, PROJECT, COLLECTION, ALIAS = "birds-lab", "birds", "model-abc", "best"
_PROJECT = {"__typename": "Project", "id": "UA==", "internalId": "UQ==", "name": PROJECT, "entity": {"name": ENTITY}}
_COLLECTION = {"__typename": "ArtifactSequence", "name": COLLECTION, "project": _PROJECT}
_VIEWER = {"id": "VQ==", "entity": ENTITY, "username": "somebody", "email": "", "flags": "{}", "teams": {"edges": []}}


@contextmanager
def wandb_stand_in(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve "birds-lab/birds/model-abc:best", an artifact of these files, on this machine; yield the address."""
    manifest = _manifest(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, content: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/graphql":
                query = json.loads(asked)
                data = _data(query["query"], query.get("variables") or {}, files, f"http://{self.headers['Host']}")
                self.answer(json.dumps({"data": data}).encode())
            else:
                self.answer(b"{}", 404)  # what the client reports about itself

        def do_GET(self) -> None:
            name = unquote(self.path.removeprefix("/files/"))
            content = manifest if self.path == "/manifest" else files.get(name)
            self.answer(content or b"", 200 if content is not None else 404)

    with serving(Handler) as address:
        yield address


def _data(query: str, variables: Mapping[str, Any], files: Mapping[str, bytes], address: str) -> dict[str, Any]:
    """Return what a query asks for."""
    (operation,) = re.findall(r"query (\w+)", query)[:1] or [""]
    match operation:
        case "Viewer" | "GetDefaultEntity":
            return {"viewer": _VIEWER}
        case "ArtifactMembershipByName":
            asked = tuple(variables[name] for name in ("entity", "project", "name"))
            found = asked == (ENTITY, PROJECT, f"{COLLECTION}:{ALIAS}")
            return {"project": {"artifactCollectionMembership": _membership(files) if found else None}}
        case "FetchArtifactManifest":
            return {"artifact": {"currentManifest": {"file": {"directUrl": f"{address}/manifest"}}}}
        case "GetArtifactMembershipFileUrls":
            edges = [
                {"node": {"__typename": "File", "name": name, "directUrl": f"{address}/files/{name}"}} for name in files
            ]
            pages = {"pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}}
            inner = {"artifactMembership": {"files": {**pages, "edges": edges}}}
            return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", **inner}}}
        case _:
            return {}


def _digest(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def _manifest(files: Mapping[str, bytes]) -> bytes:
    contents = {name: {"digest": _digest(content), "size": len(content)} for name, content in files.items()}
    policy = {"storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {"storageLayout": "V2"}}
    return json.dumps({"version": 1, **policy, "contents": contents}).encode()


def _membership(files: Mapping[str, bytes]) -> dict[str, Any]:
    when = "2026-01-01T00:00:00"
    alias = {"__typename": "ArtifactAlias", "id": "QQ==", "alias": ALIAS, "artifactCollection": _COLLECTION}
    artifact = {
        "__typename": "Artifact",
        "id": "Qg==",
        "artifactSequence": _COLLECTION,
        "versionIndex": 0,
        "artifactType": {"name": "model"},
        "description": None,
        "metadata": None,
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": sum(map(len, files.values())),
        "digest": "0",
        "commitHash": "0",
        "fileCount": len(files),
        "createdAt": when,
        "updatedAt": None,
        "aliases": [alias],
    }
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": "Qw==",
        "versionIndex": 0,
        "createdAt": when,
        "aliases": [alias],
        "artifactCollection": _COLLECTION,
        "artifact": artifact,
    }
