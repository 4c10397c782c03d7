"""What launch/doctor.py saw on all hosts, one JSON line each on stdin -> a table of ok and FAIL with the mend.

    python3 launch/verdict.py --hosts 4 --chips 16 --kind "TPU v5 lite"

Exits with 1 if anything fails. It runs on a laptop, on any Python from 3.8 on, with nothing installed.
"""

import argparse
import collections
import json
import sys

SKEW_S = 1.0  # log lines, events and tokens of Cloud are dated by these clocks
DISK_GIB, MEMORY_GIB = 5, 2  # room for logs and for reading a checkpoint
SETUP = "run launch/tpu_pod.sh setup"
AGAIN = "delete the pod and create it again"
CORES = {"TPU v2": 2, "TPU v3": 2}  # devices of a chip; of all others one
ALIASES = {"TPU v5e": "TPU v5 lite", "TPU v6e": "TPU v6 lite", "TPU v5p": "TPU v5"}


def fault_of(value):
    """The fault of a check that failed on a host, or None."""
    return value.get("fault") if isinstance(value, dict) else None


def faults(reports, key):
    """(host, what is wrong) for the hosts whose check `key` failed."""
    return [(host, fault_of(report[key])) for host, report in reports.items() if fault_of(report[key])]


def odd_ones(values, what):
    """(host, what is wrong) for the hosts that differ from most: values is {host: value}."""
    counts = collections.Counter(map(str, values.values()))
    if len(counts) < 2:
        return []
    usual = counts.most_common(1)[0][0]
    return [(host, f"{what} {value}, elsewhere {usual}") for host, value in values.items() if str(value) != usual]


def in_words(wrong):
    """One line, in which hosts with the same fault stand together."""
    together = {}
    for host, text in wrong:
        together.setdefault(text, []).append(str(host))
    return "; ".join(f"worker {', '.join(hosts)}: {text}" for text, hosts in together.items())


def span(values, unit=""):
    """The least and the largest in words."""
    low, high = min(values), max(values)
    return f"{low:,g}{unit}" if low == high else f"{low:,g} to {high:,g}{unit}"


def sound(reports, key):
    """The values of check `key` on the hosts where it did not fail."""
    return {host: report[key] for host, report in reports.items() if not fault_of(report[key])}


# Each check: (reports, expected) -> what is seen, [(host, what is wrong)], how to mend it.


def check_hosts(reports, expected):
    """Every host has reported."""
    missing = [(host, "no report") for host in range(expected.hosts) if host not in reports]
    return f"{len(reports)} of {expected.hosts} reports", missing, SETUP


def check_chips(reports, expected):
    """As many devices as the pod's type has, of its kind."""
    wrong, seen = faults(reports, "devices"), sound(reports, "devices")
    per_chip = CORES.get(expected.kind, 1)
    each = expected.chips * per_chip // expected.hosts
    for host, found in seen.items():
        kind = ALIASES.get(found["kind"], found["kind"])
        if (found["count"], kind) != (each, expected.kind):
            wrong.append((host, f"{found['count']} x {found['kind']}, not {each} x {expected.kind}"))
    total = sum(found["count"] for found in seen.values())
    mend = "another process may hold the chips (launch/tpu_pod.sh status); else run setup again, or " + AGAIN
    return f"{total} devices of {expected.kind}", wrong, mend


def check_python(reports, expected):
    """One Python on all hosts, 3.11 or later."""
    found = {host: report["python"] for host, report in reports.items()}
    wrong = odd_ones(found, "Python")
    for host, version in found.items():
        if tuple(map(int, version.split(".")[:2])) < (3, 11):
            wrong.append((host, f"Python {version}, 3.11 is the least"))
    return " ".join(sorted(set(found.values()))), wrong, SETUP


def check_versions(reports, expected):
    """Every package is the pinned one, and so the same on all hosts."""
    wrong, seen = faults(reports, "versions"), sound(reports, "versions")
    for host, packages in seen.items():
        bad = [f"{name} {have or 'missing'} (pinned {pin})" for name, (have, pin) in packages.items() if have != pin]
        if bad:
            wrong.append((host, f"{', '.join(bad[:3])}{' and more' if len(bad) > 3 else ''}"))
    for name in sorted({name for packages in seen.values() for name in packages}):
        wrong += odd_ones({host: packages.get(name, [None])[0] for host, packages in seen.items()}, name)
    return f"{max([len(packages) for packages in seen.values()] or [0])} packages as pinned", wrong, SETUP


