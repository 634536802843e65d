"""A node that is not like the others: only IPv6, a unit masked before the product came, upstream's packages in the way,
another host name, and a root that is read-only. One node, in this order."""

import ipaddress
import re
import subprocess

import pytest
from test_terminal import Terminal

from host import Host
from node import Node
from test_installed import LISTENERS, listeners
from waiting import wait_for

MASKED = "spiceproxy.service"
SERVING = {where: names for where, names in LISTENERS.items() if where[1] != 3128}


@pytest.fixture(scope="module")
def bare(network, images, release):
    """A clean node without IPv4."""
    with Node(network, images[release], name="six", families=(6,)) as node:
        yield node.boot()


@pytest.fixture
def upstream(tmp_path):
    """A package that says it is upstream's, with a program of the same name."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/pvedaemon").write_text("#!/bin/sh\necho upstream\n")
    control = {
        "Package": "pve-manager", "Version": "9.2.11", "Architecture": "all",
        "Maintainer": "Nobody <nobody@example.org>", "Description": "stands for upstream's package",
    }  # fmt: skip
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    path = tmp_path / "pve-manager.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True, stdout=subprocess.DEVNULL)
    return path


def wait_until_serving(host):
    node = host.node_under_test
    wait_for(lambda: f"the usual listeners: {listeners(node)}", lambda: listeners(node) == SERVING)
    return host.wait_until_up()


def wait_until_online(host):
    """Waits until pvestatd has told of the node under the name that it has, and of no other."""

    def online():
        return [row["node"] for row in host.data("GET", "/nodes") if row["status"] == "online"]

    wait_for(lambda: f"{host.node} is online: {host.data('GET', '/nodes')}", lambda: online() == [host.node])


def test_an_installation_of_upstream_is_left_alone(bare, package, upstream):
    bare.run("dpkg", "-i", bare.put(upstream, "/var/cache/pve-manager.deb"))
    path = bare.put(package.path, f"/var/cache/{package.path.name}")
    for command in (("dpkg", "-i", path), ("apt-get", "install", "-y", "--no-remove", path)):
        status, output = bare.try_run(*command)
        assert status != 0 and "pve-manager" in output, output
    assert bare.read("/usr/bin/pvedaemon") == "#!/bin/sh\necho upstream\n"
    assert bare.run("dpkg-query", "-W", "-f", "${Status}", "pve-manager") == "install ok installed"
    assert not bare.exists("/usr/bin/pveproxy") and not bare.exists("/etc/pve")
    bare.run("dpkg", "--purge", "pve-manager")
    bare.try_run("dpkg", "--purge", package.name)


def test_an_installation_with_a_unit_masked_before(bare, package):
    bare.run("systemctl", "mask", MASKED)
    output = package.install(bare)
    assert bare.unit(MASKED, "LoadState", "ActiveState") == {"LoadState": "masked", "ActiveState": "inactive"}, output
    wait_until_serving(Host(bare))
    assert bare.run("systemctl", "--failed", "--no-legend") == ""


def test_everything_over_ipv6_alone(bare):
    host = Host(bare).set_password()
    assert [row["type"] for row in host.data("GET", "/cluster/status")] == ["node"]
    assert host.data("GET", "/cluster/status")[0]["ip"] == bare.address6
    terminal = Terminal(host, f"/nodes/{host.node}").log_in()
    # What is typed before the shell has the terminal is lost with some releases' login.
    terminal.expect("# ")
    terminal.type("echo six-$((6*7)); exit\n")
    terminal.expect("six-42")
    assert host.wait_task(terminal.console["upid"]) == "OK"
    certificate = bare.run("openssl", "x509", "-in", "/etc/pve/local/pve-ssl.pem", "-noout", "-ext", "subjectAltName")
    found = {ipaddress.ip_address(address) for address in re.findall(r"IP Address:([0-9A-Fa-f:.]+)", certificate)}
    assert ipaddress.ip_address(bare.address6) in found, certificate


def test_a_host_name_that_changed(bare):
    bare.rename("seven")
    bare.run("hostname", "seven")
    # Until it is repaired, whoever is asked says what to do.
    bare.run("systemctl", "restart", "--no-block", "pvedaemon")
    wait_for("the log names the remedy", lambda: "pvecm updatecerts" in bare.journal("pvedaemon", "-n", "20"))
    bare.run("pvecm", "updatecerts")
    bare.run("systemctl", "restart", "pvedaemon", "pveproxy", "pvestatd", "pvescheduler")
    host = wait_until_serving(Host(bare))
    wait_until_online(host)
    assert "seven.example.org" in bare.run("openssl", "x509", "-in", "/etc/pve/local/pve-ssl.pem", "-noout", "-subject")


def test_a_boot_under_another_name_repairs_by_itself(bare):
    bare.power_off()
    bare.rename("eight")
    bare.boot()
    host = wait_until_serving(Host(bare))
    wait_until_online(host)


def test_a_root_that_is_read_only(bare):
    bare.power_off()
    bare.writable = ("/var", "/etc/pve")
    bare.boot()
    assert bare.try_run("touch", "/etc/new")[0] != 0
    host = wait_until_serving(Host(bare))
    assert bare.run("systemctl", "--failed", "--no-legend") == ""
    upid = host.data("POST", f"/nodes/{host.node}/qemu", vmid=100, memory=64, kvm=0, scsi0="local:0.01,format=qcow2")
    host.run_task(upid)
    host.run_task(host.data("POST", f"/nodes/{host.node}/qemu/100/status/start"))
    assert host.guest_status(100)["status"] == "running"
    host.run_task(host.data("POST", f"/nodes/{host.node}/qemu/100/status/stop"))
    host.run_task(host.data("DELETE", f"/nodes/{host.node}/qemu/100"))
