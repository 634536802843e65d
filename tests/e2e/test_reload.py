"""Reloads under load: no request fails, and an open console lives on."""

import os
import signal
import threading

import requests

from lab import wait_for
from test_terminal import Terminal

RELOADS = 10


class Client(threading.Thread):
    """Asks for the version over and over, on one connection or a new one each time, until it is told to stop."""

    def __init__(self, lab, keep_alive):
        super().__init__()
        self.url = f"{lab.url}/api2/json/version"
        self.session = lab.session()
        self.keep_alive = keep_alive
        self.stopping = threading.Event()
        self.answers = 0
        self.failures = []

    def run(self):
        headers = {} if self.keep_alive else {"Connection": "close"}
        while not self.stopping.is_set():
            try:
                answer = self.session.get(self.url, headers=headers, timeout=20)
                assert answer.status_code == 200, f"{answer.status_code} {answer.reason}"
                self.answers += 1
            except (requests.RequestException, AssertionError) as error:
                self.failures.append(repr(error))


def test_ten_reloads_under_load(lab):
    console = Terminal(lab, f"/nodes/{lab.node}").log_in()
    console.expect("OK")
    clients = [Client(lab, keep_alive) for keep_alive in (True, True, False, False)]
    for client in clients:
        client.start()
    master, workers = lab.daemon_pids("pveproxy")
    try:
        for _ in range(RELOADS):
            before = set(lab.daemon_pids("pveproxy")[1])
            answered = [client.answers for client in clients]
            os.kill(master, signal.SIGHUP)
            wait_for("there are new workers", lambda: len(set(lab.daemon_pids("pveproxy")[1]) - before) >= 3, every=0.05)
            wait_for(
                "each client was answered since",
                lambda: all(client.answers > count + 5 for client, count in zip(clients, answered)),
            )
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    assert lab.daemon_pids("pveproxy")[0] == master, "a reload keeps the master's pid"
    assert [client.failures for client in clients] == [[], [], [], []]
    console.type("echo alive-$((6*7))\n")
    console.expect("alive-42")
    console.socket.close()
    # What was drained is gone, but for nobody's console.
    wait_for("the old workers are gone", lambda: not set(workers) & set(lab.daemon_pids("pveproxy")[1]), seconds=90)
