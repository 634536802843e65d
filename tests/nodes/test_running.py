"""A guest on an installed node, and what reloads, restarts and crashes of the daemons mean for it: nothing."""

from rfb import Screen
from test_reload import Client, load
from test_terminal import Terminal

from test_installed import LISTENERS, listeners
from waiting import wait_for

DAEMONS = ("qmeventd", "pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler")
RELOADS = 3


class WaitingBackup:
    """A backup that waits in its hook script until it is let go: a task whose length the test decides."""

    SCRIPT = "#!/bin/sh\n[ \"$1\" != job-start ] || while ! [ -e /root/go ]; do sleep 0.1; done\n"

    def __init__(self, host, vmid):
        self.host = host
        self.node = host.node_under_test
        self.node.run("rm", "-f", "/root/go")
        self.node.write("/root/hook", self.SCRIPT)
        self.node.run("chmod", "755", "/root/hook")
        self.upid = host.data("POST", f"/nodes/{host.node}/vzdump", vmid=vmid, script="/root/hook", storage="local")
        self.pid = int(self.upid.split(":")[2], 16)
        wait_for("the hook waits", lambda: self.node.try_run("pgrep", "-f", "/root/hook")[0] == 0)

    def is_alive(self):
        return self.node.exists(f"/proc/{self.pid}/exe")

    def finish(self):
        self.node.run("touch", "/root/go")
        return self.host.run_task(self.upid)


def untouched(host, guest):
    """Whether the guest is the one that it was, for the product and for the kernel, and answers."""
    vmid, pid = guest
    status = host.guest_status(vmid)
    assert (status["status"], status["pid"]) == ("running", pid)
    assert f"tiny{vmid}" in host.node_under_test.read(f"/proc/{pid}/cmdline")
    host.serial(vmid, "echo still-$((6*7))", "still-42")


def wait_until_serving(host):
    node = host.node_under_test
    wait_for(lambda: f"the usual listeners: {listeners(node)}", lambda: listeners(node) == LISTENERS)
    host.wait_until_up()


def test_a_guest_is_made_and_runs(node, host, guest):
    vmid, pid = guest
    untouched(host, guest)
    rows = host.api().nodes(host.node).qemu.get()
    assert [(row["vmid"], row["status"]) for row in rows] == [(vmid, "running")]
    assert "/qemu.slice/100.scope" in node.read(f"/proc/{pid}/cgroup")


def test_the_screen_of_a_guest(host, guest):
    vmid, _ = guest
    told = host.data("POST", f"/nodes/{host.node}/qemu/{vmid}/vncproxy", websocket=1, **{"generate-password": 1})
    screen = Screen(host, host.session(), vmid, told["port"], told["ticket"], told["password"])
    screen.fetch()
    assert screen.width >= 640 and any(screen.pixels)
    screen.close()
    assert host.wait_task(told["upid"]) == "OK"


def test_reloads_under_load_with_an_open_console(node, host, guest):
    console = Terminal(host, f"/nodes/{host.node}").log_in()
    console.expect("OK")
    clients = [Client(host, keep_alive) for keep_alive in (True, False, True, False)]
    # Half of the load is answered by pvedaemon.
    for client in clients[2:]:
        client.url = f"{host.url}/api2/json/access/users"
    masters = {unit: node.main_pid(f"{unit}.service") for unit in ("pveproxy", "pvedaemon")}
    with load(clients) as each_is_answered:
        for _ in range(RELOADS):
            node.run("systemctl", "reload", "pveproxy", "pvedaemon")
            each_is_answered()
    assert {unit: node.main_pid(f"{unit}.service") for unit in masters} == masters
    console.type("echo alive-$((6*7))\n")
    console.expect("alive-42")
    console.type("exit\n")
    assert host.wait_task(console.console["upid"]) == "OK"
    wait_until_serving(host)


def test_guests_and_tasks_outlive_stops_and_restarts(node, host, guest):
    backup = WaitingBackup(host, guest[0])
    units = [f"{unit}.service" for unit in DAEMONS]
    node.run("systemctl", "stop", *units)
    assert listeners(node) == {}
    assert node.exists(f"/proc/{guest[1]}/exe") and backup.is_alive()
    node.run("systemctl", "start", *units)
    wait_until_serving(host)
    before = {unit: node.main_pid(unit) for unit in units}
    node.run("systemctl", "restart", *units)
    wait_until_serving(host)
    assert not set(before.values()) & {node.main_pid(unit) for unit in units}
    assert host.is_running(backup.upid)
    untouched(host, guest)
    assert "INFO: Finished Backup of VM 100" in backup.finish()


def test_a_killed_daemon_is_back_and_nothing_is_lost(node, host, guest):
    backup = WaitingBackup(host, guest[0])
    units = [f"{unit}.service" for unit in DAEMONS]
    before = {unit: node.main_pid(unit) for unit in units}
    node.run("kill", "-9", *(str(pid) for pid in before.values()))
    for unit in units:
        wait_for(
            lambda: f"{unit} runs again: {node.try_run('systemctl', 'status', '--no-pager', unit)[1]}",
            lambda: node.is_active(unit) and node.main_pid(unit) not in (0, before[unit]),
        )
    wait_until_serving(host)
    # The session from before counts, and so does what the tasks' list knew.
    assert host.is_running(backup.upid)
    untouched(host, guest)
    assert "INFO: Finished Backup of VM 100" in backup.finish()
    assert node.run("systemctl", "--failed", "--no-legend") == ""


def test_a_worker_that_is_killed_is_replaced(node, host):
    for unit in ("pvedaemon", "pveproxy", "spiceproxy"):
        master = node.main_pid(f"{unit}.service")
        node.run("pkill", "-9", "-P", str(master), "-o")
    wait_until_serving(host)
