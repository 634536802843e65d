"""The process model of reference 01 §1, with the real binaries: verbs, pid files, users, certificates, access log."""

import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest
import requests

from daemons import WEB_USER, Daemon, Root
from lab import BINARIES
from waiting import wait_for

DAEMONS = ["pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "qmeventd"]
PID_FILES = {
    "pvedaemon": "run/pvedaemon.pid",
    "pveproxy": "run/pveproxy/pveproxy.pid",
    "spiceproxy": "run/pveproxy/spiceproxy.pid",
    "pvestatd": "run/pvestatd.pid",
    "pvescheduler": "run/pvescheduler.pid",
    "qmeventd": "run/qmeventd.pid",
}
NOBODY = 65534
WORKERS = {"pvedaemon": 3, "pveproxy": 3}


@pytest.fixture(scope="module")
def root(playground):
    return Root(playground / "processes")


@pytest.fixture(autouse=True)
def default_settings(root):
    yield
    root.settings("")


def usage(name):
    lines = ["help [<extra-args>] [OPTIONS]", "", "restart ", "start  [OPTIONS]", "status ", "stop "]
    return f"USAGE: {name} <COMMAND> [ARGS] [OPTIONS]\n\n" + "".join(
        f"       {name} {line}\n" if line else "\n" for line in lines
    )


@pytest.mark.parametrize("name", DAEMONS)
def test_verbs_say_and_exit_as_upstream(root, name):
    at = ("--root", root.path)
    for arguments, stdout, stderr, code in [
        (["status", *at], "stopped\n", "", 0),
        (["stat", *at], "stopped\n", "", 0),
        (["stop", *at], "", "", 0),
        ([], "", f"ERROR: no command specified\n{usage(name)}", 255),
        (["foo"], "", f"ERROR: unknown command '{name} foo'\n{usage(name)}", 255),
        (["sta"], "", f"ERROR: unknown command '{name} sta'\n{usage(name)}", 255),
        (["status", "x"], "", f"400 too many arguments\n{name} status \n", 255),
        (["start", "x"], "", f"400 too many arguments\n{name} start  [OPTIONS]\n", 255),
        (["start", "--debug=maybe"], "", f"400 unable to parse boolean option\n{name} start  [OPTIONS]\n", 255),
        (["stop", "-foo"], "", f"Unknown option: foo\n400 unable to parse option\n{name} stop \n", 255),
        (["help"], usage(name), "", 0),
        (["help", "status"], f"USAGE: {name} status \n", "", 0),
    ]:
        ran = root.verb(name, *arguments)
        assert (ran.stdout, ran.stderr, ran.returncode) == (stdout, stderr, code), arguments


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemons_life(root, name):
    at = ("--root", root.path)
    pid_file = root.path / PID_FILES[name]
    lock = pid_file.with_name(pid_file.name + ".lock")
    with Daemon(root, name) as daemon:
        wait_for("the workers", lambda: len(daemon.workers()) == WORKERS.get(name, 1))
        assert pid_file.read_text() == f"{daemon.pid}\n"
        assert pid_file.stat().st_mode & 0o777 == 0o644
        assert lock.exists()
        # Titles, as administrators grep for them.
        assert title(daemon.pid) == name
        wait_for("titles", lambda: {title(worker) for worker in daemon.workers()} == {f"{name} worker"})
        assert root.verb(name, "status", *at).stdout == "running\n"
        second = root.verb(name, "start", *at)
        assert second.returncode == 255
        assert f"daemon already started (pid = {daemon.pid})" in second.stderr
        # A reload: same master, other workers.
        before = daemon.workers()
        reload = root.verb(name, "restart", *at)
        assert (reload.returncode, reload.stdout) == (0, "")
        assert f"send HUP to {daemon.pid}" in reload.stderr
        wait_for("other workers", lambda: daemon.workers() and not set(before) & set(daemon.workers()))
        assert pid_file.read_text() == f"{daemon.pid}\n"
        stopped = root.verb(name, "stop", *at)
        assert (stopped.returncode, stopped.stdout) == (0, "")
        assert daemon.process.wait(timeout=10) == 0
        assert not pid_file.exists() and not lock.exists()
        lines = [line.split("]: ", 1)[1] for line in daemon.log().splitlines() if "]: " in line]
        lines = [line.removeprefix("info ") for line in lines]
        order = ["starting server", "received signal HUP", "restarting server", "received signal TERM", "server stopped"]
        assert [line for line in lines if line in order] == order
        assert root.verb(name, "status", *at).stdout == "stopped\n"


def title(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("name", DAEMONS)
def test_only_root_starts_a_daemon(root, name):
    """And the web user, one of the web side."""
    stranger = NOBODY if name in ("pveproxy", "spiceproxy") else WEB_USER
    ran = root.verb(name, "start", "--root", root.path, user=stranger)
    assert ran.returncode == 255
    assert "start failed - please run as root" in ran.stderr
    checked = root.verb(name, "check", "--root", root.path, user=stranger)
    assert (checked.returncode, checked.stderr) == (255, "please run as root\n")
    assert not (root.path / PID_FILES[name]).exists()


@pytest.mark.parametrize("starter", [None, WEB_USER])
@pytest.mark.parametrize("name", ["pveproxy", "spiceproxy"])
def test_the_web_side_gives_root_up_for_good(root, name, starter):
    with Daemon(root, name, user=starter) as daemon:
        wait_for("the workers", lambda: len(daemon.workers()) == WORKERS.get(name, 1))
        for pid in [daemon.pid, *daemon.workers()]:
            status = dict(
                line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
            )
            assert status["Uid"].split() == [str(WEB_USER)] * 4
            assert status["Gid"].split() == [str(WEB_USER)] * 4
            assert status["Groups"].split() == [str(WEB_USER)]
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(status[kind], 16) == 0, kind
        # So what is root's stays root's.
        for secret in ["etc/pve/priv/authkey.key", "etc/pve/priv/shadow.cfg"]:
            ran = subprocess.run(
                ["setpriv", f"--reuid={WEB_USER}", f"--regid={WEB_USER}", "--clear-groups", "cat", root.path / secret],
                capture_output=True,
                text=True,
            )
            assert ran.returncode != 0 and "Permission denied" in ran.stderr, secret
        assert (root.path / "run/pveproxy").stat().st_mode & 0o777 == 0o700
        assert (root.path / "run/pveproxy").stat().st_uid == WEB_USER


def test_the_web_user_may_have_groups_but_not_roots(root):
    command = ["setpriv", f"--reuid={WEB_USER}", f"--regid={WEB_USER}"]
    start = [BINARIES / "pveproxy", "start", "--root", root.path]
    ran = subprocess.run([*command, f"--groups={WEB_USER},0", *start], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 255
    assert "start failed - detected strange gid" in ran.stderr
    daemon = Daemon(root, "pveproxy")
    daemon.drop = [*command, f"--groups={WEB_USER},4"]
    with daemon:
        daemon.logged("starting server")
        wait_for("the workers", lambda: len(daemon.workers()) == WORKERS["pveproxy"])
        # A reload finds the same groups.
        daemon.process.send_signal(signal.SIGHUP)
        daemon.logged("restarting server")


def get(root, **options):
    return requests.get(f"https://{root.address}:8006/", verify=False, timeout=20, **options)


def test_a_broken_certificate_is_logged_every_five_seconds_and_its_repair_is_noticed(root):
    certificate = root.path / "etc/pve/nodes" / root.node / "pve-ssl.pem"
    good = certificate.read_bytes()
    try:
        certificate.write_text("nothing\n")
        root.settings("MAX_WORKERS=1\n")
        with Daemon(root, "pveproxy") as daemon:
            line = "/etc/pve/local/pve-ssl.pem: failed to load local certificate (cert_file or cert)"
            wait_for("an attempt", lambda: line in daemon.log(), every=0.02)
            began = time.monotonic()
            wait_for("four more", lambda: daemon.log().count(line) >= 5, every=0.02)
            # Of the first the test may have learnt late.
            assert time.monotonic() - began > 14, "every five seconds"
            assert root.verb("pveproxy", "status", "--root", root.path).stdout == "running\n"
            # The port is bound meanwhile; who connects waits.
            socket.create_connection((root.address, 8006), timeout=5).close()
            assert len(daemon.workers()) == 1
            certificate.write_bytes(good)
            wait_for("an answer", lambda: get(root).status_code == 200)
    finally:
        certificate.write_bytes(good)
        shutil.chown(certificate, "root", "www-data")


class RawClient:
    """A TLS connection that sends when told to."""

    def __init__(self, root):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection((root.address, 8006), timeout=30))

    def ask(self, path):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def head(self):
        data = b""
        while b"\r\n\r\n" not in data:
            read = self.socket.recv(4096)
            assert read, f"closed after {data!r}"
            data += read
        return data.decode()


def test_the_access_log_is_reopened_at_a_reload_after_logrotate_moved_it(root):
    log, moved = root.access_log, root.access_log.with_name("access.log.1")
    log.unlink(missing_ok=True)
    with Daemon(root, "pveproxy") as daemon:
        daemon.until_serving(8006)
        assert get(root).ok
        wait_for("a line", lambda: log.exists() and log.read_text().endswith(" 200 " + log.read_text().split()[-1] + "\n"))
        status = log.stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, WEB_USER, WEB_USER)
        assert log.parent.stat().st_mode & 0o777 == 0o700
        # A refusal takes three seconds: its worker is of the old generation when it writes the line.
        slow = RawClient(root)
        slow.ask("/api2/json/version?slow")
        workers = daemon.workers()
        wait_for("the worker has it", lambda: count_sockets(workers) >= 1)
        log.rename(moved)
        daemon.reload()
        wait_for("new workers", lambda: set(daemon.workers()) - set(workers))
        assert slow.head().startswith("HTTP/1.1 401 No ticket\r\n")
        wait_for("the old worker's line", lambda: "?slow HTTP/1.1\" 401 -" in moved.read_text())

        def new_line():
            assert requests.get(f"https://{root.address}:8006/new", verify=False, timeout=20).status_code == 500
            return log.exists() and '"GET /new HTTP/1.1" 500' in log.read_text()

        wait_for("new lines are in the new file", new_line)
        assert "?slow" not in log.read_text()
        status = log.stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, WEB_USER, WEB_USER)
        wait_for("the old workers are gone", lambda: not set(workers) & set(daemon.workers()))
        size = moved.stat().st_size
        assert get(root).ok
        assert moved.stat().st_size == size, "nobody writes to the old file any more"


