"""Shells over SPICE: a terminal for remote-viewer, through spiceproxy."""

import os
import pathlib
import re
import socket
import struct
import subprocess
import time

import pytest

from spice import DISPLAY, INPUTS, MAIN, NO_CHANNEL, NO_SESSION, PASSWORD_REFUSED, PLAIN, SHIFT, SHIFTED
from spice import Channel, Refused, Session, tunnel
from test_spice import Display, Viewer, keys, tunnels
from waiting import wait_for

# xterm's blue and red, as escape sequences and as pixels.
BLUE, RED = ("44", (0, 0, 0xEE)), ("41", (0xCD, 0, 0))
TEXT = (0xE5, 0xE5, 0xE5)
CONTROL, ALT_GR, UP, CAPS = 0x1D, 0x38E0, 0x48E0, 0x3A


def ask(lab, user="root@pam", **parameters):
    answer = lab.call("POST", f"/nodes/{lab.node}/spiceshell", user=user, **parameters)
    assert answer.status_code == 200, (answer.reason, answer.text)
    return answer.json()["data"]


def task(lab):
    """The UPID of the newest shell."""
    tasks = lab.api().nodes(lab.node).tasks.get(typefilter="spiceshell", source="all")
    return max(tasks, key=lambda task: (task["starttime"], task["upid"]))["upid"]


def log(lab, upid):
    return [line["t"] for line in lab.api().nodes(lab.node).tasks(upid).log.get()]


@pytest.fixture(scope="module", autouse=True)
def unwanted(lab):
    """A shell that nobody comes for, asked for before everything else."""
    told = ask(lab)
    return told, task(lab), time.monotonic()


def paint(session, colour):
    """Makes the shell fill the screen with a colour, and waits until it is seen."""
    session.type(f"printf '\\033[{colour[0]}m\\033[2J'\n")
    session.until(f"the screen is {colour[1]}", lambda session: session.share(colour[1]) > 0.9)


def test_a_shell_in_a_viewer(lab, tmp_path):
    told = ask(lab, proxy="viewer.example")
    assert (told["type"], told["title"], told["proxy"]) == (
        "spice",
        f"Shell on '{lab.node}'",
        "http://viewer.example:3128",
    )
    assert 61000 <= told["tls-port"] <= 61999 and re.fullmatch("[0-9a-f]{40}", told["password"])
    assert re.fullmatch(rf"pvespiceproxy:[0-9a-f]{{8}}:0:{lab.node.lower()}:{told['tls-port']}::[0-9a-f]{{40}}", told["host"])
    upid = task(lab)
    assert upid.split(":")[5:8] == ["spiceshell", "", "root@pam"]
    session = Session(lab, told)
    assert (session.width, session.height) == (640, 400)
    seen = tmp_path / "seen"
    session.type(f"(tty; id -un; stty size; echo $TERM) > {seen}.new; mv {seen}.new {seen}\n")
    wait_for("the command has run", seen.exists)
    terminal, user, size, kind = seen.read_text().split("\n")[:4]
    assert terminal.startswith("/dev/pts/") and (user, size, kind) == ("root", "25 80", "xterm-256color")
    paint(session, BLUE)
    paint(session, RED)
    # Two colours take one bit for each pixel, and as many as there are take 32.
    session.type("for i in $(seq 16 231); do printf \"\\033[48;5;${i}m#\"; done\n")
    session.until("all kinds of pictures", lambda session: {2, 8} <= session.kinds)
    session.type("exit\n")
    assert session.main.is_closed() and session.display.is_closed() and session.inputs.is_closed()
    assert lab.wait_task(lab.api(), upid) == "OK"
    assert any(line.startswith("client connection: ") for line in log(lab, upid))


def test_keys_arrive_as_bytes(lab, tmp_path):
    session = Session(lab, ask(lab))
    pressed = tmp_path / "pressed"
    session.type(f"stty raw -echo; head -c 9 > {pressed}; stty sane\n")
    wait_for("the shell waits for keys", pressed.exists)
    session.press(CAPS)
    assert session.inputs.expect(102) == struct.pack("<H", 4)
    session.type("a")
    session.press(CAPS)
    assert session.inputs.expect(102) == struct.pack("<H", 0)
    # A viewer tells of its own keyboard's locks, too.
    session.inputs.send(103, struct.pack("<H", 4))
    session.type("b")
    session.inputs.send(103, struct.pack("<H", 0))
    session.type("c")
    session.press(UP)
    session.press(CONTROL, 0x2E)
    session.type("~|")
    wait_for("all keys arrived", lambda: len(pressed.read_bytes()) == 9)
    assert pressed.read_bytes() == b"ABc\x1b[A\x03~|"
    # The mouse's movements are counted, whether they mean anything or not.
    for _ in range(4):
        session.inputs.send(111, struct.pack("<iiH", 1, 1, 0))
    session.inputs.expect(111)
    session.close()


