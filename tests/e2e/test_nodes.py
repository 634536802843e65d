"""Two nodes in two network namespaces that know each other as members of a cluster do: by what is in /etc/pve.

The files are copies; there is no cluster file system here. Names are resolved by each namespace's own /etc/hosts.
"""

import hashlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import struct
import threading

import pytest
import requests
import websocket

from cluster import HOST, NETWORK, SshServer, run, share, two_nodes
from memory import peak
from rfb import Screen
from test_machine import MACHINE, create
from test_terminal import Terminal
from waiting import wait_for


@pytest.fixture(scope="module")
def cluster(playground):
    with two_nodes(playground / "nodes") as cluster:
        yield cluster


def test_a_call_for_the_other_node_runs_there(cluster):
    for user in ("root@pam", "admin@pve"):
        answer = cluster.ask("/nodes/n2/status", user)
        assert answer.status_code == 200, answer.reason
        assert answer.json()["data"]["uptime"] > 0
    # What it changes is on the other node and nowhere else; the task is the other node's, too.
    create(cluster.far, cluster.far.api(), 600, ide2="none,media=cdrom", boot="order=scsi0")
    config = "nodes/n2/qemu-server/600.conf"
    assert (cluster.second.pve / config).exists() and not (cluster.first.pve / config).exists()
    tasks = cluster.far.api().nodes("n2").tasks.get(vmid=600)
    assert [(task["type"], task["node"], task["user"]) for task in tasks] == [("qmcreate", "n2", "admin@pve")]
    log = (cluster.second.root / "var/log/pveproxy/access.log").read_text()
    assert '"POST /api2/json/nodes/n2/qemu HTTP/1.1" 200' in log
    # An error of the other node's is passed on as it is.
    answer = cluster.ask("/nodes/n2/qemu/601/config")
    assert answer.status_code == 500 and answer.reason.startswith("Configuration file 'nodes/n2/qemu-server/601.conf'")
    # Its own permissions hold: nothing without a ticket, nothing without the token against forgery.
    assert requests.get(f"{cluster.first.url}/api2/json/nodes/n2/status", verify=False, timeout=30).status_code == 401
    session = cluster.first.session()
    del session.headers["CSRFPreventionToken"]
    answer = session.post(f"{cluster.first.url}/api2/json/nodes/n2/qemu/600/status/start", timeout=30)
    assert (answer.status_code, answer.reason) == (401, "Permission denied - invalid csrf token")


@pytest.fixture(scope="module")
def ssh(cluster):
    with SshServer(cluster) as server:
        yield server


def test_a_shell_of_the_other_node(cluster, ssh):
    # The call and the websocket run on the first node: its port, its task.
    terminal = Terminal(cluster.far, "/nodes/n2").log_in()
    assert terminal.console["upid"].startswith("UPID:n1:")
    terminal.expect("OK")
    terminal.type("ip -4 -o addr show dev leg; echo done-$((6*7))\n")
    terminal.expect("done-42")
    assert f"{NETWORK}.2/24".encode() in terminal.seen, terminal.seen
    terminal.type("exit\n")
    wait_for("the terminal closes", terminal.is_closed, every=0)
    # Others get a log-in there, and no shell.
    terminal = Terminal(cluster.far, "/nodes/n2", user="admin@pve").log_in()
    terminal.expect("login:")
    terminal.socket.close()


@pytest.fixture(scope="module")
def storage(cluster):
    """A storage that only the second node has, with a directory of its own."""
    base = cluster.second.root / "far"
    base.mkdir()
    # Nobody makes its directory anew while a test has it away.
    section = f"\ndir: far\n\tpath {base}\n\tcontent iso,images\n\tcreate-base-path 0\n\tnodes n2\n"
    for node in (cluster.first, cluster.second):
        file = node.pve / "storage.cfg"
        file.write_text((file.read_text() if file.exists() else "") + section)
    return base


