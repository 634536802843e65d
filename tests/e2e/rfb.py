"""A small RFB client over the API's websocket: enough to log in and fetch one framebuffer (RFC 6143)."""

import ssl
import struct

import websocket
from Crypto.Cipher import DES


class Screen:
    """A guest's screen, fetched once."""

    def __init__(self, lab, session, vmid, port, ticket, password):
        self.buffer = b""
        self.socket = websocket.create_connection(
            f"wss://{lab.address}:8006/api2/json/nodes/{lab.node}/qemu/{vmid}/vncwebsocket"
            f"?port={port}&vncticket={_quote(ticket)}",
            header={"Cookie": session.headers["Cookie"]},
            subprotocols=["binary"],
            sslopt={"cert_reqs": ssl.CERT_NONE},
            timeout=30,
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
        self.send(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        kind, rectangles = struct.unpack(">BxH", self.read(4))
        assert kind == 0, f"not a framebuffer update: {kind}"
        pixels = bytearray(self.width * self.height * 4)
        for _ in range(rectangles):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            assert encoding == 0, encoding
            for row in range(height):
                start = ((y + row) * self.width + x) * 4
                pixels[start : start + width * 4] = self.read(width * 4)
        return bytes(pixels)

    def close(self):
        self.socket.close()


def _quote(text):
    from urllib.parse import quote

    return quote(text, safe="")
