"""Starts on machines that are not as they ought to be: what daemons wait for, what they say, and what repairs it."""

import contextlib
import json
import secrets
import shutil
import subprocess

import pytest

from daemons import Daemon, Root
from lab import BINARIES, Lab
from waiting import wait_for


@pytest.fixture(scope="module")
def root(playground):
    return Root(playground / "startup")


@contextlib.contextmanager
def away(path):
    """Takes something away; what is called puts it back, or else the end does."""
    aside = path.with_name("away")
    path.rename(aside)
    try:
        yield lambda: aside.rename(path)
    finally:
        if aside.exists():
            shutil.rmtree(path, ignore_errors=True)
            aside.rename(path)


def pve(root):
    return root.path / "etc/pve"


def status(daemon, text):
    """Waits for a status line that holds a text."""
    told = daemon.notifications
    return wait_for(f"STATUS with {text!r}", lambda: (m := told.wait("STATUS"))["STATUS"].count(text) and m, every=0)


@pytest.mark.parametrize("name", ["pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "qmeventd"])
def test_every_daemon_waits_for_etc_pve_and_says_so(root, name):
    with away(pve(root)) as back, Daemon(root, name, notify=True) as daemon:
        waiting = status(daemon, "waiting for ")
        assert waiting["STATUS"] == f"waiting for '{pve(root)}', which 'pvecm updatecerts' makes"
        assert int(daemon.notifications.wait("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 5_000_000
        assert daemon.process.poll() is None and not daemon.workers()
        back()
        assert daemon.notifications.wait("READY")["STATUS"].endswith("worker(s)")
        assert daemon.log().count("waiting for '") == 1, "a line in the log, once"


def test_who_starts_a_daemon_by_hand_is_told_at_once(root):
    with away(pve(root)), Daemon(root, "pvestatd") as daemon:
        daemon.logged("going on without '")
        daemon.logged("worker ")


def test_a_certificate_that_comes_late_is_waited_for_and_then_served(root):
    certificate = pve(root) / "nodes" / root.node / "pve-ssl.pem"
    with away(certificate) as back, Daemon(root, "pveproxy", notify=True) as daemon:
        waiting = status(daemon, "pve-ssl.pem")
        assert waiting["STATUS"] == f"waiting for '{certificate}', which 'pvecm updatecerts' makes"
        back()
        assert daemon.notifications.wait("READY")["STATUS"] == "3 worker(s)"
        url = f"https://{root.address}:8006/api2/json/version"
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", pve(root) / "pve-root-ca.pem", url]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "401"


def test_an_address_that_comes_late_is_waited_for(root):
    name = "pvb" + secrets.token_hex(2)
    root.settings("LISTEN_IP=198.18.77.1\n")
    with namespace(name) as inside:
        with Daemon(root, "pveproxy", notify=True, prefix=inside) as daemon:
            waiting = status(daemon, "198.18.77.1")
            assert waiting["STATUS"] == "waiting for port 8006 of 198.18.77.1 - Cannot assign requested address"
            subprocess.run(["ip", "-n", name, "addr", "add", "198.18.77.1/32", "dev", "lo"], check=True)
            daemon.notifications.wait("READY")
        # By hand it fails as it always did.
        root.settings("LISTEN_IP=198.18.77.2\n")
        with Daemon(root, "pveproxy", prefix=inside) as daemon:
            assert daemon.process.wait(timeout=30) == 255
            assert "start failed - unable to create socket - Cannot assign requested address" in daemon.log()
    root.settings("")


def test_a_changed_host_name_is_said_and_repaired(root):
    old = pve(root) / "nodes" / root.node
    (old / "qemu-server/100.conf").write_text("memory: 32\n")
    conf = root.path / "pve-lab.conf"
    before = conf.read_text()
    conf.write_text(before.replace(f"PVE_LAB_NODE={root.node}", "PVE_LAB_NODE=renamed"))
    assert conf.read_text() != before
    update = [BINARIES / "pve-cli", "pvecm", "updatecerts", "--root", root.path]
    with Daemon(root, "pvedaemon", notify=True) as daemon:
        waiting = status(daemon, "renamed")
        assert waiting["STATUS"] == (
            f"waiting for '{pve(root)}/nodes/renamed' - there is one for '{root.node}': "
            "if this machine had that name before, run 'pvecm updatecerts'"
        )
        repaired = subprocess.run(update, capture_output=True, text=True, check=True)
        assert "nodes/renamed/pve-ssl.pem" in repaired.stdout
        assert f"1 guest(s) belong to a node '{root.node}'" in repaired.stdout, "they are not moved silently"
        ready = daemon.notifications.wait("READY")
        assert f"3 worker(s) - 1 guest(s) belong to a node '{root.node}'" in ready["STATUS"]
    new = pve(root) / "nodes/renamed"
    assert sorted(entry.name for entry in (new / "qemu-server").iterdir()) == []
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", new / "pve-ssl.pem"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "DNS:renamed" in names and f"DNS:{root.node}," not in names
    subprocess.run(["openssl", "verify", "-CAfile", pve(root) / "pve-root-ca.pem", new / "pve-ssl.pem"], check=True)
    # What the message says is what is to be done.
    (old / "qemu-server/100.conf").rename(pve(root) / "qemu-server/100.conf")
    assert (new / "qemu-server/100.conf").exists()
    kept = root.path / "old"
    old.rename(kept)
    with Daemon(root, "pvedaemon", notify=True) as daemon:
        assert daemon.notifications.wait("READY")["STATUS"] == "3 worker(s)"
    shutil.rmtree(new)
    kept.rename(old)
    conf.write_text(before)
    subprocess.run(update, check=True)


@contextlib.contextmanager
def namespace(name, *, ipv4=True):
    """A network of its own with nothing but a loopback interface; words before a command that runs in it."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        if not ipv4:
            subprocess.run(["ip", "-n", name, "addr", "del", "127.0.0.1/8", "dev", "lo"], check=True)
        yield ["nsenter", f"--net=/run/netns/{name}"]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def curl(inside, lab, path, *options):
    command = [*inside, "curl", "-sg", "--max-time", "40", "--cacert", lab.root / "etc/pve/pve-root-ca.pem"]
    done = subprocess.run(
        [*command, *options, f"https://[::1]:8006{path}"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


class Lab6(Lab):
    """A lab where there is no IPv4."""

    pattern = r"https://(\[::1\]):8006"

    def where(self):
        return ()


def test_a_machine_without_ipv4_serves_everything(playground):
    name = "pvb" + secrets.token_hex(2)
    with namespace(name, ipv4=False) as inside, Lab6(playground / "six", prefix=inside) as lab:
        ticket = lab.ticket("root@pam")
        who = [
            *("-H", f"CSRFPreventionToken: {ticket['CSRFPreventionToken']}"),
            *("-b", "PVEAuthCookie=" + ticket["ticket"]),
        ]
        # The web side's own, then what it forwards to port 85, which is on ::1 as well.
        assert curl(inside, lab, "/api2/json/version", *who)["data"]["release"] == "9.2"
        assert curl(inside, lab, f"/api2/json/nodes/{lab.node}/tasks", *who)["data"] is not None
        listening = subprocess.run([*inside, "ss", "-Htln"], check=True, capture_output=True, text=True).stdout
        assert {line.split()[3] for line in listening.splitlines()} == {"[::1]:85", "[::1]:8006", "[::1]:3128"}
        # A console: its port is reserved, listened on and found again at the same address.
        console = curl(inside, lab, f"/api2/json/nodes/{lab.node}/termproxy", "-X", "POST", *who)["data"]
        assert console["port"] >= 5900
        assert not [line for line in lab.log().splitlines() if "error" in line.lower()], lab.log()


def read_only(root):
    """Words before a command that sees a lab's /etc read-only, but for /etc/pve."""
    etc = root / "etc"
    script = (
        f'mount --bind {etc} {etc} && mount --bind {etc}/pve {etc}/pve && mount -o remount,ro,bind {etc} && exec "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def test_nothing_but_var_run_tmp_and_etc_pve_is_written(playground):
    path = playground / "readonly"
    with Lab(path):
        pass
    before = sorted((entry.name, entry.stat().st_mtime_ns) for entry in (path / "etc").iterdir() if entry.name != "pve")
    with Lab(path, prefix=read_only(path)) as lab:
        denied = subprocess.run(
            ["nsenter", f"--mount=/proc/{lab.process.pid}/ns/mnt", "touch", path / "etc/x"], capture_output=True
        )
        assert denied.returncode != 0, "the test is about something"
        call = lab.call
        assert call("POST", "/access/users", userid="joe@pve", password="secret123").ok
        assert call("PUT", "/access/acl", path="/vms", users="joe@pve", roles="PVEVMAdmin").ok
        assert call("PUT", f"/nodes/{lab.node}/config", description="still here").ok
        assert call("PUT", "/cluster/options", keyboard="de").ok
        made = call("POST", f"/nodes/{lab.node}/qemu", vmid=100, memory=32, kvm=0, scsi0="local:0.1")
        assert made.ok, made.text
        api = lab.api()
        lab.run_task(api, made.json()["data"])
        lab.run_task(api, call("POST", f"/nodes/{lab.node}/vzdump", vmid=100, storage="local").json()["data"])
        started = call("POST", f"/nodes/{lab.node}/qemu/100/status/start")
        lab.run_task(api, started.json()["data"])
        lab.run_task(api, call("POST", f"/nodes/{lab.node}/stopall", timeout=1).json()["data"])
        assert "Read-only file system" not in lab.log()
    after = sorted((entry.name, entry.stat().st_mtime_ns) for entry in (path / "etc").iterdir() if entry.name != "pve")
    assert after == before


def test_a_full_run_is_said_and_waited_out_by_nobody(root):
    """A start that cannot write its pid file says so and leaves nothing; with room again it starts."""
    run = root.path / "run"
    mount = f'mount -t tmpfs -o size=64k,mode=755 tmpfs {run} && exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    fill = f'{mount.removesuffix(" && exec " + chr(34) + "$@" + chr(34))}; dd if=/dev/zero of={run}/full bs=4k 2>/dev/null; exec "$@"'
    with Daemon(root, "pvedaemon", prefix=[*inside, fill, "sh"]) as daemon:
        assert daemon.process.wait(timeout=60) == 255
        assert "start failed - " in daemon.log() and "No space left on device" in daemon.log(), daemon.log()
    with Daemon(root, "pvedaemon", prefix=[*inside, mount, "sh"]) as daemon:
        daemon.until_serving(85)
