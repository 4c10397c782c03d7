"""The manifest for Kubernetes agrees with itself, with the image and with launch/tpu_pod.sh."""

import math
import re

from conftest import ROOT
import pytest
import yaml

from bert_tpu.core import command, config

# https://docs.cloud.google.com/kubernetes-engine/docs/concepts/tpus: 4 chips per host in a slice of several hosts.
CHIPS = 4


@pytest.fixture(scope="module")
def jobset():
    (document,) = yaml.safe_load_all((ROOT / "launch/jobset.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def job(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


@pytest.fixture(scope="module")
def pod(job):
    return job["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


def env_of(container):
    return {entry["name"]: entry for entry in container["env"]}


def test_it_is_a_jobset(jobset):
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")


def test_pods_processes_and_chips_fill_the_topology(job, pod, container):
    env = env_of(container)
    assert job["parallelism"] == job["completions"] == int(env["JAX_NUM_PROCESSES"]["value"])
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    assert container["resources"]["limits"]["google.com/tpu"] == CHIPS
    assert chips == CHIPS * job["completions"]


def test_the_coordinator_is_the_first_pod_by_its_jobset_name(jobset, container):
    name, (replicated,), network = (
        jobset["metadata"]["name"],
        jobset["spec"]["replicatedJobs"],
        jobset["spec"]["network"],
    )
    host, port = env_of(container)["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    assert host == f"{name}-{replicated['name']}-0-0.{network['subdomain']}"
    assert network["enableDNSHostnames"]
    assert network["publishNotReadyAddresses"]
    assert int(port) in [entry["containerPort"] for entry in container["ports"]]


def test_the_port_is_the_launchers(container):
    port = re.search(r"^PORT=(\d+)$", (ROOT / "launch/hosts.sh").read_text(), re.MULTILINE)[1]
    assert env_of(container)["JAX_COORDINATOR_ADDRESS"]["value"].endswith(f":{port}")


def test_a_process_is_numbered_by_its_completion_index(job, container):
    assert job["completionMode"] == "Indexed"
    path = env_of(container)["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_the_environment_has_the_launchers_variables(container):
    names = set(re.findall(r"JAX_[A-Z_]+(?==)", (ROOT / "launch/host_run.sh").read_text()))
    assert env_of(container).keys() == names


def test_one_lost_pod_restarts_all_and_a_stop_has_time_to_save(jobset, job, pod):
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_the_arguments_are_a_config_and_a_workdir_in_the_bucket(container, monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = command.Parser()
    parser.add_argument("--workdir")
    args = config.parse(parser, config.PRETRAINING, container["args"])
    assert args.workdir.startswith("gs://")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert args.config.data.dir in mounts


def test_every_volume_is_mounted(pod):
    mounted = {m["name"] for c in [*pod["containers"], *pod["initContainers"]] for m in c["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_image_has_the_files_of_a_run():
    text = (ROOT / "launch/Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"bert_tpu", "configs", "pyproject.toml", "constraints.txt"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert 'ENTRYPOINT ["python", "-m", "bert_tpu.pretrain"]' in text
