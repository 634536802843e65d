"""External metric servers, real ones: what a node and a running guest look like there, and what the pages of the web
interface that set them up say."""

import contextlib
import time

import pytest

from metric_servers import Carbon, Collector, Influx, InfluxV2, base64_of
from places import own_port
from test_metrics import parse_plain, samples
from waiting import wait_for

TOKEN = "s3cret-token"
SERVERS = "/cluster/metrics/server"


@pytest.fixture(scope="module")
def servers(playground):
    with contextlib.ExitStack() as stack:
        influx = stack.enter_context(Influx(playground / "influx"))
        carbon = stack.enter_context(Carbon(playground / "carbon"))
        door = stack.enter_context(InfluxV2(influx, TOKEN))
        collector = stack.enter_context(Collector())
        yield influx, carbon, door, collector


@pytest.fixture(scope="module")
def guest(lab):
    """A VM that runs, if only its firmware."""
    api = lab.api()
    machines = api.nodes(lab.node).qemu
    lab.run_task(api, machines.post(vmid=100, name="web-01", tags="prod;web", memory=64, kvm=0, cores=2))
    lab.run_task(api, machines(100).status.start.post())
    yield 100
    # It has no operating system that would shut it down.
    lab.run_task(api, machines(100).status.stop.post())


def add(lab, name, kind, **options):
    answer = lab.call("POST", f"{SERVERS}/{name}", type=kind, **{"server": "127.0.0.1", **options})
    assert answer.status_code == 200, (name, answer.reason, answer.text)


def test_servers_are_told_of_node_guest_and_storage(lab, servers, guest):
    influx, carbon, door, collector = servers
    # None of them is given up on because the machine is slow.
    add(lab, "carbon-udp", "graphite", port=carbon.port, path="udp.pve")
    add(lab, "carbon-tcp", "graphite", port=carbon.port, path="tcp.pve", proto="tcp", timeout=20)
    add(lab, "inf-udp", "influxdb", port=influx.udp_port)
    add(lab, "inf-v2", "influxdb", port=door.port, influxdbproto="http", organization="lab org", token=TOKEN, timeout=20)
    attributes = {"otel-timeout": 10, "otel-headers": base64_of({"X-Scope": "lab"}), "otel-resource-attributes": base64_of({"site": "here"})}
    add(lab, "otel", "opentelemetry", port=collector.port, **{"otel-protocol": "http", **attributes})

    # Whatever a server does not understand it refuses, and the daemon says so.
    row = lab.call("GET", f"/nodes/{lab.node}/qemu/{guest}/status/current").json()["data"]
    memory = lab.call("GET", f"/nodes/{lab.node}/status").json()["data"]["memory"]["total"]

    for path in ("udp.pve", "tcp.pve"):
        for figure, expected in {
            f"nodes.{lab.node}.memory.memtotal": memory,
            f"nodes.{lab.node}.nics.lo.receive": None,
            f"qemu.{guest}.maxmem": row["maxmem"],
            f"qemu.{guest}.cpus": 2,
            f"storages.{lab.node}.local.total": None,
        }.items():
            value = wait_for(f"{path}.{figure}", lambda: carbon.last(f"{path}.{figure}"), 60)
            assert expected in (None, value), figure
        assert carbon.last(f"{path}.qemu.{guest}.pid") is None

    for database in ("udp", "http"):
        tags = f"object='qemu' AND vmid='{guest}' AND nodename='{lab.node}' AND host='web-01'"
        found = wait_for(
            f"a guest in {database}",
            lambda: influx.ask(f"SELECT * FROM system WHERE {tags} ORDER BY time DESC LIMIT 1", database),
        )[0]
        assert (found["name"], found["tags"], found["status"]) == ("web-01", "prod;web", "running")
        assert (found["maxmem"], found["cpus"]) == (row["maxmem"], 2)
        assert abs(found["time"] - time.time()) < 120
        node = influx.ask(f"SELECT last(memtotal) FROM memory WHERE object='nodes' AND host='{lab.node}'", database)
        assert node[0]["last"] == memory
        nic = influx.ask("SELECT last(receive), type FROM nics WHERE object='nodes' AND instance='lo'", database)
        assert nic[0]["type"] == "virtual"
        storage = wait_for(
            f"a storage in {database}",
            lambda: influx.ask("SELECT last(total) FROM system WHERE object='storages' AND host='local'", database),
        )
        assert storage[0]["last"] > 0

    label = {"vmid": str(guest), "node": lab.node, "name": "web-01", "type": "qemu"}
    labels, value, kind, unit = wait_for("a guest", lambda: collector.find("proxmox_vm_maxmem", vmid=str(guest)))
    assert (labels, value, kind, unit) == (label, row["maxmem"], "gauge", "bytes")
    assert collector.find("proxmox_vm_netin_total", vmid=str(guest))[2:] == ("sum", "bytes")
    assert collector.find("proxmox_node_memory_memtotal", node=lab.node)[1] == memory
    assert collector.find("proxmox_node_network_receive_total", node=lab.node, device="lo")
    assert wait_for("a storage", lambda: collector.find("proxmox_storage_total", node=lab.node, storage="local"))
    resource = collector.resource
    assert (resource["service.name"], resource["proxmox.node"]) == ("proxmox-ve", lab.node)
    assert (resource["proxmox.cluster"], resource["site"]) == ("single-node", "here")
    assert resource["service.version"].startswith("9.")

    assert (door.errors, collector.errors) == ([], [])
    figures = samples(lab.session().get(f"{lab.url}/api2/metrics", timeout=20).text, parse_plain)

    def delivered(name, result):
        key = (("daemon", "pvestatd"), ("name", name), ("result", result))
        return figures.get(("pve_statd_metric_server_snapshots_total", key), 0)

    for name in ("carbon-udp", "carbon-tcp", "inf-udp", "inf-v2", "otel"):
        assert delivered(name, "sent") >= 3, name
        assert (delivered(name, "failed"), delivered(name, "dropped")) == (0, 0), name


