"""A node: Debian with systemd as PID 1, in a container of its own on a network of its own.

A `Network` is a network namespace with a bridge, which this machine reaches through a pair of devices. A `Node` is a
root directory (an image made by tests/nodes/image, with an overlay over it that takes what the node writes) booted by
systemd-nspawn on that bridge. Both clean up after themselves in any case; what a killed run left behind, the next one
removes: everything is named after the run, and a run's directory below /run tells whose it is.
"""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import tempfile

from waiting import wait_for

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache"
RELEASES = ("bookworm", "trixie")
# Where runs keep their state, one directory each, locked by the run for as long as it lives.
RUNS = pathlib.Path("/run/pve-test-nodes")
# Overlays need a disk that takes them; the root of this machine may be an overlay itself.
OVERLAYS = pathlib.Path("/var/tmp/pve-test-nodes")
# The hierarchies in which a container with systemd needs a place of its own; the plain one where there is no other.
HIERARCHIES = [
    path
    for path in (pathlib.Path("/sys/fs/cgroup/unified"), pathlib.Path("/sys/fs/cgroup/systemd"))
    if path.is_dir()
] or [pathlib.Path("/sys/fs/cgroup")]
# nspawn says by this exit status that the node wants to be started again.
REBOOT = 133


def missing():
    """What this machine lacks for nodes, in words, or None."""
    if os.geteuid() != 0:
        return "root"
    for command in ("systemd-nspawn", "nsenter", "ip", "mmdebstrap"):
        if not shutil.which(command):
            return f"the command {command}"
    probes = {
        "network namespaces with veth and bridge devices": "ip link add probe0 type veth peer name probe1 && "
        "ip link add probe2 type bridge",
        "overlay mounts": 'mkdir -p "$0/l" "$0/u" "$0/w" "$0/m" && '
        'mount -t overlay probe -o "lowerdir=$0/l,upperdir=$0/u,workdir=$0/w" "$0/m"',
    }
    OVERLAYS.mkdir(exist_ok=True)
    for what, script in probes.items():
        with tempfile.TemporaryDirectory(dir=OVERLAYS, prefix="probe") as directory:
            probe = ["unshare", "--net", "--mount", "sh", "-c", script, directory]
            if subprocess.run(probe, capture_output=True).returncode:
                return what
    for hierarchy in HIERARCHIES:
        if not os.access(hierarchy, os.W_OK):
            return f"a writable {hierarchy}"
    return None


