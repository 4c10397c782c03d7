"""A gcloud for tests: keeps one pod in a folder, records every call, and plays Google Cloud's faults.

The folder is STUB_DIR. Its `calls.jsonl` has the arguments of each call, and `state.json` has the pod and the faults:

    logged_in         whether somebody is logged in
    node              null, or {"state": ..., "hosts": number}: the TPU VM
    request           null, or {"states": [...]}: the queued resource
    refuse            for each of the next calls of create: null, or the error that gcloud prints
    requests          the states of a new queued request, one for each `describe`
    preempt_at        training steps at which Google Cloud takes the pod back; the next `describe` reports it
    hosts             number of hosts of a new pod
    ssh_fails         workers that cannot be reached

A worker is a folder. A command that ssh runs on it runs on this machine, with that folder as HOME.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

# The tests start this file hundreds of times, so glob and shutil are imported only where needed, and pathlib nowhere.

STUB_DIR = os.environ["STUB_DIR"]
PLACE = {"--zone", "--project"}
CREATE = {"--accelerator-type", "--spot", "--network", "--subnetwork", "--scopes", "--service-account"}
# The flags that launch/ may use, from the reference of the commands: https://docs.cloud.google.com/sdk/gcloud/reference
FLAGS = {
    "auth list": {"--filter", "--format"},
    "storage rsync": {"--recursive", "--delete-unmatched-destination-objects"},
    "compute tpus tpu-vm create": PLACE | CREATE | {"--version"},
    "compute tpus tpu-vm describe": PLACE | {"--format"},
    "compute tpus tpu-vm delete": PLACE | {"--quiet"},
    "compute tpus tpu-vm ssh": PLACE | {"--quiet", "--worker", "--command"},
    "compute tpus tpu-vm scp": PLACE | {"--quiet", "--worker"},
    "compute tpus queued-resources create": PLACE | CREATE | {"--runtime-version", "--node-id"},
    "compute tpus queued-resources describe": PLACE | {"--format"},
    "compute tpus queued-resources delete": PLACE | {"--quiet", "--force"},
}


@contextlib.contextmanager
def state():
    """Yields the content of state.json under a lock, and writes it back."""
    with open(f"{STUB_DIR}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(f"{STUB_DIR}/state.json") as file:
            cloud = json.load(file)
        try:
            yield cloud
        finally:
            with open(f"{STUB_DIR}/state.new", "w") as file:
                json.dump(cloud, file)
            os.replace(
                f"{STUB_DIR}/state.new", f"{STUB_DIR}/state.json"
            )  # atomically: the test may kill this process, or be reading


def refuse(text, code=1):
    """Prints an error and exits, as gcloud does."""
    print(text, file=sys.stderr)
    sys.exit(code)


def not_found(kind, name, flags):
    """Exits with gcloud's error for a missing resource."""
    place = f"projects/{flags['--project']}/locations/{flags['--zone']}"
    refuse(f"ERROR: (gcloud.compute.tpus) NOT_FOUND: Resource '{place}/{kind}/{name}' was not found")


