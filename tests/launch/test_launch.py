"""launch/tpu_pod.sh with a stub gcloud that records its calls and plays Google Cloud's faults; hosts run scripts."""

import shlex
import shutil
import signal
import subprocess

from helpers.fake_cloud import ENV, RUN_ARGS, wait_for
import pytest

PLACE = ["--zone=us-central1-a", "--project=my-project-123"]
QUOTA = "ERROR: (gcloud.compute.tpus.tpu-vm.create) RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepod' has been exceeded."
FULL = 'ERROR: (gcloud.compute.tpus.tpu-vm.create) There is no more capacity in the zone "us-central1-a"'


def test_create_asks_for_the_pod_of_the_env_file(cloud):
    assert "costs money" in cloud.do("create")
    (created,) = [words for verb, words in cloud.calls() if verb == "tpu-vm create"]
    assert created[0] == "bert"
    options = {*PLACE, "--accelerator-type=v5litepod-16", "--spot", "--version=v2-alpha-tpuv5-lite"}
    assert options <= set(created)
    assert cloud.state()["node"]["state"] == "READY"


def test_on_demand_is_not_spot(cloud):
    cloud.env = ENV | {"CAPACITY": "on-demand"}
    cloud.do("create")
    assert not [words for _, words in cloud.calls() if "--spot" in words]


def test_a_queued_pod_is_waited_for(cloud):
    cloud.env = ENV | {"CREATE": "queued"}
    cloud.state(requests=["WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    output = cloud.do("create")
    assert output.index("WAITING_FOR_RESOURCES") < output.index("PROVISIONING") < output.index("ACTIVE")
    assert output.count("WAITING_FOR_RESOURCES") == 1
    ((_, words),) = [call for call in cloud.calls() if call[0] == "queued-resources create"]
    assert {"--node-id=bert", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} <= set(words)


@pytest.mark.parametrize(
    ("accelerator", "hosts", "chips", "runtime"),
    [
        ("v3-32", 4, 16, "tpu-ubuntu2204-base"),
        ("v4-32", 4, 16, "tpu-ubuntu2204-base"),
        ("v5p-32", 4, 16, "v2-alpha-tpuv5"),
        ("v6e-16", 4, 16, "v2-alpha-tpuv6e"),
        ("v6e-8", 1, 8, "v2-alpha-tpuv6e"),
        ("v5litepod-4", 1, 4, "v2-alpha-tpuv5-lite"),
    ],
)
def test_hosts_chips_and_runtime_follow_from_the_type(cloud, accelerator, hosts, chips, runtime):
    cloud.env = ENV | {"ACCELERATOR": accelerator}
    output = cloud.do("create", "--dry-run")
    assert f"({chips} chips on {hosts} hosts)" in output
    assert f"--version={runtime}" in output


@pytest.mark.parametrize(
    ("refusal", "fix"),
    [
        (QUOTA, "console.cloud.google.com/iam-admin/quotas?project=my-project-123"),
        (FULL, "us-central1-a has no free v5litepod-16 at the moment"),
        ("ERROR: (gcloud) Permission denied on 'locations/us-central1-a' (or it may not exist).", "there is no zone"),
        ("ERROR: (gcloud) INVALID_ARGUMENT: accelerator type v5litepod-16 not found in zone", "accelerator-types list"),
        ("ERROR: (gcloud) PERMISSION_DENIED: Permission 'tpu.nodes.create' denied", "roles/tpu.admin"),
        ("ERROR: Cloud TPU API has not been used in project 1 before", "gcloud services enable tpu.googleapis.com"),
        ("ERROR: (gcloud) There was a problem refreshing tokens. $ gcloud auth login", "run gcloud auth login"),
        ("ERROR: (gcloud) something new", "Google Cloud refused: ERROR: (gcloud) something new"),
    ],
)
def test_a_refusal_is_explained_with_its_fix(cloud, refusal, fix):
    cloud.state(refuse=[refusal])
    output = cloud.do("create", code=1)
    assert fix in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("error: ")


def test_a_pod_that_is_there_is_not_created_again(cloud):
    cloud.do("create")
    assert "bert exists already (READY)" in cloud.do("create", code=1)
    assert cloud.verbs() == ["tpu-vm create"]


def test_a_half_created_pod_is_named(cloud):
    cloud.state(hosts=3)
    assert "3 of 4 hosts: it was only half created" in cloud.do("create", code=1)


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        ("CREATING", "not ready yet"),
        ("PREEMPTED", "Google Cloud has taken bert back"),
        ("UNKNOWN", "delete it and create it again"),
    ],
)
def test_a_pod_in_another_state_is_not_set_up(cloud, state, fix):
    cloud.state(node={"state": state, "hosts": 4})
    assert fix in cloud.do("setup", code=1)
    assert "tpu-vm ssh" not in [verb for verb, _ in cloud.calls()]


