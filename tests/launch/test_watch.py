"""`launch/tpu_pod.sh watch` keeps one run alive through what Cloud does to its pod, and ends when there is no point."""

import os
import signal
import time

from helpers.fake_cloud import ENV, WORDS, wait_for
import pytest

FULL = 'ERROR: (gcloud.compute.tpus.tpu-vm.create) There is no more capacity in the zone "us-central1-a"'
QUOTA = "ERROR: (gcloud.compute.tpus.tpu-vm.create) Quota limit 'TPUV5sLitepod' has been exceeded. Limit: 0"


def starts(cloud):
    """Worker 0's starts."""
    return [start for start in cloud.lines("starts.jsonl") if start["JAX_PROCESS_ID"] == "0"]


@pytest.mark.parametrize("create", ["direct", "queued"])
def test_two_preemptions_end_in_a_finished_run(cloud, create):
    cloud.env = ENV | {"CREATE": create}
    cloud.up()
    cloud.state(preempt_at=[10, 20], requests=["WAITING_FOR_RESOURCES", "ACTIVE"])
    cloud.play(steps=30, holds=[10, 20])
    said = cloud.do("watch", "--no-doctor", *WORDS)
    assert said.count("Cloud has taken bert back") == 2
    assert "the run has finished" in said
    begun = starts(cloud)
    # Each goes on from what the one before had saved, in the same workdir, with the same words.
    assert [start["first"] for start in begun] == [0, 10, 20]
    assert len({tuple(start["words"]) for start in cloud.lines("starts.jsonl")}) == 1
    assert (cloud.folder / "bucket/my-bucket/runs/medium/step").read_text() == "30"
    kind = "tpu-vm" if create == "direct" else "queued-resources"
    assert cloud.verbs().count(f"{kind} create") == 2
    assert cloud.verbs().count(f"{kind} delete") == 2


def test_a_run_that_lives_is_watched_and_not_started_again(cloud):
    cloud.up()
    cloud.play(steps=60, step_s=0.05)
    cloud.do("run", "--no-doctor", *WORDS)
    assert "the run has finished" in cloud.do("watch", *WORDS)
    assert len(starts(cloud)) == 1


def test_another_run_is_left_alone(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *WORDS)
    other = [*WORDS[:-1], "gs://my-bucket/runs/other"]
    assert "another run is alive" in cloud.do("watch", "--no-doctor", *other, code=1)
    assert len(starts(cloud)) == 1
    assert cloud.do("status").count("running") == 4


def test_a_fault_of_the_words_ends_the_watch(cloud):
    cloud.up()
    cloud.play(steps=3, die=[1] * 9)
    said = cloud.do("watch", "--no-doctor", *WORDS, code=1)
    assert "error: the config has a fault" in said
    assert "failure 3 in a row" in said
    assert len(starts(cloud)) == 3


def test_one_crash_is_no_reason_to_stop(cloud):
    cloud.up()
    cloud.play(steps=3, die=[137, 1])
    assert "the run has finished" in cloud.do("watch", "--no-doctor", *WORDS)
    assert len(starts(cloud)) == 3


def test_a_run_stopped_by_hand_ends_the_watch_and_the_same_words_go_on(cloud):
    cloud.up()
    cloud.play(steps=400)
    watching = cloud.start("watch", "--no-doctor", *WORDS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 4)
    cloud.do("stop")
    _, err = watching.communicate(timeout=100)
    assert watching.returncode == 1, err
    assert "stopped with launch/tpu_pod.sh stop" in err
    cloud.play(steps=1)
    assert "the run has finished" in cloud.do("watch", "--no-doctor", *WORDS)


def test_hosts_that_hang_on_without_one_are_stopped_and_all_start_again(cloud):
    cloud.up()
    cloud.play(steps=10_000)
    watching = cloud.start("watch", "--no-doctor", *WORDS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 4)
    pid = cloud.folder / "hosts/2/bert_tpu/run/pid"
    cloud.play(steps=300, step_s=0.001)
    os.kill(int(wait_for(pid.exists) and pid.read_text()), signal.SIGKILL)
    _, err = watching.communicate(timeout=100)
    assert watching.returncode == 0, err
    assert "only 3 of 4 hosts still run" in err
    assert len(starts(cloud)) == 2


def test_a_full_zone_is_waited_for_and_a_quota_is_not(cloud):
    cloud.up()
    cloud.play(steps=1, step_s=0.01)
    cloud.state(preempt_at=[0], refuse=[FULL] * 5)
    said = cloud.do("watch", "--no-doctor", *WORDS)
    assert "has no free v5litepod-16" in said
    assert "the run has finished" in said
    cloud.do("delete", "--yes")
    cloud.do("create")
    cloud.state(preempt_at=[0], refuse=[QUOTA] * 9)
    other = [*WORDS[:-1], "gs://my-bucket/runs/other"]
    said = cloud.do("watch", "--no-doctor", *other, code=1)
    assert "failure 3 in a row" in said
    assert "iam-admin/quotas" in said


def test_a_pod_deleted_by_hand_stays_deleted(cloud):
    for create in ("direct", "queued"):
        cloud.env = ENV | {"CREATE": create}
        assert "watch did not delete it" in cloud.do("watch", *WORDS, code=1)
    assert not cloud.verbs()


def test_a_host_that_does_not_answer_is_not_taken_for_a_dead_run(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *WORDS)
    cloud.state(ssh_fails=[1])
    watching = cloud.start("watch", "--no-doctor", *WORDS)
    wait_for(lambda: sum("state" in words[-1] for verb, words in cloud.calls()) > 16)
    cloud.state(ssh_fails=[])
    time.sleep(2)
    watching.send_signal(signal.SIGTERM)
    _, err = watching.communicate(timeout=100)
    assert "1 of 4 hosts do not answer: worker 1" in err
    assert len(starts(cloud)) == 1
    assert watching.returncode == 130
    assert "a run on the hosts goes on by itself, and bert costs money" in err
    assert cloud.do("status").count("running") == 4


def test_an_interrupted_start_leaves_no_run(cloud):
    """Ctrl-C while the hosts are being started: what has started is stopped."""
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    real = (cloud.bin / "gcloud").read_text()
    slow = f"""import os, sys, time
while ' start ' in sys.argv[-1] and '--worker=3' in sys.argv and not os.path.exists({str(cloud.folder / "open")!r}):
    time.sleep(0.1)
"""
    cloud.program("gcloud", real.replace("\n", "\n" + slow, 1))
    running = cloud.start("run", "--no-doctor", *WORDS)
    wait_for(lambda: len(cloud.lines("starts.jsonl")) == 3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=100)
    assert running.returncode == 130
    assert "stopping it on every host" in err
    assert "delete ends it" in err
    assert "Terminated" not in err  # bash's own word for the connections
    assert "running" not in cloud.ended()
    (cloud.folder / "open").touch()
    time.sleep(2)  # the connection to worker 3 was ended too, and starts nothing later
    assert len(cloud.lines("starts.jsonl")) == 3
