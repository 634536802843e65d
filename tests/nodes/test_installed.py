"""What an installation on a clean node leaves: units, listeners, users and rights, a login; and how tight it sits."""

import re

import requests


UNITS = (
    "pve-cluster", "qmeventd", "pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "pve-guests",
)  # fmt: skip
# As upstream's documentation shows `ss -atlnup`: the kernel keeps 15 characters of a name.
LISTENERS = {
    ("127.0.0.1", 85): ["pvedaemon"] + ["pvedaemon worke"] * 3,
    ("*", 8006): ["pveproxy"] + ["pveproxy worker"] * 3,
    ("*", 3128): ["spiceproxy", "spiceproxy work"],
}


def listeners(node):
    """The product's listeners: {(address, port): names}."""
    found = node.listeners()
    return {where: sorted(name for name, _ in found[where]) for where in found if where[1] in (85, 8006, 3128)}


def test_every_unit_is_active_and_enabled(node):
    states = {unit: node.unit(f"{unit}.service", "ActiveState", "UnitFileState") for unit in UNITS}
    assert states == {unit: {"ActiveState": "active", "UnitFileState": "enabled"} for unit in UNITS}
    assert node.run("systemctl", "--failed", "--no-legend") == "", node.journal(None, "-p", "warning", "-n", "50")


def test_the_installation_says_nothing_that_alarms(node):
    assert not re.search(r"(?i)error|warning|fail|did not|unable|cannot", node.install_output), node.install_output


def test_who_listens_and_as_whom(node):
    assert listeners(node) == LISTENERS
    owners = {
        unit: node.run("ps", "-o", "user=", "-p", str(node.main_pid(f"{unit}.service"))).strip()
        for unit in ("pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler")
    }
    assert owners == {
        "pvedaemon": "root",
        "pveproxy": "www-data",
        "spiceproxy": "www-data",
        "pvestatd": "root",
        "pvescheduler": "root",
    }


def test_a_login_with_the_password_of_root(host):
    assert host.api().version.get()["release"]
    assert host.log_in("not this one").status_code == 401
    nodes = host.api().nodes.get()
    assert [(row["node"], row["status"]) for row in nodes] == [("node1", "online")]


def test_the_certificate_holds_for_the_address_of_the_node(node, host, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text(node.read("/etc/pve/pve-root-ca.pem"))
    address = host.data("GET", "/cluster/status")[0]["ip"]
    assert address in (node.address4, node.address6)
    where = f"[{address}]" if ":" in address else address
    assert requests.get(f"https://{where}:8006/", verify=authority, timeout=30).status_code == 200
    said = node.run(
        "curl", "-sS", "--cacert", "/etc/pve/pve-root-ca.pem", "-o", "/dev/null", "-w", "%{http_code}",
        "https://node1.example.org:8006/",
    )  # fmt: skip
    assert said == "200"


def test_owners_and_modes(node):
    wanted = {
        "/etc/pve/priv": "700 root:www-data",
        "/etc/pve/priv/authkey.key": "600 root:www-data",
        "/etc/pve/authkey.pub": "640 root:www-data",
        "/etc/pve/local/pve-ssl.key": "640 root:www-data",
        "/var/log/pveproxy": "700 www-data:www-data",
        "/run/pveproxy": "700 www-data:www-data",
    }
    found = node.run("stat", "-L", "-c", "%n %a %U:%G", *wanted)
    assert dict(line.split(" ", 1) for line in found.splitlines()) == wanted
    for file in ("/etc/subuid", "/etc/subgid"):
        assert "root:100000:65536" in node.read(file).splitlines()
