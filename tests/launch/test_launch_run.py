"""`launch/tpu_pod.sh run`: one process per host, unchanged arguments, one run at a time; and stop and logs."""

import contextlib
import os
from pathlib import Path
import signal
import subprocess

from helpers.fake_cloud import REPORT, RUN_ARGS, wait_for
import pytest


def test_run_starts_one_process_a_host_with_its_number(cloud):
    cloud.up()
    assert "may be closed" in cloud.do("run", *RUN_ARGS)
    assert cloud.ended().count("finished") == 4
    starts = cloud.lines("starts.jsonl")
    assert sorted(start["JAX_PROCESS_ID"] for start in starts) == ["0", "1", "2", "3"]
    assert {start["JAX_COORDINATOR_ADDRESS"] for start in starts} == {"10.0.0.2:8476"}
    assert {start["JAX_NUM_PROCESSES"] for start in starts} == {"4"}
    args = [*RUN_ARGS[1:], "--config.compile_cache=gs://my-bucket/compile_cache"]
    assert all(start["args"] == args for start in starts)


def test_arguments_arrive_unchanged(cloud):
    cloud.up()
    odd = ["--config.a=two words", "--config.b=$(touch /tmp/never)", "--config.c='\"`;&|", "--config.d=%i \\ é"]
    cloud.do("run", "--no-doctor", *RUN_ARGS, *odd)
    cloud.ended()
    assert all(start["args"][4:8] == odd for start in cloud.lines("starts.jsonl"))


def test_one_run_at_a_time(cloud):
    cloud.play(steps=10_000)
    cloud.up()
    cloud.do("run", *RUN_ARGS)
    assert "a run is alive on 4 of 4 hosts already" in cloud.do("run", *RUN_ARGS, code=1)
    assert "a run or another setup is active on this host" in cloud.do("setup", code=1)
    # The host itself refuses, too, in case the laptop does not know of the run.
    home = cloud.folder / "hosts/1"
    command = ["bash", "bert_tpu/code/launch/host_run.sh", "start", "a:1", "4", "--workdir", "gs://b/c"]
    options = {"cwd": home, "env": os.environ | {"HOME": str(home), "WORKER": "1"}, "capture_output": True}
    assert b"a run is alive on this host already" in subprocess.run(command, **options).stderr
    assert "asked" in cloud.do("stop")
    assert cloud.ended().count("stopped") == 4
    assert len(cloud.lines("starts.jsonl")) == 4


def test_a_run_that_one_host_refuses_is_stopped_on_the_others(cloud):
    cloud.play(steps=10_000)
    cloud.up()
    (cloud.folder / "hosts/3/bert_tpu/run").write_text("in the way")
    output = cloud.do("run", "--no-doctor", *RUN_ARGS, code=1)
    assert "stopped on the others" in output
    assert "running" not in cloud.ended()


def test_a_run_that_ends_at_once_prints_its_error(cloud):
    cloud.up()
    cloud.play(steps=3, exit_codes=[1])
    cloud.settle_s = 3  # a busy machine takes more than 0.3 s to end the run
    output = cloud.do("run", *RUN_ARGS, code=1)
    assert "worker 0  failed (code 1)" in output
    assert "error: the config has a fault" in output


@pytest.mark.parametrize("workdir", [(), ("--workdir", "runs/medium"), ("--workdir=/data/run",)])
def test_a_workdir_outside_the_bucket_is_refused(cloud, workdir):
    for command in ("run", "watch"):
        output = cloud.do(command, "--", "--config", "configs/bert.py:medium", *workdir, code=1)
        assert "--workdir gs://my-bucket/runs/medium" in output
    assert not cloud.calls()


def test_a_run_needs_a_setup_and_a_sound_pod(cloud):
    cloud.do("create")
    assert "is not set up: run launch/tpu_pod.sh setup" in cloud.do("run", *RUN_ARGS, code=1)
    cloud.do("setup")
    cloud.write("doctor.json", REPORT | {"tensorflow": {"packages": ["tensorflow"], "devices": ["CPU", "TPU"]}})
    output = cloud.do("run", *RUN_ARGS, code=1)
    assert "tensorflow  FAIL" in output
    assert "fix:" in output
    assert not cloud.lines("starts.jsonl")


def test_logs_show_every_host_until_the_run_ends(cloud):
    cloud.up()
    cloud.play(steps=20, step_s=0.03)
    cloud.do("run", "--no-doctor", *RUN_ARGS)
    output = cloud.do("logs")
    for worker in range(4):
        assert f"[worker {worker}] step 20/20" in output


def following(cloud):
    """Returns the commands of processes on the hosts that still read logs."""
    readers = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            if cloud.folder in (process / "cwd").readlink().parents and b"tail" in words:
                readers.append(words)
    return readers


def test_interrupted_logs_leave_no_process_on_the_hosts(cloud):
    cloud.up()
    cloud.play(steps=10_000, step_s=0.05)
    cloud.do("run", "--no-doctor", *RUN_ARGS)
    reading = cloud.start("logs")
    wait_for(lambda: len(following(cloud)) == 4)
    reading.send_signal(signal.SIGINT)
    reading.communicate(timeout=60)
    assert reading.returncode == 130
    wait_for(lambda: not following(cloud))
