"""One table: the daemons beside nginx and HAProxy, on this machine, with the same client, in turn.

    python3 benches/side_by_side.py          (`make bench` builds, installs what is missing, and runs it)

Every call bears a real user's ticket, and routing, age of the ticket, user and permissions are checked each time; the
signature alone may come from the cache that is keyed by its content. What is compared:

    GET /version            answered by pveproxy itself            nginx: `return 200`, the same bytes
    GET /cluster/status     pveproxy, pvedaemon runs the call      nginx: proxy_pass, keep-alive, the same pvedaemon
    new connections         a TLS handshake for each request       nginx, same certificate
    GET /cluster/resources  1,000 guests, plain and gzip           nginx: the same bytes from a file, gzip level 2
    CONNECT                 spiceproxy between iperf3's two ends   HAProxy, TCP mode, splice

`/cluster/status` is the cheap one among the calls that the contract protects and gives a permission rule. Figures are
medians over the rounds, ratios medians of the rounds' ratios. Processor time is what the kernel counts for the workers
in front; it varies less than rates do. It is Python, since all it does is start programs and read what they say.

Environment: BENCH_ROUNDS (7), BENCH_SECONDS of each run (2), BENCH_ONLY (a comma list of local, forwarded, rsa, ecdsa,
relay, guests).
"""

import gzip
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile

import load
import rivals
from lab import BINARIES, Lab
from processes import processor_seconds, resident_megabytes, wait_for

ROUNDS = int(os.environ.get("BENCH_ROUNDS", 7))
SECONDS = int(os.environ.get("BENCH_SECONDS", 2))
PARTS = ("local", "forwarded", "rsa", "ecdsa", "relay", "guests")
ONLY = os.environ.get("BENCH_ONLY", ",".join(PARTS)).split(",")
WORKERS = 2
GUESTS = 1000
RECONNECTS = 60
REQUESTS = 200_000
RESIDENT_LIMIT = 12


class Table:
    """Rows as they are found, printed at once at the end."""

    def __init__(self):
        self.rows = [("", "unit", "ours", "reference", "ratio", "bar", "")]
        self.missed = 0

    def add(self, what, unit, ours, reference=None, ratio=None, bar=None, met=None):
        self.missed += met is False
        word = {True: "met", False: "MISSED", None: ""}[met]
        shown = [digits(figure) for figure in (ours, reference, ratio)]
        self.rows.append((what, unit, *shown, bar or "", word))
        print(f"bench: {' '.join(self.rows[-1])}", file=sys.stderr, flush=True)

    def compare(self, what, outcome, at_least=None, at_most=None, units=("requests/s", "CPU µs/request")):
        """Two rows: the rate and what it costs."""
        ours, theirs, ratio = outcome.middle("rate")
        bar = at_least and f"≥ {at_least}"
        self.add(what, units[0], ours, theirs, ratio, bar, at_least and ratio >= at_least)
        ours, theirs, ratio = outcome.middle("cost")
        bar = at_most and f"≤ {at_most}"
        self.add("", units[1], ours, theirs, ratio, bar, at_most and ratio <= at_most)

    def __str__(self):
        widths = [max(map(len, column)) for column in zip(*self.rows)]
        lines = []
        for row in self.rows:
            cells = [cell.ljust(width) if at in (0, 1, 6) else cell.rjust(width)
                     for at, (cell, width) in enumerate(zip(row, widths))]
            lines.append("  ".join(cells).rstrip())
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join(lines)


def digits(figure):
    if figure is None or isinstance(figure, str):
        return figure or ""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}" if abs(figure) >= 100 else f"{figure:.2f}"


