"""Two nodes in two network namespaces that know each other as members of a cluster do, and ssh between them."""

import contextlib
import copy
import os
import pathlib
import secrets
import shutil
import subprocess
import sys

from lab import BINARIES, Lab
from places import NUMBER
from waiting import wait_for

# The host's own address on the bridge is the last; the nodes are .1 and .2.
NETWORK = f"10.198.{NUMBER}"
HOST = f"{NETWORK}.254"


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Network:
    """A bridge of the host, and a namespace for each node with a leg on it."""

    def __init__(self, directory):
        self.directory = directory
        self.mark = "pv" + secrets.token_hex(2)

    def __enter__(self):
        # What a killed run of tests left would be in the way of what is sent to the nodes.
        for line in run("ip", "-o", "addr", "show", "to", f"{HOST}/32").splitlines():
            run("ip", "link", "del", line.split()[1])
        run("ip", "link", "add", f"{self.mark}br", "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/24", "dev", f"{self.mark}br")
        run("ip", "link", "set", f"{self.mark}br", "up")
        for number in (1, 2):
            name = self.name(number)
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", "leg", "netns", name)
            run("ip", "link", "set", f"{name}h", "master", f"{self.mark}br", "up")
            run("ip", "-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "leg")
            for device in ("lo", "leg"):
                run("ip", "-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_):
        for number in (1, 2):
            subprocess.run(["ip", "link", "del", f"{self.name(number)}h"], check=False)
            subprocess.run(["ip", "netns", "del", self.name(number)], check=False)
        subprocess.run(["ip", "link", "del", f"{self.mark}br"], check=False)

    def name(self, number):
        return f"{self.mark}{number}"

    def prefix(self, number):
        """Words before a command that runs in a node's namespace, with /etc/hosts and /etc/ssh of its own."""
        etc = self.directory / f"etc{number}"
        mount = f'mount --bind {etc}/hosts /etc/hosts && mount --bind {etc}/ssh /etc/ssh && exec "$@"'
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]
        return ["nsenter", f"--net=/run/netns/{self.name(number)}", *inside]


class Node(Lab):
    """A lab that listens on the bridge, too."""

    def __init__(self, network, number):
        self.number, self.network = number, network
        etc = network.directory / f"etc{number}"
        (etc / "ssh").mkdir(parents=True)
        hosts = [f"{NETWORK}.1 n1", f"{NETWORK}.2 n2", f"{HOST} n3", "127.0.0.1 localhost"]
        (etc / "hosts").write_text("\n".join(hosts) + "\n")
        super().__init__(
            network.directory / f"n{number}", "--node", f"n{number}", "--workers", "2", prefix=network.prefix(number)
        )

    def start(self):
        super().start()
        self.address, self.node = f"{NETWORK}.{self.number}", f"n{self.number}"
        self.url = f"https://{self.address}:8006"
        return self

    @property
    def pve(self):
        return self.root / "etc/pve"


class Cluster:
    def __init__(self, network, first, second):
        self.network, self.first, self.second = network, first, second
        # What is asked of the second node through the first.
        self.far = copy.copy(first)
        self.far.node = "n2"

    def ask(self, path, user="root@pam", **options):
        return self.first.session(user).get(f"{self.first.url}/api2/json{path}", timeout=40, **options)

    def change(self):
        """Asks the second node to change something that it will not: such a call gets a connection of its own."""
        where = f"{self.first.url}/api2/json/nodes/n2/qemu/600/status/shutdown"
        return self.first.session().post(where, timeout=40)


def share(from_node, to_node):
    """Copies a node's directory to the other's /etc/pve, with owners and modes."""
    directory = f"nodes/{from_node.node}"
    run("cp", "-a", str(from_node.pve / directory), str(to_node.pve / "nodes"))


@contextlib.contextmanager
def two_nodes(directory, between=contextlib.nullcontext):
    """A running cluster; `between` makes what surrounds the nodes once their files are there, of the first one."""
    directory.mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(directory))
        nodes = [Node(network, 1), Node(network, 2)]
        first, second = nodes
        # The first makes what the cluster has in common, and the second joins with it.
        with first:
            pass
        second.pve.mkdir(parents=True)
        run("cp", "-a", f"{first.pve}/.", str(second.pve))
        shutil.rmtree(second.pve / "nodes")
        for name in ("local", "qemu-server", "lxc", "openvz"):
            (second.pve / name).unlink(missing_ok=True)
        (second.root / "pve-lab.conf").write_text("PVE_LAB_NODE=n2\n")
        stack.enter_context(between(first))
        for node in nodes:
            defaults = node.root / "etc/default/pveproxy"
            defaults.parent.mkdir(parents=True, exist_ok=True)
            defaults.write_text("LISTEN_IP=0.0.0.0\n")
            stack.enter_context(node)
        share(first, second)
        share(second, first)
        yield Cluster(network, first, second)


class SshServer:
    """An ssh server on the second node that lets the first's root in, known by the file below /etc/pve."""

    def __init__(self, cluster):
        self.cluster, directory = cluster, cluster.network.directory
        self.hold = directory / "hold"
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
        (directory / "authorized").write_text((directory / "user.pub").read_text())
        # What goes there passes by a gate that a test may shut.
        gate = f"{sys.executable} {pathlib.Path(__file__).with_name('gate.py')} {self.hold} %h %p"
        (directory / "etc1/ssh/ssh_config").write_text(f"IdentityFile {directory}/user\nProxyCommand {gate}\n")
        known = cluster.first.pve / "nodes/n2/ssh_known_hosts"
        known.write_text("n2 " + (directory / "host.pub").read_text())
        # What is installed on a node, for the root directory of this one.
        tools = directory / "bin"
        tools.mkdir()
        (tools / "qm").write_text(f'#!/bin/sh\nexec {BINARIES}/pve-cli qm --root {cluster.second.root} "$@"\n')
        (tools / "qm").chmod(0o755)
        settings = {
            "ListenAddress": cluster.second.address,
            "HostKey": directory / "host",
            "AuthorizedKeysFile": directory / "authorized",
            "PidFile": "none",
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "UsePAM": "no",
            # As Debian has it.
            "AcceptEnv": "LANG LC_*",
            "SetEnv": f"PATH={tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        (directory / "etc2/ssh/sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    def __enter__(self):
        os.makedirs("/run/sshd", exist_ok=True)
        prefix = self.cluster.network.prefix(2)
        self.server = subprocess.Popen([*prefix, "/usr/sbin/sshd", "-D", "-e"], stderr=subprocess.PIPE)
        name = self.cluster.network.name(2)
        listening = ["ip", "netns", "exec", name, "ss", "-Htln", "sport", "=", ":22"]
        wait_for("the ssh server listens", lambda: run(*listening))
        return self

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait(timeout=20)
