"""A real container: what lists, status pages and metrics say of it is what the kernel says."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from waiting import wait_for

BUSY = """#!/bin/sh
trap 'exit 0' PWR TERM
held=$(dd if=/dev/zero bs=1M count=16 2>/dev/null | tr '\\0' x)
while [ ! -e /quiet ]; do :; done
while :; do sleep 1000 & wait; done
"""
IDLE = """#!/bin/sh
trap 'exit 0' PWR TERM
while :; do sleep 1000 & wait; done
"""
CGROUP = pathlib.Path("/sys/fs/cgroup")
PURE = (CGROUP / "cgroup.controllers").exists()


class Container:
    """A container of a lab, run by LXC under the names that this lab's containers have."""

    def __init__(self, lab, vmid, config, init):
        self.lab, self.vmid = lab, vmid
        self.mark = re.search(r"^PVE_LAB_INSTANCE=(\w+)", (lab.root / "pve-lab.conf").read_text(), re.M)[1]
        self.path = lab.root / "var/lib/lxc"
        self.veth = f"{self.mark}veth{vmid}i0"
        self.group = f"{self.mark}lxc/{vmid}"
        self.rootfs = self.path / str(vmid) / "rootfs"
        for folder in ("bin", "dev", "proc", "sys", "tmp", "sbin"):
            (self.rootfs / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin/busybox")
        for applet in ("sh", "sleep", "dd", "tr", "ping"):
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        start = self.rootfs / "sbin/init"
        start.write_text(init)
        start.chmod(0o755)
        (self.path / str(vmid) / "config").write_text(
            f"""lxc.cgroup.relative = 0
lxc.cgroup.dir.monitor = {self.mark}lxc.monitor/{vmid}
lxc.cgroup.dir.container = {self.group}
lxc.cgroup.dir.container.inner = ns
lxc.rootfs.path = dir:{self.rootfs}
lxc.uts.name = ct{vmid}
lxc.net.0.type = veth
lxc.net.0.veth.pair = {self.veth}
lxc.net.0.name = eth0
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 198.18.7.2/30
lxc.mount.auto = proc:mixed
lxc.tty.max = 0
lxc.console.path = none
"""
        )
        file = lab.root / f"etc/pve/nodes/{lab.node}/lxc/{vmid}.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(config)

    def __enter__(self):
        self.tool("lxc-start", "-d")
        return self

    def __exit__(self, *_):
        self.tool("lxc-stop", "-k", check=False)
        # LXC leaves the groups that held its own.
        for group in [*CGROUP.glob(f"*/{self.mark}lxc*"), *CGROUP.glob(f"{self.mark}lxc*")]:
            for folder in (group / str(self.vmid), group):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def tool(self, name, *arguments, check=True):
        command = [name, "-P", self.path, "-n", str(self.vmid), *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60).stdout.strip()

    def pid(self):
        return int(self.tool("lxc-info", "-p", "-H"))

    def file(self, controller, name):
        """A file of the container's control group, of whichever version."""
        return (CGROUP / ("" if PURE else controller) / self.group / name).read_text()


def kernel_memory(container):
    if PURE:
        used, cached = container.file("", "memory.current"), r"^file (\d+)"
    else:
        used, cached = container.file("memory", "memory.usage_in_bytes"), r"^total_cache (\d+)"
    return int(used) - int(re.search(cached, container.file("memory", "memory.stat"), re.M)[1])


def kernel_disk(container):
    if PURE:
        text = container.file("", "io.stat")
        return [sum(map(int, re.findall(rf"\b{word}=(\d+)", text))) for word in ("rbytes", "wbytes")]
    text = container.file("blkio", "blkio.throttle.io_service_bytes_recursive")
    return [sum(map(int, re.findall(rf"^\S+ {word} (\d+)", text, re.M))) for word in ("Read", "Write")]


def kernel_uptime(pid):
    started = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - started / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def container(lab):
    config = "cores: 1\nhostname: web\nmemory: 256\nrootfs: local:812/r.raw,size=1G\nswap: 64\ntags: a;b\n"
    with Container(lab, 812, config, BUSY) as running:
        yield running


def status(lab, vmid=812):
    return lab.call("GET", f"/nodes/{lab.node}/lxc/{vmid}/status/current").json()["data"]


def row(lab, vmid=812):
    rows = lab.call("GET", "/cluster/resources", type="vm").json()["data"]
    return next(row for row in rows if row["vmid"] == vmid)


def test_one_that_runs_is_none_to_start(lab, container):
    upid = lab.call("POST", f"/nodes/{lab.node}/startall", vms="812", force=1).json()["data"]
    lab.run_task(lab.api(), upid)


def test_figures_are_the_kernels(lab, container):
    pid = container.pid()
    # What it does at its start it may do on several CPUs.
    wait_for("it is busy, with its one CPU", lambda: 0.2 < status(lab)["cpu"] <= 1.2, 60, every=2)
    subprocess.run(["ip", "addr", "add", "198.18.7.1/30", "dev", container.veth], check=True)
    subprocess.run(["ip", "link", "set", container.veth, "up"], check=True)
    container.tool("lxc-attach", "--", "/bin/ping", "-c", "3", "-i", "0.2", "-s", "1000", "198.18.7.1")
    container.tool("lxc-attach", "--", "/bin/dd", "if=/dev/zero", "of=/written", "bs=1M", "count=4", "conv=fsync")
    (container.rootfs / "quiet").touch()
    wait_for("it is quiet", lambda: status(lab)["cpu"] < 0.1, 60, every=2)

    seen = status(lab)
    constant = {key: seen[key] for key in ("type", "vmid", "name", "status", "cpus", "maxmem", "maxswap", "tags")}
    assert constant == {
        "type": "lxc",
        "vmid": 812,
        "name": "web",
        "status": "running",
        "cpus": 1,
        "maxmem": 256 << 20,
        "maxswap": 64 << 20,
        "tags": "a;b",
    }
    assert seen["pid"] == pid
    assert seen["mem"] > 16 << 20 and abs(seen["mem"] - kernel_memory(container)) < 1 << 20
    assert abs(seen["uptime"] - kernel_uptime(pid)) < 2
    system = os.statvfs(container.rootfs)
    assert seen["maxdisk"] == system.f_blocks * system.f_frsize
    assert abs(seen["disk"] - (system.f_blocks - system.f_bfree) * system.f_frsize) < 1 << 30
    pressure = CGROUP / ("" if PURE else "unified") / container.group
    for name in ("cpu", "io", "memory"):
        told = seen[f"pressure{name}some"]
        assert (told is not None) == (pressure / f"{name}.pressure").exists()
        assert told is None or re.fullmatch(r"\d+\.\d\d", told)

    def disk():
        now = status(lab)
        return [now["diskread"], now["diskwrite"]] == kernel_disk(container)

    wait_for("the disk's figures are the kernel's", disk)

    def cards():
        counters = pathlib.Path(f"/sys/class/net/{container.veth}/statistics")
        kernel = [int((counters / name).read_text()) for name in ("tx_bytes", "rx_bytes")]
        netstat = lab.call("GET", f"/nodes/{lab.node}/netstat").json()["data"]
        card = next(card for card in netstat if card["vmid"] == "812")
        now = status(lab)
        return kernel, [int(card["in"]), int(card["out"])], [now["netin"], now["netout"]]

    # Neighbours may still talk while the figures are read.
    kernel, netstat, page = wait_for("counters that stand still", lambda: (found := cards())[0] == found[1] and found)
    assert kernel == page == netstat and min(kernel) > 3000


def test_lists_and_metrics_know_it(lab, container):
    def told():
        found = row(lab)
        is_current = found["mem"] > 16 << 20 and abs(found["mem"] - kernel_memory(container)) < 1 << 20
        return found["status"] == "running" and is_current and found

    found = wait_for("the statistics daemon has seen it", told, 40, every=1)
    assert found["id"] == "lxc/812"
    assert [found[key] for key in ("name", "type", "maxcpu", "maxmem", "memhost", "tags")] == [
        "web",
        "lxc",
        1,
        256 << 20,
        0,
        "a;b",
    ]
    listed = lab.call("GET", f"/nodes/{lab.node}/lxc").json()["data"]
    assert [(ct["vmid"], ct["pid"]) for ct in listed] == [(812, container.pid())]
    config = lab.call("GET", f"/nodes/{lab.node}/lxc/812/config").json()["data"]
    assert (config["cores"], config["memory"], config["rootfs"]) == (1, 256, "local:812/r.raw,size=1G")
    entries = lab.call("GET", "/cluster/metrics/export").json()["data"]["data"]
    of_container = {entry["metric"]: entry["value"] for entry in entries if entry["id"] == "lxc/812"}
    assert (of_container["cpu_max"], of_container["mem_total"]) == (1, 256 << 20)
    assert of_container["mem_used"] > 16 << 20 and of_container["disk_used"] > 0


def test_it_has_the_cpus_that_it_is_to_have(lab, container):
    """The container is to have one CPU, and was started with all of them."""
    cpus = lambda name: container.file("cpuset", name).strip()
    if os.cpu_count() < 2:
        pytest.skip("needs two CPUs")
    has_one = lambda: re.fullmatch(r"\d+", cpus("ns/cpuset.cpus")) and cpus("cpuset.cpus") == cpus("ns/cpuset.cpus")
    wait_for("one CPU", has_one, 40, every=0.5)
    allowed = pathlib.Path(f"/proc/{container.pid()}/status").read_text()
    assert re.search(r"^Cpus_allowed_list:\s*(.*)$", allowed, re.M)[1] == cpus("cpuset.cpus")


def test_a_monitor_that_hangs_delays_nobody(lab, container):
    with Container(lab, 813, "hostname: hung\n", IDLE) as other:
        monitor = int(pathlib.Path(f"/proc/{other.pid()}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(monitor, signal.SIGSTOP)
        try:
            start = time.monotonic()
            hung = status(lab, 813)
            assert time.monotonic() - start < 10
            assert hung["status"] == "running" and "pid" not in hung and hung["mem"] > 0
            assert status(lab)["pid"] == container.pid()
            line = "lxc status update of 813 error: no answer in time"
            wait_for("the log says so", lambda: line in lab.log(), 40, every=0.5)
            seen = row(lab)["uptime"]
            wait_for("the other one is told of", lambda: row(lab)["uptime"] > seen, 40, every=0.5)
            assert lab.log().count(line) == 1
        finally:
            os.kill(monitor, signal.SIGCONT)
        wait_for("it answers again", lambda: status(lab, 813).get("pid") == other.pid(), 40, every=0.5)


def test_one_that_ends_is_told_of_as_stopped(lab, container):
    container.tool("lxc-stop", "-k")
    wait_for("it has stopped", lambda: status(lab)["status"] == "stopped")
    seen = status(lab)
    zeros = ("cpu", "mem", "swap", "disk", "diskread", "diskwrite", "netin", "netout", "uptime")
    assert "pid" not in seen and {seen[key] for key in zeros} == {0}
    assert seen["maxdisk"] == 1 << 30
    wait_for("the list says so", lambda: row(lab)["status"] == "stopped", 40, every=1)
    assert (row(lab)["mem"], row(lab)["uptime"]) == (0, 0)
