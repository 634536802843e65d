"""`pvesh --remote`: another node's API by its paths, through `pveproxy`, by whoever has a token."""

import hashlib
import http.server
import itertools
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time

import pytest

from lab import BINARIES
from tools import heeds_interrupts
from waiting import wait_for

#: Nobody in particular.
NOBODY = 65534


@pytest.fixture(scope="module")
def token(lab):
    """A token that may do everything."""
    answer = lab.call("POST", "/access/users/root@pam/token/remote", privsep=0).json()["data"]
    return f"{answer['full-tokenid']}={answer['value']}"


@pytest.fixture(scope="module")
def authority(lab, playground):
    path = playground / "remote-ca.pem"
    path.write_bytes((lab.root / "etc/pve/pve-root-ca.pem").read_bytes())
    path.chmod(0o644)
    return path


def fingerprint(lab):
    pem = (lab.root / "etc/pve/local/pve-ssl.pem").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()


class Remote:
    """The tool as a user without any rights on this host, whose files it cannot read."""

    def __init__(self, lab, token, *options):
        self.lab, self.options = lab, list(map(str, options))
        self.environment = {"PVE_API_TOKEN": token, "LC_ALL": "C"}
        self.file = open(BINARIES / "pve-cli", "rb")

    def popen(self, *words, **options):
        call = [f"/proc/self/fd/{self.file.fileno()}", "pvesh", "--remote", self.lab.url, *self.options]
        return subprocess.Popen(
            [*call, *map(str, words)],
            pass_fds=[self.file.fileno()],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words):
        child = self.popen(*words)
        told, said = child.communicate(timeout=120)
        return child.returncode, told, said

    def __call__(self, *words):
        code, told, said = self.run(*words)
        assert (code, said) == (0, ""), (code, told, said)
        return told


@pytest.fixture
def remote(lab, token, authority):
    return Remote(lab, token, "--ca-file", authority)


def test_paths_are_made_read_changed_and_deleted(lab, remote):
    assert '"release":"9.2"' in remote("get", "/version", "--output-format", "json")
    assert remote("create", "/access/groups", "--groupid", "far", "--comment", "a & b = c%") == ""
    assert remote("get", "/access/groups/far", "--output-format", "json") == '{"comment":"a & b = c%","members":[]}\n'
    assert remote("set", "/access/groups/far", "--comment", "other") == ""
    assert re.search(r"\| far +\| other +\|", remote("get", "/access/groups"))
    assert "Dr-c- groups" in " ".join(remote("ls", "/access").split())
    assert remote("delete", "/access/groups/far") == ""
    assert "far" not in remote("get", "/access/groups")
    assert remote("--nooutput", "get", "/version") == ""


def test_refusals_are_those_of_the_api(lab, remote):
    assert remote.run("get", "/nonsense") == (1, "", "No 'get' handler defined for '/nonsense'\n")
    code, told, said = remote.run("get", "/access/groups/none")
    assert (code, told) == (255, "") and "none" in said
    code, _, said = remote.run("create", "/access/groups")
    assert code == 255 and said.startswith("400 Parameter verification failed.\ngroupid: property is missing")
    code, _, said = remote.run("get", "/nodes/elsewhere/qemu")
    assert code == 255 and "elsewhere" in said


def test_a_token_has_its_own_rights(lab, authority, playground):
    lab.call("POST", "/access/users", userid="weak@pve")
    answer = lab.call("POST", "/access/users/weak@pve/token/narrow").json()["data"]
    weak = Remote(lab, f"{answer['full-tokenid']}={answer['value']}", "--ca-file", authority)
    code, _, said = weak.run("create", "/access/groups", "--groupid", "no")
    assert code == 255 and said.startswith("403 Permission check failed"), said
    wrong = Remote(lab, f"{answer['full-tokenid']}=00000000-0000-0000-0000-000000000000", "--ca-file", authority)
    code, _, said = wrong.run("get", "/version")
    assert code == 255 and said.startswith("401 "), said
    # From a file, before the environment; one that others may read is worth a word.
    path = playground / "token"
    path.write_text(f"{answer['full-tokenid']}={answer['value']}\n")
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o600)
    by_file = Remote(lab, "none", "--ca-file", authority, "--token-file", path)
    assert "9.2" in by_file("get", "/version")
    path.chmod(0o644)
    code, told, said = by_file.run("get", "/version")
    assert (code, said) == (0, f"warning: others may read '{path}': chmod 600 it\n")


def test_a_node_must_be_known(lab, token, authority):
    code, told, said = Remote(lab, token).run("get", "/version")
    assert (code, told) == (255, "") and "certificate" in said and "--ca-file" in said and "--fingerprint" in said, said
    digest = fingerprint(lab)
    assert "9.2" in Remote(lab, token, "--fingerprint", digest)("get", "/version")
    colons = ":".join(re.findall("..", digest.lower()))
    assert "9.2" in Remote(lab, token, "--fingerprint", colons)("get", "/version")
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    code, told, said = Remote(lab, token, "--fingerprint", wrong).run("get", "/version")
    assert (code, told) == (255, "") and "can't connect" in said, said
    code, told, said = Remote(lab, token, "--insecure").run("get", "/version")
    assert code == 0 and said.startswith("warning: --insecure: "), said
    code, _, said = Remote(lab, token, "--insecure", "--ca-file", authority).run("get", "/version")
    assert (code, said) == (255, "--ca-file, --fingerprint and --insecure exclude each other\n")
    code, _, said = Remote(lab, "", "--ca-file", authority).run("get", "/version")
    assert code == 255 and said.startswith("PVE_API_TOKEN holds no token")


