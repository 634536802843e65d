"""A node as its clients see it: the API on port 8006, with logins as anybody does them."""

import contextlib
import pathlib
import re
import subprocess

import proxmoxer
import requests

from waiting import wait_for

PASSWORD = "correct horse 8006"
# The guest that most tests share.
VMID = 100


class Host:
    """The clients of a node with the product on it; the end-to-end tests' terminals and screens take it as a lab."""

    def __init__(self, node):
        self.node_under_test = node
        self.node = node.host
        self.address = node.address
        self.url = f"https://{node.url_host}:8006"
        self._session = None

    def wait_until_up(self, seconds=60):
        """Waits until the API answers, and pvedaemon listens."""

        def answers():
            try:
                # Not a log-in: too many that fail are looked at once a minute only.
                answer = requests.get(f"{self.url}/api2/json/version", verify=False, timeout=5)
                return answer.status_code == 401 and ("127.0.0.1", 85) in self.node_under_test.listeners()
            except requests.RequestException:
                return False

        wait_for(f"{self.url} answers", answers, seconds)
        return self

    def set_password(self):
        """Gives root the password that logins use."""
        self.node_under_test.run("chpasswd", input=f"root:{PASSWORD}\n")
        return self

    def api(self, user="root@pam", password=PASSWORD):
        """A proxmoxer client that logs in with a password."""
        return proxmoxer.ProxmoxAPI(
            self.node_under_test.url_host, user=user, password=password, verify_ssl=False, timeout=60
        )

    def log_in(self, password=PASSWORD, user="root@pam"):
        """The answer to a login with a password."""
        who = {"username": user, "password": password}
        return requests.post(f"{self.url}/api2/json/access/ticket", data=who, verify=False, timeout=30)

    def session(self, user="root@pam"):
        """A requests session with a ticket; root's is kept, for it counts for two hours."""
        if user != "root@pam":
            raise NotImplementedError(user)
        if self._session is None:
            answer = self.log_in()
            assert answer.status_code == 200, (answer.status_code, answer.reason, answer.text)
            self._session = answer.json()["data"]
        session = requests.Session()
        session.verify = False
        session.trust_env = False
        session.headers["Cookie"] = "PVEAuthCookie=" + requests.utils.quote(self._session["ticket"], safe="")
        session.headers["CSRFPreventionToken"] = self._session["CSRFPreventionToken"]
        return session

    def call(self, verb, path, /, user="root@pam", **parameters):
        """One call as JSON: the response of requests."""
        session = self.session(user)
        kind = "params" if verb in ("GET", "DELETE") else "data"
        return session.request(verb, f"{self.url}/api2/json{path}", timeout=60, **{kind: parameters})

    def data(self, verb, path, /, **parameters):
        """What a call that must succeed answers."""
        answer = self.call(verb, path, **parameters)
        assert answer.status_code == 200, (verb, path, answer.status_code, answer.reason, answer.text)
        return answer.json()["data"]

    # Tasks and guests

    def is_running(self, upid):
        return self.data("GET", f"/nodes/{self.node}/tasks/{upid}/status")["status"] == "running"

    def wait_task(self, upid, seconds=120):
        """Waits for a task's end and returns its exit status."""
        wait_for(f"{upid} ends", lambda: not self.is_running(upid), seconds)
        return self.data("GET", f"/nodes/{self.node}/tasks/{upid}/status")["exitstatus"]

    def run_task(self, upid, seconds=120):
        """Waits for a task and demands that it went well; returns its log."""
        status = self.wait_task(upid, seconds)
        log = "\n".join(line["t"] for line in self.data("GET", f"/nodes/{self.node}/tasks/{upid}/log", limit=0))
        assert status == "OK", f"{upid}: {status}\n{log}"
        return log

    def guest_status(self, vmid):
        return self.data("GET", f"/nodes/{self.node}/qemu/{vmid}/status/current")

    def create_guest(self, vmid, **changes):
        """Makes a VM of the tiny guest, which has to be on the node as an ISO."""
        config = {
            "name": f"tiny{vmid}", "memory": "128", "kvm": 0, "serial0": "socket", "scsihw": "virtio-scsi-single",
            "scsi0": "local:0.01,format=qcow2", "ide2": "local:iso/tiny.iso,media=cdrom", "boot": "order=ide2",
        }  # fmt: skip
        return self.run_task(self.data("POST", f"/nodes/{self.node}/qemu", vmid=vmid, **{**config, **changes}))

    def start_guest(self, vmid):
        """Starts a VM and waits until its system runs, in which the power button works."""
        self.run_task(self.data("POST", f"/nodes/{self.node}/qemu/{vmid}/status/start"))
        return self.wait_for_guest(vmid)

    def wait_for_guest(self, vmid, seconds=120):
        """Waits until a VM's system shows its prompt on the serial port; returns the pid of its QEMU."""
        self.serial(vmid, "echo up-$((6*7))", "up-42", seconds)
        return self.guest_status(vmid)["pid"]

    def serial(self, vmid, line, expected, seconds=120):
        """Types a line into the guest's serial port until it says what is expected."""
        program = pathlib.Path(__file__).with_name("serial_port.py").read_text()
        path = f"/run/qemu-server/{vmid}.serial0"
        status, output = self.node_under_test.try_run(
            "python3", "-", path, line, expected, str(seconds), input=program, seconds=seconds + 30
        )
        assert status == 0, f"guest {vmid} does not say {expected!r}:\n{output}"


class Package:
    """The package under test, and newer versions of it."""

    def __init__(self, path, work):
        self.path = pathlib.Path(path)
        self.work = pathlib.Path(work)
        self.name = field(self.path, "Package")
        self.version = field(self.path, "Version")

    def newer(self, number, failing=None):
        """The same package with a higher version. `failing` names a maintainer script of it that ends with an error."""
        path = self.work / f"{self.name}_newer{number}{failing or ''}.deb"
        if not path.exists():
            tree = self.work / "tree"
            if not tree.exists():
                subprocess.run(["dpkg-deb", "-R", self.path, tree], check=True)
            control = tree / "DEBIAN/control"
            version = f"Version: {self.version}+newer{number}"
            control.write_text(re.sub(r"(?m)^Version:.*", version, control.read_text()))
            pack = ["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, path]
            with ending_with_an_error(tree / f"DEBIAN/{failing}") if failing else contextlib.nullcontext():
                subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        return Package(path, self.work)

    def install(self, node, seconds=300):
        """Installs the package as an administrator does with a file; returns what was printed."""
        path = node.put(self.path, f"/var/cache/{self.path.name}")
        return node.run("apt-get", "install", "-y", path, seconds=seconds)


@contextlib.contextmanager
def ending_with_an_error(script):
    """A maintainer script that does its work and fails."""
    good = script.read_text()
    script.write_text(f"{good}\nexit 1\n")
    try:
        yield
    finally:
        script.write_text(good)


def field(path, name):
    return subprocess.run(["dpkg-deb", "-f", path, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
