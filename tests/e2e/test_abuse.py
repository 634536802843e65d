"""Clients that mean harm, against whole daemons: memory and connections stay bounded, and others are served meanwhile.

What is smuggled and forged within one connection is in `crates/pve-http/tests/http/abuse.rs`.
"""

import contextlib
import functools
import os
import random
import re
import resource
import selectors
import socket
import ssl
import struct
import time

import pytest

from test_terminal import Terminal
from waiting import wait_for

# Per worker (reference 01 §1.3); there are three workers of pveproxy, and one of spiceproxy.
CONNECTIONS = 500
CROWD = 2500
# What a worker may have more than before, in KiB: 500 connections with all the buffers that they may fill.
GROWTH = 96 << 10
# How long a good client may wait. An idle client holds its place for five seconds.
PATIENCE = 4
SEED = 4


@pytest.fixture(scope="module", autouse=True)
def many_files():
    """As many descriptors as a crowd needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Crowd:
    """Connections that are all held open until the end."""

    def __init__(self, lab, port=8006):
        self.address = (lab.address, port)
        self.sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for held in self.sockets:
            with contextlib.suppress(OSError):
                held.close()

    def add(self, count, first=b"", tls=False):
        """More of them, each of which says something first; some may be refused at once."""
        context = unverified()
        for _ in range(count):
            with contextlib.suppress(OSError):
                held = socket.create_connection(self.address, timeout=10)
                if tls:
                    held = context.wrap_socket(held)
                if first:
                    held.sendall(first)
                self.sockets.append(held)

    def say(self, text):
        """Each says something; those that were hung up on do not."""
        for held in self.sockets:
            with contextlib.suppress(OSError):
                held.setblocking(False)
                held.send(text)

    def open(self):
        """How many of them have not been hung up on."""
        count = 0
        for held in self.sockets:
            try:
                held.setblocking(False)
                count += held.recv(65536) != b""
            except (BlockingIOError, ssl.SSLWantReadError):
                count += 1
            except OSError:
                pass
        return count


@functools.cache
def unverified():
    """Made once: it reads all authorities that the system knows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def memory(pid):
    """Resident KiB of a process."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


@contextlib.contextmanager
def bounded(lab, name="pveproxy", growth=GROWTH):
    """Workers survive what happens in here, and neither their memory nor their descriptors grow without measure."""
    _, workers = lab.daemon_pids(name)
    before = {pid: memory(pid) for pid in workers}
    highest = dict(before)

    def look():
        for pid in workers:
            highest[pid] = max(highest[pid], memory(pid))
            assert len(os.listdir(f"/proc/{pid}/fd")) < CONNECTIONS + 100
        grown = {pid: highest[pid] - before[pid] for pid in workers}
        assert max(grown.values()) < growth, f"KiB more than before: {grown}"

    yield look
    look()
    assert set(workers) <= set(lab.daemon_pids(name)[1]), "the same workers as before"


class Good:
    """A client that behaves, and wants an answer soon."""

    def __init__(self, lab):
        self.lab, self.session = lab, lab.session()
        self.session.headers["Connection"] = "close"

    def is_served(self, times=3):
        for _ in range(times):
            begun = time.monotonic()
            answer = self.session.get(f"{self.lab.url}/api2/json/version", timeout=30)
            took = time.monotonic() - begun
            assert answer.status_code == 200, answer.reason
            assert took < PATIENCE, f"{took:.1f} s"


def test_thousands_that_never_say_a_word(lab):
    good = Good(lab)
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(CROWD)
        good.is_served()
        look()
        assert len(crowd.sockets) >= 2000
        wait_for("silent clients are hung up on", lambda: crowd.open() == 0, seconds=30)
        good.is_served(times=1)


def test_thousands_of_handshakes_that_do_not_end(lab):
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
    good = Good(lab)
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(CROWD, first=hello)
        good.is_served()
        look()
        wait_for("they are hung up on", lambda: crowd.open() == 0, seconds=30)


def test_idle_clients_behind_tls(lab):
    good = Good(lab)
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(2000, tls=True)
        good.is_served()
        look()
        wait_for("idle clients are hung up on", lambda: crowd.open() == 0, seconds=30)


def test_slow_heads(lab):
    good = Good(lab)
    begin = b"GET / HTTP/1.1\r\nHost: x\r\n"
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(CROWD)
        crowd.say(begin)
        deadline = time.monotonic() + 30
        # A byte now and then does not prolong the time for a head.
        while crowd.open():
            assert time.monotonic() < deadline
            crowd.say(b"X")
            good.is_served(times=1)
            look()


def test_slow_bodies_of_strangers(lab):
    good = Good(lab)
    begin = b"POST /api2/json/access/ticket HTTP/1.1\r\nContent-Length: 30000\r\n\r\nusername="
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(CONNECTIONS + 300, first=begin, tls=True)
        for _ in range(5):
            crowd.say(b"x" * 1000)
            good.is_served(times=1)
            look()


def test_heads_that_fill_all_buffers(lab):
    good = Good(lab)
    with bounded(lab) as look, Crowd(lab) as crowd:
        crowd.add(CONNECTIONS + 300, first=b"GET /" + b"x" * 60_000, tls=True)
        good.is_served()
        look()
    with bounded(lab), Crowd(lab) as crowd:
        # Without an end, and more than the socket's buffers hold.
        for _ in range(60):
            with contextlib.suppress(OSError):
                flood = unverified().wrap_socket(socket.create_connection(crowd.address, timeout=10))
                flood.settimeout(2)
                flood.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
                flood.recv(65536)
        good.is_served()


def test_noise_on_the_tls_port(lab):
    noise = random.Random(SEED)
    good = Good(lab)
    with bounded(lab), Crowd(lab) as crowd:
        for size in range(1, 400):
            crowd.add(1, first=b"\x16" + noise.randbytes(size))
            crowd.add(1, first=noise.randbytes(size))
            crowd.add(1, first=b"\x16\x03\x03\xff\xff" + noise.randbytes(size))
            crowd.add(1, first=b"\x80" + noise.randbytes(size))
        good.is_served()
        wait_for("they are hung up on", lambda: crowd.open() == 0, seconds=30)


# Consoles


def frame(opcode, payload=b"", mask=b"\1\2\3\4", fin=True, length=None):
    first = (0x80 if fin else 0) | opcode
    told = len(payload) if length is None else length
    if told < 126:
        head = bytes([first, 0x80 | told])
    elif told < 65536:
        head = struct.pack(">BBH", first, 0x80 | 126, told)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, told)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def push(stream, data, seconds):
    """Sends the same over and over for so long, and reads nothing; how many bytes the other end took."""
    stream.setblocking(False)
    taken, deadline = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_WRITE)
        while time.monotonic() < deadline and selector.select(timeout=1):
            try:
                taken += stream.send(data)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                continue
            except OSError:
                break
    return taken


@pytest.mark.parametrize(
    "what",
    [frame(9, b"p" * 100), frame(2, b"0:1:a"), frame(10, b"x"), frame(2, b"0:60000:" + b"a" * 60000)],
    ids=["pings", "tiny frames", "pongs", "large frames"],
)
def test_floods_of_frames(lab, what):
    good = Good(lab)
    terminal = Terminal(lab, f"/nodes/{lab.node}").log_in()
    terminal.expect("OK")
    # Its output is never read: what the flood causes must pile up at its own end.
    terminal.type("cat\n")
    with bounded(lab, growth=32 << 10) as look:
        push(terminal.socket.sock, what * max(1, 16384 // len(what)), seconds=3)
        good.is_served()
        look()
    terminal.socket.sock.close()
    wait_for("the console's task ends", lambda: lab.wait_task(lab.api(), terminal.console["upid"]))


@pytest.mark.parametrize(
    "bad",
    [
        frame(2, b"x", length=1 << 40),
        frame(2, b"x", length=131_073),
        frame(9, b"x", length=126),
        frame(9, b"x", fin=False),
        frame(0, b"x"),
        frame(3, b"x"),
        b"\x82\x01x",
        b"\xf2\x81\1\2\3\4x",
    ],
    ids=["a terabyte", "too large", "a large ping", "half a ping", "the rest of nothing", "opcode 3", "unmasked", "RSV"],
)
def test_frames_against_the_rules_end_the_console(lab, bad):
    terminal = Terminal(lab, f"/nodes/{lab.node}").log_in()
    terminal.expect("OK")
    terminal.socket.sock.sendall(bad)
    wait_for("the console is closed", terminal.is_closed, seconds=20, every=0)
    assert lab.wait_task(lab.api(), terminal.console["upid"]) == "OK"


# Uploads


def leftovers(lab):
    return list((lab.root / "var/tmp").glob("pveupload-*"))


def test_uploads_that_break_off_leave_nothing(lab):
    head = (
        b'--XX\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
        b'--XX\r\nContent-Disposition: form-data; name="filename"; filename="x.iso"\r\n\r\n'
    )
    cookie = lab.session().headers["Cookie"]
    request = (
        f"POST /api2/json/nodes/{lab.node}/storage/local/upload HTTP/1.1\r\nHost: {lab.address}\r\nCookie: {cookie}\r\n"
        f"Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 90000000\r\n\r\n"
    ).encode()
    cuts = random.Random(SEED)
    before = lab.call("GET", f"/nodes/{lab.node}/tasks", limit=500, source="all").json()["data"]
    with bounded(lab):
        for _ in range(20):
            client = unverified().wrap_socket(socket.create_connection((lab.address, 8006), timeout=20))
            client.sendall(request + head + b"x" * cuts.randrange(1, 4 << 20))
            wait_for("the file is spooled", lambda: leftovers(lab))
            client.close()
            wait_for("the file is gone", lambda: not leftovers(lab), seconds=20)
    after = lab.call("GET", f"/nodes/{lab.node}/tasks", limit=500, source="all").json()["data"]
    assert [task["upid"] for task in after] == [task["upid"] for task in before]


@pytest.mark.parametrize("name", ["../../../up.iso", "/etc/up.iso", "..\\..\\up.iso", "a/../b/up.iso"])
def test_a_files_name_does_not_say_where_it_goes(lab, name):
    where = f"{lab.url}/api2/json/nodes/{lab.node}/storage/local/upload"
    body = (
        '--XX\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n--XX\r\n'
        f'Content-Disposition: form-data; name="filename"; filename="{name}"\r\n\r\nabc\r\n--XX--\r\n'
    )
    session = lab.session()
    answer = session.post(
        where, data=body.encode(), headers={"Content-Type": "multipart/form-data; boundary=XX"}, timeout=30
    )
    if answer.status_code == 200:
        assert lab.wait_task(lab.api(), answer.json()["data"]) == "OK"
    else:
        assert answer.status_code == 400, answer.reason
    folder = lab.root / "var/lib/vz/template/iso"
    found = [path for path in lab.root.rglob("*up.iso") if path.is_file()]
    assert all(path.parent == folder for path in found), found
    for path in found:
        path.unlink()
    assert not os.path.exists("/etc/up.iso") and not leftovers(lab)


PATHS = [
    "/../../../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/%252e%252e/%252e%252e/etc/passwd",
    "/pve2/js/../../../../../etc/passwd",
    "/pve2/images/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/pve2/css/..%5c..%5c..%5cetc%5cpasswd",
    "/novnc/....//....//etc/passwd",
    "/pve-docs/%2fetc%2fpasswd",
    "/pve2/css/x%00.css",
    "//etc/passwd",
    "/etc/pve/priv/authkey.key",
]


def test_no_path_leads_to_a_file_that_is_not_offered(lab):
    for path in PATHS:
        client = unverified().wrap_socket(socket.create_connection((lab.address, 8006), timeout=20))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {lab.address}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        # Refused in words, not with silence.
        status = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n", answer)
        assert status and int(status[1]) >= 400, (path, answer[:200])
        assert b"root:" not in answer and b"PRIVATE" not in answer, path


@pytest.mark.parametrize("where", ["/a%0d%0aX-Evil:1", "/%0d%0a%0d%0a<script>", "/a?b=%0aX-Evil:1", "//evil.example/%0a"])
@pytest.mark.parametrize("host", ["h:8006", "h%0d%0aX-Evil:1", "http://h", "h\tX-Evil:1"])
def test_a_redirect_keeps_to_one_line(lab, where, host):
    with socket.create_connection((lab.address, 8006), timeout=20) as client:
        client.sendall(f"GET {where} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert b"x-evil" not in names and b"<script>" not in body, answer
    if head.startswith(b"HTTP/1.1 301 Moved Permanently\r\n"):
        assert names.count(b"location") == 1 and f"{host.removeprefix('http://')}{where}".encode() in head
    else:
        assert head.startswith(b"HTTP/1.1 400 "), answer


# The port of SPICE viewers


def is_refused(lab):
    """A viewer with a wrong ticket is told so, soon."""
    begun = time.monotonic()
    with socket.create_connection((lab.address, 3128), timeout=30) as viewer:
        viewer.sendall(b"CONNECT x:1 HTTP/1.0\r\nHost: x:1\r\n\r\n")
        assert viewer.recv(65536).startswith(b"HTTP/1.0 401 invalid ticket\r\n")
    took = time.monotonic() - begun
    assert took < PATIENCE, f"{took:.1f} s"


@pytest.mark.parametrize(
    "first",
    [b"", b"CONNECT x:1 HTTP/1.0\r\nHost: ", b"CONNECT " + b"x" * 8000, b"\r\n" * 4000],
    ids=["silent", "slow heads", "long lines", "blank lines"],
)
def test_a_crowd_at_spiceproxy(lab, first):
    with bounded(lab, "spiceproxy", growth=32 << 10) as look, Crowd(lab, 3128) as crowd:
        crowd.add(3000, first=first)
        for _ in range(3):
            crowd.say(b"x" if first else b"")
            is_refused(lab)
            look()
        wait_for("they are hung up on", lambda: crowd.open() == 0, seconds=30)
        is_refused(lab)


def test_endless_hosts_at_spiceproxy(lab):
    with bounded(lab, "spiceproxy", growth=32 << 10):
        for text in [b"CONNECT x:1 HTTP/1.0\r\nHost: ", b"CONNECT ", b"", b"CONNECT x:1 HTTP/1.0\r\nA: "]:
            with socket.create_connection((lab.address, 3128), timeout=20) as viewer:
                with contextlib.suppress(ConnectionError):
                    viewer.sendall(text + b"x" * (4 << 20))
                with contextlib.suppress(ConnectionError):
                    assert viewer.recv(65536).startswith((b"HTTP/1.0 431 ", b"HTTP/1.0 400 ")), text
            is_refused(lab)
