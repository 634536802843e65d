"""Terminals in a browser, spoken to as xterm.js does: a shell of the node, and a guest's serial port."""

import ssl
import urllib.parse

import pytest
import websocket

from test_machine import create, upload_iso
from waiting import wait_for


class Terminal:
    """The other end of a `termproxy` call."""

    def __init__(self, lab, path, user="root@pam", **parameters):
        answer = lab.call("POST", f"{path}/termproxy", user=user, **parameters)
        assert answer.status_code == 200, (answer.reason, answer.text)
        self.console = answer.json()["data"]
        query = urllib.parse.urlencode({"port": self.console["port"], "vncticket": self.console["ticket"]})
        url = f"{lab.url}/api2/json{path}/vncwebsocket?{query}".replace("https", "wss")
        headers = {key: value for key, value in lab.session(user).headers.items() if key == "Cookie"}
        self.socket = websocket.create_connection(
            url, header=headers, subprotocols=["binary"], sslopt={"cert_reqs": ssl.CERT_NONE}, timeout=120
        )
        self.seen = b""

    def log_in(self, user=None, ticket=None):
        self.socket.send_binary(f"{user or self.console['user']}:{ticket or self.console['ticket']}\n".encode())
        return self

    def type(self, text):
        data = text.encode()
        # A frame's borders are nobody else's.
        frame = f"0:{len(data)}:".encode() + data
        self.socket.send_binary(frame[:3])
        self.socket.send_binary(frame[3:])

    def expect(self, text):
        def seen():
            self.seen += self.socket.recv()
            return text.encode() in self.seen

        return wait_for(f"the terminal shows {text!r}; it showed {self.seen[-500:]!r}", seen, every=0)

    def is_closed(self):
        try:
            return self.socket.recv() == b""
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return True


def test_a_shell_of_the_node(lab):
    terminal = Terminal(lab, f"/nodes/{lab.node}").log_in()
    terminal.expect("OK")
    terminal.socket.send_binary(b"1:132:50:2")
    # `$` would be no sign of a shell: the words would be echoed.
    terminal.type("stty size; tty; id -un; echo done-$((6*7))\n")
    terminal.expect("done-42")
    assert b"50 132" in terminal.seen and b"/dev/pts/" in terminal.seen and b"root" in terminal.seen
    terminal.type("exit\n")
    wait_for("the terminal closes", terminal.is_closed, every=0)
    api = lab.api()
    assert lab.wait_task(api, terminal.console["upid"]) == "OK"
    assert terminal.console["upid"].split(":")[5:7] == ["vncshell", ""]


def test_a_shell_ends_with_its_client(lab):
    terminal = Terminal(lab, f"/nodes/{lab.node}").log_in()
    terminal.type("echo shell-$$-\n")
    terminal.expect("shell-")
    terminal.socket.close()
    assert lab.wait_task(lab.api(), terminal.console["upid"]) == "OK"


def test_others_are_asked_for_a_password(lab):
    terminal = Terminal(lab, f"/nodes/{lab.node}", user="admin@pve", cmd="upgrade").log_in()
    terminal.expect("login:")
    terminal.socket.close()


@pytest.mark.parametrize("changes", [{"user": "admin@pve"}, {"ticket": "PVEVNC:00000000::AAAA"}])
def test_only_the_caller_gets_the_terminal(lab, changes):
    terminal = Terminal(lab, f"/nodes/{lab.node}").log_in(**changes)
    wait_for("the terminal closes", terminal.is_closed, every=0)
    assert terminal.seen == b""
    assert lab.wait_task(lab.api(), terminal.console["upid"]) == "authentication request failed"


def test_a_foreign_ticket_opens_no_websocket(lab):
    shell = Terminal(lab, f"/nodes/{lab.node}")
    query = urllib.parse.urlencode({"port": shell.console["port"], "vncticket": shell.console["ticket"]})
    for path, user in ((f"/nodes/{lab.node}/qemu/100", "root@pam"), (f"/nodes/{lab.node}", "admin@pve")):
        answer = lab.session(user).get(f"{lab.url}/api2/json{path}/vncwebsocket?{query}", timeout=30)
        assert answer.status_code in (401, 403), answer.text
    shell.socket.close()


def test_a_guests_serial_port(lab, iso):
    api = lab.api()
    upload_iso(lab, api, iso)
    create(lab, api, 500)
    machine = api.nodes(lab.node).qemu(500)
    lab.run_task(api, machine.status.start.post())
    terminal = Terminal(lab, f"/nodes/{lab.node}/qemu/500", user="admin@pve").log_in()
    terminal.expect("OK")
    terminal.expect("tiny-guest ready")
    terminal.type("echo guest-$((6*7))\n")
    terminal.expect("guest-42")
    terminal.socket.close()
    assert lab.wait_task(api, terminal.console["upid"]) == "OK"
    refused = lab.call("POST", f"/nodes/{lab.node}/qemu/500/termproxy", serial="serial3")
    assert refused.status_code == 500 and "unable to find a serial interface" in refused.reason
    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete())