def test_the_interface_shows_servers_and_no_secret(lab, servers):
    rows = lab.call("GET", SERVERS).json()["data"]
    assert [row["id"] for row in rows] == ["carbon-tcp", "carbon-udp", "inf-udp", "inf-v2", "otel"]
    assert rows[1] == {"id": "carbon-udp", "type": "graphite", "server": "127.0.0.1", "port": servers[1].port, "disable": 0}
    shown = lab.call("GET", f"{SERVERS}/inf-v2")
    assert TOKEN not in shown.text
    assert shown.json()["data"] == {
        "type": "influxdb",
        "server": "127.0.0.1",
        "port": servers[2].port,
        "influxdbproto": "http",
        "organization": "lab org",
        "timeout": 20,
    }
    secret = lab.root / "etc/pve/priv/metricserver/inf-v2.pw"
    assert secret.read_text() == TOKEN
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid) == (0o600, 0)
    assert TOKEN not in (lab.root / "etc/pve/status.cfg").read_text()
    assert lab.call("GET", "/cluster/metrics").json()["data"] == [{"name": "server"}]


def test_servers_that_cannot_be_reached_are_not_added(lab, servers):
    closed = own_port()

    def refused(name, **options):
        answer = lab.call("POST", f"{SERVERS}/{name}", **{"server": "127.0.0.1", **options})
        return answer.status_code, answer.json().get("errors") or answer.json()["message"].strip()

    text = f"couldn't create carbon socket [127.0.0.1]:{closed} - Connection refused"
    assert refused("new", type="graphite", port=closed, proto="tcp") == (500, text)
    wrong = {"type": "influxdb", "port": servers[3].port, "influxdbproto": "http"}
    assert refused("new", **wrong) == (500, "404 Not Found")
    # The collector wants a header.
    otlp = {"type": "opentelemetry", "port": servers[3].port, "otel-protocol": "http"}
    assert refused("new", **otlp) == (500, "Connection test failed: 400 Bad Request")
    assert refused("otel", **otlp) == (500, "Metric server 'otel' already exists")
    path = {"type": "graphite", "port": 1, "path": "-a"}
    assert refused("new", **path)[0] == 400 and "path" in refused("new", **path)[1]
    assert refused("new", type="graphite") == (400, {"port": "property is missing and it is not optional"})
    servers[3].errors.clear()
    answer = lab.call("PUT", f"{SERVERS}/nobody", server="127.0.0.1", port=1)
    assert (answer.status_code, answer.json()["message"]) == (500, "no such server 'nobody'\n")
    answer = lab.call("GET", f"{SERVERS}/nobody")
    assert (answer.status_code, answer.json()["message"]) == (500, "status server entry 'nobody' does not exist\n")