class Run:
    """This run of the tests: a name that no other run has, and a lock that ends with it."""

    def __init__(self):
        RUNS.mkdir(exist_ok=True)
        with _locked(RUNS):  # A run that begins has no lock of its own yet, and looks dead.
            self._remove_dead()
            self.id = secrets.token_hex(2)
            self.state = RUNS / self.id
            self.state.mkdir()
            self.overlays = OVERLAYS / self.id
            self.overlays.mkdir(parents=True)
            self._lock = open(self.state / "lock", "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _remove_dead(self):
        for state in RUNS.iterdir():
            with contextlib.suppress(BlockingIOError, FileNotFoundError), open(state / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(state.name)

    @staticmethod
    def _remove(run):
        """Ends and removes everything that carries a run's name."""
        for hierarchy in HIERARCHIES:
            for group in hierarchy.glob(f"pn{run}*"):
                _end_group(group)
        for mount in sorted(_mounts_below(OVERLAYS / run), key=len, reverse=True):
            subprocess.run(["umount", "--lazy", mount])
        for namespace in pathlib.Path("/run/netns").glob(f"pn{run}*"):
            subprocess.run(["ip", "netns", "del", namespace.name])
        shutil.rmtree(OVERLAYS / run, ignore_errors=True)
        shutil.rmtree(RUNS / run, ignore_errors=True)

    def close(self):
        self._remove(self.id)
        self._lock.close()


@contextlib.contextmanager
def _locked(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _mounts_below(path):
    mounts = (line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
    return [mount for mount in mounts if pathlib.Path(mount).is_relative_to(path)]


def _end_group(group):
    """Kills what runs in a control group and those below it, and removes them."""

    def is_gone():
        groups = [pathlib.Path(path) for path, _, _ in os.walk(group, topdown=False)]
        for below in groups:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for pid in (below / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                below.rmdir()
        return not group.exists()

    wait_for(f"{group} is empty", is_gone, 30)


class Network:
    """A bridge in a network namespace of its own, which this machine reaches as host 1 of both families' networks."""

    def __init__(self, run, name="a"):
        self.run = run
        self.name = f"pn{run.id}{name}"
        # Private addresses that nobody routes here, a network for each run.
        number = int(run.id, 16)
        self.prefix4 = f"10.{192 + (number >> 8) % 32}.{number & 255}"
        self.prefix6 = f"fd70:7665:{number:x}:{ord(name[0]):x}:"
        self.last = 1
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "up0", "netns", self.name)
        inside = ("-n", self.name)
        ip(*inside, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        ip(*inside, "link", "set", "up0", "master", "br0")
        for device in ("lo", "up0", "br0"):
            ip(*inside, "link", "set", device, "up")
        ip("addr", "add", f"{self.prefix4}.1/24", "dev", self.name)
        ip("addr", "add", f"{self.prefix6}:1/64", "dev", self.name, "nodad")
        ip("link", "set", self.name, "up")

    def addresses(self):
        """The addresses of the next node: (IPv4, IPv6)."""
        self.last += 1
        return f"{self.prefix4}.{self.last}", f"{self.prefix6}:{self.last:x}"

    def close(self):
        # The device on this machine's side goes with its peer.
        subprocess.run(["ip", "netns", "del", self.name])


class Failed(AssertionError):
    """A command of the node failed."""


class Node:
    """A booted node; as a context, it is powered off and removed at the end."""

    def __init__(self, network, image, name="node1", families=(4, 6), writable=()):
        """`families`: which of its addresses the node has. `writable`: where it can write, if its root is read-only."""
        self.network = network
        self.name = name
        self.machine = f"{network.name}{name}"
        self.families = families
        self.address4, self.address6 = network.addresses()
        self.writable = writable
        self.overlay = network.run.overlays / name
        self.root = self.overlay / "root"
        self.process = None
        self.log_path = network.run.state / f"{name}.log"
        for part in ("root", "upper", "work"):
            (self.overlay / part).mkdir(parents=True)
        options = f"lowerdir={image},upperdir={self.overlay}/upper,workdir={self.overlay}/work"
        run("mount", "-t", "overlay", self.machine, "-o", options, str(self.root))
        self.rename(name)

    @property
    def address(self):
        """The address under which the tests reach the node."""
        return self.address4 if 4 in self.families else self.address6

    @property
    def url_host(self):
        return self.address if 4 in self.families else f"[{self.address}]"

    def rename(self, name):
        """Gives the host another name, as an administrator does; it counts from the next boot on."""
        self.host = name
        (self.root / "etc/hostname").write_text(f"{name}\n")
        # Nobody answers for names here; the domain is the node's.
        (self.root / "etc/resolv.conf").write_text("search example.org\n")
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        own = {4: self.address4, 6: self.address6}
        lines += [f"{own[family]} {name}.example.org {name}" for family in self.families]
        (self.root / "etc/hosts").write_text("".join(f"{line}\n" for line in lines))

    # Life

    def boot(self, *options, seconds=60):
        """Boots the node and waits until systemd has started everything, whether it went well or not."""
        command = [
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
            f"--directory={self.root}", f"--machine={self.machine}", f"--hostname={self.host}", "--capability=all",
            "--network-bridge=br0", "--link-journal=no", "--bind=/dev/net/tun", "--bind=/dev/fuse", *options,
        ]  # fmt: skip
        if self.writable:
            command.append("--read-only")
            for path in self.writable:
                # As a disk of its own that holds what the root had there.
                own = self.overlay / "disks" / path.replace("/", "_")
                if not own.exists():
                    own.parent.mkdir(exist_ok=True)
                    (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
                    run("cp", "-a", f"{self.root}{path}", str(own))
                command.append(f"--bind={own}:{path}")
        for hierarchy in HIERARCHIES:
            (hierarchy / self.machine).mkdir(exist_ok=True)
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1", SYSTEMD_NSPAWN_API_VFS_WRITABLE="1")
        groups = [str(hierarchy / self.machine / "cgroup.procs") for hierarchy in HIERARCHIES]
        enter = 'for group; do [ "$group" = -- ] && break; echo $$ > "$group"; shift; done; shift; exec "$@"'
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.network.name}", "sh", "-c", enter, "sh", *groups, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_die_with_parent,
            )
        self.leader = wait_for("the node has a PID 1", self._find_leader, 30)
        wait_for("the node's systemd answers", lambda: self._state() not in ("", "offline", "unknown"), 30)
        self._address()
        wait_for(
            lambda: f"the node is started: {self.try_run('systemctl', 'list-jobs')[1]}",
            lambda: self._state() in ("running", "degraded"),
            seconds,
        )
        return self

    def _state(self):
        self._alive()
        return self.try_run("systemctl", "is-system-running")[1].strip()

    def _alive(self):
        assert self.process.poll() is None, f"nspawn ended with {self.process.returncode}:\n{self.console()[-3000:]}"

    def _find_leader(self):
        self._alive()
        with contextlib.suppress(FileNotFoundError):
            pid = self.process.pid
            for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                # The child that became systemd, not a helper of nspawn.
                if pathlib.Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "init"):
                    return int(child)

    def _address(self):
        """Gives the node its addresses: nothing inside configures the network."""
        device = ("nsenter", "-t", str(self.leader), "-n", "ip")
        show = [*device, "link", "show", "host0"]
        wait_for("the node has its device", lambda: not subprocess.run(show, capture_output=True).returncode, 10)
        run(*device, "link", "set", "host0", "up")
        if 4 in self.families:
            run(*device, "addr", "replace", f"{self.address4}/24", "dev", "host0")
        if 6 in self.families:
            run(*device, "addr", "replace", f"{self.address6}/64", "dev", "host0", "nodad")

    def power_off(self, seconds=120):
        """Shuts the node down as its power button would, and waits until it is off."""
        if self.process.poll() is None:
            self.try_run("systemctl", "poweroff")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=seconds)
        is_off = self.process.poll() is not None
        assert is_off, f"the node did not power off within {seconds} s:\n{self.console()[-3000:]}"
        self._end_groups()

    def reboot(self, seconds=120):
        """Restarts the node's system and waits until it is up again."""
        self.try_run("systemctl", "reboot")
        self.process.wait(timeout=seconds)
        assert self.process.returncode == REBOOT, f"nspawn ended with {self.process.returncode}"
        self._end_groups()
        self.boot()

    def crash(self):
        """Takes the node's power away."""
        self.process.kill()
        self.process.wait(timeout=30)
        self._end_groups()

    def _end_groups(self):
        for hierarchy in HIERARCHIES:
            _end_group(hierarchy / self.machine)

    def close(self):
        """Ends the node, whatever state it is in, and removes what it wrote."""
        if self.process and self.process.poll() is None:
            self.crash()
        self._end_groups()
        umount = ["umount", str(self.root)]
        wait_for("the root is free", lambda: not subprocess.run(umount, capture_output=True).returncode, 30)
        shutil.rmtree(self.overlay)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Inside

    def command(self, *words):
        """What to execute on this machine to have these words executed on the node."""
        return ["nsenter", "-t", str(self.leader), "-a", "env", "-i", "LANG=C.UTF-8", "TERM=dumb", "HOME=/root",
                "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                *map(str, words)]  # fmt: skip

    def popen(self, *words, **options):
        """Starts a command on the node."""
        return subprocess.Popen(self.command(*words), **{"stdin": subprocess.DEVNULL, "text": True, **options})

    def try_run(self, *words, input=None, seconds=120):
        """Runs a command on the node: (exit status, what it printed)."""
        done = subprocess.run(
            self.command(*words), input=input or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=seconds, errors="replace",
        )  # fmt: skip
        return done.returncode, done.stdout

    def run(self, *words, input=None, seconds=120):
        """Runs a command on the node that must succeed, and returns what it printed."""
        status, output = self.try_run(*words, input=input, seconds=seconds)
        if status:
            raise Failed(f"{' '.join(map(str, words))}: exit status {status}\n{output}")
        return output

    def shell(self, script, **options):
        """Runs a script on the node that must succeed, and returns what it printed."""
        return self.run("sh", "-ec", script, **options)

    def put(self, source, path):
        """Copies a file of this machine to the node (not below /run, /tmp or /dev)."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return path

    def write(self, path, text):
        """Writes a file of the node."""
        self.run("sh", "-ec", 'mkdir -p "${1%/*}"; cat > "$1"', "sh", path, input=text)

    def read(self, path):
        return self.run("cat", path)

    def tree(self, *directories):
        """What is there: {path: (kind, mode, owner, what it is a link to)}."""
        fields = r"%y %m %u:%g %l\t%p\0"
        # Files of a running system come and go.
        listed = self.try_run("find", *directories, "-xdev", "-printf", fields)[1]
        entries = (entry.split("\t", 1) for entry in listed.split("\0") if "\t" in entry)
        return {path: tuple(what.split(" ", 3)) for what, path in entries}

    def exists(self, path):
        return self.try_run("test", "-e", path)[0] == 0

    # systemd

    def unit(self, name, *properties):
        """Properties of a unit: one as its text, several as a dictionary."""
        output = self.run("systemctl", "show", name, *(f"--property={name}" for name in properties))
        values = dict(line.split("=", 1) for line in output.splitlines())
        return values[properties[0]] if len(properties) == 1 else values

    def is_active(self, name):
        return self.unit(name, "ActiveState") == "active"

    def main_pid(self, name):
        return int(self.unit(name, "MainPID"))

    def journal(self, unit=None, *options):
        """What the journal holds, of a unit or of all."""
        return self.run("journalctl", "--no-pager", "-o", "short-iso", *(("-u", unit) if unit else ()), *options)

    def console(self):
        """What systemd printed at boot and shutdown."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # Network

    def listeners(self):
        """Who listens, as `ss -atlnup` names them: {(address, port): sorted [(process name, pid), …]}."""
        found = {}
        for line in self.run("ss", "-H", "-atlnup").splitlines():
            address, port = line.split()[4].rsplit(":", 1)
            found[address, int(port)] = sorted(re.findall(r'\("([^"]+)",pid=(\d+)', line))
        return found


def image(release, deb):
    """The root directory of a node of this release on which the package can be installed."""
    made = subprocess.run([HERE / "image", release, deb, CACHE], stdout=subprocess.PIPE, text=True, check=True)
    return pathlib.Path(made.stdout.strip())


def run(*command):
    """Runs a command of this machine that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def ip(*words):
    run("ip", *words)


def _die_with_parent():
    # PR_SET_PDEATHSIG: a container does not outlive the tests, even when they are killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
