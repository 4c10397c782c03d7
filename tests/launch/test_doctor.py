"""The doctor with four processes as hosts, ports of this machine and a folder as the bucket; then its report."""

import argparse
import concurrent.futures
import contextlib
import copy
import importlib.util
import io
import json
import os
import re
import socket
import subprocess
import sys
import time

from conftest import ROOT
from helpers import warm_processes
from helpers.fake_cloud import REPORT
import pytest

SPEC = importlib.util.spec_from_file_location("doctor", ROOT / "launch/doctor.py")
doctor = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(doctor)


LATE_S = 5  # of an exchange between processes, where the machine has other work


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run_report(reports, *, hosts=4, chips=16, kind="TPU v5 lite"):
    """Returns exit code and table of launch/doctor_report.py, run without site-packages, as on a laptop."""
    done = subprocess.run(
        [
            sys.executable, "-IS", ROOT / "launch/doctor_report.py",
            f"--hosts={hosts}", f"--chips={chips}", f"--kind={kind}",
        ],
        input="".join(json.dumps(report) + "\n" for report in reports), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def four(tmp_path_factory, corpus_dir):
    """The reports of four hosts, and their bucket.

    Worker 1's clock is 30 s ahead, worker 2 has other pins and worker 3 has no bucket. The rest is sound.
    """
    folder = tmp_path_factory.mktemp("doctor")
    bucket = folder / "bucket"
    bucket.mkdir()
    (folder / "requirements.txt").write_text("jax>=0.9\nno-such-package\n")
    (folder / "constraints.txt").write_text("# pins\njax==0.9.0\nno-such-package==1.0\nunneeded-package==1.0\n")
    runner = folder / "run.py"  # starts the doctor with a clock that is ahead
    runner.write_text(
        "import runpy, sys, time\nreal, ahead = time.time, float(sys.argv[1])\ntime.time = lambda: real() + ahead\n"
        f"sys.argv = ['{ROOT}/launch/doctor.py', *sys.argv[2:]]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    port = free_port()
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    hosts = [
        warm_processes.start(
            runner,
            [
                "30" if host == 1 else "0", f"--host={host}", "--hosts=4", f"--coordinator=127.0.0.1:{port}",
                f"--corpus={corpus_dir}", f"--bucket={folder / 'no' / 'bucket' if host == 3 else bucket}",
                f"--pins={folder if host == 2 else ROOT}",
            ],
            env=env, stdout=subprocess.PIPE,
        )
        for host in range(4)
    ]  # fmt: skip
    assert [host.wait(200) for host in hosts] == [0] * 4
    reports = []
    for host in hosts:
        with host.stdout as output:
            reports.append(json.load(output))
    return reports, bucket


def test_four_hosts_measure_their_clocks(four):
    skews = [report["port"]["skew_s"] for report in four[0]]
    assert skews[0] == 0
    assert abs(skews[1] - 30) < LATE_S
    assert max(abs(skews[2]), abs(skews[3])) < LATE_S


class Clocks(io.StringIO):
    """A stream to a peer whose clock is `behind_s` behind; its answers take `there_s` and `back_s`."""

    def __init__(self, there_s, back_s, behind_s):
        super().__init__()
        self.now_s, self.trip_s, self.behind_s = 1000.0, (there_s, back_s), behind_s

    def time(self):
        return self.now_s

    perf_counter = time

    def readline(self):
        self.now_s += self.trip_s[0]
        answer = repr(self.now_s - self.behind_s)
        self.now_s += self.trip_s[1]
        return answer


@pytest.mark.parametrize(("there_s", "back_s"), [(0, 0), (0.2, 0.2), (0.5, 0), (0, 0.5), (0.1, 0.3)])
def test_an_exchange_is_right_to_half_of_its_time(monkeypatch, there_s, back_s):
    for behind_s in (-3, 0, 30):
        clocks = Clocks(there_s, back_s, behind_s)
        monkeypatch.setattr(doctor, "time", clocks)
        duration_s, skew_s = doctor.exchange(clocks, 1)
        assert duration_s == pytest.approx(there_s + back_s)
        assert abs(skew_s - behind_s) <= duration_s / 2 + 1e-9
        assert skew_s == pytest.approx(behind_s + (back_s - there_s) / 2)


def test_the_quickest_exchange_counts(monkeypatch):
    exchanges = iter([(0.5, 9.0), (0.01, 1.0), *[(0.3, 5.0)] * doctor.ROUNDS])
    monkeypatch.setattr(doctor, "exchange", lambda stream, number: next(exchanges))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert doctor.measure_skew(*server.getsockname(), 1, 60) == 1.0


def test_devices_are_reported_as_jax_sees_them(four):
    assert all(report["devices"] == {"platform": "cpu", "kind": "cpu", "count": 4} for report in four[0])


def test_versions_are_compared_with_the_pins(four, lock):
    reports, _ = four
    assert reports[0]["versions"]["jax"] == ["0.10.2", "0.10.2"]
    assert all(have == pin for have, pin in reports[0]["versions"].values())
    assert reports[2]["versions"] == {"jax": ["0.10.2", "0.9.0"], "no-such-package": [None, "1.0"]}
    assert all(report["corpus"] == lock.sha256 for report in reports)


def test_the_bucket_is_written_read_and_cleaned(four):
    reports, bucket = four
    assert all(report["bucket"]["write_mb_s"] > 0 < report["bucket"]["read_mb_s"] for report in reports[:3])
    assert "is missing" in reports[3]["bucket"]["fault"]
    assert not list(bucket.iterdir())


def test_tensorflow_is_the_cpu_build(four):
    assert all(report["tensorflow"] == {"packages": ["tensorflow-cpu"], "devices": ["CPU"]} for report in four[0])


def test_the_report_of_these_four_names_each_fault_and_its_host(four):
    code, table = run_report(four[0], kind="cpu")
    rows = {line.split()[0]: line for line in table.splitlines() if not line.startswith(" ")}
    failed = {name for name, row in rows.items() if row.split()[1] == "FAIL"}
    # The commit fails because launch/host_setup.sh has not set up the working tree.
    assert (code, failed) == (1, {"versions", "commit", "clocks", "bucket"})
    skew_s = re.search(r"worker 1: \+([\d.]+) s", rows["clocks"])[1]
    assert float(skew_s) == pytest.approx(four[0][1]["port"]["skew_s"], abs=1e-3)
    assert "worker 2: jax 0.10.2 (pinned 0.9.0), no-such-package missing (pinned 1.0)" in rows["versions"]
    assert "worker 3: " in rows["bucket"]
    assert table.count("fix: ") == 4


def check_port(host, port, *, hosts=2, wait_s=1.0):
    return doctor.check_port(argparse.Namespace(host=host, hosts=hosts, coordinator=f"127.0.0.1:{port}", wait_s=wait_s))


def test_a_closed_port_is_a_fault():
    with pytest.raises(TimeoutError, match="cannot reach worker 0 at 127"):
        check_port(1, free_port(), wait_s=0.2)


def test_a_port_in_use_is_a_fault():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is in use on worker 0"):
            check_port(0, port)


def test_a_missing_host_is_named():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(check_port, 0, port, hosts=4)
        pool.submit(check_port, 2, port, hosts=4).result()
        with pytest.raises(TimeoutError, match=r"no connection .* from worker 1, 3 within 1 s"):
            first.result()


def test_another_client_at_the_port_does_no_harm():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(check_port, 0, port, wait_s=60)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\n")
                break
        assert abs(pool.submit(check_port, 1, port, wait_s=60).result()["skew_s"]) < LATE_S
        assert first.result() == {"skew_s": 0.0}


def sound():
    return [copy.deepcopy(REPORT) | {"host": host} for host in range(4)]


def test_sound_hosts_pass():
    code, table = run_report(sound())
    assert code == 0
    assert "FAIL" not in table
    assert "fix:" not in table


@pytest.mark.parametrize(
    ("kind", "chips", "count", "seen"),
    [
        ("TPU v3", 16, 8, "TPU v3"),  # two devices per chip
        ("TPU v4", 16, 4, "TPU v4"),
        ("TPU v5", 16, 4, "TPU v5p"),
        ("TPU v6 lite", 16, 4, "TPU v6 lite"),
    ],
)
def test_each_generation_has_its_number_of_devices(kind, chips, count, seen):
    reports = sound()
    for report in reports:
        report["devices"] = {"platform": "tpu", "kind": seen, "count": count}
    assert run_report(reports, chips=chips, kind=kind)[0] == 0
    reports[3]["devices"]["count"] -= 1
    code, table = run_report(reports, chips=chips, kind=kind)
    assert code == 1
    assert f"worker 3: {count - 1} x {seen}, not {count} x {kind}" in table


def with_links(links):
    reports = sound()
    for report in reports:
        report["devices"] = report["devices"] | {"links": links}
    return reports


def test_the_links_say_which_exchange_to_train_with():
    forms = {"all-to-all": {"ms": 2.5, "right": True}, "reduce-scatter": {"ms": 1.2, "right": True}}
    code, table = run_report(with_links({"forms": forms, "advice": "reduce-scatter"}))
    assert code == 0
    assert "all-to-all 2.5 ms, reduce-scatter 1.2 ms; train with --config.exchange=reduce-scatter" in table
    forms["all-to-all"]["right"] = False
    code, table = run_report(with_links({"forms": forms, "advice": "reduce-scatter"}))
    assert code == 1
    assert "worker 0: all-to-all returns wrong sums" in table
    assert "fix: train with --config.exchange=reduce-scatter" in table
    code, table = run_report(with_links({"fault": "the chips do not answer"}))
    assert code == 1
    assert "links       FAIL  worker 0, 1, 2, 3: the chips do not answer" in table


@pytest.mark.parametrize(
    ("row", "change", "sentence"),
    [
        (
            "chips",
            {"devices": {"platform": "cpu", "kind": "cpu", "count": 1}},
            "worker 2: 1 x cpu, not 4 x TPU v5 lite",
        ),
        ("chips", {"devices": {"fault": "no answer within three minutes"}}, "worker 2: no answer within three minutes"),
        ("python", {"python": "3.10.12"}, "worker 2: Python 3.10.12, but at least 3.11 is needed"),
        ("versions", {"versions": {"jax": ["0.9.0", "0.10.2"]}}, "worker 2: jax 0.9.0 (pinned 0.10.2)"),
        ("versions", {"versions": {"jax": ["0.9.0", "0.9.0"]}}, "worker 2: jax 0.9.0, elsewhere 0.10.2"),
        ("commit", {"commit": "beef"}, "worker 2: commit beef, elsewhere c0ffee"),
        ("corpus", {"corpus": "beef"}, "worker 2: corpus beef, elsewhere None"),
        ("port", {"port": {"fault": "cannot reach worker 0"}}, "worker 2: cannot reach worker 0"),
        ("clocks", {"port": {"skew_s": -1.5}}, "worker 2: -1.500 s from worker 0"),
        ("bucket", {"bucket": {"fault": "403"}}, "worker 2: 403"),
        ("tensorflow", {"tensorflow": {"packages": ["tensorflow"], "devices": ["CPU"]}}, "tensorflow is installed"),
        (
            "tensorflow",
            {"tensorflow": {"packages": ["tensorflow-cpu"], "devices": ["CPU", "TPU"]}},
            "worker 2: TensorFlow uses CPU, TPU",
        ),
        ("room", {"disk_gib": 0.5}, "worker 2: 0.5 GiB of disk left"),
        ("room", {"memory_gib": 1}, "worker 2: 1 GiB of memory left"),
    ],
)
def test_one_fault_fails_one_row_and_names_the_host(row, change, sentence):
    reports = sound()
    reports[2] |= change
    code, table = run_report(reports)
    failed = [line for line in table.splitlines() if line.split()[1] == "FAIL"]
    assert code == 1
    assert [line.split()[0] for line in failed] == [row]
    assert sentence in failed[0]
    assert table.splitlines()[table.splitlines().index(failed[0]) + 1].strip().startswith("fix: ")


def test_a_host_without_a_report_fails():
    code, table = run_report(sound()[:3])
    assert code == 1
    assert "worker 3: no report" in table