def test_without_gcloud_or_login_the_fix_is_printed(cloud):
    bare = cloud.folder / "few"
    bare.mkdir()
    for name in ("bash", "dirname", "mktemp", "rm", "awk", "sed", "cat"):
        (bare / name).symlink_to(shutil.which(name))
    assert "gcloud is not installed" in cloud.do("create", code=1, path=str(bare))
    cloud.state(logged_in=False)
    assert "run gcloud auth login" in cloud.do("create", code=1)


def test_setup_ships_the_commit_and_is_repeatable(cloud):
    cloud.do("create")
    cloud.do("setup")
    commit = subprocess.check_output(["git", "-C", cloud.checkout, "rev-parse", "HEAD"], text=True).strip()
    for worker in range(4):
        code = cloud.folder / f"hosts/{worker}/bert_tpu/code"
        assert (code / "COMMIT").read_text().strip() == commit
        assert (code / "launch/host_run.sh").read_bytes() == (cloud.checkout / "launch/host_run.sh").read_bytes()
    calls = (cloud.folder / "uv.log").read_text().splitlines()
    assert sum("venv --quiet --python 3.13" in line for line in calls) == 4
    assert sum("pip install" in line and "--extra tpu" in line for line in calls) == 4
    cloud.do("setup")
    assert (cloud.folder / "uv.log").read_text().splitlines() == calls


def test_setup_copies_the_corpus_to_every_host_and_run_names_it(cloud):
    cloud.env = ENV | {"CORPUS": "gs://my-bucket/corpus"}
    cloud.do("create")
    (cloud.folder / "bucket/my-bucket/corpus").mkdir(parents=True)
    assert "gs://my-bucket/corpus has no corpus.json" in cloud.do("setup", code=1)
    (cloud.folder / "bucket/my-bucket/corpus/corpus.json").write_text("{}")
    cloud.do("setup")
    assert len(list(cloud.folder.glob("hosts/*/bert_tpu/corpus/corpus.json"))) == 4
    cloud.do("run", *RUN_ARGS)
    cloud.ended()
    assert all("--config.data.dir=../corpus" in start["args"] for start in cloud.lines("starts.jsonl"))


def test_a_host_out_of_reach_is_named(cloud):
    cloud.do("create")
    cloud.state(ssh_fails=[2])
    output = cloud.do("setup", code=1)
    assert "worker 2: cannot be reached by ssh" in output
    assert "worker 1:" not in output


def test_delete_asks(cloud):
    cloud.do("create")
    for answer in ("n\n", "\n", ""):
        assert "nothing was deleted" in cloud.do("delete", code=1, answer=answer)
    assert "tpu-vm delete" not in cloud.verbs()
    assert "is deleted" in cloud.do("delete", answer="y\n")
    assert cloud.state()["node"] is None
    assert "nothing to delete" in cloud.do("delete")
    cloud.do("create")
    cloud.do("delete", "--yes")
    assert cloud.state()["node"] is None


def test_delete_takes_a_queued_request_along(cloud):
    cloud.env = ENV | {"CREATE": "queued"}
    cloud.do("create")
    cloud.do("delete", "--yes")
    ((_, words),) = [call for call in cloud.calls() if call[0] == "queued-resources delete"]
    assert "--force" in words
    assert cloud.state()["request"] is None


@pytest.mark.parametrize(("made", "now"), [("direct", "queued"), ("queued", "direct")])
def test_what_was_made_with_another_create_is_seen_and_deleted(cloud, made, now):
    cloud.env = ENV | {"CREATE": made}
    cloud.do("create")
    cloud.env = ENV | {"CREATE": now}
    assert "it costs money until you delete it" in cloud.do("status")
    assert "exists already" in cloud.do("create", code=1)
    assert "is deleted" in cloud.do("delete", "--yes")
    assert (cloud.state()["node"], cloud.state()["request"]) == (None, None)


@pytest.mark.parametrize("create", ["direct", "queued"])
def test_a_waiting_request_is_seen_and_deleted_whatever_create_says(cloud, create):
    cloud.state(request={"states": ["WAITING_FOR_RESOURCES"]})
    cloud.env = ENV | {"CREATE": create}
    assert "in Google Cloud's queue: WAITING_FOR_RESOURCES" in cloud.do("status")
    assert "is in Google Cloud's queue already" in cloud.do("create", code=1)
    assert "is deleted" in cloud.do("delete", "--yes")
    assert cloud.state()["request"] is None


