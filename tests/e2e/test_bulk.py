"""All guests of a node at once: started in their order, and stopped in the reverse of it."""

import re
import subprocess
import time

import pytest

from lab import BINARIES
from test_machine import state

# Nothing boots in them: they follow no power button, so a shutdown ends when its time is up.
CONFIG = "memory: 32\nkvm: 0\nonboot: 1\n"
GUESTS = {
    101: CONFIG + "startup: order=2,up=0,down=1\n",
    102: CONFIG + "startup: up=0,down=1\nlock: backup\n",
    103: CONFIG + "startup: order=1,up=0,down=1\n",
    104: "memory: 32\nkvm: 0\nstartup: down=2\n",
    # Its disk is nowhere.
    105: CONFIG + "startup: order=1,up=0\nscsi0: nowhere:105/vm-105-disk-0.raw,size=1G\n",
    106: CONFIG + "template: 1\n",
}


@pytest.fixture(scope="module")
def guests(lab):
    node = lab.root / "etc/pve/nodes" / lab.node
    for vmid, config in GUESTS.items():
        (node / f"qemu-server/{vmid}.conf").write_text(config)
    (node / "lxc/200.conf").write_text("arch: amd64\nostype: debian\nonboot: 1\nstartup: order=1\n")
    yield
    for vmid in GUESTS:
        (node / f"qemu-server/{vmid}.conf").unlink()
    (node / "lxc/200.conf").unlink()


def bulk(lab, api, method, **parameters):
    """A bulk action's log and how it ended."""
    upid = getattr(api.nodes(lab.node), method).post(**parameters)
    status = lab.wait_task(api, upid)
    lines = [line["t"] for line in api.nodes(lab.node).tasks(upid).log.get(limit=0)]
    return lines, status


def running(lab, api):
    return sorted(row["vmid"] for row in api.nodes(lab.node).qemu.get() if row["status"] == "running")


def test_guests_start_and_stop_in_order(lab, guests):
    api = lab.api()
    lines, status = bulk(lab, api, "startall")
    assert "removed left over backup lock from '102'!" in lines
    assert [line for line in lines if re.fullmatch(r"Starting VM \d+", line)] == [
        f"Starting VM {vmid}" for vmid in (103, 105, 101, 102)
    ]
    failed = next(line for line in lines if line.startswith("Starting VM 105 failed: "))
    assert "storage 'nowhere' does not exist" in failed
    # The places are kept: who comes second starts once all that come first are done with.
    assert lines.index(failed) < lines.index("Starting VM 101")
    assert "WARN: skipping CT 200 - containers cannot be started by this build yet" in lines
    assert status == "WARNINGS: 1", "\n".join(lines)
    assert running(lab, api) == [101, 102, 103]
    started = {row["id"]: row["user"] for row in api.nodes(lab.node).tasks.get(typefilter="qmstart", source="all")}
    assert started == dict.fromkeys(["101", "102", "103", "105"], "admin@pve")

    # What runs already is left alone; what does not start with the node is started if it is named and forced.
    lines, status = bulk(lab, api, "startall", vms="101,104", force=1)
    assert (status, [line for line in lines if line.startswith("Starting")]) == ("OK", ["Starting VM 104"])

    lines, status = bulk(lab, api, "stopall", timeout=1)
    assert status == "OK"
    assert [line for line in lines if line.startswith("Stopping")] == [
        "Stopping VM 104 (timeout = 2 seconds)",
        "Stopping VM 102 (timeout = 1 seconds)",
        "Stopping VM 101 (timeout = 1 seconds)",
        "Stopping VM 103 (timeout = 1 seconds)",
    ]
    assert running(lab, api) == []
    ends = {row["id"]: row["endtime"] for row in api.nodes(lab.node).tasks.get(typefilter="qmshutdown", source="all")}
    starts = {row["id"]: row["starttime"] for row in api.nodes(lab.node).tasks.get(typefilter="qmshutdown", source="all")}
    assert ends["102"] <= starts["101"] and ends["101"] <= starts["103"]


def test_a_guest_that_does_not_follow_is_left_running_when_that_is_wanted(lab, guests):
    api = lab.api()
    assert bulk(lab, api, "startall", vms="101")[1] == "OK"
    lines, status = bulk(lab, api, "stopall", **{"vms": "101", "force-stop": 0})
    assert status == "OK"
    assert "Stopping VM 101 failed: VM quit/powerdown failed - got timeout" in lines
    assert state(lab, api, 101) == "running"
    assert bulk(lab, api, "stopall", vms="101")[1] == "OK"
    assert state(lab, api, 101) == "stopped"


def test_the_pause_after_a_start_is_kept(lab, guests):
    api = lab.api()
    node = lab.root / "etc/pve/nodes" / lab.node
    (node / "qemu-server/103.conf").write_text(CONFIG + "startup: order=1,up=3,down=1\n")
    upid = api.nodes(lab.node).startall.post(vms="103,101")
    assert lab.wait_task(api, upid) == "OK"
    tasks = api.nodes(lab.node).tasks.get(typefilter="qmstart", source="all", limit=2)
    starts = {row["id"]: row["starttime"] for row in tasks}
    assert starts["101"] - starts["103"] >= 3
    assert bulk(lab, api, "stopall", vms="103 101")[1] == "OK"


def test_the_boot_waits_for_as_long_as_the_node_is_told_to(lab):
    def took():
        start = time.monotonic()
        command = [BINARIES / "pve-cli", "startall-delay", "--root", lab.root]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return time.monotonic() - start, said

    assert took()[1] == ""
    assert lab.call("PUT", f"/nodes/{lab.node}/config", **{"startall-onboot-delay": 2}).ok
    seconds, said = took()
    assert seconds >= 2 and said == "waiting 2 seconds before guests are started\n"
    assert lab.call("PUT", f"/nodes/{lab.node}/config", delete="startall-onboot-delay").ok
