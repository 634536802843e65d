"""Metrics, read by Prometheus' own parsers: who may see them, what they say, and that they never go backwards."""

import os
import signal
import socket

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from waiting import wait_for

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(lab, session=None, accept="text/plain"):
    """All samples: (name, labels) -> value."""
    session = session or lab.session()
    answer = session.get(f"{lab.url}/api2/metrics", headers={"Accept": accept}, timeout=20)
    assert answer.status_code == 200, answer.text
    return samples(answer.text, parse_plain)


def samples(text, parse):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def total(figures, name, **labels):
    """The sum of all samples with this name and these labels."""
    return sum(
        value for (found, has), value in figures.items() if found == name and set(labels.items()) <= set(has)
    )


def only_grow(before, after):
    """No counter and no bucket is gone or smaller."""
    counters = [key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))]
    assert len(counters) > 100
    shrunk = [(key, before[key], after.get(key)) for key in counters if after.get(key, -1) < before[key]]
    assert shrunk == []


def test_metrics_need_a_login_and_the_right_to_see_the_node(lab):
    answer = requests.get(f"{lab.url}/api2/metrics", verify=False, timeout=20)
    assert (answer.status_code, answer.reason, answer.text) == (401, "No ticket", "")
    api = lab.api()
    api.access.users.post(userid="idle@pve", password="idle-password")
    session = lab.session("idle@pve")
    answer = session.get(f"{lab.url}/api2/metrics", timeout=20)
    assert answer.status_code == 403
    assert answer.reason == f"Permission check failed (/nodes/{lab.node}, Sys.Audit)"
    assert "pve_up" not in answer.text
    api.access.acl.put(path=f"/nodes/{lab.node}", users="idle@pve", roles="PVEAuditor")
    assert total(scrape(lab, session), "pve_up", daemon="pveproxy") == 1
    answer = session.post(f"{lab.url}/api2/metrics", timeout=20)
    assert (answer.status_code, answer.reason) == (501, "no such uri")