NETWORK = "ERROR: gcloud crashed (ConnectionError): Network is unreachable"


@pytest.mark.parametrize(("failures", "code"), [(9, 0), (10, 1)])
def test_create_waits_while_the_network_is_away(cloud, failures, code):
    cloud.env = ENV | {"CREATE": "queued"}
    cloud.state(requests=["WAITING_FOR_RESOURCES", *[NETWORK] * failures, "ACTIVE"])
    output = cloud.do("create", code=code)
    assert output.count("asking again") == 9
    assert ("bert is ready" in output) == (not code)
    assert ("The request for bert waits in Google Cloud: it may become a pod" in output) == bool(code)


def test_dry_run_prints_commands_and_runs_none(cloud):
    words = {"run": RUN_ARGS, "watch": RUN_ARGS}
    for create in ("direct", "queued"):
        cloud.env = ENV | {"CREATE": create}
        for command in ("create", "setup", "doctor", "run", "status", "logs", "watch", "stop", "delete"):
            lines = cloud.do(command, "--dry-run", *words.get(command, ())).splitlines()
            printed = [shlex.split(line) for line in lines if line.startswith("gcloud ")]
            assert printed, command
            assert all(set(PLACE) <= set(line) for line in printed)
            others = [line for line in lines if not line.startswith(("gcloud ", "git ", "# "))]
            assert not others, "a dry run must not report what it has not done"
    assert not cloud.lines("calls.jsonl")
    assert not (cloud.folder / "hosts").exists()


@pytest.mark.parametrize("word", ["--dry-run", "--no-doctor", "--env=x"])
def test_a_launcher_option_after_the_dashes_is_refused(cloud, word):
    for command in ("run", "watch"):
        assert f"error: {word} is an option of {command}: put it before --" in cloud.do(
            command, *RUN_ARGS, word, code=1
        )
    assert not cloud.calls()


@pytest.mark.parametrize(
    ("command", "at", "message"),
    [
        (["create"], "create", "interrupted: Google Cloud may still create bert, and it costs money from then on"),
        (["delete", "--yes"], "delete", "interrupted: Google Cloud may or may not have deleted bert"),
        (["setup"], "scp", "interrupted: bert costs money as long as it exists"),
    ],
)
def test_ctrl_c_prints_what_exists(cloud, command, at, message):
    if command != ["create"]:
        cloud.up()
    busy = cloud.folder / "busy"
    slow = f"""import sys, time
if {at!r} in sys.argv:
    open({str(busy)!r}, "w").close()
    time.sleep(1)
"""
    cloud.program("gcloud", (cloud.bin / "gcloud").read_text().replace("\n", "\n" + slow, 1))
    running = cloud.start(*command)
    wait_for(busy.exists)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert message in err
    assert "launch/tpu_pod.sh status prints what exists" in err
    assert "Terminated" not in err


def test_status_prints_what_exists_and_whether_it_costs_money(cloud):
    assert "nothing costs money" in cloud.do("status")
    cloud.env = ENV | {"CREATE": "queued"}
    cloud.state(request={"states": ["WAITING_FOR_RESOURCES"]})
    assert "in Google Cloud's queue: WAITING_FOR_RESOURCES" in cloud.do("status")
    cloud.up()
    output = cloud.do("status")
    assert "bert in us-central1-a: READY, v5litepod-16 (16 chips, 4 hosts), spot; it costs money" in output
    assert output.count("idle") == 4
    cloud.state(ssh_fails=[1])
    assert "worker 1  no answer" in cloud.do("status")
    cloud.state(node={"state": "PREEMPTED", "hosts": 0})
    assert "Google Cloud has taken bert back" in cloud.do("status")


def test_a_printed_command_can_be_pasted(cloud):
    """The commands that `run --dry-run` prints are those that `run` calls."""
    cloud.up()
    printed = cloud.do("run", "--no-doctor", "--dry-run", *RUN_ARGS, "--config.a=two 'words'").splitlines()
    starts = [line for line in printed if " start " in shlex.split(line)[-1]]
    assert len(starts) == 4
    cloud.do("run", "--no-doctor", *RUN_ARGS, "--config.a=two 'words'")
    called = [["gcloud", *words] for words in cloud.lines("calls.jsonl") if " start " in words[-1]]
    address = "ADDRESS-OF-WORKER-0", "10.0.0.2"
    assert sorted(shlex.split(line.replace(*address)) for line in starts) == sorted(called)