def check_commit(reports, expected):
    """The same commit everywhere."""
    found = sound(reports, "commit")
    return (
        " ".join(sorted({c[:12] for c in found.values()})),
        faults(reports, "commit") + odd_ones(found, "commit"),
        SETUP,
    )


def check_corpus(reports, expected):
    """The same corpus everywhere, where one was asked for."""
    found = sound(reports, "corpus")
    wrong = faults(reports, "corpus") + odd_ones(found, "corpus")
    seen = " ".join(sorted({str(c)[:12] for c in found.values() if c}))
    return seen or "none named in the env file", wrong, SETUP + ", which copies CORPUS anew to every host"


def check_port(reports, expected):
    """Every host reached worker 0 at the coordinator's port."""
    mend = (
        "stop the run that holds the port, or let the network's firewall pass tcp:8476 between the hosts "
        "(the network called default does)"
    )
    return "every host reaches worker 0", faults(reports, "port"), mend


def check_clocks(reports, expected):
    """No clock is far from worker 0's."""
    skews = {host: port["skew_s"] for host, port in sound(reports, "port").items()}
    wrong = [(host, f"{skew:+.3f} s from worker 0") for host, skew in skews.items() if abs(skew) > SKEW_S]
    most = max([abs(skew) for skew in skews.values()] or [0])
    return f"within {most * 1e3:.1f} ms of worker 0", wrong, "restart chrony on that host, or " + AGAIN


def check_bucket(reports, expected):
    """Every host wrote an object, read it back and deleted it."""
    found = sound(reports, "bucket").values()
    seen = ""
    if found:
        seen = (
            f"a host writes {span([b['write_mb_s'] for b in found])} MB/s, "
            f"reads {span([b['read_mb_s'] for b in found])} MB/s"
        )
    mend = (
        "does BUCKET exist, and has the pod's service account these two roles on it? "
        "gcloud storage buckets add-iam-policy-binding BUCKET --member=serviceAccount:ACCOUNT --role=ROLE "
        "with ROLE roles/storage.objectUser, and again with roles/storage.legacyBucketReader"
    )
    return seen, faults(reports, "bucket"), mend


def check_tensorflow(reports, expected):
    """TensorFlow is the CPU build and holds no TPU, which a host cannot share."""
    wrong, seen = faults(reports, "tensorflow"), sound(reports, "tensorflow")
    for host, found in seen.items():
        if found["packages"] != ["tensorflow-cpu"]:
            wrong.append(
                (host, f"{', '.join(found['packages']) or 'no TensorFlow'} is installed, not just tensorflow-cpu")
            )
        if found["devices"] != ["CPU"]:
            wrong.append((host, f"TensorFlow holds {', '.join(found['devices'])}"))
    return "tensorflow-cpu, no TPU", wrong, "delete ~/bert_tpu/venv on that host, then " + SETUP


def check_room(reports, expected):
    """Disk and memory that are free."""
    wrong = faults(reports, "memory_gib")
    disk = {host: report["disk_gib"] for host, report in reports.items()}
    memory = sound(reports, "memory_gib")
    for name, found, least in (("disk", disk, DISK_GIB), ("memory", memory, MEMORY_GIB)):
        wrong += [(h, f"{v:g} GiB of {name} left, {least} is the least") for h, v in found.items() if v < least]
    seen = f"disk {span(disk.values(), ' GiB')}, memory {span(memory.values() or [0], ' GiB')} free"
    return seen, wrong, "delete what is not needed on that host (ssh to it), or " + AGAIN


CHECKS = {
    "hosts": check_hosts, "chips": check_chips, "python": check_python, "versions": check_versions,
    "commit": check_commit, "corpus": check_corpus, "port": check_port, "clocks": check_clocks,
    "bucket": check_bucket, "tensorflow": check_tensorflow, "room": check_room,
}  # fmt: skip


def table(reports, expected):
    """(lines of the table, whether all is well). reports: {host: report}."""
    lines, well = [], True
    for name, check in CHECKS.items():
        seen, wrong, mend = check(reports, expected)
        well = well and not wrong
        lines.append(f"{name:<11} {'FAIL' if wrong else 'ok':<5} {in_words(wrong) if wrong else seen}")
        if wrong:
            lines.append(f"{'':<17} mend: {mend}")
    return lines, well


def main():
    """Reads the reports and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--chips", type=int, required=True)
    parser.add_argument("--kind", required=True)
    expected = parser.parse_args()
    reports = {
        report["host"]: report for report in map(json.loads, filter(lambda line: line.startswith("{"), sys.stdin))
    }
    if not reports:
        sys.exit("error: no host has reported; is the pod set up?")
    lines, well = table(dict(sorted(reports.items())), expected)
    print("\n".join(lines))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