def test_another_layout(lab, tmp_path):
    config = lab.root / "etc/pve/datacenter.cfg"
    before = config.read_text() if config.exists() else None
    config.write_text((before or "") + "keyboard: de\n")
    try:
        session = Session(lab, ask(lab))
    finally:
        config.write_text(before) if before is not None else config.unlink()
    pressed = tmp_path / "pressed"
    # Letters that are where they are in America; the slash is Shift-7.
    command = f"head -c 9 > {pressed}\n"
    for char in command:
        session.press(*german(char))
    wait_for("the shell waits for keys", pressed.exists)
    session.press(0x15)
    session.press(0x2C)
    session.press(ALT_GR, 0x10)
    session.press(ALT_GR, 0x12)
    session.press(0x27)
    session.press(0x1C)
    wait_for("all keys arrived", lambda: pressed.read_bytes())
    assert pressed.read_text() == "zy@€ö\n"
    session.close()


def german(char):
    """The keys for a character."""
    special = {"/": [SHIFT, 0x08], "-": [0x35], ">": [SHIFT, 0x56], "_": [SHIFT, 0x35], "y": [0x2C], "z": [0x15]}
    if char in special:
        return special[char]
    assert char.isalnum() or char in " \n", char
    return [PLAIN[char]] if char in PLAIN else [SHIFT, SHIFTED[char]]


def test_only_the_caller_gets_in_and_only_once(lab, tmp_path):
    told = ask(lab)
    upid = task(lab)
    with pytest.raises(Refused, match=str(PASSWORD_REFUSED)):
        Channel(lab, told, MAIN, password="0" * 40)
    # Nothing but a session's first channel can begin one, and there are no others than a terminal needs.
    with pytest.raises(Refused, match=str(NO_SESSION)):
        Channel(lab, told, DISPLAY)
    with pytest.raises(Refused, match=str(NO_CHANNEL)):
        Channel(lab, told, 5)
    # Neither what is no SPICE nor what is no TLS disturbs who comes after it.
    stranger = tunnel(lab, told)
    stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert struct.unpack_from("<4sIIII", stranger.recv(4096))[4] == 2
    with socket.create_connection((lab.address, told["tls-port"])) as plain:
        plain.sendall(b"REDQ" + bytes(200))
        try:
            # Nothing, or one of TLS's alerts.
            assert plain.recv(4096)[:1] in (b"", b"\x15")
        except ConnectionResetError:
            pass
    main = Channel(lab, told, MAIN)
    (session, *_) = struct.unpack("<8I", main.expect(103))
    for kind, number, refusal in [
        (MAIN, 0, PASSWORD_REFUSED),
        (INPUTS, 0, NO_SESSION),
        (INPUTS, session ^ 1, NO_SESSION),
    ]:
        with pytest.raises(Refused, match=str(refusal)):
            Channel(lab, told, kind, number)
    with pytest.raises(Refused, match=str(PASSWORD_REFUSED)):
        Channel(lab, told, INPUTS, session, password="0" * 40)
    inputs = Channel(lab, told, INPUTS, session)
    with pytest.raises(Refused, match=str(NO_CHANNEL)):
        Channel(lab, told, INPUTS, session)
    inputs.close()
    main.close()
    assert lab.wait_task(lab.api(), upid) == "OK"
    lines = log(lab, upid)
    assert any(line.endswith("refused - authentication request failed") for line in lines), lines
    assert told["password"] not in "".join(lines)


