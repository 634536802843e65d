"""Which settings of /etc/default/pveproxy the real spiceproxy heeds (reference 01 §2.2): who may connect, where it
listens; nothing else, though a wrong value of any stops it."""

import socket

import pytest

from daemons import Daemon, Root
from waiting import wait_for

PORT = 3128
CONNECT = b"CONNECT nonsense:61000 HTTP/1.0\r\nHost: nonsense:61000\r\n\r\n"


@pytest.fixture(scope="module")
def root(playground):
    return Root(playground / "spiceproxy")


def ask(address, source):
    """What is answered to a client with this address; nothing if it may not connect."""
    try:
        with socket.create_connection((address, PORT), timeout=20, source_address=(source, 0)) as client:
            client.sendall(CONNECT)
            received = b""
            while data := client.recv(4096):
                received += data
            return received
    except (ConnectionResetError, BrokenPipeError):
        return b""


def is_served(root, source):
    before = len(root.access_log.read_text()) if root.access_log.exists() else 0
    answer = ask(root.address, source)
    line = wait_for(
        "a line in the access log",
        lambda: (text := root.access_log.read_text()[before:]).endswith("\n") and text,
    )
    assert line.startswith(f"{source} - - ["), line
    if answer:
        assert answer.startswith(b"HTTP/1.0 401 invalid ticket\r\n"), answer
        assert '"CONNECT nonsense:61000 HTTP/1.0" 401 ' in line
    else:
        assert line.endswith('"-" 403 -\n'), line
    return bool(answer)


@pytest.mark.parametrize(
    "policy,expected",
    [("deny", [True, False, False, False]), ("allow", [True, False, True, True])],
)
def test_the_host_lists_follow_their_truth_table(root, policy, expected):
    root.settings(f"ALLOW_FROM=127.0.0.1-127.0.0.3\nDENY_FROM=127.0.0.2/31,127.0.0.4\nPOLICY={policy}\n")
    with Daemon(root, "spiceproxy") as daemon:
        daemon.until_serving(PORT)
        # By what matches them: only ALLOW_FROM, only DENY_FROM, neither, both.
        clients = ["127.0.0.1", "127.0.0.4", "127.0.0.5", "127.0.0.3"]
        assert [is_served(root, client) for client in clients] == expected


def test_a_reload_takes_new_host_lists(root):
    root.settings("")
    with Daemon(root, "spiceproxy") as daemon:
        daemon.until_serving(PORT)
        assert is_served(root, "127.0.0.5")
        root.settings("DENY_FROM=127.0.0.5\n")
        before = daemon.workers()
        daemon.reload()
        wait_for("the new worker alone", lambda: daemon.workers() and not set(before) & set(daemon.workers()))
        assert not is_served(root, "127.0.0.5")
        assert is_served(root, "127.0.0.6")


def test_listen_ip_is_the_only_address(root):
    other = "127.31.28.1"
    root.settings(f"LISTEN_IP={other}\n")
    with Daemon(root, "spiceproxy") as daemon:
        daemon.until_serving(PORT, other)
        assert ask(other, "127.0.0.1").startswith(b"HTTP/1.0 401 invalid ticket\r\n")
        with pytest.raises(ConnectionRefusedError):
            ask(root.address, "127.0.0.1")


def test_there_is_one_worker_without_tls_whatever_the_file_says(root):
    root.settings("MAX_WORKERS=5\nCIPHERS=nonsense\nDHPARAMS=/nowhere\nDISABLE_TLS_1_2=1\nDISABLE_TLS_1_3=1\nCOMPRESSION=0\n")
    with Daemon(root, "spiceproxy") as daemon:
        daemon.until_serving(PORT)
        assert is_served(root, "127.0.0.1")
        assert len(daemon.workers()) == 1
        assert "starting 1 worker(s)\n" in daemon.log()


@pytest.mark.parametrize(
    "settings,expected",
    [
        ("POLICY=Deny", "unknown policy 'Deny'"),
        ("COMPRESSION=no", "unknown value 'no' - use 0 or 1"),
        ("ALLOW_FROM=192.168.0.5/22", "Invalid prefix 192.168.0.5/22"),
        ("LISTEN_IP=192.0.2.99", "unable to create socket - Cannot assign requested address"),
    ],
)
def test_a_wrong_value_stops_it_and_its_check_says_where(root, settings, expected):
    root.settings(f"# first\n{settings}\n")
    with Daemon(root, "spiceproxy") as daemon:
        assert daemon.process.wait(timeout=60) == 255
        assert f"start failed - {expected}\n" in daemon.log()
    ran = root.verb("spiceproxy", "check", "--root", root.path)
    key = settings.split("=")[0]
    assert ran.returncode == 1
    assert f"/etc/default/pveproxy:2: error: {key}: {expected}\n    " in ran.stdout
    assert ran.stdout.endswith("spiceproxy: 1 error(s), 0 warning(s)\n")


def test_check_reads_as_the_daemons_user_and_finds_nothing_wrong_with_a_good_file(root):
    root.settings("MAX_WORKERS=4\n")
    for verb in ("check", "--check"):
        ran = root.verb("spiceproxy", verb, "--root", root.path)
        assert (ran.stdout, ran.returncode) == ("spiceproxy: 0 error(s), 0 warning(s)\n", 0)
    file = root.path / "etc/default/pveproxy"
    file.chmod(0o600)
    try:
        ran = root.verb("spiceproxy", "check", "--root", root.path)
        assert "Permission denied" in ran.stdout, ran.stdout
        assert ran.returncode == 1
    finally:
        file.chmod(0o644)
