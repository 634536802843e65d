"""A small RFB client over the API's websocket: it logs in, fetches framebuffers and types (RFC 6143)."""

import ssl
import struct
import time

import websocket
from Crypto.Cipher import DES

# A pseudo-encoding: a rectangle that tells the screen's size.
EXTENDED_DESKTOP_SIZE = -308


class Screen:
    """The screen of a guest or, without a number, of a shell on the node."""

    def __init__(self, lab, session, vmid, port, ticket, password):
        self.buffer = b""
        self.pixels = None
        guest = f"/qemu/{vmid}" if vmid else ""
        self.socket = websocket.create_connection(
            f"wss://{lab.address}:8006/api2/json/nodes/{lab.node}{guest}/vncwebsocket"
            f"?port={port}&vncticket={_quote(ticket)}",
            header={"Cookie": session.headers["Cookie"]},
            subprotocols=["binary"],
            sslopt={"cert_reqs": ssl.CERT_NONE},
            timeout=120,
        )
        self._handshake(password)

    def read(self, length):
        while len(self.buffer) < length:
            piece = self.socket.recv()
            assert piece, "the websocket ended"
            self.buffer += piece
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data

    def send(self, data):
        self.socket.send_binary(data)

    def _handshake(self, password):
        version = self.read(12)
        assert version.startswith(b"RFB 003."), version
        self.send(b"RFB 003.008\n")
        kinds = self.read(self.read(1)[0])
        assert 2 in kinds, f"no VNC authentication offered: {kinds!r}"
        self.send(b"\x02")
        # VNC authentication is DES with each key byte's bits reversed.
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
        self.send(DES.new(key, DES.MODE_ECB).encrypt(self.read(16)))
        assert self.read(4) == b"\0\0\0\0", "the VNC password was refused"
        self.send(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.read(struct.unpack(">I", self.read(4))[0])

    def fetch(self):
        """The framebuffer as rows of (red, green, blue) bytes, 4 bytes a pixel."""
        # 32 bits a pixel, little endian, true colour; raw encoding only.
        self.send(struct.pack(">B3xBBBBHHHBBB3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.send(struct.pack(">BxHi", 2, 1, 0))
        self.pixels = bytearray(self.width * self.height * 4)
        return self.update(is_incremental=False)

    def update(self, is_incremental=True):
        """The framebuffer after the next change of it."""
        self.send(struct.pack(">BBHHHH", 3, is_incremental, 0, 0, self.width, self.height))
        while (kind := self.read(1)[0]) != 0:
            # A bell, or the other side's clipboard.
            assert kind in (2, 3), f"not a framebuffer update: {kind}"
            if kind == 3:
                self.clipboard = self.read(struct.unpack(">3xI", self.read(7))[0])
        for _ in range(struct.unpack(">xH", self.read(3))[0]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == EXTENDED_DESKTOP_SIZE:
                self.read(3 + 16 * self.read(1)[0])
                self.width, self.height = width, height
                self.pixels = bytearray(width * height * 4)
                continue
            assert encoding == 0, encoding
            for row in range(height):
                start = ((y + row) * self.width + x) * 4
                self.pixels[start : start + width * 4] = self.read(width * 4)
        return bytes(self.pixels)

    def share(self, colour):
        """Which part of the pixels seen last has a colour."""
        wanted = bytes(reversed(colour)) + b"\0"
        hits = sum(self.pixels[at : at + 4] == wanted for at in range(0, len(self.pixels), 4))
        return hits / (self.width * self.height)

    def until(self, what, condition):
        """Takes updates until a condition holds for the screen; the socket's own deadline ends a wait in vain."""
        deadline = time.monotonic() + 60
        while not condition(self):
            assert time.monotonic() < deadline, what
            self.update()

    def press(self, *keysyms):
        """Presses keys together."""
        for keysym in keysyms:
            self.send(struct.pack(">BBxxI", 4, 1, keysym))
        for keysym in reversed(keysyms):
            self.send(struct.pack(">BBxxI", 4, 0, keysym))

    def type(self, text):
        """Types a text of Latin-1, whose characters are their own keysyms."""
        for character in text:
            self.press(0xFF0D if character == "\n" else ord(character))

    def cut(self, text):
        """Tells what is in our clipboard."""
        data = text.encode("latin-1")
        self.send(struct.pack(">B3xI", 6, len(data)) + data)

    def resize(self, width, height):
        """Asks for another size."""
        self.send(struct.pack(">BxHii", 2, 2, 0, EXTENDED_DESKTOP_SIZE))
        self.send(struct.pack(">BxHHBxIHHHHI", 251, width, height, 1, 0, 0, 0, width, height, 0))

    def is_closed(self):
        """Reads until the end."""
        try:
            return not self.socket.recv()
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return True

    def close(self):
        self.socket.close()


def _quote(text):
    from urllib.parse import quote

    return quote(text, safe="")
