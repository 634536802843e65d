"""What the tests of nodes stand on: a node boots, is reached, restarts, ends; what a killed run left is removed."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

from node import HIERARCHIES, OVERLAYS, RUNS, Run
from waiting import wait_for


def test_a_node_boots_is_reached_by_both_families_and_restarts(blank, release):
    node = blank()
    node.boot()
    assert node.run("systemctl", "--failed", "--no-legend") == ""
    assert f"VERSION_CODENAME={release}" in node.read("/etc/os-release")
    assert node.run("hostname", "-f") == "n2.example.org\n"
    server = node.popen("python3", "-m", "http.server", "--bind", "::", "8006", stderr=subprocess.DEVNULL)
    for family, address in ((socket.AF_INET, node.address4), (socket.AF_INET6, node.address6)):

        def connects():
            with socket.socket(family) as client:
                return client.connect_ex((address, 8006)) == 0

        wait_for(f"{address} answers", connects)
    assert [name for name, _ in node.listeners()[("*", 8006)]] == ["python3"]
    server.send_signal(signal.SIGKILL)
    server.wait()
    node.write("/root/kept", "over a restart")
    boot = node.read("/proc/sys/kernel/random/boot_id"), node.leader
    node.reboot()
    assert node.read("/root/kept") == "over a restart" and node.leader != boot[1]
    node.power_off()


def test_a_root_that_is_read_only_but_for_some_directories(blank):
    node = blank(writable=("/var", "/etc/pve"))
    node.boot()
    assert node.try_run("touch", "/usr/new", "/etc/new")[0] != 0
    node.run("touch", "/var/new", "/etc/pve/new", "/run/new", "/tmp/new")


def test_what_a_killed_run_left_is_removed(images, tmp_path):
    """In a process of its own, which is killed while its node runs."""
    program = tmp_path / "killed.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path = {sys.path!r}
        from node import Network, Node, Run
        run = Run()
        node = Node(Network(run), {str(images["trixie"])!r})
        node.boot()
        print(run.id, node.leader, flush=True)
        sys.stdin.read()
        """)
    )
    killed = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    run, leader = killed.stdout.readline().split()
    killed.kill()
    killed.wait()
    Run().close()
    wait_for("the node's systemd is gone", lambda: not os.path.exists(f"/proc/{leader}"))
    left = [path for where in (*HIERARCHIES, RUNS, OVERLAYS) for path in where.glob(f"*{run}*")]
    assert left == []
    links = subprocess.run(["ip", "-o", "link"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert f"pn{run}" not in links and f"/{run}/" not in pathlib.Path("/proc/mounts").read_text()
