"""Prints the reports of launch/doctor.py, one JSON line per host on stdin, as a table of ok and FAIL with each fix.

    python3 launch/doctor_report.py --hosts 4 --chips 16 --kind "TPU v5 lite"

Exits with 1 if a check fails. It runs on a laptop, on any Python from 3.8 on, with nothing installed.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable, Mapping
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # Python 3.8 cannot evaluate these
    Reports = dict[int, dict[str, Any]]  # host -> its report
    Faults = list[tuple[int, str]]  # (host, the fault)

SKEW_S = 1.0  # these clocks date log lines, events and Google Cloud's access tokens
DISK_GIB, MEMORY_GIB = 5, 2  # room for logs and for reading a checkpoint
SETUP = "run launch/tpu_pod.sh setup"
RECREATE = "delete the pod and create it again"
CORES = {"TPU v2": 2, "TPU v3": 2, "TPU7x": 2}  # devices per chip; all other kinds have one
ALIASES = {"TPU v5e": "TPU v5 lite", "TPU v6e": "TPU v6 lite", "TPU v5p": "TPU v5"}


class Row(NamedTuple):
    """The result of one check over all hosts."""

    summary: str  # printed if there is no fault
    faults: Faults
    fix: str


def fault_of(value: Any) -> str | None:
    """Returns the fault in a host's result of a check, or None."""
    return value.get("fault") if isinstance(value, dict) else None


def failures(reports: Reports, key: str) -> Faults:
    """Returns the faults of the hosts whose check `key` failed."""
    return [(host, fault) for host, report in reports.items() if (fault := fault_of(report[key]))]


def results(reports: Reports, key: str) -> dict[int, Any]:
    """Returns {host: result of check `key`} of the hosts where it did not fail."""
    return {host: report[key] for host, report in reports.items() if not fault_of(report[key])}


def outliers(values: Mapping[int, object], name: str) -> Faults:
    """Returns a fault for each host whose value differs from the most common one. `values`: host -> value."""
    counts = collections.Counter(map(str, values.values()))
    if len(counts) < 2:
        return []
    usual = counts.most_common(1)[0][0]
    return [(host, f"{name} {value}, elsewhere {usual}") for host, value in values.items() if str(value) != usual]


def in_one_line(faults: Faults) -> str:
    """Returns the faults as one line that names hosts with the same fault together."""
    hosts_of: dict[str, list[str]] = {}
    for host, text in faults:
        hosts_of.setdefault(text, []).append(str(host))
    return "; ".join(f"worker {', '.join(hosts)}: {text}" for text, hosts in hosts_of.items())


def span(values: Iterable[float], unit: str = "") -> str:
    """Returns the smallest and the largest value as text."""
    low, high = min(values), max(values)
    return f"{low:,g}{unit}" if low == high else f"{low:,g} to {high:,g}{unit}"


