"""A folder as a bucket: `python tests/helpers/fake_bucket.py FOLDER WORD...` pretrains with gs:// meaning FOLDER.

Three clients reach a bucket. This file replaces two of them: etils.epath (by TensorFlow) for small files, and
google-cloud-storage for the kind of the bucket. TensorStore, for arrays, gets a server that speaks its protocol.
https://docs.cloud.google.com/storage/docs/json_api/v1/objects
"""

import collections.abc
import hashlib
import http.server
import io
import json
import os
import pathlib
import sys
import threading
import urllib.parse

from etils.epath import backend, gpath
from orbax.checkpoint._src.path import gcs_utils

URL = "TENSORSTORE_GCS_HTTP_URL"


class Folder:
    """A backend of epath that reads gs://B/N from FOLDER/B/N."""

    def __init__(self, folder):
        self._folder = f"{folder}/"

    def __getattr__(self, name):
        function = getattr(backend.os_backend, name)

        def call(*args, **options):
            inward = [a.replace("gs://", self._folder) if isinstance(a, str) else a for a in map(_plain, args)]
            return self._outward(function(*inward, **options))

        return call

    def _outward(self, value):
        match value:
            case str():
                return value.replace(self._folder, "gs://")
            case pathlib.PurePath():  # of walk, since Python 3.12
                return self._outward(str(value))
            case list() | tuple():
                return type(value)(map(self._outward, value))
            case collections.abc.Iterator() if not isinstance(value, io.IOBase):
                return map(self._outward, value)
            case _:
                return value


def _plain(path):
    return os.fspath(path) if isinstance(path, os.PathLike) else path


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves objects: media upload, ranged reads, listing, deletion. A generation is a hash of the content."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _object(self):
        url = urllib.parse.urlsplit(self.path)
        query = {key: value[0] for key, value in urllib.parse.parse_qs(url.query).items()}
        _, _, rest = url.path.partition("/b/")
        bucket, _, name = rest.partition("/o")
        name = urllib.parse.unquote(name.removeprefix("/")) or query.get("name", "")
        return self.server.folder / bucket, name, query

    def _answer(self, code, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refused(self, path, query):
        """Returns whether a condition on the generation is not met; if so, the request is answered."""
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and wanted != _generation(path):
            self._answer(412, {"error": {"code": 412}})
            return True
        return False

    def do_POST(self):
        folder, name, query = self._object()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.guard:
            if self._refused(folder / name, query):
                return
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            new = folder / f"{name}.new"
            new.write_bytes(body)
            new.replace(folder / name)  # an object appears complete or not at all
            self._answer(200, {"name": name, "generation": _generation(folder / name), "size": str(len(body))})

    def do_GET(self):
        folder, name, query = self._object()
        if not name:
            names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            items = [{"name": n, "size": "0"} for n in names if n.startswith(query.get("prefix", ""))]
            self._answer(200, {"kind": "storage#objects", "items": items})
        elif not (folder / name).is_file():
            self._answer(404)
        elif query.get("alt") != "media":
            self._answer(200, {"name": name, "generation": _generation(folder / name)})
        else:
            body, code = (folder / name).read_bytes(), 200
            extra = {"x_goog_generation": _generation(folder / name)}
            if span := self.headers.get("Range"):
                first, _, last = span.removeprefix("bytes=").partition("-")
                start = int(first) if first else max(len(body) - int(last), 0)
                stop = int(last) + 1 if first and last else len(body)
                stop = min(stop, len(body))
                extra["Content_Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
                body, code = body[start:stop], 206
            self._answer(code, body, **extra)

    def do_DELETE(self):
        folder, name, _ = self._object()
        (folder / name).unlink(missing_ok=True)
        self._answer(204)


def _generation(path):
    return str(int(hashlib.sha256(path.read_bytes()).hexdigest()[:12], 16) + 1) if path.is_file() else "0"


def start(folder) -> http.server.ThreadingHTTPServer:
    """Starts a server of the objects in `folder`; its thread ends with this process or by `shutdown`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder, server.guard = pathlib.Path(folder), threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def url(server):
    """Returns the variable of the environment that leads TensorStore to `server`."""
    return {URL: f"http://127.0.0.1:{server.server_port}"}


def serve(folder):
    """Makes gs:// mean `folder` in this process. Hosts of a pod share one server, which the environment names."""
    if URL not in os.environ:
        os.environ |= url(start(folder))
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "none"
    gpath._is_tf_installed = lambda: False
    gpath._PREFIX_TO_BACKEND["gs"] = Folder(folder)
    gcs_utils.get_bucket = lambda name: None  # a bucket without hierarchical namespace


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    serve(folder)
    from bert_tpu.core import command
    from bert_tpu.pretrain import __main__ as pretrain

    command.run(pretrain.main)
