"""A gcloud for tests: keeps one pod in a folder, records every call, and plays what Cloud does on a bad day.

The folder is in STUB_DIR. `calls.jsonl` has the words of each call; `state.json` the pod and what is to be played:

    node, request     null, or {"state": ..., "hosts": number}: the TPU VM and the queued resource
    refuse            for the next calls of create: null or a refusal, as gcloud prints it
    requests          the states that a queued request goes through, one for each look
    preempt_at        the training steps at which the pod is taken back, as the next look finds
    hosts             how many hosts a new pod has
    ssh_fails         the workers that cannot be reached
    down              what every look is answered with instead

A worker is a folder, the HOME of what ssh runs in it, on this machine.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

# Started some hundred times in a suite: glob and shutil are imported where needed, pathlib nowhere.

HERE = os.environ["STUB_DIR"]
PLACE = {"--zone", "--project"}
CREATE = {"--accelerator-type", "--spot", "--network", "--subnetwork", "--scopes", "--service-account"}
# The flags that we may use, as the commands' reference has them: https://docs.cloud.google.com/sdk/gcloud/reference
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
    """The pod's state; what is changed in it is kept."""
    with open(f"{HERE}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(f"{HERE}/state.json") as file:
            held = json.load(file)
        try:
            yield held
        finally:
            with open(f"{HERE}/state.new", "w") as file:
                json.dump(held, file)
            os.replace(f"{HERE}/state.new", f"{HERE}/state.json")  # in one step: the test may kill us, or read


def refuse(text, code=1):
    """Ends as gcloud does."""
    print(text, file=sys.stderr)
    sys.exit(code)


def not_found(kind, name, flags):
    """What gcloud says of a thing that is not there."""
    place = f"projects/{flags['--project']}/locations/{flags['--zone']}"
    refuse(f"ERROR: (gcloud.compute.tpus) NOT_FOUND: Resource '{place}/{kind}/{name}' was not found")


def clear_hosts():
    """Ends what runs on the hosts at once, and wipes their disks."""
    import glob
    import shutil

    for path in glob.glob(f"{glob.escape(HERE)}/hosts/*/bert_tpu/run/pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(number(path), signal.SIGKILL)
    time.sleep(0.1)
    shutil.rmtree(f"{HERE}/hosts", ignore_errors=True)


def number(path):
    """What a file of one number says."""
    with open(path) as file:
        return int(file.read())


def new_node(held):
    """A pod with empty hosts."""
    held["node"] = {"state": held.get("node_state", "READY"), "hosts": held["hosts"]}
    for worker in range(held["hosts"]):
        os.makedirs(f"{HERE}/hosts/{worker}")


def create(held, name, flags, *, queued):
    """Makes the node, or the request for it."""
    refusal = held["refuse"].pop(0) if held["refuse"] else None
    if refusal:
        refuse(refusal)
    if held["request" if queued else "node"]:
        refuse(f"ERROR: (gcloud.compute.tpus) ALREADY_EXISTS: Resource '{name}' already exists")
    if queued:
        held["request"] = {"states": list(held["requests"])}
    else:
        new_node(held)


def describe_node(held, name, flags):
    """Prints state and addresses, as the format asks; takes the pod back when its looks are over."""
    node = held["node"]
    if held.get("down"):
        refuse(held["down"])
    if not node:
        not_found("nodes", name, flags)
    if held["preempt_at"] and last_step() >= held["preempt_at"][0]:
        held["preempt_at"].pop(0)
        node["state"], node["hosts"] = "PREEMPTED", 0
        if held["request"]:
            held["request"] = {"states": ["SUSPENDED"]}
        clear_hosts()
    assert flags["--format"] == "value(state,networkEndpoints[].ipAddress)"
    print(node["state"], ";".join(f"10.0.0.{2 + i}" for i in range(node["hosts"])), sep="\t")


def last_step():
    """The last step that a run in the bucket tells of."""
    import glob

    return max(map(number, glob.glob(f"{glob.escape(HERE)}/bucket/*/runs/*/step")), default=0)


def describe_request(held, name, flags):
    """Prints the request's state, and moves it on."""
    if not held["request"]:
        not_found("queuedResources", name, flags)
    assert flags["--format"] == "value(state.state)"
    states = held["request"]["states"]
    print(states[0])
    if states[0] == "ACTIVE" and not held["node"]:
        new_node(held)
    if len(states) > 1:
        states.pop(0)


def delete(held, name, flags, *, queued):
    """Ends the node, and its request."""
    if not held["request" if queued else "node"]:
        not_found("queuedResources" if queued else "nodes", name, flags)
    clear_hosts()
    held["node"] = None
    if queued:
        held["request"] = None


def ssh(held, flags):
    """The command to become, in the worker's folder."""
    worker = int(flags["--worker"])
    if worker in held["ssh_fails"]:
        refuse(f"ERROR: (gcloud.compute.tpus.tpu-vm.ssh) connect to host 10.0.0.{2 + worker} port 22: timed out", 255)
    os.environ["HOME"] = home = f"{HERE}/hosts/{worker}"
    os.chdir(home)
    return ["bash", "-c", flags["--command"]]


def copy(held, words):
    """Copies a file to every worker's home."""
    import shutil

    file, target = words
    assert target.endswith(":")
    for worker in range(held["node"]["hosts"]):
        shutil.copy(file, f"{HERE}/hosts/{worker}")


def main():
    """One call."""
    words = sys.argv[1:]
    with open(f"{HERE}/calls.jsonl", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    verb = next((known for known in FLAGS if words[: len(known.split())] == known.split()), None)
    assert verb, f"gcloud has no {words}"
    rest = words[len(verb.split()) :]
    flags = dict(word.partition("=")[::2] for word in rest if word.startswith("--"))
    assert flags.keys() <= FLAGS[verb], f"gcloud {verb} takes no {flags.keys() - FLAGS[verb]}"
    names = [word for word in rest if not word.startswith("--")]
    if verb == "storage rsync":
        import shutil

        bucket, target = names
        shutil.copytree(f"{HERE}/bucket/{bucket.removeprefix('gs://')}", target, dirs_exist_ok=True)
        return
    command = None
    with state() as held:
        match verb.split():
            case ["auth", _]:
                print("me@example.com" if held["logged_in"] else "")
            case [*_, "tpu-vm", "ssh"]:
                command = ssh(held, flags)
            case [*_, "tpu-vm", "scp"]:
                copy(held, names)
            case [*_, "tpu-vm", "describe"]:
                describe_node(held, *names, flags)
            case [*_, "describe"]:
                describe_request(held, *names, flags)
            case [*_, kind, "create"]:
                create(held, *names, flags, queued=kind != "tpu-vm")
            case [*_, kind, "delete"]:
                delete(held, *names, flags, queued=kind != "tpu-vm")
    if command:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