class Sent:
    """A body of an upload that is made while it is sent: a file of random pieces, and what is left out at its end."""

    PIECE = 1 << 20

    def __init__(self, name, pieces, stop_after=None):
        border = "border" + secrets.token_hex(8)
        self.type = f"multipart/form-data; boundary={border}"
        disposition = "Content-Disposition: form-data; name="
        self.start = (
            f'--{border}\r\n{disposition}"content"\r\n\r\niso\r\n'
            f'--{border}\r\n{disposition}"filename"; filename="{name}"\r\n\r\n'
        ).encode()
        self.end = f"\r\n--{border}--\r\n".encode()
        self.pieces, self.stop_after = pieces, stop_after
        self.length = len(self.start) + pieces * self.PIECE + len(self.end)
        self.digest = hashlib.sha256()

    def to(self, node):
        """Sends it to a node for a storage of the second: the connection."""
        session = node.session()
        connection = http.client.HTTPSConnection(
            node.address, 8006, timeout=60, context=ssl._create_unverified_context()
        )
        connection.putrequest("POST", "/api2/json/nodes/n2/storage/far/upload")
        for name in ("Cookie", "CSRFPreventionToken"):
            connection.putheader(name, session.headers[name])
        connection.putheader("Content-Type", self.type)
        connection.putheader("Content-Length", str(self.length))
        connection.endheaders(self.start)
        for number in range(self.pieces):
            if number == self.stop_after:
                return connection
            piece = os.urandom(self.PIECE)
            self.digest.update(piece)
            connection.send(piece)
        connection.send(self.end)
        return connection


def upload(node, name, pieces):
    """Uploads a file to the storage of the second node: the task, and the file's digest."""
    body = Sent(name, pieces)
    answer = body.to(node).getresponse()
    text = answer.read()
    assert answer.status == 200, (answer.reason, text)
    return json.loads(text)["data"], body.digest.hexdigest()


def peaks(node):
    """The most memory that each process of a node's proxy ever had, in MiB."""
    master, workers = node.daemon_pids("pveproxy")
    return {pid: peak(pid) / 1024 for pid in (master, *workers)}


def grown(node, before):
    """By how much the one has grown that has most."""
    now = peaks(node)
    return max(now[pid] - before[pid] for pid in before)


def leftovers(cluster, base):
    """Files of uploads that are no finished ones."""
    spools = [path for node in (cluster.first, cluster.second) for path in (node.root / "var/tmp").glob("pveupload-*")]
    return spools + list(base.rglob(".*.tmp.*"))


def test_an_upload_to_the_other_node(cluster, ssh, storage):
    api = cluster.first.api()
    before = peaks(cluster.first)
    upid, digest = upload(cluster.first, "fifty.iso", 50)
    assert upid.startswith("UPID:n1:") and ":imgcopy:" in upid
    log = cluster.first.run_task(api, upid)
    target = storage / "template/iso/fifty.iso"
    assert "target node: n2" in log and f"target file: {target}" in log and "(100.00%)" in log, log
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert target.stat().st_mode & 0o777 == 0o644
    assert leftovers(cluster, storage) == []
    # Nothing of it is kept in memory: not by the proxy, and not by the task, which sees none of it.
    assert grown(cluster.first, before) < 16, (before, peaks(cluster.first))
    listed = cluster.far.api().nodes("n2").storage("far").content.get()
    assert [(row["volid"], row["size"]) for row in listed] == [("far:iso/fifty.iso", 50 << 20)]


