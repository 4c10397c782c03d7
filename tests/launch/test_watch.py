"""`launch/tpu_pod.sh watch` keeps one run alive through faults of Google Cloud, and gives up if that cannot help."""

import os
import signal
import subprocess
import time

from conftest import ROOT
from helpers.fake_cloud import ENV, RUN_ARGS, wait_for
import pytest

FULL = 'ERROR: (gcloud.compute.tpus.tpu-vm.create) There is no more capacity in the zone "us-central1-a"'
QUOTA = "ERROR: (gcloud.compute.tpus.tpu-vm.create) Quota limit 'TPUV5sLitepod' has been exceeded. Limit: 0"


def starts(cloud):
    """Returns the starts of worker 0."""
    return [start for start in cloud.lines("starts.jsonl") if start["JAX_PROCESS_ID"] == "0"]


@pytest.mark.parametrize("create", ["direct", "queued"])
def test_two_preemptions_end_in_a_finished_run(cloud, create):
    cloud.env = ENV | {"CREATE": create}
    cloud.up()
    cloud.state(preempt_at=[10, 20], requests=["WAITING_FOR_RESOURCES", "ACTIVE"])
    cloud.play(steps=30, stall_at=[10, 20])
    output = cloud.do("watch", "--no-doctor", *RUN_ARGS)
    assert output.count("Google Cloud has taken bert back") == 2
    assert "the run has finished" in output
    # Each start continues from the last checkpoint of the one before, in the same workdir, with the same arguments.
    assert [start["first"] for start in starts(cloud)] == [0, 10, 20]
    assert len({tuple(start["args"]) for start in cloud.lines("starts.jsonl")}) == 1
    assert (cloud.folder / "bucket/my-bucket/runs/medium/step").read_text() == "30"
    kind = "tpu-vm" if create == "direct" else "queued-resources"
    assert cloud.verbs().count(f"{kind} create") == 2
    assert cloud.verbs().count(f"{kind} delete") == 2


def test_a_run_that_lives_is_watched_and_not_started_again(cloud):
    cloud.up()
    cloud.play(steps=60, step_s=0.05)
    cloud.do("run", "--no-doctor", *RUN_ARGS)
    assert "the run has finished" in cloud.do("watch", *RUN_ARGS)
    assert len(starts(cloud)) == 1


def test_another_run_is_left_alone(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *RUN_ARGS)
    other = [*RUN_ARGS[:-1], "gs://my-bucket/runs/other"]
    assert "another run is alive" in cloud.do("watch", "--no-doctor", *other, code=1)
    assert len(starts(cloud)) == 1
    assert cloud.do("status").count("running") == 4


def test_a_fault_of_the_arguments_ends_the_watch(cloud):
    cloud.up()
    cloud.play(steps=3, exit_codes=[1] * 9)
    output = cloud.do("watch", "--no-doctor", *RUN_ARGS, code=1)
    assert "error: the config has a fault" in output
    assert "failure 3 in a row" in output
    assert len(starts(cloud)) == 3


def test_two_crashes_do_not_end_the_watch(cloud):
    cloud.up()
    cloud.play(steps=3, exit_codes=[137, 1])
    assert "the run has finished" in cloud.do("watch", "--no-doctor", *RUN_ARGS)
    assert len(starts(cloud)) == 3


def test_a_run_stopped_by_hand_ends_the_watch_and_the_same_command_continues_it(cloud):
    cloud.up()
    cloud.play(steps=400)
    watching = cloud.start("watch", "--no-doctor", *RUN_ARGS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 4)
    cloud.do("stop")
    _, err = watching.communicate(timeout=100)
    assert watching.returncode == 1, err
    assert "stopped with launch/tpu_pod.sh stop" in err
    cloud.play(steps=1)
    assert "the run has finished" in cloud.do("watch", "--no-doctor", *RUN_ARGS)


def test_if_one_host_dies_the_others_are_stopped_and_all_start_again(cloud):
    cloud.up()
    cloud.play(steps=10_000)
    watching = cloud.start("watch", "--no-doctor", *RUN_ARGS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 4)
    pid = cloud.folder / "hosts/2/bert_tpu/run/pid"
    cloud.play(steps=300, step_s=0.001)
    os.kill(int(wait_for(pid.exists) and pid.read_text()), signal.SIGKILL)
    _, err = watching.communicate(timeout=100)
    assert watching.returncode == 0, err
    assert "only 3 of 4 hosts still run" in err
    assert len(starts(cloud)) == 2


