"""SkyPilot's task and the line for XPK give each host what a run needs; JAX's own cluster detection is the model."""

import http.server
import os
import re
import shlex
import subprocess
import threading

from conftest import ROOT
from jax._src.clusters import cloud_tpu_cluster
import pytest
import yaml

from bert_tpu.core import command, config
from bert_tpu.distributed import rendezvous

SCRIPT = ROOT / "launch/tpu_worker.sh"
TASK = yaml.safe_load((ROOT / "launch/sky.yaml").read_text())


def environment_of(*, code=0, **variables):
    """The variables of the rendezvous that a command gets on a host with `variables`; the error where `code` is 1."""
    names = ("PATH", *(name for name in variables if variables[name] is not None))
    done = subprocess.run(
        ["bash", SCRIPT, "env"],
        env={name: variables.get(name, os.environ.get(name)) for name in names}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    pairs = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return done.stderr if code else tuple(pairs[name] for name in rendezvous.ENVIRONMENT)


class Metadata(http.server.BaseHTTPRequestHandler):
    """Google Cloud's metadata server, with the attributes in `attributes`."""

    attributes = None

    def do_GET(self):
        value = (self.attributes or {}).get(self.path.removeprefix("/computeMetadata/v1/instance/attributes/"))
        found = value is not None and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write((value or "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    """Starts a metadata server; returns its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("GCE_METADATA_IP", address)
    yield address
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "endpoints", ["10.0.0.7,10.0.0.5,10.0.0.6,10.0.0.8", "a:0:10.0.0.7,b:1:10.0.0.5,c:2:10.0.0.6,d:3:10.0.0.8"]
)
def test_a_tpu_vm_gets_the_numbers_that_jax_finds(metadata, monkeypatch, endpoints):
    cluster = cloud_tpu_cluster.GceTpuCluster
    for number in range(4):
        values = {"agent-worker-number": str(number), "worker-network-endpoints": endpoints, "tpu-env": "ZONE: 'a'"}
        monkeypatch.setattr(Metadata, "attributes", values)
        expected = cluster.get_coordinator_address(9, "8476"), cluster.get_process_count(), cluster.get_process_id()
        assert environment_of(GCE_METADATA_IP=metadata) == tuple(map(str, expected))


def test_a_container_gets_the_numbers_that_jax_finds(monkeypatch):
    variables = {"TPU_WORKER_HOSTNAMES": "localhost,bert-1.bert,bert-2.bert", "TPU_WORKER_ID": "2"}
    for name, value in (variables | {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEGASCALE_SLICE_ID", "0")
    cluster = cloud_tpu_cluster.GkeTpuCluster
    expected = cluster.get_coordinator_address(9, "8476"), cluster.get_process_count(), cluster.get_process_id()
    assert environment_of(**variables) == tuple(map(str, expected)) == ("localhost:8476", "3", "2")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"GCE_METADATA_IP": "127.0.0.1:9"}, "so run the command without launch/tpu_worker.sh"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "set TPU_WORKER_ID to a whole number"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "2"}, "this is host 2, but only 2 are named (a,b)"),
    ],
)
def test_a_host_without_a_place_is_refused_in_a_sentence(variables, words):
    error = environment_of(code=1, **variables)
    assert words in error
    assert len(error.splitlines()) == 1


def check_command(words, monkeypatch, *, python):
    """Checks that `words` run pretraining on a host, and returns its config."""
    assert words[:3] == ["exec", "bash", "launch/tpu_worker.sh"]
    assert words[3:6] == [python, "-m", "bert_tpu.pretrain"]
    monkeypatch.chdir(ROOT)
    parser = command.Parser()
    parser.add_argument("--workdir")
    args = config.parse(parser, config.PRETRAINING, words[6:])
    assert args.workdir.startswith("gs://")
    assert args.config.compile_cache.startswith("gs://")
    return args.config


def test_skypilots_task_is_a_spot_slice_that_comes_back(monkeypatch):
    resources = TASK["resources"]
    assert resources["use_spot"]
    assert resources["job_recovery"]["strategy"] == "FAILOVER"
    settings = (ROOT / "launch/settings.sh").read_text() + (ROOT / "launch/tpu_pod.env.example").read_text()
    assert resources["accelerators"].removeprefix("tpu-") in settings
    assert resources["accelerator_args"]["runtime_version"] in settings
    cfg = check_command(shlex.split(TASK["run"].replace("\\\n", "")), monkeypatch, python="~/venv/bin/python")
    assert cfg.data.dir in TASK["file_mounts"]


def test_skypilots_hosts_get_the_software_of_the_launchers_hosts():
    words = re.search(r"^UV=(\S+) .*^PYTHON=(\S+) ", (ROOT / "launch/host_setup.sh").read_text(), re.M | re.S).groups()
    assert f"uv=={words[0]}\n" in TASK["setup"]
    assert f"--python {words[1]} " in TASK["setup"]
    assert "-r pyproject.toml --extra tpu -c constraints.txt" in TASK["setup"]


def test_xpks_line_runs_the_same_command_in_the_image(monkeypatch):
    page = (ROOT / "docs/pods.md").read_text().replace("\\\n", "")
    words = shlex.split(re.search(r"^ +(xpk workload create.*)$", page, re.M)[1])
    options = dict(zip(words[3::2], words[4::2], strict=True))
    cfg = check_command(shlex.split(options["--command"]), monkeypatch, python="python")
    assert cfg.data.dir.startswith("gs://")
    assert f"-t {options['--docker-image']} ".replace("my-project-123", "PROJECT") in (
        (ROOT / "launch/Dockerfile").read_text().replace("\n", " ")
    )
    # A host ends with 1 if it loses another. XPK starts the job again after a 1 only with this option.
    assert options["--restart-on-exit-codes"] == "1"
    assert int(options["--max-restarts"]) > 0


def test_the_port_is_the_launchers():
    texts = [(ROOT / name).read_text() for name in ("launch/hosts.sh", "launch/tpu_worker.sh")]
    assert len({re.search(r"^PORT=(\d+)", text, re.M)[1] for text in texts}) == 1