def test_a_task_is_followed_and_stopped(lab, remote):
    node = f"/nodes/{lab.node}"
    told = remote("create", f"{node}/qemu", "--vmid", 600, "--memory", 64, "--kvm", 0, "--scsi0", "local:1")
    *log, end, upid = told.splitlines()
    assert end == "TASK OK" and ":qmcreate:600:root@pam!remote:" in upid and any("successfully created" in line for line in log)
    assert remote("--nooutput", "create", f"{node}/qemu/600/status/start") == ""
    try:
        # It waits for a guest that never answers; Ctrl-C asks it to end.
        child = remote.popen("create", f"{node}/qemu/600/status/shutdown", "--timeout", 300)
        api = lab.api()
        running = lambda: [row for row in api.nodes(lab.node).tasks.get(source="active") if row["type"] == "qmshutdown"]
        (task,) = wait_for("the task runs", running, 30)
        wait_for("the tool heeds Ctrl-C", lambda: heeds_interrupts(child))
        child.send_signal(signal.SIGINT)
        told, said = child.communicate(timeout=60)
        assert child.returncode == 0 and "TASK ERROR: " in told and task["upid"] in told, (told, said)
        assert said == "asked the task to end\n"
        assert api.nodes(lab.node).tasks(task["upid"]).status.get()["status"] == "stopped"
    finally:
        remote("create", f"{node}/qemu/600/status/stop")
        remote("delete", f"{node}/qemu/600")


def test_a_task_is_followed_while_pvedaemon_starts_again(lab, remote):
    node = f"/nodes/{lab.node}"
    remote("create", f"{node}/qemu", "--vmid", 601, "--memory", 64, "--kvm", 0)
    remote("--nooutput", "create", f"{node}/qemu/601/status/start")
    try:
        # Nothing in the guest answers the power button: the task waits for its whole time.
        child = remote.popen("create", f"{node}/qemu/601/status/shutdown", "--timeout", 15)
        api = lab.api()
        running = lambda: [row for row in api.nodes(lab.node).tasks.get(source="active") if row["type"] == "qmshutdown"]
        (task,) = wait_for("the task runs", running, 30)
        # The supervisor stands still: it does not start the daemon again until it may.
        master, workers = lab.daemon_pids("pvedaemon")
        os.kill(lab.process.pid, signal.SIGSTOP)
        try:
            for pid in [master, *workers]:
                os.kill(pid, signal.SIGKILL)
            status = f"/nodes/{lab.node}/tasks/{task['upid']}/status"
            seen = wait_for("pveproxy says so", lambda: unanswered(lab, status), 30)
            # It is asked meanwhile, and answers 500 to whoever has a token: it cannot look that up.
            time.sleep(3)
        finally:
            os.kill(lab.process.pid, signal.SIGCONT)
        assert seen in range(595, 600)
        told, said = child.communicate(timeout=120)
        assert (child.returncode, said) == (0, ""), (told, said)
        assert "TASK ERROR: VM quit/powerdown failed - got timeout" in told and task["upid"] in told, told
    finally:
        remote("create", f"{node}/qemu/601/status/stop")
        remote("delete", f"{node}/qemu/601")


def unanswered(lab, path):
    """The status with which the proxy says that nobody answers, or 0."""
    try:
        status = lab.call("GET", path).status_code
    except OSError:
        return 0
    return status if status >= 595 else 0


class Stranger(http.server.BaseHTTPRequestHandler):
    """A web server that begins a task, and answers nothing more; for others it has a page."""

    asked = threading.Event()
    gone = threading.Event()

    def do_POST(self):
        upid = "UPID:n1:00000001:00000001:00000001:qmstart:100:root@pam:"
        self.answer("application/json", json.dumps({"data": upid}))

    def do_GET(self):
        if "/tasks/" not in self.path:
            return self.answer("text/html", "<html>Welcome</html>")
        self.asked.set()
        self.gone.wait(60)

    def answer(self, kind, text):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger(lab, token, playground):
    """The tool, which asks that server."""
    Stranger.asked.clear()
    Stranger.gone.clear()
    server = http.server.ThreadingHTTPServer((lab.address, 0), Stranger)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    directory = lab.root / "etc/pve/local"
    context.load_cert_chain(directory / "pve-ssl.pem", directory / "pve-ssl.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tool = Remote(lab, token, "--remote", f"https://{lab.address}:{server.server_port}", "--fingerprint", fingerprint(lab))
    yield tool
    Stranger.gone.set()
    server.shutdown()


def test_what_is_no_api_is_no_success(stranger):
    code, told, said = stranger.run("get", "/version")
    assert (code, told) == (255, "") and said.endswith(" does not answer as the API does - is it pveproxy?\n"), said


def test_the_fourth_interrupt_ends_the_tool_whatever_it_waits_for(stranger):
    child = stranger.popen("create", "/nodes/n1/qemu/100/status/start")
    assert Stranger.asked.wait(30)
    sent = itertools.count()

    def is_over():
        # Two that come at once are one.
        return child.poll() is not None or (child.send_signal(signal.SIGINT), next(sent))[0]

    wait_for("it ends", is_over, 30, every=0.3)
    told, said = child.communicate(timeout=60)
    assert (child.returncode, told, said) == (255, "", "interrupted\n")
    assert 4 <= next(sent) < 12