def count_sockets(pids):
    """Established connections of these processes."""
    ss = subprocess.run(["ss", "-Htnp", "state", "established", "sport = :8006"], capture_output=True, text=True).stdout
    return sum(1 for line in ss.splitlines() for pid in pids if f"pid={pid}," in line)


def test_the_address_behind_a_reverse_proxy_is_in_the_access_log(root):
    root.settings("PROXY_REAL_IP_HEADER=X-Forwarded-For\n")
    with Daemon(root, "pveproxy") as daemon:
        daemon.until_serving(8006)
        assert get(root, headers={"X-Forwarded-For": "2001:DB8:0::7"}).ok
        pattern = re.compile(r'^2001:db8::7 - - \[\S+ \S+\] "GET / HTTP/1.1" 200 \d+$', re.M)
        wait_for("its line", lambda: pattern.search(root.access_log.read_text()))


def test_a_worker_killed_under_load_costs_only_its_own_connections(root):
    with Daemon(root, "pveproxy") as daemon:
        daemon.until_serving(8006)
        wait_for("workers", lambda: len(daemon.workers()) == 3)
        victim = daemon.workers()[0]
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            assert get(root).ok
        wait_for("a replacement", lambda: len(daemon.workers()) == 3 and victim not in daemon.workers())
        daemon.logged(f"worker {victim} died: signal SIGKILL")
        daemon.logged(f"worker {victim} finished")