def test_an_upload_that_ends_early_leaves_nothing(cluster, ssh, storage):
    api = cluster.first.api()
    spool = cluster.first.root / "var/tmp"
    # The client goes away.
    connection = Sent("gone.iso", 20, stop_after=10).to(cluster.first)
    wait_for("the first pieces are spooled", lambda: any(p.stat().st_size > 1 << 20 for p in spool.glob("pveupload-*")))
    connection.close()
    wait_for("the spooled file is gone", lambda: leftovers(cluster, storage) == [])
    # The task is stopped while the file is on its way, or the connection between the nodes breaks.
    for end in ("stop", "break"):
        ssh.hold.touch()
        try:
            upid, _ = upload(cluster.first, "half.iso", 20)
            wait_for("the gate is shut", ssh.hold.read_text)
            staged = list(storage.rglob(".half.iso.tmp.*"))
            assert len(staged) == 1 and staged[0].stat().st_size < 20 << 20
            if end == "stop":
                api.nodes("n1").tasks(upid).delete()
            else:
                os.kill(int(ssh.hold.read_text()), signal.SIGKILL)
            status = cluster.first.wait_task(api, upid)
            assert status != "OK", status
            wait_for("nothing is left", lambda: leftovers(cluster, storage) == [])
        finally:
            ssh.hold.unlink()
    assert not (storage / "template/iso/half.iso").exists()
    # A storage that the node has not is refused before anything is sent, and the spooled file goes.
    shutil.rmtree(storage / "template")
    storage.rename(storage.with_name("away"))
    try:
        upid, _ = upload(cluster.first, "nowhere.iso", 1)
        assert "does not exist or is unreachable" in cluster.first.wait_task(api, upid)
    finally:
        storage.with_name("away").rename(storage)
    assert leftovers(cluster, storage) == []


@pytest.fixture(scope="module")
def guest(cluster, ssh, storage, iso):
    """A running guest of the second node that was brought up through the first."""
    api = cluster.far.api()
    with open(iso, "rb") as content:
        answer = cluster.first.session().post(
            f"{cluster.first.url}/api2/json/nodes/n2/storage/far/upload",
            data={"content": "iso"},
            files={"filename": ("tiny.iso", content)},
            timeout=60,
        )
    assert answer.status_code == 200, answer.reason
    cluster.first.run_task(cluster.first.api(), answer.json()["data"])
    changes = {"ide2": "far:iso/tiny.iso,media=cdrom", "scsi0": "far:1,format=qcow2", "virtio0": None}
    cluster.far.run_task(api, api.nodes("n2").qemu.post(vmid=610, **{**MACHINE, **changes}))
    machine = api.nodes("n2").qemu(610)
    cluster.far.run_task(api, machine.status.start.post())
    serial = cluster.second.serial(610)
    serial.expect("tiny-guest ready")
    serial.close()
    # In a cluster the file is everywhere.
    share(cluster.second, cluster.first)
    # It is stopped with its node.
    return 610


def test_a_serial_terminal_of_the_other_nodes_guest(cluster, guest):
    terminal = Terminal(cluster.far, f"/nodes/n2/qemu/{guest}", user="admin@pve").log_in()
    assert terminal.console["upid"].startswith("UPID:n1:")
    assert terminal.console["upid"].split(":")[5:7] == ["vncproxy", str(guest)]
    terminal.expect("OK")
    terminal.type("\n")
    terminal.expect("#")
    # Every key is the guest's, also the one that ends a terminal of a person.
    terminal.type("\x0fecho guest-$((6*7))\n")
    terminal.expect("guest-42")
    terminal.socket.close()
    assert cluster.first.wait_task(cluster.first.api(), terminal.console["upid"]) == "OK"
    refused = cluster.first.call("POST", f"/nodes/n2/qemu/{guest}/termproxy", serial="serial3")
    assert refused.status_code == 500 and "unable to find a serial interface" in refused.reason
    missing = cluster.first.call("POST", "/nodes/n2/qemu/999/termproxy")
    assert missing.reason == "Configuration file 'nodes/n2/qemu-server/999.conf' does not exist", missing.reason


