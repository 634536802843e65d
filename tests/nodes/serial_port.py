"""Runs on a node: types a line into a serial port's socket until an expected text comes back, or a deadline is over."""

import socket
import sys
import time

path, line, expected, seconds = sys.argv[1:]
deadline = time.monotonic() + float(seconds)
seen = b""


def session():
    """One connection: there is only one at a time, and none before the guest runs."""
    global seen
    with socket.socket(socket.AF_UNIX) as port:
        port.settimeout(1)
        port.connect(path)
        while time.monotonic() < deadline:
            port.sendall(line.encode() + b"\n")
            try:
                piece = port.recv(65536)
                while piece:
                    seen += piece
                    if expected.encode() in seen:
                        sys.exit(0)
                    piece = port.recv(65536)
                return
            except TimeoutError:
                pass


while time.monotonic() < deadline:
    try:
        session()
    except OSError:
        pass
    time.sleep(0.1)
sys.exit(f"the port said: {seen[-2000:].decode(errors='replace')}")
