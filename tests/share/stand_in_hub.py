"""A stand-in for the hub: the routes that huggingface_hub calls to make, fill and fetch a repository, in memory.

It keeps commits, so that a revision means something; it takes large files by LFS as the hub does without Xet; it asks
for a token; it checks a card's front matter; and it can be told to fail.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

WRITER, READER = "a-token-that-writes", "a-token-that-reads"
LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "other"}


class Hub:
    """repositories: (kind, name) → branch → list of (sha, {path: bytes}); stored: LFS objects by their sha256

    fails: (method, path) → status, or "cut": the answer ends after a few bytes; None goes on
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, list[tuple[str, dict[str, bytes]]]]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.stored: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.fetched: list[str] = []
        self.fails: Callable[[str, str], int | str | None] = lambda *_: None
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, kind: str, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """What somebody else commits, without any client."""
        with self.lock:
            branches = self.repositories.setdefault((kind, name), {"main": []})
            commits = branches.setdefault(branch, [])
            whole = (commits[-1][1] if commits else {}) | files
            sha = hashlib.sha1(f"{name}{len(commits)}{sorted(whole)}{len(self.stored)}".encode()).hexdigest()
            commits.append((sha, whole))
            return sha

    def files(self, kind: str, name: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        branches = self.repositories.get((kind, name), {})
        if branches.get(revision):
            return branches[revision][-1]
        return next((one for commits in branches.values() for one in commits if one[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value if value is not None else {}).encode()
        self.send_response(status)
        for key, one in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, one)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        failure = self.hub.fails(self.command, path)
        if isinstance(failure, int):
            return self._refuse(failure, "", f"the stand-in was told to answer {failure}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.command in ("POST", "PUT") and not path.startswith(("/api/validate-yaml", "/lfs/")):
            if token not in (WRITER, READER):
                return self._refuse(401, "", "Invalid username or password.")
            if token == READER:
                return self._refuse(403, "", "This token cannot write.")
        for method, pattern, handler in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                return handler(self, found, body, token)
        return self._refuse(404, "", f"the stand-in has no {self.command} {path}")

    do_GET = do_POST = do_PUT = do_HEAD = _handle

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, _: re.Match[str], body: bytes, __: str) -> None:
        asked = json.loads(body)
        owner = asked.get("organization") or "somebody"
        key = (asked.get("type") or "model", f"{owner}/{asked['name']}")
        if key in self.hub.repositories:
            return self._answer(409, {"error": "You already created this repo", "url": f"{self.hub.url}/{key[1]}"})
        self.hub.repositories[key] = {"main": []}
        self.hub.private[key] = bool(asked.get("private") or asked.get("visibility") == "private")
        self.hub.commit(*key, {".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._answer(200, {"url": f"{self.hub.url}/{key[1]}", "name": key[1]})

    def branch(self, found: re.Match[str], _: bytes, __: str) -> None:
        branches = self.hub.repositories[found["kind"], found["name"]]
        if found["branch"] in branches:
            return self._answer(409, {"error": "exists"})
        branches[found["branch"]] = list(branches["main"])
        return self._answer(200)

    def validate(self, _: re.Match[str], body: bytes, __: str) -> None:
        parts = json.loads(body)["content"].split("---\n")
        front = yaml.safe_load(parts[1]) if len(parts) > 2 else None
        wrong = []
        if not isinstance(front, dict) or front.get("license") not in LICENSES:
            wrong.append('"license" must be one of the known ones')
        if not all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in (front or {}).get("base_model", [])):
            wrong.append('"base_model" must be model ids')
        if not all(isinstance(tag, str) for tag in (front or {}).get("tags", [])):
            wrong.append('"tags" must be strings')
        return self._answer(400 if wrong else 200, {"errors": [{"message": one} for one in wrong], "warnings": []})

    def preupload(self, found: re.Match[str], body: bytes, __: str) -> None:
        if (found["kind"], found["name"]) not in self.hub.repositories:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        modes = [
            {"path": one["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if one["path"].endswith((".safetensors", ".parquet")) else "regular"}
            for one in json.loads(body)["files"]
        ]  # fmt: skip
        return self._answer(200, {"files": modes})

    def batch(self, _: re.Match[str], body: bytes, __: str) -> None:
        objects = [
            one if one["oid"] in self.hub.stored
            else one | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]  # fmt: skip
        return self._answer(200, {"transfer": "basic", "objects": objects})

    def store(self, found: re.Match[str], body: bytes, __: str) -> None:
        assert hashlib.sha256(body).hexdigest() == found["oid"]
        self.hub.stored[found["oid"]] = body
        self.hub.uploads.append(found["oid"])
        return self._answer(200)

    def add(self, found: re.Match[str], body: bytes, __: str) -> None:
        files: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        sha = self.hub.commit(found["kind"], found["name"], files, found["revision"])
        return self._answer(200, {"commitUrl": f"{self.hub.url}/{found['name']}/commit/{sha}", "commitOid": sha})

    # -- reading ---------------------------------------------------------------------------------------------------

    def _at(self, found: re.Match[str], token: str) -> tuple[str, dict[str, bytes]] | None:
        kind, name = found.groupdict().get("kind") or "model", found["name"]
        kind = {"datasets/": "dataset", "": "model"}.get(kind, kind)
        if (kind, name) not in self.hub.repositories or (self.hub.private.get((kind, name)) and not token):
            self._refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
            return None
        at = self.hub.files(kind, name, found.groupdict().get("revision") or "main")
        if at is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {found['revision']}")
        return at

    def info(self, found: re.Match[str], _: bytes, token: str) -> None:
        if at := self._at(found, token):
            siblings = [{"rfilename": name} for name in at[1]]
            self._answer(200, {"id": found["name"], "sha": at[0], "siblings": siblings, "private": False, "tags": []})

    def tree(self, found: re.Match[str], _: bytes, token: str) -> None:
        if at := self._at(found, token):
            rows = [{"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in at[1].items()]  # fmt: skip
            self._answer(200, rows)

    def resolve(self, found: re.Match[str], _: bytes, token: str) -> None:
        at = self._at(found, token)
        if at is None:
            return None
        sha, files = at
        if found["path"] not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        data = files[found["path"]]
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") or [0, "0"])[1])
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if self.command == "GET":
            self.hub.fetched.append(found["path"])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and self.hub.fails("CUT", found["path"]) == "cut":
            self.send_response(206 if start else 200)
            for key, one in (headers | {"Content-Length": str(len(data) - start)}).items():
                self.send_header(key, one)
            self.end_headers()
            self.wfile.write(data[start : start + 100])
            self.close_connection = True
            return None
        return self._answer(206 if start else 200, data[start:], headers)


_API = r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", rf"{_API}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"{_API}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", r"/(?:datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.store),
    ("POST", rf"{_API}/commit/(?P<revision>.+)", _Handler.add),
    ("GET", _API, _Handler.info),
    ("GET", rf"{_API}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", r"/(?P<kind>datasets/|)(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    (
        "HEAD",
        r"/(?P<kind>datasets/|)(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        _Handler.resolve,
    ),
]
