"""A node's restart: guests are shut down in order, and those that shall run at boot are started in order."""

import pytest

from host import VMID
from test_running import wait_until_serving

SECOND = VMID + 1

pytestmark = pytest.mark.once


def times(host, kind):
    """When the tasks of a kind for the two guests began and ended, by guest: the last of each."""
    rows = host.data("GET", f"/nodes/{host.node}/tasks", typefilter=kind, limit=50)
    rows.sort(key=lambda row: row["starttime"])
    last = {row["id"]: (row["starttime"], row["endtime"], row["status"]) for row in rows}
    return {vmid: last[str(vmid)] for vmid in (VMID, SECOND)}


@pytest.fixture
def second(host):
    """A guest that starts at boot, after the other."""
    host.create_guest(SECOND, onboot=1, startup="order=2")
    host.start_guest(SECOND)
    yield
    host.run_task(host.data("POST", f"/nodes/{host.node}/qemu/{SECOND}/status/stop"))
    host.run_task(host.data("DELETE", f"/nodes/{host.node}/qemu/{SECOND}"))
    host.data("PUT", f"/nodes/{host.node}/qemu/{VMID}/config", delete="onboot,startup")


def test_guests_are_shut_down_in_order_and_come_back(node, host, guest, second):
    host.data("PUT", f"/nodes/{host.node}/qemu/{VMID}/config", onboot=1, startup="order=1,up=2")
    node.reboot()
    wait_until_serving(host)
    for vmid in (VMID, SECOND):
        host.wait_for_guest(vmid)
    stopped, started = times(host, "qmshutdown"), times(host, "qmstart")
    assert [stopped[vmid][2] for vmid in (VMID, SECOND)] == ["OK", "OK"]
    # The last to start is the first to stop.
    assert stopped[SECOND][1] <= stopped[VMID][0]
    assert started[VMID][0] + 2 <= started[SECOND][0]
    assert min(begin for begin, _, _ in started.values()) >= max(end for _, end, _ in stopped.values())
