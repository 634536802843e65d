"""`pvesh`: the API by its paths, and the tasks that it starts."""

import os
import signal
import subprocess

from lab import BINARIES
from tools import heeds_interrupts, without_waits
from waiting import wait_for


def words(lab, *arguments):
    return [os.fspath(BINARIES / "pve-cli"), "pvesh", "--root", os.fspath(lab.root), *map(str, arguments)]


def pvesh(lab, *arguments):
    """A call that goes well: what it printed."""
    done = subprocess.run(words(lab, *arguments), capture_output=True, text=True, timeout=120)
    assert (done.returncode, without_waits(done.stderr)) == (0, ""), done
    return done.stdout


def test_a_task_is_followed_to_its_end(lab):
    api = lab.api()
    node = f"/nodes/{lab.node}"
    told = pvesh(lab, "create", f"{node}/qemu", "--vmid", 500, "--name", "shell", "--memory", 64, "--scsi0", "local:1")
    log, upid = told.rstrip("\n").rsplit("\n", 1)
    assert log.endswith("TASK OK") and ":qmcreate:500:root@pam:" in upid
    assert api.nodes(lab.node).qemu(500).config.get()["name"] == "shell"
    assert api.nodes(lab.node).tasks(upid).status.get()["exitstatus"] == "OK"
    # Both ends of it are in the cluster log, under the tool's name.
    ends = lambda: [row["msg"].split()[0] for row in api.cluster.log.get() if upid in row["msg"] and row["tag"] == "pvesh"]
    wait_for("the task's end is logged", lambda: sorted(ends()) == ["end", "starting"], 20)
    # One that fails says so in its log; it was started, which is what was asked for.
    pvesh(lab, "set", f"{node}/qemu/500/config", "--args", "-no-such-option", "--kvm", 0)
    told = pvesh(lab, "create", f"{node}/qemu/500/status/start")
    assert "TASK ERROR: " in told
    told = pvesh(lab, "delete", f"{node}/qemu/500")
    assert "TASK OK" in told
    assert "500" not in pvesh(lab, "ls", f"{node}/qemu")


def test_answers_are_those_of_the_api(lab):
    assert pvesh(lab, "get", "/version", "--output-format", "json").count('"release":"9.2"') == 1
    table = pvesh(lab, "get", f"/nodes/{lab.node}/storage", "--noborder")
    assert "KiB" in table or "GiB" in table
    for path in ("/", "/access", "/nodes", f"/nodes/{lab.node}"):
        names = {line.split()[1] for line in pvesh(lab, "ls", path).splitlines()}
        rows = lab.call("GET", path).json()["data"]
        key = {"/": "subdir", "/access": "subdir", "/nodes": "node"}.get(path, "name")
        assert names == {row[key] for row in rows}


def test_ctrl_c_ends_the_task(lab):
    node = f"/nodes/{lab.node}"
    pvesh(lab, "create", f"{node}/qemu", "--vmid", 501, "--memory", 64, "--kvm", 0)
    pvesh(lab, "create", f"{node}/qemu/501/status/start")
    try:
        # It waits for a guest that never answers.
        call = words(lab, "create", f"{node}/qemu/501/status/shutdown", "--timeout", 300)
        child = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        api = lab.api()
        running = lambda: [row for row in api.nodes(lab.node).tasks.get(source="active") if row["type"] == "qmshutdown"]
        (task,) = wait_for("the task runs", running, 30)
        wait_for("the tool heeds Ctrl-C", lambda: heeds_interrupts(child))
        # The shell's Ctrl-C reaches the tool alone: a task leads a session of its own.
        child.send_signal(signal.SIGINT)
        told, _ = child.communicate(timeout=30)
        assert "TASK ERROR: received interrupt" in told and task["upid"] in told
    finally:
        pvesh(lab, "create", f"{node}/qemu/501/status/stop")
        pvesh(lab, "delete", f"{node}/qemu/501")
