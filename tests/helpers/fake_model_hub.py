"""The part of the fake Hub that keeps models: repositories with branches and commits, large files, and downloads."""

import base64
import collections
import hashlib
import json
import threading

OWN = {".gitattributes": b"*.safetensors filter=lfs\n"}  # content of a new repository
LARGE = ".safetensors"  # the Hub takes such files as large ones


def sha(content):
    return hashlib.sha1(repr(content).encode()).hexdigest()


class Model:
    """A model's repository: commits with all of their files, and branches."""

    def __init__(self, files=OWN):
        self.commits, self.branches = {}, {}  # sha -> ({path: bytes}, parent); branch -> sha
        self.large = {}  # sha256 -> bytes, arrived but perhaps in no commit
        self.commit("main", files)

    def commit(self, branch, files):
        """Adds a commit with exactly `files` to a branch; returns its sha."""
        parent = self.branches.get(branch)
        digest = sha((parent, sorted((name, hashlib.sha1(raw).hexdigest()) for name, raw in files.items())))
        self.commits[digest] = dict(files), parent
        self.branches[branch] = digest
        return digest

    def files(self, revision="main"):
        """Returns {path: bytes} of a branch or commit, without the Hub's own file."""
        files, _ = self.commits[self.branches.get(revision, revision)]
        return {name: raw for name, raw in files.items() if name not in OWN}

    def history(self, revision):
        digest = self.branches.get(revision, revision)
        while digest:
            yield digest
            digest = self.commits[digest][1]


class Models:
    """All models of a hub, and faults on demand."""

    def __init__(self):
        self.by_name = {}  # OWNER/NAME -> Model
        self.taken = set()  # names of repositories that belong to somebody else
        # What happens to the next large files: a status; "cut", the connection ends in the middle; "wait".
        self.large_faults = collections.deque()
        # What happens to the next commits: a status; "lost", the commit is made and its answer does not arrive.
        self.commit_faults = collections.deque()
        self.sent = collections.Counter()  # bytes of large files that arrived, by sha256
        self.is_waiting = threading.Event()  # set when a client waits


class ModelRequests:
    """Methods of the handler, for requests about models. Each returns False for other requests."""

    def model_post(self, path, body):
        models = self.server.models
        if path == "/api/validate-yaml":
            return self._answer(200, {"warnings": [], "errors": []})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in models.taken:
                return self._answer(403, {"error": f"You don't have the rights to create {name}"})
            if name in models.by_name:
                return self._answer(409, {"url": f"{self._address()}/{name}"})
            models.by_name[name] = Model()
            return self._answer(200, {"url": f"{self._address()}/{name}"})
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(path.split(".git/")[0].strip("/"), json.loads(body))
        _, _, owner, name, action, revision = path[1:].split("/")
        model = models.by_name[f"{owner}/{name}"]
        if action == "preupload":
            return self._answer(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
        if action == "branch":
            if revision in model.branches:
                return self._answer(409, {"error": "the branch exists"})
            model.branches[revision] = json.loads(body)["startingPoint"]
            return self._answer(200, {})
        return self._commit(model, f"{owner}/{name}", revision, list(map(json.loads, body.splitlines())))

    def _batch(self, name, wanted):
        objects = []
        for file in wanted["objects"]:
            url = f"{self._address()}/large/{name}/{file['oid']}"
            known = file["oid"] in self.server.models.by_name[name].large
            objects.append(file if known else file | {"actions": {"upload": {"href": url, "header": {}}}})
        return self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, model, name, branch, lines):
        header, *operations = lines
        fault = self.server.models.commit_faults.popleft() if self.server.models.commit_faults else None
        if isinstance(fault, int):
            return self._answer(fault)
        if header["value"].get("parentCommit", model.branches[branch]) != model.branches[branch]:
            return self._answer(412, {"error": "the branch has moved"})
        files, _ = model.commits[model.branches[branch]]
        files = dict(files)
        for line in operations:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = model.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        digest = model.commit(branch, files)
        if fault == "lost":
            self.close_connection = True
            return None
        return self._answer(200, {"commitUrl": f"{self._address()}/{name}/commit/{digest}", "commitOid": digest})

    def take_large_file(self):
        models, (_, _, owner, name, oid) = self.server.models, self.path.split("/")
        fault = models.large_faults.popleft() if models.large_faults else None
        size = int(self.headers["Content-Length"])
        if fault == "cut":
            self.rfile.read(size // 2)
            self.close_connection = True
            return None
        body = self.rfile.read(size)
        if fault == "wait":
            models.is_waiting.set()
            threading.Event().wait(60)  # not time.sleep, which tests replace
        if isinstance(fault, int):
            return self._answer(fault)
        assert hashlib.sha256(body).hexdigest() == oid
        models.by_name[f"{owner}/{name}"].large[oid] = body
        models.sent[oid] += size
        return self._answer(200)

    def model_get(self, path):
        """Answers GET and HEAD about a model."""
        is_content = not path.startswith("/api/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        model = self.server.models.by_name.get("/".join(parts[:2]))
        if model is None:
            return self._answer(404, X_Error_Code="RepoNotFound")
        action, revision, inside = ([*parts[2:], "", ""])[0], ([*parts[2:], "main", "main"])[1], "/".join(parts[4:])
        if action == "refs":
            heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in model.branches.items()]
            return self._answer(200, {"branches": heads, "converts": [], "tags": []})
        revision = revision if action else "main"
        if model.branches.get(revision, revision) not in model.commits:
            return self._answer(404, X_Error_Code="RevisionNotFound")
        digest = model.branches.get(revision, revision)
        files, _ = model.commits[digest]
        if action == "commits":
            entries = [
                {"id": commit, "authors": [], "date": "2026-01-01T00:00:00.000Z", "title": "", "message": ""}
                for commit in model.history(revision)
            ]
            return self._answer(200, entries)
        if action == "tree":
            return self._answer(200, [_entry(name, raw) for name, raw in sorted(files.items())])
        if is_content:
            return self._download(files, inside, digest)
        siblings = [{"rfilename": name} for name in files]
        return self._answer(200, {"id": "/".join(parts[:2]), "sha": digest, "tags": [], "siblings": siblings})

    def _download(self, files, inside, digest):
        if inside not in files:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=digest)
        raw = files[inside]
        headers = {"X_Repo_Commit": digest, "ETag": f'"{hashlib.sha256(raw).hexdigest()}"'}
        return self._answer(200, raw, **headers)

    def _address(self):
        return f"http://127.0.0.1:{self.server.server_port}"


def is_about_models(path):
    """Returns whether a GET or HEAD is about a model, not a data set."""
    return path.startswith("/api/models/") or (not path.startswith(("/api/", "/datasets/")) and "/resolve/" in path)


def _mode(file):
    mode = "lfs" if file["path"].endswith(LARGE) else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def _entry(name, raw):
    entry = {"type": "file", "path": name, "size": len(raw)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 134}
    return entry