class Bench:
    """The lab, the rivals beside it, and the table."""

    def __init__(self, directory):
        self.directory = directory
        self.table = Table()
        self.requests = 0

    def run(self):
        with Lab(self.directory, WORKERS) as self.lab:
            with self.nginx(self.lab.rsa_pair) as self.rival:
                self.rival_pids = rivals.settled(self.rival, WORKERS)
                self.part("local", self.local)
                self.part("forwarded", self.forwarded)
                self.part("rsa", lambda: self.connections("RSA 2048"))
            if "ecdsa" in ONLY:
                with self.nginx(self.lab.use_ecdsa()) as self.rival:
                    self.rival_pids = rivals.settled(self.rival, WORKERS)
                    self.connections("ECDSA P-256")
            self.part("relay", self.relay)
            with self.nginx(self.lab.rsa_pair) as self.rival:
                self.rival_pids = rivals.settled(self.rival, WORKERS)
                self.part("guests", self.resources)
                self.memory()

    def part(self, name, run):
        if name in ONLY:
            run()

    def nginx(self, pair):
        body = self.lab.get("/version").decode()
        return rivals.nginx(self.lab, self.directory, body, pair)

    def there(self, port, path="/"):
        """Where the rival has something."""
        return f"https://{self.lab.address}:{port}{path}"

    def side_by_side(self, ours, theirs, *headers):
        """Load on one URL of each, with the ticket on both: a header to read for one, to check for the other."""
        headers = (f"Cookie: {self.lab.cookie}", *headers)
        own_pids = self.lab.worker_pids("pveproxy")
        outcome = load.in_turn(
            ROUNDS,
            lambda: load.wrk(ours, SECONDS, own_pids, *headers),
            lambda: load.wrk(theirs, SECONDS, self.rival_pids, *headers),
        )
        self.requests += outcome.requests
        return outcome

    # The parts

    def local(self):
        outcome = self.side_by_side(self.lab.url("/version"), self.there(rivals.NGINX_STATIC))
        self.table.compare("GET /version / nginx return 200", outcome, at_least=0.7, at_most=1.5)

    def forwarded(self):
        call = "/cluster/status"
        daemon = self.lab.worker_pids("pvedaemon")
        before = processor_seconds(daemon)
        theirs = self.there(rivals.NGINX_PROXY, f"/api2/json{call}")
        outcome = self.side_by_side(self.lab.url(call), theirs)
        self.table.compare(f"GET {call} / nginx proxy_pass", outcome, at_least=0.9)
        calls = outcome.requests + sum(sample.requests for sample in outcome.theirs)
        spent = (processor_seconds(daemon) - before) / calls * ROUNDS / (ROUNDS + 1)
        self.table.add("  pvedaemon behind either", "CPU µs/request", spent * 1e6)

    def connections(self, key):
        outcome = self.side_by_side(
            self.lab.url("/version"), self.there(rivals.NGINX_STATIC), "Connection: close"
        )
        self.table.compare(f"new TLS connections, {key} / nginx", outcome, at_least=1.0)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.resumption(version, key)

    def resumption(self, version, key):
        address, own_pids = self.lab.address, self.lab.worker_pids("pveproxy")
        resumed, workers = load.resumptions(address, 8006, own_pids, version, RECONNECTS)
        theirs, their_workers = load.resumptions(address, rivals.NGINX_STATIC, self.rival_pids, version, RECONNECTS)
        self.table.add(
            f"resumed of {RECONNECTS}, {version.name.replace('v', ' ').replace('_', '.')}, {key} / nginx",
            "by workers",
            f"{resumed} by {workers}",
            f"{theirs} by {their_workers}",
            bar=f"{RECONNECTS} by {WORKERS}",
            met=(resumed, workers) == (RECONNECTS, WORKERS),
        )

    def relay(self):
        shim = self.directory / "connect.so"
        source = pathlib.Path(__file__).with_name("connect.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", shim, source, "-ldl"], check=True)
        address, own_pids = self.lab.address, self.lab.worker_pids("spiceproxy")
        with rivals.iperf3(self.lab, self.directory) as other_end, rivals.haproxy(self.lab, self.directory) as rival:
            other_end.worker_pids()
            for direction, options in (("to the guest", []), ("from the guest", ["--reverse"])):

                def ours():
                    target = self.lab.spice_target(rivals.RELAYED)
                    return load.iperf3(address, 3128, SECONDS, own_pids, *options, connect_to=target, shim=shim)

                def theirs():
                    return load.iperf3(address, rivals.HAPROXY, SECONDS, rival.worker_pids(), *options)

                wait_for("HAProxy and iperf3 listen", lambda: listening(address, rivals.HAPROXY, rivals.RELAYED))
                outcome = load.in_turn(ROUNDS, ours, theirs)
                self.table.compare(
                    f"CONNECT relay, {direction} / HAProxy", outcome, at_least=1.5, units=("Gbit/s", "CPU ms/Gbit")
                )

    def resources(self):
        self.lab.add_guests(GUESTS)
        rows = self.lab.get("/cluster/resources")
        file = self.directory / "files/resources.json"
        file.write_bytes(rows)
        packed = self.lab.get("/cluster/resources", **{"Accept-Encoding": "gzip"})
        assert len(gzip.decompress(packed)) > len(packed), "the answer was not compressed"
        daemon = self.lab.worker_pids("pvedaemon")
        for name, size, headers in (("plain", rows, ()), ("gzip", packed, ("Accept-Encoding: gzip",))):
            before = processor_seconds(daemon)
            outcome = self.side_by_side(
                self.lab.url("/cluster/resources"), self.there(rivals.NGINX_FILES, "/resources.json"), *headers
            )
            what = f"GET /cluster/resources, {GUESTS:,} guests, {name}, {len(size) // 1000} kB / nginx file"
            self.table.compare(what, outcome)
            spent = (processor_seconds(daemon) - before) / outcome.requests * ROUNDS / (ROUNDS + 1)
            self.table.add("  pvedaemon behind pveproxy", "CPU µs/request", spent * 1e6)

    def memory(self):
        """Tops the requests up, and looks at the workers."""
        while self.requests < REQUESTS:
            sample = load.wrk(
                self.lab.url("/version"), 2, self.lab.worker_pids("pveproxy"), f"Cookie: {self.lab.cookie}"
            )
            self.requests += sample.requests
        ours = max(map(resident_megabytes, self.lab.worker_pids("pveproxy")))
        theirs = max(map(resident_megabytes, self.rival_pids))
        self.table.add(
            f"memory of a worker after {self.requests:,} requests / nginx",
            "MB resident",
            ours,
            theirs,
            ours / theirs,
            f"≤ {RESIDENT_LIMIT} MB",
            ours <= RESIDENT_LIMIT,
        )


def listening(address, *ports):
    """Whether somebody listens on all of these ports; looked up, since a connection would count as iperf3's client."""
    wanted = {load.socket_column(address, port) for port in ports}
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return wanted <= {fields[1] for fields in lines if fields[3] == "0A"}


def main():
    if os.geteuid() != 0:
        raise SystemExit("bench: the lab needs root")
    if not (BINARIES / "pve-lab").exists():
        raise SystemExit(f"bench: no optimised binaries in {BINARIES}: run it by `make bench`")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pve-bench-"))
    directory.chmod(0o755)
    bench = Bench(directory)
    try:
        bench.run()
    finally:
        shutil.rmtree(directory)
    print(f"\n{WORKERS} workers on each side, medians of {ROUNDS} rounds of {SECONDS} s each\n\n{bench.table}")
    if bench.table.missed:
        print(f"\n{bench.table.missed} bars missed")


if __name__ == "__main__":
    main()
