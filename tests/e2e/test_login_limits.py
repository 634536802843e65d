"""Limits on failed log-ins: guesses from many connections at once, and who is not to notice."""

import collections
import concurrent.futures
import ctypes
import http.client
import json
import os
import re
import ssl
import subprocess
import time
from urllib.parse import urlencode

import prometheus_client.parser
import pytest
from lab import Lab
from waiting import wait_for

# All of 127.0.0.0/8 counts as one address, so clients have others, on the loopback device of a network of their own.
NETWORK = "192.0.2"
ATTACKER, NEIGHBOUR, ELSEWHERE = f"{NETWORK}.1", f"{NETWORK}.1", f"{NETWORK}.2"
# One for all: making it takes longer than a handshake.
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


# In the `os` of Python 3.12 and later.
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def system(call, *arguments):
    if call(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture(scope="module", autouse=True)
def own_network():
    """A network namespace for this module's labs and their clients: threads are where the one is that starts them."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    system(LIBC.unshare, CLONE_NEWNET)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "route", "add", "local", f"{NETWORK}.0/24", "dev", "lo"], check=True)
        yield
    finally:
        system(LIBC.setns, before, CLONE_NEWNET)
        os.close(before)


Answer = collections.namedtuple("Answer", "status reason data seconds")


def log_in(lab, user, password, address, **parameters):
    """The answer to a log-in from an address."""
    connection = http.client.HTTPSConnection(lab.address, 8006, timeout=60, context=CONTEXT, source_address=(address, 0))
    try:
        began = time.monotonic()
        body = urlencode({"username": user, "password": password, **parameters})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/api2/json/access/ticket", body, headers)
        answer = connection.getresponse()
        data = json.loads(answer.read())["data"]
        return Answer(answer.status, answer.reason, data, time.monotonic() - began)
    finally:
        connection.close()


def at_once(work, inputs):
    with concurrent.futures.ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(work, inputs))


def metrics(lab, name):
    """The figures of a family, by their label."""
    text = lab.session().get(f"{lab.url}/api2/metrics", timeout=30).text
    families = prometheus_client.parser.text_string_to_metric_families(text)
    samples = next(family for family in families if family.name == name).samples
    return {next(v for k, v in sample.labels.items() if k != "daemon"): sample.value for sample in samples}


def make_user(lab, name):
    lab.call("POST", "/access/users", userid=name, password="right-password").raise_for_status()
    return name


def looked_at(lab, user):
    """How many wrong passwords of a user were looked at, by the log."""
    return len(re.findall(rf"authentication failure; rhost=\S+ user={user} msg=invalid credentials", lab.log()))


def unlooked(lab, user):
    text = "too many failed log-ins of this user from this address"
    return len(re.findall(rf"authentication failure; rhost=\S+ user={user} msg={text}", lab.log()))


def test_forty_guesses_at_once_are_ten_and_nobody_else_notices(lab):
    victim, other = make_user(lab, "victim@pve"), make_user(lab, "other@pve")
    ticket = log_in(lab, victim, "right-password", ATTACKER).data["ticket"]

    def one(number):
        if number < 40:
            return log_in(lab, victim, f"guess {number}", ATTACKER)
        # Meanwhile: another user at that address, and the same one elsewhere.
        return log_in(lab, *[(other, "right-password", NEIGHBOUR), (victim, "right-password", ELSEWHERE)][number % 2])

    answers = at_once(one, range(48))
    assert {answer.status for answer in answers[:40]} == {401}
    assert {answer.reason for answer in answers[:40]} == {"authentication failure"}
    assert min(answer.seconds for answer in answers[:40]) >= 2.9
    assert {answer.status for answer in answers[40:]} == {200}
    wait_for("all failures are logged", lambda: looked_at(lab, victim) + unlooked(lab, victim) == 40)
    assert looked_at(lab, victim) == 10

    # The right password is not looked at either; a ticket is, and renews itself, and tokens know nothing of it.
    assert log_in(lab, victim, "right-password", ATTACKER).status == 401
    assert log_in(lab, victim, ticket, ATTACKER).status == 200
    assert log_in(lab, victim, "right-password", ELSEWHERE).status == 200
    assert metrics(lab, "pve_logins_refused")["user-at-address"] == 31
    assert metrics(lab, "pve_logins")["failed"] == 41


def test_right_passwords_at_once_all_get_in(lab):
    user = make_user(lab, "robot@pve")
    answers = at_once(lambda _: log_in(lab, user, "right-password", f"{NETWORK}.3"), range(40))
    assert {answer.status for answer in answers} == {200}


def test_a_ticket_that_is_too_old_is_no_guess(lab):
    user = make_user(lab, "forgetful@pve")
    ticket = log_in(lab, user, "right-password", f"{NETWORK}.8").data["ticket"]
    # As if it had been signed with a key that is long gone.
    old = ticket[:-8] + "AAAAAAA="
    assert {answer.status for answer in at_once(lambda _: log_in(lab, user, old, f"{NETWORK}.8"), range(15))} == {401}
    assert log_in(lab, user, "right-password", f"{NETWORK}.8").status == 200


def test_second_factors_are_guesses_too(lab):
    user = make_user(lab, "careful@pve")
    api = lab.api(user, "right-password")
    keys = api.access.tfa(user).post(type="recovery", password="right-password")["recovery"]
    half = log_in(lab, user, "right-password", f"{NETWORK}.4").data
    assert half["NeedTFA"] == 1
    answer = lambda key: log_in(lab, user, f"recovery:{key}", f"{NETWORK}.4", **{"tfa-challenge": half["ticket"]})
    answers = at_once(answer, [f"{number:04x}-0000-0000-0000" for number in range(14)])
    assert {answer.status for answer in answers} == {401}
    wait_for("all failures are logged", lambda: lab.log().count(f"user={user} msg=") == 14)
    assert unlooked(lab, user) == 4
    assert answer(keys[0]).status == 401, "not looked at, and not used up"
    elsewhere = log_in(lab, user, f"recovery:{keys[0]}", f"{NETWORK}.5", **{"tfa-challenge": half["ticket"]})
    assert elsewhere.status == 200


def test_an_address_that_tries_all_names_is_shut_out_but_not_who_is_at_home_there(lab):
    home = make_user(lab, "home@pve")
    guest = make_user(lab, "guest@pve")
    assert log_in(lab, home, "right-password", f"{NETWORK}.6").status == 200
    at_once(lambda number: log_in(lab, f"nobody{number}@pve", "x", f"{NETWORK}.6"), range(62))
    assert log_in(lab, home, "right-password", f"{NETWORK}.6").status == 200
    assert log_in(lab, guest, "right-password", f"{NETWORK}.7").status == 200

    def is_not_looked_at():
        # On a slow machine places come back meanwhile, and some of these are looked at.
        assert log_in(lab, guest, "wrong", f"{NETWORK}.6").status == 401
        line = rf"authentication failure; rhost={NETWORK}.6 user={guest} msg=too many failed log-ins from this address"
        return re.search(line, lab.log())

    wait_for("it is not looked at", is_not_looked_at)


def test_all_of_loopback_is_one_address(lab):
    user = make_user(lab, "local@pve")
    at_once(lambda number: log_in(lab, user, "wrong", f"127.77.0.{number + 1}"), range(12))
    wait_for("all failures are logged", lambda: looked_at(lab, user) + unlooked(lab, user) == 12)
    assert looked_at(lab, user) == 10


@pytest.fixture
def free_lab(playground):
    """A lab without limits."""
    with Lab(playground / "limits-off") as running:
        running.stop()
        (running.root / "etc/default").mkdir(parents=True, exist_ok=True)
        (running.root / "etc/default/pvedaemon").write_text("LOGIN_FAILURES=0\n")
        running.start()
        yield running


def test_the_limits_can_be_switched_off(free_lab):
    user = make_user(free_lab, "victim@pve")
    at_once(lambda number: log_in(free_lab, user, f"guess {number}", ATTACKER), range(20))
    assert log_in(free_lab, user, "right-password", ATTACKER).status == 200
    assert looked_at(free_lab, user) == 20
    assert not (free_lab.root / "run/pve-private/failed-logins").exists()
