"""Shells and serial ports as VNC displays: a terminal that is drawn into pixels, for noVNC and other viewers."""

import contextlib
import pathlib
import select
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import requests
import websocket

from rfb import Screen
from test_machine import create, start, upload_iso
from waiting import wait_for

# xterm's blue and red, as escape sequences and as pixels.
BLUE, RED = ("44", (0, 0, 0xEE)), ("41", (0xCD, 0, 0))


def ask(lab, user="root@pam", vmid=None, **parameters):
    where = f"/nodes/{lab.node}/qemu/{vmid}/vncproxy" if vmid else f"/nodes/{lab.node}/vncshell"
    return lab.call("POST", where, user=user, **{"websocket": 1, **parameters})


class Display:
    """A display that was asked for, and a client of it."""

    def __init__(self, lab, user="root@pam", password=None, **parameters):
        answer = ask(lab, user, **parameters)
        assert answer.status_code == 200, (answer.reason, answer.text)
        self.told = answer.json()["data"]
        self.screen = Screen(
            lab,
            lab.session(user),
            parameters.get("vmid"),
            self.told["port"],
            self.told["ticket"],
            password or self.told["password"],
        )


def paint(screen, colour):
    """Makes the shell fill the screen with a colour, and waits until it is seen."""
    # Split, so that the line that is echoed paints nothing.
    screen.type(f"printf '\\033[{colour[0]}m\\033[2J'\n")
    screen.until(f"the screen is {colour[1]}", lambda screen: screen.share(colour[1]) > 0.9)


def test_a_shell_in_a_viewer(lab, tmp_path):
    display = Display(lab, width=1003, height=600)
    told, screen = display.told, display.screen
    assert told["ticket"] == f"{told['password']}:PVEVNC:" + told["ticket"].split(":PVEVNC:")[1]
    assert len(told["password"]) == 8 and told["user"] == "root@pam" and 5900 <= told["port"] <= 5999
    assert told["cert"] == (lab.root / "etc/pve/pve-root-ca.pem").read_text()
    assert told["upid"].split(":")[5:7] == ["vncshell", ""]
    # Whole characters of 8 by 16.
    assert (screen.width, screen.height) == (1000, 592)
    screen.fetch()
    seen = tmp_path / "seen"
    screen.type(f"(tty; id -un; stty size; echo $TERM) > {seen}.new; mv {seen}.new {seen}\n")
    wait_for("the command has run", seen.exists)
    terminal, user, size, kind = seen.read_text().split("\n")[:4]
    assert terminal.startswith("/dev/pts/") and (user, size, kind) == ("root", "37 125", "xterm-256color")
    paint(screen, BLUE)
    paint(screen, RED)
    screen.type("exit\n")
    wait_for("the display closes", screen.is_closed, every=0)
    assert lab.wait_task(lab.api(), told["upid"]) == "OK"


def test_keys_the_clipboard_and_another_size(lab, tmp_path):
    screen = Display(lab).screen
    assert (screen.width, screen.height) == (640, 400)
    screen.fetch()
    keys = tmp_path / "keys"
    # What is typed arrives as bytes: ä in UTF-8, an arrow as an escape sequence, Control-C as itself.
    screen.type(f"stty raw -echo; head -c 9 > {keys}; stty sane\n")
    screen.until("the screen changes", lambda screen: screen.share((0xE5, 0xE5, 0xE5)) > 0)
    wait_for("the shell waits for keys", keys.exists)
    screen.press(0xE4)
    screen.press(0xFF52)
    screen.press(0xFFE3, ord("c"))
    screen.press(0x010020AC)
    wait_for("all keys arrived", lambda: len(keys.read_bytes()) == 9)
    assert keys.read_bytes() == "ä\x1b[A\x03€".encode()
    # The clipboard types nothing by itself: a viewer sends it when its user copies a word elsewhere.
    pasted, typed = tmp_path / "pasted", tmp_path / "typed"
    screen.cut(f"touch {pasted}\n")
    screen.type(f"touch {typed}\n")
    wait_for("what was typed is done", typed.exists)
    assert not pasted.exists()
    screen.press(0xFFE1, 0xFF63)
    screen.press(0xFF0D)
    wait_for("what was pasted is done", pasted.exists)
    screen.resize(1280, 800)
    screen.until("the new size", lambda screen: (screen.width, screen.height) == (1280, 800))
    size = tmp_path / "size"
    screen.type(f"stty size > {size}.new; mv {size}.new {size}\n")
    wait_for("the shell says its size", size.exists)
    assert size.read_text() == "50 160\n"
    paint(screen, BLUE)
    screen.close()


def test_only_the_caller_gets_in_and_only_once(lab):
    api = lab.api()
    nobody = ask(lab).json()["data"]
    with pytest.raises(AssertionError, match="the VNC password was refused"):
        Display(lab, password="wrong!!!")
    display = Display(lab)
    # Somebody's else's websocket, and a second one.
    session = lab.session("admin@pve")
    where = f"{lab.url}/api2/json/nodes/{lab.node}/vncwebsocket"
    query = {"port": display.told["port"], "vncticket": display.told["ticket"]}
    refused = session.get(where, params=query, timeout=30)
    assert refused.status_code == 401 and "invalid PVEVNC ticket" in refused.reason, refused.reason
    upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    refused = lab.session().get(where, params=query, headers=upgrade, timeout=30)
    assert (refused.status_code, "Connection refused" in refused.reason) == (500, True), refused.reason
    display.screen.close()
    assert lab.wait_task(api, display.told["upid"]) == "OK"
    # Ten seconds are over by now, or soon.
    assert lab.wait_task(api, nobody["upid"]) == "OK"
    lines = [line["t"] for line in api.nodes(lab.node).tasks(nobody["upid"]).log.get()]
    assert "failed waiting for client: timed out" in lines, lines