def test_who_may_see_and_change_servers(lab):
    api = lab.api()
    api.access.users.post(userid="see@pve", password="see-password")
    api.access.acl.put(path="/", users="see@pve", roles="PVEAuditor")
    assert lab.call("GET", SERVERS, user="see@pve").status_code == 200
    assert lab.call("GET", "/cluster/metrics/export", user="see@pve").status_code == 200
    for verb, options in (
        ("POST", {"type": "graphite", "server": "127.0.0.1", "port": 1}),
        ("PUT", {"server": "127.0.0.1", "port": 1}),
        ("DELETE", {}),
    ):
        answer = lab.call(verb, f"{SERVERS}/carbon-udp", user="see@pve", **options)
        assert (answer.status_code, answer.reason) == (403, "Permission check failed (/, Sys.Modify)")
    api.access.users.post(userid="blind@pve", password="see-password")
    for path in (SERVERS, f"{SERVERS}/otel", "/cluster/metrics/export"):
        assert lab.call("GET", path, user="blind@pve").status_code == 403


def test_all_figures_can_be_pulled(lab, guest):
    def pull(**options):
        answer = lab.call("GET", "/cluster/metrics/export", **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["data"]

    def complete():
        rows = pull()
        return rows if any(row["id"] == "storage/%s/local" % lab.node for row in rows) else None

    rows = wait_for("all steps are in the newest cycle", complete)
    kinds = {row["metric"]: row["type"] for row in rows if row["id"] == f"qemu/{guest}"}
    gauges = ("cpu_current", "mem_used", "uptime", "cpu_max", "mem_total", "disk_total")
    counters = ("disk_read", "disk_write", "net_in", "net_out")
    assert kinds == {**dict.fromkeys(gauges, "gauge"), **dict.fromkeys(counters, "derive")}
    assert len([row for row in rows if row["id"] == f"node/{lab.node}"]) == 15
    assert all(isinstance(row["value"], (int, float)) for row in rows)
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)

    history = wait_for("two cycles", lambda: len(found := times(pull(history=1), lab)) > 1 and found)
    assert times(pull(**{"history": 1, "start-time": history[0]}), lab)[0] > history[0]
    assert pull(**{"start-time": int(time.time()) + 60}) == []
    assert pull(**{"node-list": lab.node})
    answer = lab.call("GET", "/cluster/metrics/export", **{"node-list": f"{lab.node},zz yy"})
    text = "Requested node-list contains unknown nodes - yy, zz\n"
    assert (answer.status_code, answer.json()["message"]) == (500, text)
    cache = lab.root / "run/pve/metrics"
    assert cache.stat().st_mode & 0o777 == 0o640


def times(rows, lab):
    """When the node was looked at."""
    return [row["timestamp"] for row in rows if row["id"] == f"node/{lab.node}" and row["metric"] == "uptime"]


def test_a_server_that_is_removed_is_told_no_more(lab, servers):
    collector = servers[3]
    assert lab.call("DELETE", f"{SERVERS}/otel").status_code == 200
    options = {"server": "127.0.0.1", "port": servers[2].port, "delete": "token", "disable": 1}
    assert lab.call("PUT", f"{SERVERS}/inf-v2", **options).status_code == 200
    assert not (lab.root / "etc/pve/priv/metricserver/inf-v2.pw").exists()
    influx = servers[0]

    def newest(database):
        rows = influx.ask("SELECT last(uptime) FROM system WHERE object='nodes'", database)
        return rows[0]["time"]

    # What was on its way may still come.
    at = newest("udp")
    wait_for("the next cycle", lambda: newest("udp") > at, 60)
    before = (newest("http"), len(collector.metrics.get("proxmox_node_uptime", [])))
    at = newest("udp")
    wait_for("one more", lambda: newest("udp") > at, 60)
    assert (newest("http"), len(collector.metrics["proxmox_node_uptime"])) == before
