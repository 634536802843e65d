"""Upgrades: what an administrator stopped, disabled or masked stays so, and nothing that runs is interrupted."""

import pytest
from test_reload import Client, load
from test_terminal import Terminal

from test_installed import UNITS
from test_running import DAEMONS, untouched, wait_until_serving


def upgrade(node, package):
    """Installs a package with a higher version; returns what was printed. The second time it is the same version, for
    which dpkg calls the maintainer scripts in the same way."""
    newer = package.newer(1)
    path = f"/var/cache/{newer.path.name}"
    if not node.exists(path):
        node.put(newer.path, path)
    output = node.run("dpkg", "-i", path, seconds=300)
    shown = node.run("dpkg-query", "-W", "-f", "${Status} ${Version}", package.name)
    assert shown == f"install ok installed {newer.version}"
    return output


def states(node):
    return {unit: tuple(node.unit(f"{unit}.service", "ActiveState", "UnitFileState").values()) for unit in UNITS}


def test_an_upgrade_drops_no_connection_and_no_guest(node, host, guest, package):
    console = Terminal(host, f"/nodes/{host.node}").log_in()
    console.expect("OK")
    clients = [Client(host, keep_alive) for keep_alive in (True, False)]
    clients[1].url = f"{host.url}/api2/json/access/users"
    before = {unit: node.main_pid(f"{unit}.service") for unit in ("pvedaemon", "pveproxy", "spiceproxy")}
    inode = node.run("stat", "-L", "-c", "%i", f"/proc/{before['pveproxy']}/exe")
    with load(clients) as each_is_answered:
        upgrade(node, package)
        each_is_answered()
    assert {unit: node.main_pid(f"{unit}.service") for unit in before} == before
    now = node.run("stat", "-L", "-c", "%i", f"/proc/{before['pveproxy']}/exe")
    assert now != inode, "it executes what was installed"
    console.type("echo alive-$((6*7))\n")
    console.expect("alive-42")
    console.type("exit\n")
    untouched(host, guest)


# Two of them show that it is the same with the older systemd.
EVERYWHERE = ("pvedaemon", "pve-guests")


@pytest.mark.parametrize(
    "unit", [pytest.param(unit, marks=[] if unit in EVERYWHERE else pytest.mark.once) for unit in UNITS]
)
def test_an_upgrade_with_a_unit_masked(node, host, guest, package, unit):
    """Beside it one that is disabled, and one that is stopped. A guest runs all the while."""
    service = f"{unit}.service"
    others = [f"{other}.service" for other in DAEMONS if other != unit]
    disabled, stopped = others[UNITS.index(unit) % len(others)], others[(UNITS.index(unit) + 2) % len(others)]
    # pve-guests refuses to be stopped by hand.
    node.run("systemctl", "mask", *(("--now",) if unit != "pve-guests" else ()), service)
    node.run("systemctl", "disable", disabled)
    node.run("systemctl", "stop", stopped)
    try:
        before = states(node)
        output = upgrade(node, package)
        assert states(node) == before, output
        assert before[unit][1] == "masked"
    finally:
        node.run("systemctl", "unmask", service)
        node.run("systemctl", "enable", disabled)
        node.run("systemctl", "start", stopped, *([service] if unit != "pve-guests" else []))
    wait_until_serving(host)
    untouched(host, guest)
    assert set(states(node).values()) == {("active", "enabled")}


@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_an_upgrade_that_fails_interrupts_nothing(node, host, guest, package, script):
    """Either way what runs goes on: before the files are unpacked it is the old version that stays installed; behind,
    the next package that is installed repairs it."""
    newer = package.newer(2, failing=script)
    path = node.put(newer.path, f"/var/cache/{newer.path.name}")
    installed = node.run("dpkg-query", "-W", "-f", "${Version}", package.name)
    node.run("systemctl", "stop", "spiceproxy")
    try:
        before, pid = states(node), node.main_pid("pveproxy.service")
        status, output = node.try_run("dpkg", "-i", path)
        assert status != 0 and "error" in output, output
        shown = node.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package.name)
        assert shown == {"preinst": f"ii {installed}", "postinst": f"iF {newer.version}"}[script]
        assert (states(node), node.main_pid("pveproxy.service")) == (before, pid), output
        untouched(host, guest)
    finally:
        upgrade(node, package)
        assert states(node) == before
        node.run("systemctl", "start", "spiceproxy")
    wait_until_serving(host)
