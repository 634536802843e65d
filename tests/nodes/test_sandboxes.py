"""What the daemons in sandboxes do there: pvescheduler starts a job, pvestatd asks QEMU and tells a metric server."""

import contextlib
import json
import socket

from waiting import wait_for

VMID = 160
JOB = "minutely"
PATH = "of.tests"


@contextlib.contextmanager
def stopped_guest(host):
    host.create_guest(VMID)
    try:
        yield
    finally:
        host.run_task(host.data("DELETE", f"/nodes/{host.node}/qemu/{VMID}"))


@contextlib.contextmanager
def job_of_each_minute(host):
    """The backup of the guest, which starts as the next minute does."""
    host.data("POST", "/cluster/backup", id=JOB, schedule="*:0/1", vmid=VMID, storage="local", mode="stop")
    try:
        yield
    finally:
        host.data("DELETE", f"/cluster/backup/{JOB}")


@contextlib.contextmanager
def metric_server(node, host):
    """A Graphite on this machine that takes datagrams: the socket on which they arrive."""
    address = f"{node.network.prefix4}.1"
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        server.settimeout(60)
        where = {"server": address, "port": server.getsockname()[1]}
        host.data("POST", "/cluster/metrics/server/graphite", type="graphite", path=PATH, **where)
        try:
            yield server
        finally:
            host.data("DELETE", "/cluster/metrics/server/graphite")


def test_a_scheduled_backup_is_started_and_ends_well(node, host):
    state = f"/var/lib/pve-manager/jobs/vzdump-{JOB}.json"

    def upid():
        return json.loads(node.read(state)).get("upid") if node.exists(state) else None

    with stopped_guest(host):
        with job_of_each_minute(host):
            started = wait_for(
                lambda: f"the job is started:\n{node.journal('pvescheduler.service', '-n', '20')}", upid, 130
            )
        # The task writes where the sandbox of who started it would not let it.
        assert f"Finished Backup of VM {VMID}" in host.run_task(started)
        contents = f"/nodes/{host.node}/storage/local/content"
        volumes = [row["volid"] for row in host.data("GET", contents, content="backup", vmid=VMID)]
        assert len(volumes) >= 1
        for volume in volumes:
            host.run_task(host.data("DELETE", f"{contents}/{volume}"))
    assert node.is_active("pvescheduler.service")


def test_a_metric_server_receives_figures(node, host):
    total = host.data("GET", f"/nodes/{host.node}/status")["memory"]["total"]
    expected = {f"{PATH}.nodes.{host.node}.memory.memtotal", f"{PATH}.storages.{host.node}.local.total"}
    figures = {}
    with metric_server(node, host) as server:
        while not expected <= figures.keys():
            for line in server.recv(65536).decode().splitlines():
                path, value, _time = line.split(" ")
                figures[path] = float(value)
    assert figures[f"{PATH}.nodes.{host.node}.memory.memtotal"] == total
    assert figures[f"{PATH}.storages.{host.node}.local.total"] > 0


def test_qemu_is_asked_for_the_flags_of_cpus(node, host):
    def nodes_with_aes():
        rows = host.data("GET", "/cluster/qemu/cpu-flags", accel="tcg")
        return next(row for row in rows if row["name"] == "aes").get("supported-on")

    assert wait_for("its answer", nodes_with_aes) == [host.node]
    assert node.try_run("pgrep", "-f", "machine none,accel=")[0] == 1, "it has ended"
