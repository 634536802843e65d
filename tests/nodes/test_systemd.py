"""The node's services through the API, tasks as services of their own, and VMs in scopes: all by a real systemd."""

import contextlib

import pytest

from waiting import wait_for

# A service that upstream has and this node has not, so that it can be whatever a test needs.
SPARE = "pvefw-logger"
UNIT = f"/run/systemd/system/{SPARE}.service"
VMID = 150


@contextlib.contextmanager
def spare(node, service):
    """Makes the spare service what these lines of its section say."""
    text = f"[Unit]\nDescription=Spare\nStartLimitIntervalSec=0\n[Service]\n{service}\n"
    node.write(UNIT, text)
    node.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        node.try_run("systemctl", "stop", SPARE)
        node.run("rm", "-f", UNIT, "/root/go")
        node.try_run("systemctl", "reset-failed", SPARE)
        node.run("systemctl", "daemon-reload")


def state(host, service):
    found = host.data("GET", f"/nodes/{host.node}/services/{service}/state")
    assert (found["service"], found["name"]) == (service, service)
    return found["state"], found["unit-state"], found["active-state"]


def order(host, service, command):
    return host.data("POST", f"/nodes/{host.node}/services/{service}/{command}")


def outcome(host, service, command):
    """The exit status of the task that does something to a service, and its log before the last line."""
    upid = order(host, service, command)
    assert upid.split(":")[5:7] == [f"srv{command}", service]
    status = host.wait_task(upid)
    lines = [line["t"] for line in host.data("GET", f"/nodes/{host.node}/tasks/{upid}/log", limit=0)]
    return status, lines[:-1]


def test_services_are_listed_as_systemd_has_them(node, host):
    rows = host.data("GET", f"/nodes/{host.node}/services")
    ids = [row["service"] for row in rows]
    assert ids == sorted(ids) and len(ids) == 23
    words = ("SubState", "UnitFileState", "ActiveState", "LoadState", "Description", "Type", "Result")
    for row in rows:
        shown = node.unit(f"{row['service']}.service", *words)
        ended = shown["SubState"] == "dead" and shown.get("Type") == "oneshot" and shown.get("Result")
        file_state = "not-found" if shown["LoadState"] == "not-found" else shown["UnitFileState"] or "unknown"
        assert row == {
            "service": row["service"],
            "name": row["service"],
            "desc": shown["Description"],
            "state": shown["Result"] if ended else shown["SubState"],
            "unit-state": file_state,
            "active-state": shown["ActiveState"],
        }
    assert state(host, "pvedaemon") == ("running", "enabled", "active")
    assert state(host, SPARE) == ("dead", "not-found", "inactive")


def test_a_service_is_handled(node, host):
    with spare(node, "ExecStart=/bin/sleep infinity\nExecReload=/bin/touch /root/go"):
        assert state(host, SPARE) == ("dead", "static", "inactive")
        # What does not run is neither reloaded nor started by a reload.
        assert outcome(host, SPARE, "reload") == ("OK", [])
        assert state(host, SPARE)[0] == "dead"
        assert outcome(host, SPARE, "start") == ("OK", [])
        assert state(host, SPARE) == ("running", "static", "active")
        first = node.main_pid(SPARE)
        assert outcome(host, SPARE, "reload") == ("OK", [])
        assert node.exists("/root/go") and node.main_pid(SPARE) == first
        assert outcome(host, SPARE, "restart") == ("OK", [])
        assert node.main_pid(SPARE) not in (0, first)
        assert outcome(host, SPARE, "stop") == ("OK", [])
        assert state(host, SPARE) == ("dead", "static", "inactive")


def test_services_that_cannot_be_handled(node, host):
    def failure(command, code):
        return f"command 'systemctl {command} {SPARE}' failed: exit code {code}"

    for command, words in (("start", "start"), ("restart", "restart"), ("reload", "try-reload-or-restart")):
        said = f"Failed to {words} {SPARE}.service: Unit {SPARE}.service not found."
        assert outcome(host, SPARE, command) == (failure(words, 5), [said])
    with spare(node, "Type=oneshot\nExecStart=/bin/false"):
        status, log = outcome(host, SPARE, "start")
        assert status == failure("start", 1) and log[0].startswith(f"Job for {SPARE}.service failed")
        assert state(host, SPARE) == ("failed", "static", "failed")
    node.run("ln", "-s", "/dev/null", UNIT)
    try:
        node.run("systemctl", "daemon-reload")
        assert state(host, SPARE) == ("dead", "masked-runtime", "inactive")
        said = f"Failed to start {SPARE}.service: Unit {SPARE}.service is masked."
        assert outcome(host, SPARE, "start") == (failure("start", 1), [said])
    finally:
        node.run("rm", UNIT)
        node.run("systemctl", "daemon-reload")
    refusal = "invalid service cmd 'pveproxy stop': refusing to stop essential service!"
    assert outcome(host, "pveproxy", "stop") == (refusal, [])
    assert node.is_active("pveproxy.service")


