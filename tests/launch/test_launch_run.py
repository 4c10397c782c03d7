"""`launch/tpu_pod.sh run`: one process a host, words as given, one run at a time, and what stop and logs do to it."""

import contextlib
import os
from pathlib import Path
import signal
import subprocess

from helpers.fake_cloud import REPORT, WORDS, wait_for
import pytest


def test_run_starts_one_process_a_host_with_its_number(cloud):
    cloud.up()
    assert "may be closed" in cloud.do("run", *WORDS)
    assert cloud.ended().count("finished") == 4
    starts = cloud.lines("starts.jsonl")
    assert sorted(start["JAX_PROCESS_ID"] for start in starts) == ["0", "1", "2", "3"]
    assert {start["JAX_COORDINATOR_ADDRESS"] for start in starts} == {"10.0.0.2:8476"}
    assert {start["JAX_NUM_PROCESSES"] for start in starts} == {"4"}
    wanted = [*WORDS[1:], "--config.compile_cache=gs://my-bucket/compile_cache"]
    assert all(start["words"] == wanted for start in starts)


def test_words_arrive_as_they_were_given(cloud):
    cloud.up()
    odd = ["--config.a=two words", "--config.b=$(touch /tmp/never)", "--config.c='\"`;&|", "--config.d=%i \\ é"]
    cloud.do("run", "--no-doctor", *WORDS, *odd)
    cloud.ended()
    assert all(start["words"][4:8] == odd for start in cloud.lines("starts.jsonl"))


def test_one_run_at_a_time(cloud):
    cloud.play(steps=10_000)
    cloud.up()
    cloud.do("run", *WORDS)
    assert "a run is alive on 4 of 4 hosts already" in cloud.do("run", *WORDS, code=1)
    assert "a run or another setup is at work here" in cloud.do("setup", code=1)
    # Also where the laptop does not know: the host itself refuses.
    home = cloud.folder / "hosts/1"
    command = ["bash", "bert_tpu/code/launch/host_run.sh", "start", "a:1", "4", "--workdir", "gs://b/c"]
    options = {"cwd": home, "env": os.environ | {"HOME": str(home), "WORKER": "1"}, "capture_output": True}
    assert b"a run is alive here already" in subprocess.run(command, **options).stderr
    assert "asked" in cloud.do("stop")
    assert cloud.ended().count("stopped") == 4
    assert len(cloud.lines("starts.jsonl")) == 4


def test_a_run_that_one_host_refuses_is_stopped_on_the_others(cloud):
    cloud.play(steps=10_000)
    cloud.up()
    (cloud.folder / "hosts/3/bert_tpu/run").write_text("in the way")
    said = cloud.do("run", "--no-doctor", *WORDS, code=1)
    assert "stopped on the others" in said
    assert "running" not in cloud.ended()


def test_a_run_that_ends_at_once_says_why(cloud):
    cloud.up()
    cloud.play(steps=3, die=[1])
    said = cloud.do("run", *WORDS, code=1)
    assert "worker 0  failed (code 1)" in said
    assert "error: the config has a fault" in said


@pytest.mark.parametrize("workdir", [(), ("--workdir", "runs/medium"), ("--workdir=/data/run",)])
def test_a_workdir_outside_the_bucket_is_refused(cloud, workdir):
    for command in ("run", "watch"):
        said = cloud.do(command, "--", "--config", "configs/bert.py:medium", *workdir, code=1)
        assert "--workdir gs://my-bucket/runs/medium" in said
    assert not cloud.calls()


def test_a_run_waits_for_setup_and_for_a_well_pod(cloud):
    cloud.do("create")
    assert "is not set up: run launch/tpu_pod.sh setup" in cloud.do("run", *WORDS, code=1)
    cloud.do("setup")
    cloud.write("doctor.json", REPORT | {"tensorflow": {"packages": ["tensorflow"], "devices": ["CPU", "TPU"]}})
    said = cloud.do("run", *WORDS, code=1)
    assert "tensorflow  FAIL" in said
    assert "mend:" in said
    assert not cloud.lines("starts.jsonl")


def test_logs_show_every_host_until_the_run_ends(cloud):
    cloud.up()
    cloud.play(steps=20, step_s=0.03)
    cloud.do("run", "--no-doctor", *WORDS)
    said = cloud.do("logs")
    for worker in range(4):
        assert f"[worker {worker}] step 20/20" in said


def following(cloud):
    """Processes on the hosts that still read logs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            if cloud.folder in (process / "cwd").readlink().parents and b"tail" in words:
                found.append(words)
    return found


def test_logs_that_were_interrupted_leave_nothing_on_the_hosts(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *WORDS)
    reading = cloud.start("logs")
    wait_for(lambda: len(following(cloud)) == 4)
    reading.send_signal(signal.SIGINT)
    reading.communicate(timeout=60)
    assert reading.returncode == 130
    wait_for(lambda: not following(cloud))
