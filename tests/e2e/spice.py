"""A small SPICE client: channels through spiceproxy, keys and the mouse, and pictures of a screen."""

import select
import socket
import ssl
import struct
import time

from Crypto.Cipher import PKCS1_OAEP
from Crypto.PublicKey import RSA

MAIN, DISPLAY, INPUTS = 1, 2, 3
# What a US keyboard's keys bear, from the first code of a row: plain, and with Shift.
ROWS = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]\n", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", ""),
]
PLAIN = {char: first + at for first, plain, _ in ROWS for at, char in enumerate(plain)}
SHIFTED = {char: first + at for first, _, shifted in ROWS for at, char in enumerate(shifted)}
SHIFT = 0x2A
OK, PASSWORD_REFUSED, NO_SESSION, NO_CHANNEL = 0, 7, 8, 9


class Refused(Exception):
    """A channel that is not let in, with the protocol's number for why."""


def tunnel(lab, told):
    """A connection through spiceproxy to the SPICE server, with TLS and the certificate that the answer names."""
    target = f"{told['host']}:{told['tls-port']}"
    plain = socket.create_connection((lab.address, 3128), timeout=30)
    plain.sendall(f"CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = plain.recv(1)
        assert piece, f"spiceproxy closed the connection after {answer!r}"
        answer += piece
    assert answer.split(b"\r\n")[0] == b"HTTP/1.0 200 OK", answer
    context = ssl.create_default_context(cadata=told["ca"].replace("\\n", "\n"))
    context.check_hostname = False
    return context.wrap_socket(plain)


class Channel:
    """One channel, let in."""

    def __init__(self, lab, told, kind, session=0, password=None):
        self.socket = tunnel(lab, told)
        self.buffer = b""
        # It chooses its log-in, which is the password, and knows short heads.
        body = struct.pack("<IBBIIII", session, kind, 0, 1, 0, 18, 0b1011)
        self.socket.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(body)) + body)
        magic, major, minor, size = struct.unpack("<4sIII", self.read(16))
        assert (magic, major, minor) == (b"REDQ", 2, 2)
        reply = self.read(size)
        error, key = struct.unpack_from("<I162s", reply)
        if error:
            raise Refused(error)
        sealed = PKCS1_OAEP.new(RSA.import_key(key)).encrypt((password or told["password"]).encode() + b"\0")
        self.socket.sendall(struct.pack("<I", 1) + sealed)
        (error,) = struct.unpack("<I", self.read(4))
        if error:
            assert self.is_closed()
            raise Refused(error)

    def read(self, length):
        while len(self.buffer) < length:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError("the channel ended")
            self.buffer += piece
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data

    def has_message(self, seconds):
        return bool(self.buffer or self.socket.pending() or select.select([self.socket], [], [], seconds)[0])

    def message(self):
        number, size = struct.unpack("<HI", self.read(6))
        return number, self.read(size)

    def expect(self, number):
        """The next message of that type; others are skipped."""
        while True:
            got, body = self.message()
            if got == number:
                return body

    def send(self, number, body=b""):
        self.socket.sendall(struct.pack("<HI", number, len(body)) + body)

    def is_closed(self):
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionError, ssl.SSLEOFError):
            pass
        return True

    def close(self):
        self.socket.close()


class Session:
    """A viewer: all channels, and what its screen shows."""

    def __init__(self, lab, told):
        self.main = Channel(lab, told, MAIN)
        self.session, displays, supported, mode, *_ = struct.unpack("<8I", self.main.expect(103))
        assert (displays, supported, mode) == (1, 2, 2)
        self.main.send(104)
        listed = self.main.expect(104)
        assert sorted(listed[4::2]) == [DISPLAY, INPUTS]
        self.display = Channel(lab, told, DISPLAY, self.session)
        self.inputs = Channel(lab, told, INPUTS, self.session)
        assert self.inputs.expect(101) == b"\0\0"
        self.window, self.count = 0, 0
        self.kinds = set()
        self.display.send(101, struct.pack("<BQBI", 1, 0, 0, 0))
        self.until("a screen", lambda _: hasattr(self, "pixels"))

    def until(self, what, condition, seconds=30):
        """Takes pictures until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            left = deadline - time.monotonic()
            assert left > 0 and self.display.has_message(left), f"timeout after {seconds} s: {what}"
            self.take(*self.display.message())

    def take(self, number, body):
        self.count += 1
        if self.window and self.count % self.window == 0:
            self.display.send(2)
        if number == 3:
            generation, self.window = struct.unpack("<II", body)
            self.count = 0
            self.display.send(1, struct.pack("<I", generation))
        elif number == 314:
            surface, self.width, self.height, kind, flags = struct.unpack("<5I", body)
            assert (surface, kind, flags) == (0, 32, 1)
            self.pixels = bytearray(4 * self.width * self.height)
        elif number == 304:
            self.draw(body)

    def draw(self, body):
        surface, top, left, bottom, right, clip, image = struct.unpack_from("<5IBI", body)
        assert (surface, clip) == (0, 0) and left < right <= self.width and top < bottom <= self.height
        _, kind, _, width, height = struct.unpack_from("<QBBII", body, image)
        assert (kind, width, height) == (0, right - left, bottom - top)
        kind, flags, width, height, stride, palette = struct.unpack_from("<BBIIII", body, image + 18)
        assert flags == 4
        self.kinds.add(kind)
        bits = {2: 1, 4: 4, 8: 32}[kind]
        colours = []
        if bits < 32:
            _, count = struct.unpack_from("<QH", body, palette)
            colours = [body[at : at + 4] for at in range(palette + 10, palette + 10 + 4 * count, 4)]
        for row in range(height):
            data = body[image + 36 + row * stride :][:stride]
            if bits < 32:
                value = int.from_bytes(data, "big")
                total, mask = 8 * stride, (1 << bits) - 1
                data = b"".join(colours[value >> total - bits * (x + 1) & mask] for x in range(width))
            at = 4 * ((top + row) * self.width + left)
            self.pixels[at : at + 4 * width] = data

    def share(self, colour):
        """Which part of the screen has a colour."""
        red, green, blue = colour
        wanted = bytes([blue, green, red])
        count = sum(self.pixels[at : at + 3] == wanted for at in range(0, len(self.pixels), 4))
        return count / (self.width * self.height)

    def key(self, code, is_down):
        self.inputs.send(101 if is_down else 102, struct.pack("<I", code if is_down else _up(code)))

    def press(self, *codes):
        """Presses keys together."""
        for code in codes:
            self.key(code, True)
        for code in reversed(codes):
            self.key(code, False)

    def type(self, text):
        for char in text:
            self.press(*([PLAIN[char]] if char in PLAIN else [SHIFT, SHIFTED[char]]))

    def close(self):
        for channel in (self.inputs, self.display, self.main):
            channel.close()


def _up(code):
    """The code of a key that goes up; 0xE0 and the key's own are one number."""
    return code | (0x80 if code < 0x100 else 0x8000)