@pytest.mark.parametrize(("errors", "gives_up_after"), [(["a", "a", "a", "a"], 3), (["a", "b", "a", "b", "a", "a"], 0)])
def test_runs_that_end_with_the_same_error_again_and_again_end_the_watch(errors, gives_up_after):
    """A run that lived for 20 minutes is no failed start, but one that stops at the same step each time is hopeless."""
    script = f"""
        set -euo pipefail
        say() {{ echo "$*"; }}; fail() {{ echo "gives up: $*"; exit 1; }}; clock() {{ echo "$1 s"; }}
        count_hosts() {{ COUNT=0; }}
        . {ROOT}/launch/watch.sh
        HOSTS=2 NAME=bert FAILURES=0 LAST_ERROR="" SAME_ERRORS=0 RUN_STATE=(failed failed) RUN_SECONDS=(1200 1200)
        for error in {" ".join(errors)}; do RUN_LINE=("$error" "$error"); handle_dead_run; done
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.count("the run ended after 1200 s: ") == (gives_up_after or len(errors)), done.stderr
    assert ("gives up: this was failure 3 in a row" in done.stdout) == bool(gives_up_after)


def test_a_full_zone_is_waited_for_and_a_quota_is_not(cloud):
    cloud.up()
    cloud.play(steps=1, step_s=0.01)
    cloud.state(preempt_at=[0], refuse=[FULL] * 5)
    output = cloud.do("watch", "--no-doctor", *RUN_ARGS)
    assert "has no free v5litepod-16" in output
    assert "the run has finished" in output
    cloud.do("delete", "--yes")
    cloud.do("create")
    cloud.state(preempt_at=[0], refuse=[QUOTA] * 9)
    other = [*RUN_ARGS[:-1], "gs://my-bucket/runs/other"]
    output = cloud.do("watch", "--no-doctor", *other, code=1)
    assert "failure 3 in a row" in output
    assert "iam-admin/quotas" in output


def test_hosts_with_another_commit_than_the_clone_are_refused(cloud):
    cloud.up()
    for path in cloud.folder.glob("hosts/*/bert_tpu/code/COMMIT"):
        path.write_text("0" * 40 + "\n")
    output = cloud.do("watch", "--no-doctor", *RUN_ARGS, code=1)
    assert f"the hosts have commit {'0' * 12} and this clone has" in output
    assert f"git checkout {'0' * 40}, or stop the run and set the hosts up again" in output
    assert not starts(cloud)
    cloud.play(steps=1, step_s=0.01)
    assert "the run gets that of the hosts" in cloud.do("run", "--no-doctor", *RUN_ARGS)


def test_a_request_is_waited_for_as_long_as_the_zone_is_full(cloud):
    cloud.env = ENV | {"CREATE": "queued"}
    cloud.state(request={"states": [*["WAITING_FOR_RESOURCES"] * 10, "ACTIVE"]})
    cloud.play(steps=1, step_s=0.01)
    output = cloud.do("watch", "--no-doctor", *RUN_ARGS)
    assert output.count("the request for bert: WAITING_FOR_RESOURCES") == 1
    assert "the run has finished" in output


def test_a_pod_deleted_by_hand_stays_deleted(cloud):
    for create in ("direct", "queued"):
        cloud.env = ENV | {"CREATE": create}
        assert "watch did not delete it" in cloud.do("watch", *RUN_ARGS, code=1)
    assert not cloud.verbs()


def test_a_host_that_does_not_answer_is_not_taken_for_a_dead_run(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *RUN_ARGS)
    cloud.state(ssh_fails=[1])
    watching = cloud.start("watch", "--no-doctor", *RUN_ARGS)
    wait_for(lambda: sum("state" in words[-1] for verb, words in cloud.calls()) > 16)
    cloud.state(ssh_fails=[])
    time.sleep(2)
    watching.send_signal(signal.SIGTERM)
    _, err = watching.communicate(timeout=100)
    assert "1 of 4 hosts do not answer: worker 1" in err
    assert len(starts(cloud)) == 1
    assert watching.returncode == 130
    assert "a run on the hosts continues, and bert costs money" in err
    assert cloud.do("status").count("running") == 4


def test_an_interrupted_start_leaves_no_run(cloud):
    """Ctrl-C while the hosts are being started stops those that have started."""
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    real = (cloud.bin / "gcloud").read_text()
    slow = f"""import os, sys, time
while ' start ' in sys.argv[-1] and '--worker=3' in sys.argv and not os.path.exists({str(cloud.folder / "open")!r}):
    time.sleep(0.1)
"""
    cloud.program("gcloud", real.replace("\n", "\n" + slow, 1))
    running = cloud.start("run", "--no-doctor", *RUN_ARGS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=100)
    assert running.returncode == 130
    assert "stopping it on every host" in err
    assert "delete deletes it" in err
    assert "Terminated" not in err  # bash's own message about the connections
    assert "running" not in cloud.ended()
    (cloud.folder / "open").touch()
    time.sleep(2)  # the connection to worker 3 has ended too, and starts nothing later
    assert len(cloud.lines("starts.jsonl")) == 3
