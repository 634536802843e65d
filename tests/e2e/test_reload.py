"""Reloads under load: no request fails, and what is open lives on: consoles, uploads, downloads."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import threading

import requests

from test_terminal import Terminal
from test_vncshell import BLUE, RED, Display, paint
from waiting import wait_for

RELOADS = 10
# Where the web side finds static files: as a URL, and below the lab's root.
STATIC = ("/novnc", "usr/share/novnc-pve")


class Client(threading.Thread):
    """Asks for the version over and over, on one connection or a new one each time, until it is told to stop."""

    def __init__(self, lab, keep_alive):
        super().__init__()
        self.url = f"{lab.url}/api2/json/version"
        self.session = lab.session()
        self.keep_alive = keep_alive
        self.stopping = threading.Event()
        self.answers = 0
        self.failures = []

    def run(self):
        headers = {} if self.keep_alive else {"Connection": "close"}
        while not self.stopping.is_set():
            try:
                answer = self.session.get(self.url, headers=headers, timeout=20)
                assert answer.status_code == 200, f"{answer.status_code} {answer.reason}"
                self.answers += 1
            except (requests.RequestException, AssertionError) as error:
                self.failures.append(repr(error))


@contextlib.contextmanager
def load(clients):
    """Has clients ask all the while; none may fail. Gives what waits until each of them was answered anew."""

    def each_is_answered():
        answered = [client.answers for client in clients]
        wait_for(
            "each client was answered since",
            lambda: all(client.answers > count + 5 for client, count in zip(clients, answered)),
        )

    for client in clients:
        client.start()
    try:
        yield each_is_answered
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
        failures = [client.failures[:3] for client in clients if client.failures]
        assert not failures, failures


def reload(lab):
    """Reloads pveproxy, and waits until it has as many new workers as it had."""
    master, before = lab.daemon_pids("pveproxy")
    os.kill(master, signal.SIGHUP)
    wait_for("there are new workers", lambda: len(set(lab.daemon_pids("pveproxy")[1]) - set(before)) >= 3, every=0.05)


def test_ten_reloads_under_load(lab):
    console = Terminal(lab, f"/nodes/{lab.node}").log_in()
    console.expect("OK")
    clients = [Client(lab, keep_alive) for keep_alive in (True, True, False, False)]
    master, workers = lab.daemon_pids("pveproxy")
    with load(clients) as each_is_answered:
        for _ in range(RELOADS):
            reload(lab)
            each_is_answered()
    assert lab.daemon_pids("pveproxy")[0] == master, "a reload keeps the master's pid"
    console.type("echo alive-$((6*7))\n")
    console.expect("alive-42")
    console.socket.close()
    # What was drained is gone, but for nobody's console.
    wait_for("the old workers are gone", lambda: not set(workers) & set(lab.daemon_pids("pveproxy")[1]), seconds=90)


class Slow:
    """An HTTP connection whose client takes its time."""

    def __init__(self, lab, verb, path, headers=()):
        self.connection = http.client.HTTPSConnection(
            lab.address, 8006, context=ssl._create_unverified_context(), timeout=60
        )
        self.connection.connect()
        # Little room, so that the server has to wait.
        self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.connection.putrequest(verb, path)
        session = lab.session()
        for name in ("Cookie", "CSRFPreventionToken"):
            self.connection.putheader(name, session.headers[name])
        for name, value in headers:
            self.connection.putheader(name, value)
        self.connection.endheaders()


class SlowUpload(Slow):
    """An upload of which the end comes later."""

    SIZE = 8_000_000

    def __init__(self, lab):
        content = os.urandom(self.SIZE)
        self.digest = hashlib.sha256(content).hexdigest()
        parts = [
            '--x\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n',
            '--x\r\nContent-Disposition: form-data; name="filename"; filename="slow.iso"\r\n\r\n',
        ]
        self.body = "".join(parts).encode() + content + b"\r\n--x--\r\n"
        headers = [("Content-Type", "multipart/form-data; boundary=x"), ("Content-Length", str(len(self.body)))]
        super().__init__(lab, "POST", f"/api2/json/nodes/{lab.node}/storage/local/upload", headers)

    def send(self, share):
        """Sends until this share of it is out."""
        count = int(len(self.body) * share)
        self.connection.send(self.body[:count])
        self.body = self.body[count:]


class SlowDownload(Slow):
    """A download of which the rest is read later."""

    def __init__(self, lab):
        self.expected = hashlib.sha256((lab.root / STATIC[1] / "big.pdf").read_bytes()).digest()
        super().__init__(lab, "GET", f"{STATIC[0]}/big.pdf")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.reason
        self.read = hashlib.sha256(self.answer.read(1 << 20))


def test_what_is_in_flight_survives_reloads(lab, tmp_path):
    # Directories of static files are found at a reload.
    directory = lab.root / STATIC[1]
    directory.mkdir(parents=True)
    (directory / "big.pdf").write_bytes(os.urandom(1 << 20) * 64)
    reload(lab)
    # A console whose client does not read: the program behind it stands still. It writes more than the kernel buffers on
    # the way (32 MiB for each connection), in lines of 61 bytes.
    done = tmp_path / "done"
    count = 1_000_000
    console = Terminal(lab, f"/nodes/{lab.node}").log_in()
    console.expect("OK")
    console.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    console.type(f"stty -echo -onlcr; PS1=; echo begin-$((6*7)); seq -f %060.f {count}; touch {done}; echo end-$((6*7))\n")
    console.expect("begin-42")
    screen = Display(lab).screen
    screen.fetch()
    paint(screen, BLUE)
    upload, download = SlowUpload(lab), SlowDownload(lab)
    old = lab.daemon_pids("pveproxy")[1]
    for share in (0.3, 0.5):
        upload.send(share)
        reload(lab)
        download.read.update(download.answer.read(1 << 20))
        assert not done.exists(), "nobody reads, and yet the program goes on"
    # In the old workers the rest of it all comes, in order.
    paint(screen, RED)
    upload.send(1)
    answer = upload.connection.getresponse()
    assert answer.status == 200, (answer.status, answer.reason)
    lab.run_task(lab.api(), json.loads(answer.read())["data"])
    stored = lab.root / "var/lib/vz/template/iso/slow.iso"
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == upload.digest
    download.read.update(download.answer.read())
    assert download.read.digest() == download.expected
    pieces = [console.seen]
    while b"end-42" not in b"".join(pieces[-2:]):
        pieces.append(console.socket.recv())
    text = b"".join(pieces)
    numbers = text[text.index(b"begin-42") : text.index(b"end-42")].split()[1:]
    assert numbers == [b"%060d" % number for number in range(1, count + 1)]
    assert done.exists()
    console.socket.close()
    screen.close()
    for connection in (upload.connection, download.connection):
        connection.close()
    wait_for("the old workers are gone", lambda: not set(old) & set(lab.daemon_pids("pveproxy")[1]), seconds=90)
