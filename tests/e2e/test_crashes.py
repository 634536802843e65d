"""`kill -9` of any process loses no task, no guest and no configuration."""

import os
import signal

import pytest

from test_machine import MACHINE
from waiting import wait_for

ROUNDS = 3


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # Gone before it was opened, or while it is read.
        return False


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    wait_for(f"{pid} is gone", lambda: not alive(pid), 10)


def answers(lab):
    """Whether both daemons answer: this call goes through pveproxy to pvedaemon."""
    try:
        return lab.call("GET", "/access/users").status_code == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def machine(lab):
    """A running machine without an operating system."""
    api = lab.api()
    plain = {**MACHINE, "ide2": "none,media=cdrom", "boot": "order=scsi0"}
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=400, start=1, **plain))
    wait_for("it runs", lambda: api.nodes(lab.node).qemu(400).status.current.get()["status"] == "running")
    return api.nodes(lab.node).qemu(400)


@pytest.mark.parametrize("daemon", ["pvedaemon", "pveproxy", "qmeventd"])
@pytest.mark.parametrize("victim", ["master", "worker"])
@pytest.mark.parametrize("round", range(ROUNDS))
def test_killed_processes_come_back_and_nothing_is_lost(lab, machine, daemon, victim, round):
    if daemon == "qmeventd" and victim == "worker":
        pytest.skip("qmeventd has no workers")
    api = lab.api()
    before = machine.status.current.get()["pid"]
    config = machine.config.get()
    upid = lab.call("POST", f"/nodes/{lab.node}/qemu/400/status/reset").json()["data"]

    master, workers = lab.daemon_pids(daemon)
    for pid in [master] if victim == "master" else workers:
        kill(pid)

    wait_for("the suite answers again", lambda: answers(lab), 30)
    assert lab.wait_task(api, upid, 30) == "OK"
    assert machine.status.current.get()["pid"] == before
    assert machine.config.get() == config


def test_a_task_outlives_the_daemon_that_started_it(lab, machine):
    api = lab.api()
    # Nothing in the guest answers the power button: the task waits for its whole time.
    upid = machine.status.shutdown.post(timeout=8)
    pid = int(upid.split(":")[2], 16)
    master, _ = lab.daemon_pids("pvedaemon")
    kill(master)
    assert alive(pid)
    wait_for("the suite answers again", lambda: answers(lab), 30)
    assert lab.wait_task(api, upid, 40) == "VM quit/powerdown failed - got timeout"


def test_a_task_can_be_stopped(lab, machine):
    api = lab.api()
    upid = machine.status.shutdown.post(timeout=600)
    task = api.nodes(lab.node).tasks(upid)
    assert task.status.get()["status"] == "running"
    task.delete()
    assert lab.wait_task(api, upid, 20) == "received interrupt"
    listed = api.nodes(lab.node).tasks.get(vmid=400, limit=1)
    assert listed[0]["upid"] == upid


def test_a_guest_that_dies_while_the_event_daemon_is_dead_is_cleaned_up(lab, machine):
    master, _ = lab.daemon_pids("qmeventd")
    kill(master)
    kill(machine.status.current.get()["pid"])
    wait_for("the machine counts as stopped", lambda: machine.status.current.get()["status"] == "stopped", 30)
    api = lab.api()
    lab.run_task(api, machine.status.start.post())
    lab.run_task(api, machine.status.stop.post())


def test_a_restarted_lab_finds_everything_again(lab, machine):
    api = lab.api()
    config = machine.config.get()
    password, address = lab.password, lab.address
    lab.stop()
    lab.start()
    assert lab.address == address
    api = lab.api(password=password)
    assert api.nodes(lab.node).qemu(400).config.get() == config
    assert any(row["type"] == "qmcreate" for row in api.nodes(lab.node).tasks.get(limit=500))