def test_both_formats_are_what_prometheus_reads(lab):
    session = lab.session()
    url = f"{lab.url}/api2/metrics"
    plain = session.get(url, timeout=20)
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    opened = session.get(url, headers={"Accept": OPENMETRICS}, timeout=20)
    assert opened.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in parse_openmetrics(opened.text)}
    kinds = {name: family.type for name, family in families.items()}
    for name, kind in {
        "pve_up": "gauge",
        "pve_build_info": "gauge",
        "pve_workers": "gauge",
        "pve_reloads": "counter",
        "pve_http_requests": "counter",
        "pve_http_request_duration_seconds": "histogram",
        "pve_http_connections_open": "gauge",
        "pve_http_bytes": "counter",
        "pve_http_forwarded": "counter",
        "pve_http_authentication_failures": "counter",
        "pve_tasks_ended": "counter",
        "pve_tasks_running": "gauge",
        "pve_statd_cycle_duration_seconds": "histogram",
        "pve_statd_step_errors": "counter",
        "pve_scheduler_round_duration_seconds": "histogram",
    }.items():
        assert kinds.get(name) == kind, name
        assert families[name].documentation
    # Both say the same of what does not change from one scrape to the next.
    one, other = samples(plain.text, parse_plain), samples(opened.text, parse_openmetrics)
    assert {key for key in one} == {key for key in other}
    for daemon in ("pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "qmeventd"):
        assert total(one, "pve_up", daemon=daemon) == total(other, "pve_up", daemon=daemon) == 1


def test_requests_tasks_and_failures_are_counted(lab):
    session = lab.session()
    before = scrape(lab, session)
    for _ in range(20):
        assert session.get(f"{lab.url}/api2/json/version", timeout=20).ok
    for _ in range(5):
        assert session.get(f"{lab.url}/api2/json/access/users", timeout=20).ok
    assert session.get(f"{lab.url}/nosuch", timeout=20).status_code == 500
    assert requests.get(f"{lab.url}/api2/json/version", verify=False, timeout=20).status_code == 401
    wrong = {"username": "root@pam", "password": "wrong"}
    assert requests.post(f"{lab.url}/api2/json/access/ticket", wrong, verify=False, timeout=20).status_code == 401
    api = lab.api()
    api_task = api.nodes(lab.node).qemu.post(vmid=101, memory=32)
    lab.run_task(api, api_task)
    lab.run_task(api, api.nodes(lab.node).qemu(101).delete())
    after = wait_for(
        "the tasks' ends are noticed",
        lambda: (now := scrape(lab, session))
        and total(now, "pve_tasks_ended_total", status="ok") - total(before, "pve_tasks_ended_total", status="ok") >= 2
        and now,
    )
    only_grow(before, after)

    def grown(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    proxy = {"daemon": "pveproxy"}
    assert grown("pve_http_requests_total", method="GET", code="2xx", **proxy) >= 25
    assert grown("pve_http_requests_total", method="GET", code="5xx", **proxy) >= 1
    assert grown("pve_http_requests_total", method="GET", code="4xx", **proxy) >= 1
    assert grown("pve_http_forwarded_total", to="daemon", **proxy) >= 5
    assert grown("pve_http_request_duration_seconds_count", handled="daemon", **proxy) >= 5
    # A refusal is told after three seconds, and spoils no other figure.
    assert grown("pve_http_request_duration_seconds_count", handled="refused", **proxy) >= 1
    assert grown("pve_http_request_duration_seconds_sum", handled="refused", **proxy) >= 3
    assert grown("pve_http_authentication_failures_total", kind="credentials", **proxy) >= 1
    assert grown("pve_http_authentication_failures_total", kind="login", daemon="pvedaemon") == 1
    for direction in ("in", "out"):
        assert 25 * 100 < grown("pve_http_bytes_total", direction=direction, **proxy) < 1_000_000
    assert grown("pve_http_requests_total", daemon="pvedaemon") >= 5
    assert grown("pve_tasks_started_total") >= 2
    assert total(after, "pve_http_connections_open", **proxy) >= 1
    wait_for(
        "the next cycle",
        lambda: total(scrape(lab, session), "pve_statd_cycle_duration_seconds_count")
        > total(before, "pve_statd_cycle_duration_seconds_count"),
    )


def test_counters_outlive_a_reload_and_a_killed_worker(lab):
    session = lab.session()
    figures = scrape(lab, session)
    master, workers = lab.daemon_pids("pveproxy")
    reloads = total(figures, "pve_reloads_total", daemon="pveproxy")
    os.kill(master, signal.SIGHUP)

    def reloaded():
        nonlocal figures
        now = scrape(lab, session)
        only_grow(figures, now)
        figures = now
        return (
            total(now, "pve_reloads_total", daemon="pveproxy") == reloads + 1
            and total(now, "pve_workers", daemon="pveproxy", state="serving") == 3
        )

    wait_for("the new generation", reloaded)
    session.close()
    session = lab.session()
    wait_for("the old workers are gone", lambda: not set(workers) & set(lab.daemon_pids("pveproxy")[1]))

    # Connections that nobody closes but the death of their worker.
    held = []

    def counted():
        # They are idle: none of them lives for long.
        held[:] = [socket.create_connection((lab.address, 8006)) for _ in range(30)]
        return total(scrape(lab, session), "pve_http_connections_open") >= 30

    wait_for("they are counted", counted)
    _, workers = lab.daemon_pids("pveproxy")
    killed = total(figures, "pve_worker_exits_total", daemon="pveproxy", how="killed")
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    session = lab.session()

    def replaced():
        nonlocal figures
        try:
            now = scrape(lab, session)
        except requests.RequestException:
            return False
        only_grow(figures, now)
        figures = now
        return total(now, "pve_worker_exits_total", daemon="pveproxy", how="killed") == killed + 3

    wait_for("the deaths are counted", replaced)
    open_now = total(scrape(lab, session), "pve_http_connections_open", daemon="pveproxy")
    assert 1 <= open_now < 30, "what a dead worker had open is open no more"
    wait_for(
        "three workers serve",
        lambda: total(scrape(lab, session), "pve_workers", daemon="pveproxy", state="serving") == 3,
    )
    for connection in held:
        connection.close()


@pytest.fixture
def metrics_socket(lab):
    """METRICS_LISTEN, taken into use by a reload; and put away by another."""
    settings = lab.root / "etc/default/pveproxy"
    before = settings.read_text() if settings.exists() else ""
    address = (lab.address, 9226)
    settings.write_text(f"{before}\nMETRICS_LISTEN={address[0]}:{address[1]}\n")
    os.kill(lab.daemon_pids("pveproxy")[0], signal.SIGHUP)
    yield address
    settings.write_text(before)
    os.kill(lab.daemon_pids("pveproxy")[0], signal.SIGHUP)

    def is_closed():
        try:
            socket.create_connection(address, timeout=5).close()
        except ConnectionRefusedError:
            return True

    wait_for("the socket is closed", is_closed)


def test_a_socket_of_its_own_needs_no_login(lab, metrics_socket):
    url = f"http://{metrics_socket[0]}:{metrics_socket[1]}"

    def get():
        try:
            return requests.get(f"{url}/metrics", timeout=10)
        except requests.ConnectionError:
            return None

    answer = wait_for("the socket answers", get)
    figures = samples(answer.text, parse_plain)
    assert total(figures, "pve_up") == 6
    opened = requests.get(f"{url}/metrics", headers={"Accept": OPENMETRICS}, timeout=10)
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text")
    samples(opened.text, parse_openmetrics)
    # There is nothing else.
    for path in ("/", "/api2/json/version", "/api2/metrics", "/metrics/x"):
        assert requests.get(url + path, timeout=10).status_code == 404, path
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 405
    # It stays through a reload.
    os.kill(lab.daemon_pids("pveproxy")[0], signal.SIGHUP)
    for _ in range(20):
        only_grow(figures, now := samples(requests.get(f"{url}/metrics", timeout=10).text, parse_plain))
        figures = now


def test_a_daemon_that_is_gone_is_down_and_keeps_its_counters(lab):
    session = lab.session()
    before = scrape(lab, session)
    assert total(before, "pve_workers", daemon="spiceproxy") == 1
    master, _ = lab.daemon_pids("spiceproxy")
    os.kill(master, signal.SIGSTOP)
    try:
        assert total(scrape(lab, session), "pve_up", daemon="spiceproxy") == 1
    finally:
        os.kill(master, signal.SIGKILL)
    # The lab starts it again after a moment.
    wait_for(
        "it is down, or up again as another process",
        lambda: total(now := scrape(lab, session), "pve_up", daemon="spiceproxy") == 0
        or total(now, "pve_start_time_seconds", daemon="spiceproxy")
        > total(before, "pve_start_time_seconds", daemon="spiceproxy"),
    )
    after = wait_for(
        "it is up", lambda: (now := scrape(lab, session)) and total(now, "pve_up", daemon="spiceproxy") == 1 and now
    )
    only_grow(before, after)
    wait_for("one worker", lambda: total(scrape(lab, session), "pve_workers", daemon="spiceproxy") == 1)
