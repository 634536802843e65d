"""A lab under test: started by pve-lab as a user would, driven by proxmoxer and plain requests."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess

import proxmoxer
import requests

from places import own_address
from waiting import wait_for

BINARIES = pathlib.Path(os.environ.get("PVE_TEST_BINARIES", pathlib.Path(__file__).resolve().parents[2] / "target/debug"))


@contextlib.contextmanager
def users_locked():
    """Changes of this machine's users: the tools give up when another one is at it."""
    with open("/run/lock/pve-e2e-users.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class SystemUser:
    """A user of this machine that exists for the length of a test run."""

    def __enter__(self):
        self.name = "pvetest" + secrets.token_hex(3)
        self.password = secrets.token_urlsafe(12)
        with users_locked():
            subprocess.run(["useradd", "--no-create-home", self.name], check=True)
            subprocess.run(["chpasswd"], input=f"{self.name}:{self.password}\n", text=True, check=True)
        return self

    def __exit__(self, *_):
        with users_locked():
            subprocess.run(["userdel", self.name], check=True)


class Bridge:
    """A bridge that exists for the length of a test."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        subprocess.run(["ip", "link", "add", self.name, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", self.name, "up"], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", self.name], check=True)

    def ports(self):
        return sorted(os.listdir(f"/sys/class/net/{self.name}/brif"))


class Lab:
    """A running `pve-lab start`."""

    pattern = r"https://(127[0-9.]+):8006"

    def __init__(self, root, *options, prefix=()):
        self.root = pathlib.Path(root)
        self.options = options
        self.prefix = prefix
        self.log_path = self.root.with_name(self.root.name + ".log")

    def __enter__(self):
        self.start()
        return self

    def start(self):
        log = open(self.log_path, "ab")
        offset = log.tell()
        self.process = subprocess.Popen(
            [
                *(*self.prefix, BINARIES / "pve-lab", "start", "--root", self.root, "--guests", "stop"),
                *(*self.where(), *self.options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.url = wait_for("the lab prints its URL", lambda: self._printed(offset, self.pattern))
        self.address = re.search(self.pattern, self.url)[1]
        self.node = os.uname().nodename.split(".")[0]
        return self

    def where(self):
        """The options that say where it listens."""
        return ("--address", own_address(self.root))

    def _printed(self, offset, pattern):
        assert self.process.poll() is None, f"pve-lab ended:\n{self.log()[-4000:]}"
        found = re.search(pattern, self.log()[offset:])
        return found and found[0]

    def log(self):
        return self.log_path.read_text(errors="replace")

    @property
    def password(self):
        """The password of admin@pve, printed at the first start."""
        told = lambda: re.search(r"admin@pve.*?password[: ]+(\S+)", self.log(), re.S)
        return wait_for("the password is printed", told)[1]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def __exit__(self, *_):
        self.stop()

    # Clients

    def api(self, user="admin@pve", password=None):
        """A proxmoxer client that logs in with a password."""
        return proxmoxer.ProxmoxAPI(
            self.address, user=user, password=password or self.password, verify_ssl=False, timeout=30
        )

    def ticket(self, user="root@pam"):
        """A ticket minted by `pve-lab ticket`, with its CSRF token."""
        output = subprocess.run(
            [BINARIES / "pve-lab", "ticket", user, "--root", self.root], check=True, capture_output=True, text=True
        ).stdout
        return json.loads(output)

    def session(self, user="root@pam"):
        """A requests session with a minted ticket."""
        ticket = self.ticket(user)
        session = requests.Session()
        session.verify = False
        session.trust_env = False
        session.headers["Cookie"] = "PVEAuthCookie=" + requests.utils.quote(ticket["ticket"], safe="")
        session.headers["CSRFPreventionToken"] = ticket["CSRFPreventionToken"]
        return session

    def call(self, verb, path, /, user="root@pam", **parameters):
        """One call as JSON: the response of requests."""
        session = self.session(user)
        where = f"{self.url}/api2/json{path}"
        if verb in ("GET", "DELETE"):
            return session.request(verb, where, params=parameters, timeout=40)
        return session.request(verb, where, data=parameters, timeout=40)

    # What the daemons did

    def wait_task(self, api, upid, seconds=120):
        """Waits for a task's end and returns its exit status."""
        task = api.nodes(self.node).tasks(upid)
        wait_for(f"{upid} stops", lambda: task.status.get()["status"] == "stopped", seconds)
        return task.status.get()["exitstatus"]

    def run_task(self, api, upid, seconds=120):
        """Waits for a task and demands that it went well."""
        status = self.wait_task(api, upid, seconds)
        lines = "\n".join(line["t"] for line in api.nodes(self.node).tasks(upid).log.get(limit=0))
        assert status == "OK", f"{upid}: {status}\n{lines}"
        return lines

    def daemon_pids(self, name):
        """The pids of a daemon's processes of this lab: (master, workers)."""
        pid_file = next(path for path in self.root.rglob(f"{name}.pid"))
        master = int(pid_file.read_text().split()[0])
        workers = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return master, [int(pid) for pid in workers]

    def serial(self, vmid, port=0):
        """A connection to a guest's serial port."""
        path = self.root / f"run/qemu-server/{vmid}.serial{port}"
        return Serial(path)


class Serial:
    """A guest's serial console."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(1)
        wait_for(f"{path} accepts", lambda: self._connect(path), 20)
        self.seen = ""

    def _connect(self, path):
        try:
            self.socket.connect(os.fspath(path))
            return True
        except OSError:
            return False

    def expect(self, text, seconds=120):
        """Reads until `text` was seen."""

        def found():
            try:
                self.seen += self.socket.recv(65536).decode(errors="replace")
            except TimeoutError:
                pass
            return text in self.seen

        return wait_for(f"the guest says {text!r}; it said {self.seen[-500:]!r}", found, seconds, every=0)

    def send(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def close(self):
        self.socket.close()