def test_the_screen_of_the_other_nodes_guest(cluster, guest):
    first = cluster.first
    told = first.call("POST", f"/nodes/n2/qemu/{guest}/vncproxy", user="admin@pve", websocket=1).json()["data"]
    assert told["upid"].startswith("UPID:n1:")
    screen = Screen(cluster.far, first.session("admin@pve"), guest, told["port"], told["ticket"], told["password"])
    assert screen.width >= 640 and screen.height >= 400
    pixels = screen.fetch()
    assert len(pixels) == screen.width * screen.height * 4 and len(set(pixels)) > 1
    # Someone who asks for screens and reads none holds up neither the display nor the first node.
    before = peaks(first)
    for _ in range(400):
        screen.send(struct.pack(">BBHHHH", 3, 0, 0, 0, screen.width, screen.height))
    assert first.call("GET", "/version").status_code == 200
    assert grown(first, before) < 16, (before, peaks(first))
    screen.close()
    assert first.wait_task(first.api(), told["upid"]) == "OK"
    # The password was for that time; a ticket of one guest opens no other.
    where = f"{first.url}/api2/json/nodes/n2/qemu/611/vncwebsocket"
    refused = first.session("admin@pve").get(
        where, params={"port": told["port"], "vncticket": told["ticket"]}, timeout=30
    )
    assert refused.status_code in (401, 403), refused.reason


def test_a_console_of_a_node_that_cannot_be_reached(cluster, guest, ssh):
    known = cluster.first.pve / "nodes/n2/ssh_known_hosts"
    kept = known.read_text()
    # Not the key that the cluster knows: nobody is believed.
    known.write_text("n2 " + (cluster.network.directory / "user.pub").read_text())
    try:
        first = cluster.first
        told = first.call("POST", f"/nodes/n2/qemu/{guest}/vncproxy", websocket=1).json()["data"]
        with pytest.raises((AssertionError, websocket.WebSocketConnectionClosedException)):
            Screen(cluster.far, first.session(), guest, told["port"], told["ticket"], told["password"])
        assert first.wait_task(first.api(), told["upid"]) == "Failed to run vncproxy."
        lines = [line["t"] for line in first.api().nodes("n1").tasks(told["upid"]).log.get()]
        assert any("Host key verification failed" in line for line in lines), lines
    finally:
        known.write_text(kept)


def connect(proxy, host):
    """Asks a spiceproxy for a tunnel: the connection, and the first line of the answer."""
    client = socket.create_connection((proxy, 3128), timeout=20)
    client.sendall(f"CONNECT {host} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    return client, client.recv(4096).decode().split("\r\n")[0]


def test_a_spice_viewer_reaches_a_guest_through_two_proxies(cluster):
    api = cluster.far.api()
    machine = api.nodes("n2").qemu(600)
    machine.config.put(vga="qxl")
    cluster.far.run_task(api, machine.status.start.post())
    told = machine.spiceproxy.post(proxy=cluster.first.address)
    assert told["proxy"] == f"http://{cluster.first.address}:3128"
    client, line = connect(cluster.first.address, f"{told['host']}:{told['tls-port']}".lower())
    assert line == "HTTP/1.0 200 OK"
    # The guest's own TLS, with the certificate of its node, and the first words of SPICE.
    context = ssl.create_default_context(cadata=told["ca"].replace("\\n", "\n"))
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with context.wrap_socket(client) as tunnel:
        subject = ",".join(f"{key}={value}" for part in tunnel.getpeercert()["subject"] for key, value in part)
        assert subject.endswith("commonName=n2"), subject
        tunnel.sendall(b"REDQ" + struct.pack("<IIIIBBIII", 2, 2, 18, 0, 1, 0, 0, 0, 18))
        assert tunnel.recv(4) == b"REDQ"
    log = (cluster.second.root / "var/log/pveproxy/access.log").read_text()
    assert re.search(r'"CONNECT pvespiceproxy:[0-9a-f]{8}:600:n2:', log), log[-500:]
    # A bad ticket is refused by the first already.
    bad = told["host"][:-1] + ("0" if told["host"][-1] != "0" else "1")
    assert connect(cluster.first.address, f"{bad}:{told['tls-port']}")[1] == "HTTP/1.0 401 invalid ticket"
    cluster.far.run_task(api, machine.status.stop.post())
    # Where nobody listens any more, the second's words arrive.
    client, line = connect(cluster.first.address, f"{told['host']}:{told['tls-port']}")
    assert line.startswith("HTTP/1.0 502"), line


def test_no_call_goes_in_circles(cluster):
    answer = cluster.ask("/nodes/n2/status", headers={"PVEDisableProxy": "true"})
    assert (answer.status_code, answer.reason) == (500, "proxy loop detected")
    answer = cluster.ask("/nodes/n9/status")
    assert answer.status_code == 500 and answer.reason.startswith("hostname lookup 'n9' failed - "), answer.reason


def fingerprint(file):
    return run("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(file)).strip().split("=")[1]


def certify(directory, name):
    """A certificate and key of nobody in particular."""
    directory.mkdir(parents=True, exist_ok=True)
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x"
    run(*command.split(), "-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.pem"))


def test_a_changed_certificate_is_not_believed(cluster, tmp_path):
    own = cluster.second.pve / "nodes/n2"
    kept = cluster.first.pve / "nodes/n2/pve-ssl.pem"
    certify(tmp_path, "new")
    for ending in ("key", "pem"):
        # Key and certificate together: what does not fit is not taken.
        (own / f"pve-ssl.{ending}").write_bytes((tmp_path / f"new.{ending}").read_bytes())
    expected, seen = fingerprint(kept), fingerprint(tmp_path / "new.pem")
    # A response with such a status counts as false.
    seen_answers = []
    wait_for(
        "the first node refuses",
        lambda: seen_answers.append(cluster.change()) or seen_answers[-1].status_code == 596,
        seconds=20,
    )
    answer = seen_answers[-1]
    assert answer.reason == (
        f"certificate of node 'n2' is not the one in /etc/pve: expected {expected}, seen {seen}"
    )
    # Once the cluster knows of it, it is believed.
    kept.write_bytes((tmp_path / "new.pem").read_bytes())
    assert cluster.ask("/nodes/n2/status").status_code == 200


class Impostor:
    """A third node on the host's address that has the right certificate and says what it is told to."""

    def __init__(self, cluster):
        directory = cluster.first.pve / "nodes/n3"
        certify(directory, "pve-ssl")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "pve-ssl.pem", directory / "pve-ssl.key")
        self.listener = socket.create_server((HOST, 8006))

    def answer(self, words):
        def serve():
            client, _ = self.listener.accept()
            with self.context.wrap_socket(client, server_side=True) as tunnel:
                tunnel.recv(65536)
                tunnel.sendall(words)

        threading.Thread(target=serve, daemon=True).start()


