"""Addresses and ports of a test run. Some processes run tests at the same time, and what one of them gives back for a
moment, as when a daemon starts again, another one would take for free."""

import errno
import itertools
import socket

# What a lab listens on.
PORTS = (85, 8006, 3128)


def _reserve():
    """A number that no other process of tests has, as long as this one lives."""
    for number in itertools.count(1):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0pve-e2e/{number}")
        except OSError:
            held.close()
        else:
            return number, held


NUMBER, _held = _reserve()
_hosts = iter(range(1, 255))
# The kernel gives away others by itself.
_ports = itertools.count(20000 + NUMBER % 100 * 100)
_addresses = {}


def _is_free(address, port, kind=socket.SOCK_STREAM):
    with socket.socket(type=kind) as probe:
        # As servers do, whom old connections to the port are nothing to.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def own_address(root):
    """The address of the lab in this directory: always the same, and no other's."""
    if root not in _addresses:
        candidates = (f"127.0.{NUMBER}.{host}" for host in _hosts)
        # A lab that outlived its test has one still.
        found = next((where for where in candidates if all(_is_free(where, port) for port in PORTS)), None)
        assert found, f"somebody listens at one of the ports {PORTS} on all addresses: see ss -tlnp"
        _addresses[root] = found
    return _addresses[root]


def own_port():
    """A port of 127.0.0.1 that nobody has, of TCP and UDP alike."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return next(port for port in _ports if all(_is_free("127.0.0.1", port, kind) for kind in kinds))
