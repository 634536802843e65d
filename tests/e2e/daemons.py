"""Single daemons, started by hand as systemd would, in the directory of a lab that is not running."""

import os
import pathlib
import signal
import socket
import struct
import subprocess

from lab import BINARIES, Lab
from waiting import wait_for

WEB_USER = 33


class Root:
    """A lab's directory without the lab: keys, certificates and accounts are there, and no daemon runs."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        lab = Lab(path)
        with lab:
            self.address = lab.address
            self.node = lab.node
            self.password = lab.password

    def settings(self, text, name="pveproxy"):
        (self.path / "etc/default").mkdir(parents=True, exist_ok=True)
        (self.path / "etc/default" / name).write_text(text)

    @property
    def access_log(self):
        return self.path / "var/log/pveproxy/access.log"

    def verb(self, name, *arguments, user=None):
        """Runs a verb to its end."""
        command = [BINARIES / name, *arguments]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={user}", *command]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


class Daemon:
    """A daemon in the foreground; its master is the process that was started."""

    def __init__(self, root, name, watchdog=None, watchdog_pid="$$", notify=False, user=None, prefix=()):
        self.root, self.name = root, name
        self.prefix = prefix
        self.log_path = root.path.with_name(f"{root.path.name}-{name}.log")
        self.watchdog, self.watchdog_pid = watchdog, watchdog_pid
        self.notifications = Notifications(root.path / f"run/{name}.notify") if notify else None
        # Started as this user, as a unit with `User=` does.
        self.drop = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={user}"] if user is not None else []

    def __enter__(self):
        environment = dict(os.environ)
        # WATCHDOG_PID must be the pid that the daemon will have.
        script = 'exec "$@"'
        if self.notifications:
            environment["NOTIFY_SOCKET"] = str(self.notifications.path)
        if self.watchdog:
            environment["WATCHDOG_USEC"] = str(int(self.watchdog * 1_000_000))
            script = f'export WATCHDOG_PID={self.watchdog_pid}; exec "$@"'
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*self.drop, "sh", "-c", script, "sh", *self.prefix),
                    *(BINARIES / self.name, "start", "--root", self.root.path),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.notifications:
            self.notifications.socket.close()

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def logged(self, text, seconds=60):
        """Waits for a text in the log."""

        def found():
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log()}"
            return text in self.log()

        wait_for(lambda: f"{text!r} in the log of {self.name}:\n{self.log()}", found, seconds)

    def workers(self):
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []

    def until_serving(self, port, address=None):
        """Waits until the port takes connections and all first workers were started."""

        def takes():
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log()}"
            try:
                socket.create_connection((address or self.root.address, port), timeout=5).close()
                return True
            except OSError:
                return False

        wait_for(f"{self.name} takes connections", takes)

    def reload(self):
        os.kill(self.pid, signal.SIGHUP)


class Notifications:
    """What systemd would be told, and by which process."""

    def __init__(self, path):
        self.path = path
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(str(path))
        path.chmod(0o777)

    def next(self, seconds=60):
        """The next message as a dictionary, with the sender's pid; raises TimeoutError."""
        self.socket.settimeout(seconds)
        data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        pid, _, _ = struct.unpack("3i", ancillary[0][2][:12])
        message = dict(line.split("=", 1) for line in data.decode().splitlines())
        message["pid"] = pid
        return message

    def wait(self, key, seconds=60):
        """The next message that has this key."""
        return wait_for(f"{key} is told", lambda: (m := self.next(seconds)) and key in m and m, seconds, every=0)
