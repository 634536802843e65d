"""The figures of all nodes of a cluster in one answer. /etc/pve of the first is a mounted file system here, as it is in
a cluster, with a list of members; what is in it are files, since nobody serves them."""

import contextlib
import json
import shutil
import subprocess

import pytest

from cluster import NETWORK, two_nodes
from waiting import wait_for

EXPORT = "/cluster/metrics/export"


def members(online):
    nodes = {
        "n1": {"id": 1, "online": 1, "ip": f"{NETWORK}.1"},
        "n2": {"id": 2, "online": online, "ip": f"{NETWORK}.2"},
        "n3": {"id": 3, "online": 0},
    }
    cluster = {"name": "lab", "version": 3, "nodes": 3, "quorate": 1}
    return json.dumps({"nodename": "n1", "version": 4, "cluster": cluster, "nodelist": nodes})


@contextlib.contextmanager
def mounted(node):
    """Puts a file system with the same files over a node's /etc/pve."""
    (node.pve / ".members").write_text(members(1))
    subprocess.run(["bindfs", str(node.pve), str(node.pve)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(node.pve)], check=True)


@pytest.fixture(scope="module")
def cluster(playground):
    with two_nodes(playground / "many", mounted) as running:
        yield running


def pull(cluster, **options):
    answer = cluster.ask(EXPORT, params=options)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["data"]


def nodes(rows):
    return {row["id"] for row in rows if row["id"].startswith("node/")}


def test_each_node_tells_its_own_figures(cluster):
    def both():
        rows = pull(cluster)
        return rows if nodes(rows) == {"node/n1", "node/n2"} else None

    rows = wait_for("figures of both nodes", both)
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    assert {row["id"] for row in rows} >= {"storage/n1/local", "storage/n2/local"}
    assert nodes(pull(cluster, **{"local-only": 1})) == {"node/n1"}
    assert nodes(pull(cluster, **{"node-list": "n2"})) == {"node/n2"}
    assert nodes(pull(cluster, **{"node-list": "n1,n2"})) == {"node/n1", "node/n2"}
    assert pull(cluster, **{"node-list": "n3"}) == [], "it is not online"
    future = max(row["timestamp"] for row in rows) + 1000
    assert pull(cluster, **{"start-time": future, "history": 1}) == []
    history = wait_for("a history of both", lambda: [
        row for row in pull(cluster, history=1) if row["metric"] == "uptime" and row["id"] == "node/n2"
    ][1:])
    assert history
    answer = cluster.ask(EXPORT, params={"node-list": "n2 n9"})
    text = "Requested node-list contains unknown nodes - n9\n"
    assert (answer.status_code, answer.json()["message"]) == (500, text)


def logged(node, text):
    """A line of a daemon's log comes by way of the lab."""
    wait_for(f"{text!r} is logged", lambda: text in node.log())


def test_a_node_that_is_another_than_it_should_be_is_left_out(cluster):
    certificate = cluster.first.pve / "nodes/n2/pve-ssl.pem"
    own = certificate.read_bytes()
    shutil.copyfile(cluster.first.pve / "nodes/n1/pve-ssl.pem", certificate)
    try:
        assert nodes(pull(cluster)) == {"node/n1"}
    finally:
        certificate.write_bytes(own)
    assert nodes(pull(cluster)) == {"node/n1", "node/n2"}
    logged(cluster.first, f"could not fetch metrics from n2: can't connect to {NETWORK}.2:8006")


def test_a_caller_who_may_not_see_the_other_nodes_figures_does_not(cluster):
    """The other node looks at the rights itself: by its copy of the files, where the user is unknown."""
    first = cluster.first
    root = first.session()
    users = f"{first.url}/api2/json/access"
    root.post(f"{users}/users", data={"userid": "see@pve", "password": "see-password"}, timeout=20).raise_for_status()
    grant = {"path": "/", "users": "see@pve", "roles": "PVEAuditor"}
    root.put(f"{users}/acl", data=grant, timeout=20).raise_for_status()
    answer = cluster.ask(EXPORT, user="see@pve")
    assert answer.status_code == 200
    assert nodes(answer.json()["data"]["data"]) == {"node/n1"}
    logged(first, "could not fetch metrics from n2: 401 Unauthorized")


def test_a_node_that_is_gone_is_left_out(cluster):
    before = cluster.first.log().count("could not fetch metrics from n2: can't connect to")
    cluster.second.stop()
    assert nodes(pull(cluster)) == {"node/n1"}
    wait_for("it is logged", lambda: cluster.first.log().count("could not fetch metrics from n2: can't connect to") > before)