def test_who_may_have_what(lab):
    for user, parameters, status, reason in [
        ("root@pam", {"websocket": 0}, 501, "VNC without a websocket"),
        ("admin@pve", {"cmd": "upgrade"}, 403, "Permission check failed (user != root@pam)"),
        ("root@pam", {"width": 15}, 400, "Parameter verification failed."),
        ("root@pam", {"cmd-opts": "x"}, 400, "Parameter verification failed."),
    ]:
        answer = ask(lab, user, **parameters)
        assert answer.status_code == status and answer.reason.startswith(reason), (parameters, answer.reason)
    # Tokens are no users here.
    made = lab.call("POST", "/access/users/admin@pve/token/ci", privsep=0).json()["data"]
    token = made["full-tokenid"]
    header = {"Authorization": f"PVEAPIToken={token}={made['value']}"}
    for call, status, reason in [
        ("vncshell", 500, f"value '{token}' does not look like a valid user name"),
        ("spiceshell", 500, f"value '{token}' does not look like a valid user name"),
        ("termproxy", 200, "OK"),
    ]:
        where = f"http://{lab.address}:85/api2/json/nodes/{lab.node}/{call}"
        body = {"websocket": 1} if call == "vncshell" else {}
        answer = requests.post(where, data=body, headers=header, timeout=40)
        assert (answer.status_code, answer.reason) == (status, reason)
    # Others are asked who they are: what is typed after that shows, and runs nothing.
    screen = Display(lab, user="admin@pve").screen
    screen.fetch()
    text = (0xE5, 0xE5, 0xE5)
    screen.until("login asks for a name", lambda screen: screen.share(text) > 0)
    before = screen.share(text)
    screen.type("nobody")
    screen.until("the name shows", lambda screen: screen.share(text) > before)
    screen.close()


class Bridge(threading.Thread):
    """A port for a viewer that knows no websockets."""

    def __init__(self, screen):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.websocket = screen
        self.start()

    def run(self):
        client, _ = self.listener.accept()
        tls = self.websocket.sock
        with self.listener, client, contextlib.closing(self.websocket):
            # One thread for both directions: two at once on one TLS connection lose what it holds.
            while True:
                readable, _, _ = select.select([tls, client], [], [], 0 if tls.pending() else None)
                if tls.pending() or tls in readable:
                    client.sendall(self.websocket.recv())
                if client in readable:
                    data = client.recv(65536)
                    if not data:
                        return
                    self.websocket.send_binary(data)


def test_a_viewer_that_nobody_here_wrote(lab, tmp_path):
    told = ask(lab).json()["data"]
    url = f"wss://{lab.address}:8006/api2/json/nodes/{lab.node}/vncwebsocket"
    query = requests.compat.urlencode({"port": told["port"], "vncticket": told["ticket"]})
    cookie = {"Cookie": lab.session().headers["Cookie"]}
    tunnel = websocket.create_connection(
        f"{url}?{query}", header=cookie, subprotocols=["binary"], sslopt={"cert_reqs": ssl.CERT_NONE}, timeout=120
    )
    bridge = Bridge(tunnel)
    vncdo = pathlib.Path(sys.executable).with_name("vncdo")
    done, picture, expected = (tmp_path / name for name in ("done", "picture.png", "expected.png"))
    # It waits for a picture whose histogram is near to this one's, which must be RGB as well.
    subprocess.run(["convert", "-size", "640x400", "xc:#0000ee", f"PNG24:{expected}"], check=True)
    words = ["type", f"printf '\\033[{BLUE[0]}m\\033[2J';touch {done}", "key", "enter"]
    words += ["expect", expected, "1000", "capture", picture]
    subprocess.run(
        [vncdo, "-t", "120", "-s", f"127.0.0.1::{bridge.port}", "-p", told["password"], *words], check=True, timeout=150
    )
    wait_for("what was typed is done", done.exists)
    command = ["convert", picture, "-fill", "black", "+opaque", "#0000ee", "-format", "%[fx:mean.b*w*h]", "info:"]
    blue = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 0xEE * 255
    assert blue > 0.9 * 640 * 400, blue


def test_a_guests_serial_port_as_its_display(lab, iso):
    api = lab.api()
    upload_iso(lab, api, iso)
    create(lab, api, 510)
    start(lab, api, 510).close()
    machine = api.nodes(lab.node).qemu(510)
    # Not before: the tiny guest's boot loader does not get on without a graphics card, and the call looks only here.
    config = lab.root / f"etc/pve/nodes/{lab.node}/qemu-server/510.conf"
    config.write_text(config.read_text() + "vga: serial0\n")
    display = Display(lab, user="admin@pve", vmid=510)
    screen = display.screen
    screen.fetch()
    paint(screen, BLUE)
    screen.close()
    assert lab.wait_task(api, display.told["upid"]) == "OK"
    assert display.told["upid"].split(":")[5:7] == ["vncproxy", "510"]
    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete())
