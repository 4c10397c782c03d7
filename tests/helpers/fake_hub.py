"""A server that plays the Hugging Face Hub: data sets with commits, private or gated, uploads, and faults on demand.

The real client of huggingface_hub talks to it, because HF_ENDPOINT names it. Content comes from another address, as the
Hub's does: 127.0.0.1 redirects to localhost, which must not receive the token.
https://huggingface.co/docs/hub/api
"""

import collections
import hashlib
import http.server
import json
import sys
import threading
import time
import urllib.parse

from helpers import fake_model_hub

NAME = "owner/name"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"  # of no account


class Hub(http.server.ThreadingHTTPServer):
    """The server, which is ready when it is made. `with` stops it at the end."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits = {}  # sha -> {path: bytes}
        self.branches = {}  # branch -> sha
        self.token = None  # which everybody needs, if it is set
        self.is_gated = False
        self.delay_s = 0.0  # before content
        # What happens to the next requests of content: a status, a body in place of the answer, "cut" or "short".
        self.faults = collections.deque()
        self.listing_faults = collections.deque()  # a status or a body, for the next other requests
        self.models = fake_model_hub.Models()
        self.sent = collections.Counter()  # bytes of content by path
        self.requests = []  # (path, Authorization or None)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def handle_error(self, request, client_address):
        """Says nothing of a client that was killed while it was reading."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit(self, files, branch="main"):
        """Replaces the files of a branch; returns the commit."""
        sha = hashlib.sha1(
            repr(sorted((p, hashlib.sha1(c).hexdigest()) for p, c in files.items())).encode()
        ).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        return sha

    def environment(self):
        """The variables of a process that is to use this server."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


class Handler(fake_model_hub.ModelRequests, http.server.BaseHTTPRequestHandler):
    """Answers the requests for a data set, its tree and its content, and those for models."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def _answer(self, code, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, fault):
        if isinstance(fault, bytes):
            return self._answer(200, fault)
        return self._answer(fault, Retry_After="0")

    def do_POST(self):
        """Takes requests about models; data sets are only read."""
        hub = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urllib.parse.unquote(self.path)
        hub.requests.append((path, self.headers.get("Authorization")))
        if hub.listing_faults:
            return self._fail(hub.listing_faults.popleft())
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._answer(401, {"error": "Invalid username or password."})
        return self.model_post(path, body)

    def do_PUT(self):
        return self.take_large_file()

    def do_HEAD(self):
        return self.do_GET()

    def do_GET(self):
        hub = self.server
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.requests.append((path, self.headers.get("Authorization")))
        if path.startswith("/content/"):
            _, _, sha, inside = path.split("/", 3)
            return self._content(hub.commits[sha][inside], inside)
        is_content = not path.startswith("/api/")
        faults = hub.faults if is_content else hub.listing_faults
        if faults and not isinstance(faults[0], str):
            return self._fail(faults.popleft())
        if hub.token and (given := self.headers.get("Authorization")) != f"Bearer {hub.token}":
            reason = {"X_Error_Message": "Invalid credentials in Authorization header"}
            return self._answer(401, **reason if given else {"X_Error_Code": "RepoNotFound"})
        if fake_model_hub.is_about_models(path):
            return self.model_get(path)
        path = path.removeprefix("/api").removeprefix("/datasets/")
        if not path.startswith(NAME):
            return self._answer(401, X_Error_Code="RepoNotFound")
        kind, _, rest = path.removeprefix(NAME).removeprefix("/").partition("/")
        # A revision may have slashes itself.
        names = {**hub.branches, **{sha: sha for sha in hub.commits}}
        revision = next((name for name in names if f"{rest}/".startswith(f"{name}/")), None) if kind else "main"
        if revision is None:
            return self._answer(404, X_Error_Code="RevisionNotFound")
        files, inside = hub.commits[names[revision]], rest[len(revision) + 1 :]
        if kind in ("", "revision"):
            return self._answer(200, {"id": NAME, "sha": names[revision], "tags": [], "siblings": []})
        if kind == "tree":
            return self._tree(files, inside, "recursive=true" in self.path.lower())
        if hub.is_gated:
            return self._answer(403, X_Error_Code="GatedRepo")
        if inside not in files:
            return self._answer(404, X_Error_Code="EntryNotFound")
        quoted = urllib.parse.quote(inside)
        where = f"http://localhost:{hub.server_port}/content/{names[revision]}/{quoted}?Signature=secret"
        return self._answer(302, Location=where)

    def _tree(self, files, folder, is_recursive):
        prefix, entries = f"{folder}/" if folder else "", {}
        for path, content in sorted(files.items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if is_recursive else min(len(parts), 2)):
                above = prefix + "/".join(parts[:depth])
                entries[above] = {"type": "directory", "oid": "0", "size": 0, "path": above}
            if is_recursive or len(parts) == 1:
                oid = hashlib.sha1(content).hexdigest()
                entries[path] = {"type": "file", "oid": oid, "size": len(content), "path": path}
        if not entries:
            return self._answer(404, X_Error_Code="EntryNotFound")
        return self._answer(200, list(entries.values()))

    def _content(self, content, inside):
        time.sleep(self.server.delay_s)
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        body = content[int(first) : int(last) + 1]
        self.server.sent[inside] += len(body)
        fault = self.server.faults.popleft() if self.server.faults else ""
        if fault == "short":
            return self._answer(206, body[: len(body) // 2])
        if fault == "cut":
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        return self._answer(206, body, Content_Range=f"bytes {first}-{last}/{len(content)}")