@pytest.mark.parametrize("end", ["stop", "restart", "kill"])
def test_a_task_outlives_what_happens_to_its_daemon(node, host, end):
    waiting = "Type=oneshot\nExecStart=/bin/sh -c 'until [ -e /root/go ]; do sleep 0.1; done'"
    with spare(node, waiting):
        upid = order(host, SPARE, "start")
        pid = int(upid.split(":")[2], 16)
        group = node.read(f"/proc/{pid}/cgroup").strip().rsplit("/", 1)[-1]
        assert group.startswith("pve-task-")
        assert node.unit(group, "MainPID", "Slice") == {"MainPID": str(pid), "Slice": "system.slice"}
        if end == "kill":
            before = node.main_pid("pvedaemon.service")
            node.run("systemctl", "kill", "--signal=KILL", "--kill-whom=all", "pvedaemon.service")
            wait_for("pvedaemon is back", lambda: node.main_pid("pvedaemon.service") not in (0, before))
        else:
            node.run("systemctl", end, "pvedaemon.service")
        assert node.exists(f"/proc/{pid}/exe")
        node.run("systemctl", "start", "pvedaemon.service")
        wait_for("pvedaemon answers", lambda: host.call("GET", "/access/users").status_code == 200)
        assert host.is_running(upid)
        node.run("touch", "/root/go")
        assert host.wait_task(upid) == "OK"
        wait_for("its unit is gone", lambda: node.unit(group, "LoadState") == "not-found")


def test_pvedaemon_is_restarted_by_its_own_task(node, host):
    before = node.main_pid("pvedaemon.service")
    upid = order(host, "pvedaemon", "restart")
    wait_for("it is another one", lambda: node.main_pid("pvedaemon.service") not in (0, before))
    wait_for("it answers", lambda: host.call("GET", "/access/users").status_code == 200)
    assert host.wait_task(upid) == "OK"


def test_a_failed_task_is_no_failed_unit(node, host):
    outcome(host, SPARE, "start")
    assert "pve-task-" not in node.run("systemctl", "list-units", "--failed", "--no-legend", "--plain")


def test_a_task_is_started_without_the_bus(node, host):
    node.run("systemctl", "stop", "dbus.socket", "dbus.service")
    try:
        upid = order(host, SPARE, "start")
        assert host.wait_task(upid) == f"command 'systemctl start {SPARE}' failed: exit code 1"
        wait_for("it is logged", lambda: "runs as a part of this service" in node.journal("pvedaemon.service"))
    finally:
        node.run("systemctl", "start", "dbus.socket")


@pytest.mark.once
def test_a_task_is_started_while_the_bus_hangs(node, host):
    node.run("systemctl", "start", "dbus.service")
    bus = node.main_pid("dbus.service")
    node.run("kill", "-STOP", bus)
    try:
        # By the command line: a login would ask the bus, too.
        said = node.run("pvesh", "create", f"/nodes/{host.node}/services/{SPARE}/start")
    finally:
        node.run("kill", "-CONT", bus)
    assert f"TASK ERROR: command 'systemctl start {SPARE}' failed: exit code 1" in said
    wait_for("it is logged", lambda: "runs as a part of this service" in node.journal(None, "-t", "pvesh"))


def test_a_vm_is_in_a_scope_with_its_limits(node, host):
    scope, path = f"{VMID}.scope", f"/nodes/{host.node}/qemu/{VMID}"

    def limits():
        found = node.unit(scope, "CPUWeight", "CPUQuotaPerSecUSec")
        return found["CPUWeight"], found["CPUQuotaPerSecUSec"]

    def start():
        host.run_task(host.data("POST", f"{path}/status/start"))
        return host.guest_status(VMID)["pid"]

    host.run_task(
        host.data("POST", f"/nodes/{host.node}/qemu", vmid=VMID, memory="16", kvm=0, cpuunits=250, cpulimit="0.5")
    )
    try:
        # What somebody left there goes first.
        node.popen("systemd-run", "--quiet", "--scope", f"--unit={scope}", "sleep", "1000")
        wait_for("the stale scope", lambda: node.is_active(scope))
        pid = start()
        assert f"/qemu.slice/{scope}" in node.read(f"/proc/{pid}/cgroup")
        assert limits() == ("250", "500ms")
        shown = node.unit(scope, "Slice", "Description", "KillMode", "SendSIGKILL", "TimeoutStopUSec")
        assert shown == {
            "Slice": "qemu.slice",
            "Description": f"Proxmox VE VM {VMID}",
            "KillMode": "process",
            "SendSIGKILL": "no",
            "TimeoutStopUSec": "infinity",
        }
        ordered = node.unit(scope, "Before").split()
        assert {"pve-guests.service", "pve-ha-lrm.service"} <= set(ordered)
        host.data("PUT", f"{path}/config", cpuunits=777, cpulimit=2)
        assert limits() == ("777", "2s")
        host.data("PUT", f"{path}/config", delete="cpuunits,cpulimit")
        assert limits() == ("100", "infinity")
        host.run_task(host.data("POST", f"{path}/status/stop"))
        wait_for("the scope is gone", lambda: node.unit(scope, "LoadState") == "not-found")
        # The next one is as the config says, not as the last one was.
        host.data("PUT", f"{path}/config", cpuunits=300)
        start()
        assert limits() == ("300", "infinity")
    finally:
        host.run_task(host.data("POST", f"{path}/status/stop"))
        host.run_task(host.data("DELETE", path))
