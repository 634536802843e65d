"""Wrong logins are told late, and cost nobody else anything."""

import http.client
import ssl
import statistics
import threading
import time
from urllib.parse import urlencode

STRANGERS = 200
DELAY = 3
# One for all: making it takes longer than a handshake.
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


class Stranger(threading.Thread):
    """Fails to log in, or asks without a good ticket; all at the same moment."""

    def __init__(self, lab, start, number):
        super().__init__()
        self.lab, self.start_all, self.number = lab, start, number
        self.outcome = None

    def run(self):
        connection = http.client.HTTPSConnection(self.lab.address, 8006, timeout=60, context=CONTEXT)
        connection.connect()
        self.start_all.wait()
        began = time.monotonic()
        if self.number % 2:
            body = urlencode({"username": "admin@pve", "password": f"wrong{self.number}"})
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/api2/json/access/ticket", body, headers)
        else:
            headers = {"Cookie": "PVEAuthCookie=PVE%3Aroot%40pam%3A00000000%3A%3Aforged"}
            connection.request("GET", "/api2/json/version", headers=headers)
        answer = connection.getresponse()
        answer.read()
        self.outcome = (answer.status, time.monotonic() - began)
        connection.close()


def test_two_hundred_failing_logins_at_once_do_not_slow_a_good_client(lab):
    good = lab.session()

    def ask(path):
        """How long one answer takes, on a connection of its own and then on the same one."""
        began = time.monotonic()
        assert good.get(f"{lab.url}/api2/json{path}", timeout=20).status_code == 200
        return time.monotonic() - began

    for path in ("/version", "/access/users"):
        ask(path)
    start = threading.Barrier(STRANGERS + 1)
    strangers = [Stranger(lab, start, number) for number in range(STRANGERS)]
    for stranger in strangers:
        stranger.start()
    start.wait()
    began = time.monotonic()
    times = []
    while time.monotonic() - began < DELAY:
        # One that the proxy answers itself and one that goes through pvedaemon, both while all strangers wait.
        times += [ask("/version"), ask("/access/users")]
    for stranger in strangers:
        stranger.join()
    outcomes = [stranger.outcome for stranger in strangers]
    assert all(outcome and outcome[0] == 401 for outcome in outcomes), outcomes
    assert min(took for _, took in outcomes) >= DELAY - 0.05, "guessing is slow"
    # They wait side by side: in turn, or three at a time, they would take minutes.
    assert max(took for _, took in outcomes) < DELAY * 5
    assert len(times) >= 10, times
    assert statistics.median(times) < 0.5, times
    assert max(times) < DELAY, times
