"""Connects standard input and output with a TCP port, for `ProxyCommand` of ssh: gate.py FILE HOST PORT.

While FILE is there, some bytes pass towards the port and no more, and FILE has our process id.
"""

import os
import pathlib
import selectors
import socket
import sys

# Far less than what a test sends, and enough for ssh to begin.
ALLOWED = 4 << 20


def main(hold, host, port):
    far = socket.create_connection((host, int(port)))
    hold, parent, passed, is_shut = pathlib.Path(hold), os.getppid(), 0, False
    selector = selectors.DefaultSelector()
    selector.register(far, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    # Whoever started us may be gone before there is anything to read.
    while os.getppid() == parent:
        should_shut = passed > ALLOWED and hold.exists()
        if should_shut and not is_shut:
            hold.write_text(str(os.getpid()))
            selector.unregister(0)
        elif is_shut and not should_shut:
            selector.register(0, selectors.EVENT_READ)
        is_shut = should_shut
        for key, _ in selector.select(timeout=0.1):
            data = os.read(key.fd, 65536)
            if not data:
                return
            if key.fd == 0:
                far.sendall(data)
                passed += len(data)
            else:
                os.write(1, data)


main(*sys.argv[1:])
