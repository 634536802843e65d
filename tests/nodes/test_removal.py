"""Removal and purge: the daemons go and what they made goes; guests, disks and configurations stay."""

from conftest import TREES
from host import VMID
from test_installed import UNITS, listeners
from test_running import wait_until_serving

DISK = f"/var/lib/vz/images/{VMID}/vm-{VMID}-disk-0.qcow2"
CONFIG = f"/etc/pve/qemu-server/{VMID}.conf"
# What stays, as docs/install.md says.
KEPT = ("/etc/pve", "/etc/subgid", "/etc/subuid", "/run/qemu-server", "/var/lib/vz")
# What belongs to the system, which goes on meanwhile.
OTHERS = (
    "/run/dbus", "/run/log", "/run/motd.dynamic", "/run/systemd", "/run/user", "/var/cache", "/var/lib/apt", "/var/lib/dpkg",
    "/var/lib/systemd", "/var/log/apt", "/var/log/dpkg.log", "/var/log/journal", "/var/tmp",
)  # fmt: skip


def is_of_others(path):
    return any(path == place or path.startswith(f"{place}/") for place in KEPT + OTHERS)


def test_a_removal_that_fails_starts_what_ran_and_an_upgrade_repairs_it(node, host, package):
    script = f"/var/lib/dpkg/info/{package.name}.prerm"
    node.run("systemctl", "stop", "spiceproxy")
    active = {unit: node.is_active(f"{unit}.service") for unit in UNITS}
    assert active["pveproxy"] and not active["spiceproxy"]
    node.run("sh", "-ec", 'cp -p "$1" "$1.good"; echo "exit 1" >> "$1"', "sh", script)
    try:
        status, output = node.try_run("dpkg", "--remove", package.name)
        assert status != 0 and "error" in output, output
        assert {unit: node.is_active(f"{unit}.service") for unit in UNITS} == active
        # Wanted away, and installed.
        assert node.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package.name).strip() == "ri"
        # The script of the new package stands in for the one that fails.
        node.run("dpkg", "--install", node.put(package.path, f"/var/cache/{package.path.name}"))
        assert {unit: node.is_active(f"{unit}.service") for unit in UNITS} == active
    finally:
        node.try_run("mv", f"{script}.good", script)
        node.run("systemctl", "start", "spiceproxy")
    wait_until_serving(host)


def test_a_removal_stops_the_daemons_and_no_guest(node, host, guest, package):
    pid = host.guest_status(VMID)["pid"]
    node.run("apt-get", "remove", "-y", package.name)
    assert listeners(node) == {}
    assert node.try_run("pgrep", "-x", "pvedaemon|pveproxy|spiceproxy|pvestatd|pvescheduler|qmeventd")[0] == 1
    assert node.exists(f"/proc/{pid}/exe"), "the guest runs"
    assert all(map(node.exists, (DISK, CONFIG, "/etc/pve/priv/authkey.key", "/var/log/pveproxy")))
    assert node.run("systemctl", "--failed", "--no-legend") == ""


def test_a_purge_leaves_guests_and_configurations(node, package):
    node.run("apt-get", "purge", "-y", package.name)
    assert all(map(node.exists, (DISK, CONFIG, "/etc/pve/priv/authkey.key", "/etc/pve/pve-root-ca.pem")))
    before, after = node.tree_before, node.tree(*TREES)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path: (before.get(path), after.get(path)) for path in changed if not is_of_others(path)} == {}
    # Newer systemds fail where there is none.
    left = node.try_run("systemctl", "list-unit-files", "--no-legend", *(f"{unit}.service" for unit in UNITS))[1]
    assert left.strip() == ""
    links = node.run("ls", "-R", "/etc/systemd/system")
    assert [unit for unit in (*UNITS, "pve-manager") if unit in links] == []


def test_an_installation_after_a_purge_finds_its_guests(node, host, package):
    package.install(node)
    wait_until_serving(host)
    # The same keys: a ticket from before still counts.
    assert host.guest_status(VMID)["status"] == "running"
    host.serial(VMID, "echo still-$((6*7))", "still-42")
    host.run_task(host.data("POST", f"/nodes/{host.node}/qemu/{VMID}/status/stop"))