def check_hosts(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every host has reported."""
    missing = [(host, "no report") for host in range(expected.hosts) if host not in reports]
    return Row(f"{len(reports)} of {expected.hosts} reports", missing, SETUP)


def check_chips(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every host has the pod type's number and kind of devices."""
    faults, devices = failures(reports, "devices"), results(reports, "devices")
    per_host = expected.chips * CORES.get(expected.kind, 1) // expected.hosts
    for host, device in devices.items():
        kind = ALIASES.get(device["kind"], device["kind"])
        if (device["count"], kind) != (per_host, expected.kind):
            faults.append((host, f"{device['count']} x {device['kind']}, not {per_host} x {expected.kind}"))
    total = sum(device["count"] for device in devices.values())
    fix = "see launch/tpu_pod.sh status: another process may use the chips; otherwise run setup again, or " + RECREATE
    return Row(f"{total} devices of {expected.kind}", faults, fix)


def check_links(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that each form of the exchange of gradients returns right sums, and names the one to train with."""
    links = {host: device["links"] for host, device in results(reports, "devices").items() if "links" in device}
    faults = [(host, fault) for host, timed in links.items() if (fault := fault_of(timed))]
    timed = next((timed for timed in links.values() if not fault_of(timed)), None)
    if timed is None:
        return Row("not timed: no TPU", faults, RECREATE)
    wrong = [form for form, result in timed["forms"].items() if not result["right"]]
    faults += [(0, f"{form} returns wrong sums") for form in wrong]
    fix = f"train with --config.exchange={timed['advice']}" if timed["advice"] else RECREATE
    times = ", ".join(f"{form} {result['ms']:g} ms" for form, result in timed["forms"].items())
    return Row(f"{times}; {fix}", faults, fix)


def check_python(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that all hosts have the same Python, 3.11 or later."""
    versions = {host: report["python"] for host, report in reports.items()}
    faults = outliers(versions, "Python")
    for host, version in versions.items():
        if tuple(map(int, version.split(".")[:2])) < (3, 11):
            faults.append((host, f"Python {version}, but at least 3.11 is needed"))
    return Row(" ".join(sorted(set(versions.values()))), faults, SETUP)


def check_versions(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every package has its pinned version, and so the same on all hosts."""
    faults, versions = failures(reports, "versions"), results(reports, "versions")
    for host, packages in versions.items():
        wrong = [
            f"{name} {installed or 'missing'} (pinned {pin})"
            for name, (installed, pin) in packages.items()
            if installed != pin
        ]
        if wrong:
            faults.append((host, f"{', '.join(wrong[:3])}{' and more' if len(wrong) > 3 else ''}"))
    for name in sorted({name for packages in versions.values() for name in packages}):
        faults += outliers({host: packages.get(name, [None])[0] for host, packages in versions.items()}, name)
    return Row(f"{max([len(packages) for packages in versions.values()] or [0])} packages as pinned", faults, SETUP)


def check_commit(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that all hosts have the same commit."""
    commits = results(reports, "commit")
    summary = " ".join(sorted({commit[:12] for commit in commits.values()}))
    return Row(summary, failures(reports, "commit") + outliers(commits, "commit"), SETUP)


def check_corpus(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that all hosts have the same corpus, if the env file names one."""
    hashes = results(reports, "corpus")
    summary = " ".join(sorted({str(sha256)[:12] for sha256 in hashes.values() if sha256}))
    faults = failures(reports, "corpus") + outliers(hashes, "corpus")
    return Row(summary or "none named in the env file", faults, SETUP + ", which copies CORPUS to every host again")


def check_port(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every host has reached worker 0 at the coordinator's port."""
    fix = (
        "stop the run that uses the port, or let the network's firewall pass tcp:8476 between the hosts "
        '(the network "default" does)'
    )
    return Row("every host reaches worker 0", failures(reports, "port"), fix)


def check_clocks(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that no clock differs from worker 0's by more than SKEW_S."""
    skews = {host: port["skew_s"] for host, port in results(reports, "port").items()}
    faults = [(host, f"{skew:+.3f} s from worker 0") for host, skew in skews.items() if abs(skew) > SKEW_S]
    largest = max([abs(skew) for skew in skews.values()] or [0])
    return Row(f"within {largest * 1e3:.1f} ms of worker 0", faults, "restart chrony on that host, or " + RECREATE)


def check_bucket(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every host could write an object to the bucket, read it and delete it."""
    speeds = results(reports, "bucket").values()
    summary = ""
    if speeds:
        summary = (
            f"a host writes {span([speed['write_mb_s'] for speed in speeds])} MB/s, "
            f"reads {span([speed['read_mb_s'] for speed in speeds])} MB/s"
        )
    fix = (
        "check that BUCKET exists and that the pod's service account has two roles on it: "
        "gcloud storage buckets add-iam-policy-binding BUCKET --member=serviceAccount:ACCOUNT --role=ROLE "
        "with ROLE roles/storage.objectUser, and again with roles/storage.legacyBucketReader"
    )
    return Row(summary, failures(reports, "bucket"), fix)


def check_tensorflow(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that TensorFlow is the CPU build and uses no TPU, because JAX could not use that TPU at the same time."""
    faults, builds = failures(reports, "tensorflow"), results(reports, "tensorflow")
    for host, build in builds.items():
        if build["packages"] != ["tensorflow-cpu"]:
            packages = ", ".join(build["packages"]) or "no TensorFlow"
            faults.append((host, f"{packages} is installed, instead of only tensorflow-cpu"))
        if build["devices"] != ["CPU"]:
            faults.append((host, f"TensorFlow uses {', '.join(build['devices'])}"))
    return Row("tensorflow-cpu, no TPU", faults, "delete ~/bert_tpu/venv on that host, then " + SETUP)


def check_room(reports: Reports, expected: argparse.Namespace) -> Row:
    """Checks that every host has DISK_GIB of free disk and MEMORY_GIB of free memory."""
    faults = failures(reports, "memory_gib")
    disk = {host: report["disk_gib"] for host, report in reports.items()}
    memory = results(reports, "memory_gib")
    for name, sizes, least in (("disk", disk, DISK_GIB), ("memory", memory, MEMORY_GIB)):
        for host, size in sizes.items():
            if size < least:
                faults.append((host, f"{size:g} GiB of {name} left, but at least {least} is needed"))
    summary = f"disk {span(disk.values(), ' GiB')}, memory {span(memory.values() or [0], ' GiB')} free"
    return Row(summary, faults, "free some on that host (by ssh), or " + RECREATE)


CHECKS = {
    "hosts": check_hosts, "chips": check_chips, "links": check_links, "python": check_python,
    "versions": check_versions, "commit": check_commit, "corpus": check_corpus, "port": check_port,
    "clocks": check_clocks, "bucket": check_bucket, "tensorflow": check_tensorflow, "room": check_room,
}  # fmt: skip


def table(reports: Reports, expected: argparse.Namespace) -> tuple[list[str], bool]:
    """Returns the lines of the table, and True if no check fails."""
    lines, passed = [], True
    for name, check in CHECKS.items():
        row = check(reports, expected)
        passed = passed and not row.faults
        lines.append(f"{name:<11} {'FAIL' if row.faults else 'ok':<5} {in_one_line(row.faults) or row.summary}")
        if row.faults:
            lines.append(f"{'':<17} fix: {row.fix}")
    return lines, passed


def main() -> None:
    """Reads the reports and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, required=True, help="number of hosts of the pod")
    parser.add_argument("--chips", type=int, required=True, help="number of chips of the pod")
    parser.add_argument("--kind", required=True, help="JAX's name of the devices")
    expected = parser.parse_args()
    reports = {report["host"]: report for report in map(json.loads, (line for line in sys.stdin if line[:1] == "{"))}
    if not reports:
        sys.exit("error: no host has reported; run launch/tpu_pod.sh setup first")
    lines, passed = table(dict(sorted(reports.items())), expected)
    print("\n".join(lines))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
