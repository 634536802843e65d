"""The product under test: binaries as packages hold them (profile `dist`) in a lab of their own.

With a user who has a ticket, certificates, and guests.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.parse
import urllib.request

from processes import children, wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "dist"
USER = "admin@pve"


class Lab:
    """A running `pve-lab start` on a loopback address of its own."""

    def __init__(self, directory, workers):
        self.root = directory / "lab"
        self.log = directory / "lab.log"
        self.workers = workers

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [BINARIES / "pve-lab", "start", "--root", self.root, "--workers", str(self.workers)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.address = wait_for("the lab listens", lambda: self._printed(r"https://(127[0-9.]+):8006"))[1]
        self.node = next(path.name for path in (self.root / "etc/pve/nodes").iterdir())
        shown = [BINARIES / "pve-lab", "ticket", USER, "--root", self.root]
        ticket = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)["ticket"]
        self.cookie = "PVEAuthCookie=" + urllib.parse.quote(ticket, safe="")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def _printed(self, pattern):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: pve-lab ended:\n{self.log.read_text()}")
        return re.search(pattern, self.log.read_text())

    def url(self, path):
        """Where a call of the API is."""
        return f"https://{self.address}:8006/api2/json{path}"

    def get(self, path, **headers):
        """The raw body of a call with the user's ticket."""
        context = ssl._create_unverified_context()
        request = urllib.request.Request(self.url(path), headers={"Cookie": self.cookie, **headers})
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.read()

    def worker_pids(self, daemon):
        """The pids of a daemon's workers."""
        pid_file = next(self.root.rglob(f"run/**/{daemon}.pid"))
        return children(int(pid_file.read_text().split()[0]))

    # Certificates

    @property
    def rsa_pair(self):
        """Certificate and key that the lab made for itself: RSA with 2048 bits."""
        folder = self.root / "etc/pve/nodes" / self.node
        return folder / "pve-ssl.pem", folder / "pve-ssl.key"

    def use_ecdsa(self):
        """Gives the proxy a certificate with an ECDSA key, waits until it serves that one, and returns both files."""
        folder = self.root / "etc/pve/nodes" / self.node
        certificate, key = folder / "pveproxy-ssl.pem", folder / "pveproxy-ssl.key"
        made = [path.with_suffix(path.suffix + ".new") for path in (certificate, key)]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7"]
            + ["-subj", "/CN=bench", "-out", made[0], "-keyout", made[1]],
            check=True,
            capture_output=True,
        )
        for new, place in zip(reversed(made), (key, certificate)):
            shutil.chown(new, "root", "www-data")
            new.chmod(0o640)
            new.rename(place)
        with open(self.root / "run/pveproxy/pveproxy.pid") as pid_file:
            os.kill(int(pid_file.read()), signal.SIGHUP)
        # Fresh connections, until all of a dozen meet the new certificate: the old generation has gone.
        wanted = ssl.PEM_cert_to_DER_cert(certificate.read_text())

        def served():
            fetch = lambda: ssl.get_server_certificate((self.address, 8006))
            return all(ssl.PEM_cert_to_DER_cert(fetch()) == wanted for _ in range(12))

        wait_for("the proxy serves the new certificate", served)
        self.settle("pveproxy")
        return certificate, key

    def settle(self, daemon):
        """Waits until a daemon has no workers but its current ones."""
        wait_for(f"{daemon} has {self.workers} workers", lambda: len(self.worker_pids(daemon)) == self.workers)

    # Guests and consoles

    def add_guests(self, count):
        """Configures machines that do not run, and waits until the status daemon has told of them all."""
        folder = self.root / "etc/pve/nodes" / self.node / "qemu-server"
        for number in range(100, 100 + count):
            config = folder / f"{number}.conf"
            config.write_text(
                f"cores: 2\nmemory: 2048\nname: guest-{number}\nnet0: virtio=BC:24:11:00:{number >> 8:02X}"
                f":{number & 255:02X}\nostype: l26\nscsihw: virtio-scsi-single\ntags: bench;lab\n"
            )
            shutil.chown(config, "root", "www-data")
            config.chmod(0o640)

        def known():
            rows = json.loads(self.get("/cluster/resources?type=vm"))["data"]
            return len(rows) == count and all("name" in row for row in rows)

        wait_for(f"the status daemon tells of {count} guests", known, every=1)

    def spice_target(self, port):
        """The host of a viewer's CONNECT, for a console at a port of this node: what the API would sign (reference 01
        §4.6), good for 40 seconds."""
        key = (self.root / "etc/pve/pve-www.key").read_bytes()
        secret = base64.b64encode(hmac.digest(key, b"", "sha256")).decode().rstrip("=")
        plain = f"pvespiceproxy:{int(time.time()):08x}:100:{self.node.lower()}:{port}"
        return f"{plain}::{hashlib.sha1((plain + secret).encode()).hexdigest()}:{port}"
