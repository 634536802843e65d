"""Load, and what it costs: the same client against two servers in turn."""

import json
import os
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
from dataclasses import dataclass

from processes import processor_seconds, wait_for


@dataclass
class Sample:
    """One run against one server."""

    rate: float  # requests per second, or Gbit/s
    cost: float  # processor time of the server: microseconds per request, or milliseconds per Gbit
    requests: int = 0


@dataclass
class Outcome:
    """Several runs against two servers in turn; ratios are medians over the rounds."""

    ours: list
    theirs: list

    @property
    def requests(self):
        return sum(sample.requests for sample in self.ours)

    def middle(self, figure):
        """The median of a figure on our side, on theirs, and of the ratio."""
        ours = [getattr(sample, figure) for sample in self.ours]
        theirs = [getattr(sample, figure) for sample in self.theirs]
        ratios = [a / b for a, b in zip(ours, theirs)]
        return tuple(map(statistics.median, (ours, theirs, ratios)))


def in_turn(rounds, ours, theirs):
    """A B B A A B …: what grows or wanes over time meets both, and neither always comes first."""
    samples = [], []
    ours(), theirs()  # caches, connections of the pool, branch predictors
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            samples[side].append((ours, theirs)[side]())
    return Outcome(*samples)


def wrk(url, seconds, pids, *headers, connections=16):
    """Requests per second of one client thread, and what they cost the processes behind it. Every answer must be 200."""
    options = [option for header in headers for option in ("-H", header)]
    before = processor_seconds(pids)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10", *options, url]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = processor_seconds(pids) - before
    requests = int(re.search(r"(\d+) requests in", report)[1])
    if requests == 0 or "Non-2xx" in report or "Socket errors" in report:
        raise SystemExit(f"bench: {url} did not answer every request with 200:\n{report}")
    return Sample(float(re.search(r"Requests/sec:\s+([0-9.]+)", report)[1]), spent / requests * 1e6, requests)


def iperf3(address, port, seconds, pids, *options, connect_to=None, shim=None):
    """Gbit/s through a relay, and the relay's processor time for each Gbit."""
    environment = dict(os.environ)
    if connect_to:
        environment.update(LD_PRELOAD=os.fspath(shim), CONNECT_TO=connect_to)
    command = ["iperf3", "--client", address, "--port", str(port), "--time", str(seconds), "--json", *options]

    def run():
        before = processor_seconds(pids)
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        spent = processor_seconds(pids) - before
        report = json.loads(run.stdout or "{}")
        error = report.get("error") or (run.returncode and run.stderr)
        if error and "busy" in error:
            return None  # the end of the run before has not come through the relay yet
        if error:
            raise SystemExit(f"bench: iperf3 through port {port}: {error}")
        return report, spent

    report, spent = wait_for("iperf3 is ready for another run", run, seconds=20)
    received = report["end"]["sum_received"]
    gigabits = received["bytes"] * 8 / 1e9
    return Sample(received["bits_per_second"] / 1e9, spent / gigabits * 1e3)


def resumptions(address, port, pids, version, count):
    """How many of `count` reconnects took up the session of the first, and by how many workers these were served.

    Every connection stays open until the end, so that the kernel hands them to different workers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    opened, session, resumed, workers = [], None, 0, set()
    for _ in range(count + 1):
        connection = context.wrap_socket(socket.create_connection((address, port), timeout=10), session=session)
        opened.append(connection)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        connection.recv(65536)  # TLS 1.3 sends its tickets with the first answer
        if session is None:
            session = connection.session
        elif connection.session_reused:
            resumed += 1
            workers.add(worker_of(connection, pids))
    for connection in opened:
        connection.close()
    return resumed, len(workers - {None})


def worker_of(connection, pids):
    """The process among `pids` that holds the other end of a connection on this machine."""
    near = socket_column(*connection.getsockname()), socket_column(*connection.getpeername())
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[2], fields[1]) == near:
            return next((pid for pid in pids if holds(pid, f"socket:[{fields[9]}]")), None)
    return None


def socket_column(address, port):
    """An address as /proc/net/tcp writes it."""
    return f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"


def holds(pid, what):
    """Whether one of a process's descriptors is `what`."""
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(link) == what:
                return True
        except OSError:
            continue
    return False
