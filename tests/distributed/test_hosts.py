"""Hosts of a run: an incomplete environment, a host that never comes, comparing settings, and ending all together."""

import contextlib
import functools
import os
import re
import subprocess
import sys
import threading
import time

from conftest import ROOT
from helpers import local_pod
from jax._src.lib import _jax
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts, rendezvous

NAMES = rendezvous.ENVIRONMENT


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("h:8476", "", ""), "JAX_NUM_PROCESSES and JAX_PROCESS_ID not set, unlike the others"),
        (("", "4", "0"), "JAX_COORDINATOR_ADDRESS not set, unlike the others"),
        (("h:8476", "4", "4"), "JAX_NUM_PROCESSES=4 and JAX_PROCESS_ID=4: give whole numbers, 0 <= the second < the"),
        (("h:8476", "four", "0"), "JAX_NUM_PROCESSES=four"),
        (("h", "4", "0"), "JAX_COORDINATOR_ADDRESS=h has no port: give HOST:8476"),
    ],
)
def test_an_incomplete_environment_is_refused_in_one_sentence(monkeypatch, values, sentence):
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(command.UserError, match=sentence):
        rendezvous.connect()


@pytest.mark.parametrize("values", [("", "", ""), ("h:8476", "1", "0")])
def test_one_host_needs_nobody(monkeypatch, values):
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    with rendezvous.connect() as group:
        assert (group.index, group.count) == (0, 1)
        assert group.gather(7) == [7]
        group.agree({"seed": 0})
        assert not group.should_stop(1, None)
        assert group.should_stop(2, 15)
        assert group.signal == 15


PROGRAM = """
import os, sys
from bert_tpu.core import command
from bert_tpu.distributed import hosts, rendezvous
def main():
    with rendezvous.connect(timeout_s=int(sys.argv[1])) as group:
        {body}
command.run(main)
"""


def started(address, count, host, body, timeout_s=60):
    setting = os.environ | {"PYTHONPATH": str(ROOT)} | local_pod.environment(address, count, host)
    command = [sys.executable, "-c", PROGRAM.format(body=body), str(timeout_s)]
    return subprocess.Popen(command, env=setting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_host_that_never_comes_is_reported():
    with started(f"127.0.0.1:{local_pod.free_port()}", 2, 1, "pass", timeout_s=2) as process:
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: host 1 of 2 did not meet the others at 127.0.0.1:\d+ within 2 s: check that .*\n", stderr
    ), stderr


@pytest.mark.parametrize("faulty", [0, 1])
def test_a_fault_of_one_host_ends_the_other_with_the_same_words(faulty):
    body = f"""
        if group.index == {faulty}:
            raise command.UserError("the disk is full")
        group.gather(None)
        print("went on")
    """
    address = f"127.0.0.1:{local_pod.free_port()}"
    with started(address, 2, 0, body) as first, started(address, 2, 1, body) as second:
        outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1]
    assert outputs[faulty] == ("", "error: the disk is full\n")
    assert outputs[1 - faulty] == ("", f"error: host {faulty} stopped: the disk is full\n")


def test_host_0_stays_until_the_others_have_read_that_all_have_ended(monkeypatch):
    """Its store would be gone: a process may end without JAX's own barrier, which waits for all."""
    monkeypatch.setitem(globals(), "PROGRAM", PROGRAM.replace("command.run(main)", "main(); os._exit(0)"))
    slow = "import time; read = group._read; group._read = lambda prefix: (time.sleep(group.index), read(prefix))[1]"
    address = f"127.0.0.1:{local_pod.free_port()}"
    pair = [started(address, 2, host, slow) for host in (0, 1)]
    assert [process.communicate(timeout=60)[1] for process in pair] == ["", ""]
    assert [process.returncode for process in pair] == [0, 0]


def test_a_broken_collective_is_reported_as_the_host_that_died():
    body = """
        import jax, os
        group.silent_s = 3
        group.gather(None)
        if group.index == 1:
            os._exit(9)
        raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: connection closed by peer")
    """
    address = f"127.0.0.1:{local_pod.free_port()}"
    with started(address, 2, 0, body) as first, started(address, 2, 1, body) as second:
        stderr = first.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (1, 9)
    assert re.fullmatch(r"error: host 1 has given no sign of life for \d s .*\n", stderr), stderr


@contextlib.contextmanager
def together(count):
    """Hosts of one run in this process, each with its own client of one coordination service."""
    address = f"127.0.0.1:{local_pod.free_port()}"
    service = _jax.get_distributed_runtime_service(address, count)
    groups = [hosts.Hosts(host, count) for host in range(count)]
    for group in groups:
        group.store = _jax.get_distributed_runtime_client(address, group.index)
    at_once([group.store.connect for group in groups])
    try:
        for group in groups:
            group.__enter__()
        yield groups
    finally:
        for group in groups:
            group._over.set()  # without waiting for hosts that a test has ended
        time.sleep(2 * hosts.BEAT_S)
        at_once([group.store.shutdown for group in groups])
        service.shutdown()


