"""What hardening guides tell administrators to put into /etc/default/pveproxy, done as they do it."""

import contextlib
import socket
import ssl

import pytest

from test_running import LISTENERS, listeners, wait_until_serving
from waiting import wait_for

FILE = "/etc/default/pveproxy"

pytestmark = pytest.mark.once


@pytest.fixture
def settings(node, host):
    """Adds lines to the settings; at the end they are as the package has them again."""
    shipped = node.read(FILE)
    yield lambda *lines: node.write(FILE, shipped + "".join(f"{line}\n" for line in lines))
    node.write(FILE, shipped)
    node.run("systemctl", "restart", "pveproxy", "spiceproxy")
    wait_until_serving(host)


def connect(address, port, version=None, ciphers=None):
    """The TLS version and cipher that a connection gets; None where it is closed before TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    with socket.create_connection((address, port), timeout=20) as plain:
        with context.wrap_socket(plain) as secure:
            return secure.version(), secure.cipher()[0]


def is_closed_at_once(address, port, first):
    """Whether a connection ends without a byte for what a client says first."""
    with socket.create_connection((address, port), timeout=20) as plain:
        with contextlib.suppress(ConnectionError):
            plain.sendall(first)
        try:
            return plain.recv(1) == b""
        except ConnectionError:
            return True


def hello():
    """The first message of a TLS client."""
    context = ssl.create_default_context()
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="node1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def test_only_some_addresses_may_connect(node, host, settings):
    settings('ALLOW_FROM="192.0.2.0/24,127.0.0.1"', 'POLICY="deny"')
    node.run("systemctl", "reload", "pveproxy", "spiceproxy")
    wait_for("we are turned away from 8006", lambda: is_closed_at_once(node.address4, 8006, hello()))
    tunnel = b"CONNECT a:1:2::61000 HTTP/1.0\r\n\r\n"
    wait_for("we are turned away from 3128", lambda: is_closed_at_once(node.address4, 3128, tunnel))
    own = node.run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:8006/")
    assert own == "200"
    assert '"-" 403 -' in node.read("/var/log/pveproxy/access.log")
    settings(f'ALLOW_FROM="{node.network.prefix4}.0/24"', 'DENY_FROM="all"')
    node.run("systemctl", "reload", "pveproxy", "spiceproxy")
    host.wait_until_up()


def test_ciphers_and_versions_of_tls(node, host, settings):
    chosen = "ECDHE-RSA-AES128-GCM-SHA256"
    assert connect(node.address4, 8006, ssl.TLSVersion.TLSv1_2)[1] != chosen
    settings(f'CIPHERS="{chosen}"')
    node.run("systemctl", "reload", "pveproxy")
    wanted = ("TLSv1.2", chosen)
    wait_for("the cipher is in use", lambda: connect(node.address4, 8006, ssl.TLSVersion.TLSv1_2) == wanted)
    with pytest.raises(ssl.SSLError):
        connect(node.address4, 8006, ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-GCM-SHA384")
    settings("DISABLE_TLS_1_2=1")
    node.run("systemctl", "reload", "pveproxy")

    def is_refused():
        try:
            connect(node.address4, 8006, ssl.TLSVersion.TLSv1_2)
        except (ssl.SSLError, ConnectionError):
            return True

    wait_for("TLS 1.2 is refused", is_refused)
    assert connect(node.address4, 8006)[0] == "TLSv1.3"


def test_one_address_to_listen_on(node, host, settings):
    settings(f'LISTEN_IP="{node.address4}"')
    node.run("systemctl", "restart", "pveproxy", "spiceproxy")
    wanted = {
        ("127.0.0.1", 85): LISTENERS["127.0.0.1", 85],
        (node.address4, 8006): LISTENERS["*", 8006],
        (node.address4, 3128): LISTENERS["*", 3128],
    }
    wait_for(lambda: f"it listens there alone: {listeners(node)}", lambda: listeners(node) == wanted)
    host.wait_until_up()
    assert node.try_run("curl", "-sk", "https://127.0.0.1:8006/")[0] == 7, "nobody listens there"


def test_settings_that_are_wrong_stop_no_reload_for_good(node, host, settings):
    """A slip of the pen is in the log, and the right word later is enough."""
    settings('POLICY="perhaps"')
    node.try_run("systemctl", "restart", "pveproxy")
    wait_for("the log tells", lambda: "unknown policy 'perhaps'" in node.journal("pveproxy", "-n", "50"))
    settings()
    wait_until_serving(host)


def test_more_workers(node, host, settings):
    settings("MAX_WORKERS=5")
    node.run("systemctl", "reload", "pveproxy")
    names = ["pveproxy"] + ["pveproxy worker"] * 5
    wait_for(lambda: f"there are five: {listeners(node)}", lambda: listeners(node)["*", 8006] == names)


def test_the_journal_tells_what_was_done_by_commands_and_by_the_api(node, host):
    """What docs/hardening.md says to look with."""
    node.run("pveum", "user", "add", "bob@pve")
    host.data("DELETE", "/access/users/bob@pve")

    def found():
        return node.try_run("journalctl", "--no-pager", "-g", "^audit: user=")[1]

    for what in ("POST /access/users userid=bob@pve: ok", "DELETE /access/users/{userid} userid=bob@pve: ok"):
        wait_for(lambda: f"{what} in:\n{found()}", lambda: what in found())