def test_what_goes_wrong_on_the_way_has_a_status(cluster):
    impostor = Impostor(cluster)
    session = cluster.first.session()

    def ask():
        # Not repeatable, so that each is said once.
        return session.post(f"{cluster.first.url}/api2/json/nodes/n3/status", data={"command": "reboot"}, timeout=40)

    for words, status, reason in [
        (b"HTTP/1.1 418 I am n3\r\nContent-Length: 0\r\n\r\n", 418, "I am n3"),
        (b"", 596, "Broken pipe"),
        (b"SSH-2.0-x\r\n\r\n", 599, "invalid answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 597, "Broken pipe"),
    ]:
        impostor.answer(words)
        answer = ask()
        assert (answer.status_code, answer.reason) == (status, reason), words
    # A long one that breaks off in the middle: 597 would come too late, so the connection ends.
    impostor.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        ask()
    impostor.listener.close()
    answer = ask()
    assert (answer.status_code, answer.reason) == (595, "Connection refused")


def test_a_node_that_is_down(cluster):
    leg = f"{cluster.network.name(2)}h"
    run("ip", "link", "set", leg, "down")
    run("ip", "-n", cluster.network.name(1), "neigh", "flush", "all")
    try:
        answer = cluster.change()
        assert (answer.status_code, answer.reason) == (595, "No route to host")
        # Calls for the node itself are not held up.
        assert cluster.ask("/nodes/n1/status").status_code == 200
    finally:
        run("ip", "link", "set", leg, "up")
    wait_for("it is back", lambda: cluster.ask("/nodes/n2/status").status_code == 200)
    cluster.second.process.send_signal(signal.SIGINT)
    cluster.second.process.wait(timeout=60)
    answer = cluster.change()
    assert (answer.status_code, answer.reason) == (595, "Connection refused")