def test_the_shell_goes_with_its_client(lab, tmp_path):
    told = ask(lab)
    upid = task(lab)
    session = Session(lab, told)
    pid = tmp_path / "pid"
    session.type(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600\n")
    wait_for("the shell runs", pid.exists)
    shell = pathlib.Path(f"/proc/{pid.read_text().strip()}/stat")

    def runs():
        # What has ended may be in the table still, until somebody asks for its status.
        return shell.exists() and shell.read_text().rpartition(")")[2].split()[0] != "Z"

    assert runs()
    session.close()
    assert lab.wait_task(lab.api(), upid) == "OK"
    wait_for("the shell has ended", lambda: not runs(), seconds=10)


def test_a_client_that_reads_nothing_stops_nobody(lab, tmp_path):
    session = Session(lab, ask(lab))
    upid = task(lab)
    worker = int(upid.split(":")[2], 16)
    done = tmp_path / "done"
    # Hundreds of screens in all colours, a megabyte of pictures each, which nobody takes or says to have taken.
    line = "x=$(seq -f '\\033[48;5;%gm#' -s '' 0 255)"
    session.type(f"{line}; for i in $(seq 2000); do printf \"$x\"; done; touch {done}\n")
    wait_for("the program is through", done.exists)
    status = open(f"/proc/{worker}/status").read()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak < 100_000, status
    session.close()
    assert lab.wait_task(lab.api(), upid) == "OK"


def test_who_may_have_what(lab):
    where = f"/nodes/{lab.node}/spiceshell"
    for user, parameters, status, reason in [
        ("admin@pve", {"cmd": "upgrade"}, 403, "Permission check failed (user != root@pam)"),
        ("root@pam", {"cmd": "reboot"}, 400, "Parameter verification failed."),
        ("root@pam", {"cmd-opts": "x"}, 400, "Parameter verification failed."),
    ]:
        answer = lab.call("POST", where, user=user, **parameters)
        assert answer.status_code == status and answer.reason.startswith(reason), (parameters, answer.reason)
    # Others are asked who they are: what is typed after that shows, and runs nothing.
    session = Session(lab, ask(lab, user="admin@pve"))
    session.until("login asks for a name", lambda session: session.share(TEXT) > 0)
    before = session.share(TEXT)
    session.type("nobody")
    session.until("the name shows", lambda session: session.share(TEXT) > before)
    session.close()


def test_a_viewer_that_nobody_here_wrote(lab, tmp_path):
    session = lab.session("root@pam")
    answer = session.post(
        f"{lab.url}/api2/spiceconfig/nodes/{lab.node}/spiceshell", data={"proxy": lab.address}, timeout=40
    )
    assert answer.status_code == 200, answer.reason
    assert keys(answer.text)["title"] == f"Shell on '{lab.node}'"
    upid = task(lab)
    with Display() as display, Viewer(display, tmp_path, answer.text) as viewer:

        def shows(colour):
            def seen():
                assert viewer.process.poll() is None, f"remote-viewer ended:\n{viewer.log()[-4000:]}"
                return display.count(colour) > 0.9 * 640 * 400

            return seen

        def command(*words):
            return subprocess.run(
                ["xdotool", *map(str, words)],
                env={**os.environ, "DISPLAY": display.name},
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
            ).stdout

        wait_for("the viewer shows text", lambda: display.count(TEXT) > 50, every=0.5)
        wait_for("one tunnel for each channel", lambda: tunnels(lab) == 3)
        window = command("search", "--onlyvisible", "--name", "Shell on").split()[0]
        command("windowfocus", "--sync", window)
        # A viewer takes the keyboard where its mouse is.
        command("mousemove", "--window", window, 300, 200, "click", 1)
        done = tmp_path / "done"
        command("type", "--delay", 30, f"printf '\\033[{BLUE[0]}m\\033[2J';touch {done}")
        # A line feed in that text would be a key that no keyboard has.
        command("key", "Return")
        wait_for("what was typed is done", done.exists)
        wait_for("the viewer shows the shell's screen", shows(BLUE[1]), every=0.5)
    assert lab.wait_task(lab.api(), upid) == "OK"
    wait_for("the viewer's tunnels end", lambda: tunnels(lab) == 0)


def test_a_shell_waits_for_its_client_for_a_while(lab, unwanted):
    told, upid, begin = unwanted
    wait_for("nobody is waited for any more", lambda: "TASK OK" in log(lab, upid))
    status = lab.api().nodes(lab.node).tasks(upid).status.get()
    assert status["exitstatus"] == "OK" and time.monotonic() - begin > 39
    assert "failed waiting for client: timed out" in log(lab, upid)
    with pytest.raises(AssertionError):
        Channel(lab, told, MAIN)