def at_once(calls):
    """Runs all calls at the same time; returns the result or the exception of each."""
    results = [None] * len(calls)

    def run(index):
        try:
            results[index] = calls[index]()
        except Exception as fault:
            results[index] = fault

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def test_hosts_agree_or_name_who_differs_and_in_what():
    facts = {"seed": 0, "code": "a", "corpus": "c"}
    there = r"host {} \(\S+\) differs: "
    cases = (
        ({1: {"code": "b"}}, there.format(1) + 'code is "b" there and "a" on host 0; start the same command'),
        ({0: {"seed": 1}}, there.format(0) + "seed is 1 there and 0 on host 1;"),
        (
            {2: {"corpus": "d", "new": 1}, 3: {"seed": 2}},
            there.format(2) + 'corpus is "d" there and "c" on host 0, new is 1 there and null on host 0; '
            + there.format(3) + "seed is 2",
        ),
    )  # fmt: skip
    with together(4) as groups:
        assert at_once([functools.partial(group.agree, facts) for group in groups]) == [None] * 4
        for changes, sentence in cases:
            own_facts = [facts | changes.get(group.index, {}) for group in groups]
            calls = [functools.partial(group.agree, own) for group, own in zip(groups, own_facts, strict=True)]
            for fault in at_once(calls):
                assert isinstance(fault, command.UserError)
                assert re.match(sentence, str(fault)), fault


@pytest.mark.parametrize("library", ["tensorflow_cpu", "numpy", "optax"])
def test_hosts_with_another_library_do_not_start(tmp_path, library):
    """TensorFlow and NumPy make a batch's bytes. Host 1 reads the metadata of another version."""
    folder = tmp_path / "other" / f"{library}-9.9.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 9.9\n")
    body = f"""
        from bert_tpu.training import workdir
        if group.index == 1:
            sys.path.insert(0, {str(folder.parent)!r})
        with workdir.claim({str(tmp_path / "run")!r}, {{"seed": 0}}, group=group):
            print("went on")
    """
    address = f"127.0.0.1:{local_pod.free_port()}"
    with started(address, 2, 0, body) as first, started(address, 2, 1, body) as second:
        outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1]
    differs = rf'error: host 1 \(\S+\) differs: {library.removesuffix("_cpu")} is "9.9" there and "\S+" on host 0; .*\n'
    for out, fault in outputs:
        assert out == ""
        assert re.fullmatch(differs, fault), fault


def test_a_host_that_compares_late_prints_the_same_error():
    address = f"127.0.0.1:{local_pod.free_port()}"
    late = 'group._set("gather1/1", {"seed": 1, "host": "h"}); __import__("time").sleep(60)'
    with started(address, 2, 0, 'group.agree({"seed": 0})') as first, started(address, 2, 1, late) as second:
        outputs = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert outputs[0].startswith("error: host 1 (h) differs: seed is 1 there and 0 on host 0; start the same command")
    assert outputs[1] == outputs[0]


def test_only_host_0_calls_and_all_get_it():
    called = []
    with together(3) as groups:
        assert at_once([lambda g=g: g.broadcast(lambda: called.append(g.index) or 7) for g in groups]) == [7, 7, 7]
    assert called == [0]


def test_hosts_of_different_pace_stop_after_the_same_step():
    with together(3) as groups:

        def run(group):
            step = 0
            while True:
                step += 1
                time.sleep(0.002 * (group.index + 1))  # each at its own pace, as if no collective kept them together
                if group.should_stop(step, 15 if group.index == 1 and step > 50 else None):
                    return step, group.signal

        last = at_once([lambda g=g: run(g) for g in groups])
    assert len(set(last)) == 1
    assert last[0][0] > 50
    assert last[0][1] == 15


def test_a_silent_host_is_named():
    with together(2) as groups:
        groups[1].set_position(812, "input")
        time.sleep(4 * hosts.BEAT_S)
        groups[0].silent_s = 6 * hosts.BEAT_S
        assert groups[0].silent() is None
        assert groups[0].positions()[1]["step"] == 812
        groups[1]._over.set()  # its beats end
        time.sleep(8 * hosts.BEAT_S)
        assert re.match(r"host 1 has given no sign of life for \d s \(it was at step 812\)", groups[0].silent())


def test_asking_whether_to_stop_costs_nothing():
    with together(2) as groups:
        begun_s = time.perf_counter()
        for step in range(10_000):
            groups[0].should_stop(step, None)
        assert time.perf_counter() - begun_s < 1  # 100 us each; it is 1 on an idle machine