def clear_hosts():
    """Kills the runs on the hosts and deletes the hosts' disks."""
    import glob
    import shutil

    for path in glob.glob(f"{glob.escape(STUB_DIR)}/hosts/*/bert_tpu/run/pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(read_number(path), signal.SIGKILL)
    time.sleep(0.1)
    shutil.rmtree(f"{STUB_DIR}/hosts", ignore_errors=True)


def read_number(path):
    """Returns the number in a file."""
    with open(path) as file:
        return int(file.read())


def new_node(cloud):
    """Creates a pod with empty hosts."""
    cloud["node"] = {"state": "READY", "hosts": cloud["hosts"]}
    for worker in range(cloud["hosts"]):
        os.makedirs(f"{STUB_DIR}/hosts/{worker}")


def create(cloud, name, flags, *, queued):
    """Creates the node, or with `queued` the request for it."""
    refusal = cloud["refuse"].pop(0) if cloud["refuse"] else None
    if refusal:
        refuse(refusal)
    if cloud["request" if queued else "node"]:
        refuse(f"ERROR: (gcloud.compute.tpus) ALREADY_EXISTS: Resource '{name}' already exists")
    if queued:
        cloud["request"] = {"states": list(cloud["requests"])}
    else:
        new_node(cloud)


def describe_node(cloud, name, flags):
    """Prints the state and addresses of the node, after it was preempted if a step of `preempt_at` is reached."""
    node = cloud["node"]
    if not node:
        not_found("nodes", name, flags)
    if cloud["preempt_at"] and last_step() >= cloud["preempt_at"][0]:
        cloud["preempt_at"].pop(0)
        node["state"], node["hosts"] = "PREEMPTED", 0
        if cloud["request"]:
            cloud["request"] = {"states": ["SUSPENDED"]}
        clear_hosts()
    assert flags["--format"] == "value(state,networkEndpoints[].ipAddress)"
    print(node["state"], ";".join(f"10.0.0.{2 + i}" for i in range(node["hosts"])), sep="\t")


def last_step():
    """Returns the last training step of all runs in the bucket."""
    import glob

    return max(map(read_number, glob.glob(f"{glob.escape(STUB_DIR)}/bucket/*/runs/*/step")), default=0)


def describe_request(cloud, name, flags):
    """Prints the request's state, and moves on to its next one. A state that begins with ERROR is a call that fails."""
    if not cloud["request"]:
        not_found("queuedResources", name, flags)
    assert flags["--format"] == "value(state.state)"
    states = cloud["request"]["states"]
    if states[0].startswith("ERROR"):
        refuse(states.pop(0))
    print(states[0])
    if states[0] == "ACTIVE" and not cloud["node"]:
        new_node(cloud)
    if len(states) > 1:
        states.pop(0)


def delete(cloud, name, flags, *, queued):
    """Deletes the node, and with `queued` its request."""
    if not cloud["request" if queued else "node"]:
        not_found("queuedResources" if queued else "nodes", name, flags)
    clear_hosts()
    cloud["node"] = None
    if queued:
        cloud["request"] = None


def ssh(cloud, flags):
    """Returns the command to run, after changing to the worker's folder."""
    worker = int(flags["--worker"])
    if worker in cloud["ssh_fails"]:
        refuse(f"ERROR: (gcloud.compute.tpus.tpu-vm.ssh) connect to host 10.0.0.{2 + worker} port 22: timed out", 255)
    os.environ["HOME"] = home = f"{STUB_DIR}/hosts/{worker}"
    os.chdir(home)
    return ["bash", "-c", flags["--command"]]


def copy(cloud, file, target):
    """Copies a file to the home of every worker."""
    import shutil

    assert target.endswith(":")
    for worker in range(cloud["node"]["hosts"]):
        shutil.copy(file, f"{STUB_DIR}/hosts/{worker}")


def main():
    """Plays one call of gcloud."""
    args = sys.argv[1:]
    with open(f"{STUB_DIR}/calls.jsonl", "a") as calls:
        calls.write(json.dumps(args) + "\n")
    verb = next((verb for verb in FLAGS if args[: len(verb.split())] == verb.split()), None)
    assert verb, f"gcloud has no {args}"
    rest = args[len(verb.split()) :]
    flags = dict(arg.partition("=")[::2] for arg in rest if arg.startswith("--"))
    assert flags.keys() <= FLAGS[verb], f"gcloud {verb} takes no {flags.keys() - FLAGS[verb]}"
    names = [arg for arg in rest if not arg.startswith("--")]
    if verb == "storage rsync":
        import shutil

        bucket, target = names
        shutil.copytree(f"{STUB_DIR}/bucket/{bucket.removeprefix('gs://')}", target, dirs_exist_ok=True)
        return
    command = None
    with state() as cloud:
        match verb.split():
            case ["auth", _]:
                print("me@example.com" if cloud["logged_in"] else "")
            case [*_, "tpu-vm", "ssh"]:
                command = ssh(cloud, flags)
            case [*_, "tpu-vm", "scp"]:
                copy(cloud, *names)
            case [*_, "tpu-vm", "describe"]:
                describe_node(cloud, *names, flags)
            case [*_, "describe"]:
                describe_request(cloud, *names, flags)
            case [*_, kind, "create"]:
                create(cloud, *names, flags, queued=kind != "tpu-vm")
            case [*_, kind, "delete"]:
                delete(cloud, *names, flags, queued=kind != "tpu-vm")
    if command:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
