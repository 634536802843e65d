"""SPICE as its user sees it: remote-viewer, on a display of its own, through spiceproxy to a guest's screen."""

import os
import re
import signal
import socket
import subprocess

import pytest

from test_machine import create, start, upload_iso
from waiting import wait_for

VMID = 400
# The console's escape sequences for a background, and their colours: VGA has six bits for each part.
BLUE, RED = (44, (0, 0, 168)), (41, (168, 0, 0))


class Display:
    """An X server without a screen."""

    def __enter__(self):
        read, write = os.pipe()
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as number:
            self.name = f":{int(number.readline())}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)

    def count(self, colour):
        """How many pixels of the whole screen have a colour."""
        picture = subprocess.run(
            ["import", "-display", self.name, "-window", "root", "-depth", "8", "ppm:-"],
            check=True,
            capture_output=True,
        ).stdout
        width, height = (int(number) for number in re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", picture).groups())
        pixels = picture[-3 * width * height :]
        return sum(pixels[at : at + 3] == bytes(colour) for at in range(0, len(pixels), 3))

    def titles(self):
        return subprocess.run(
            ["xwininfo", "-display", self.name, "-root", "-tree"], check=True, capture_output=True, text=True
        ).stdout


class Viewer:
    """remote-viewer with a file that the API gave."""

    def __init__(self, display, home, file):
        self.display, self.home, self.file = display, home, file

    def __enter__(self):
        path = self.home / "pve-spice.vv"
        path.write_text(self.file)
        environment = {
            "PATH": os.environ["PATH"],
            "DISPLAY": self.display.name,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "NO_AT_BRIDGE": "1",
            "LC_ALL": "C.UTF-8",
        }
        with open(self.home / "viewer.log", "wb") as log:
            self.process = subprocess.Popen(
                ["remote-viewer", "--debug", path], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(timeout=20)

    def log(self):
        return (self.home / "viewer.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def machine(lab, iso):
    """A running machine with a SPICE display: (api, its node, its serial port)."""
    api = lab.api()
    upload_iso(lab, api, iso)
    create(lab, api, VMID, vga="qxl")
    serial = start(lab, api, VMID)
    yield api, api.nodes(lab.node).qemu(VMID), serial
    lab.run_task(api, api.nodes(lab.node).qemu(VMID).status.stop.post())


def viewer_file(lab, **parameters):
    """What a browser downloads for remote-viewer."""
    session = lab.session("admin@pve")
    where = f"{lab.url}/api2/spiceconfig/nodes/{lab.node}/qemu/{VMID}/spiceproxy"
    answer = session.post(where, data=parameters, timeout=40)
    assert answer.status_code == 200, answer.reason
    assert answer.headers["Content-Type"] == "application/x-virt-viewer;charset=UTF-8"
    return answer.text


def keys(file):
    group, *lines = file.splitlines()
    assert group == "[virt-viewer]"
    return dict(line.split("=", 1) for line in lines)


def tunnels(lab):
    """How many viewers are connected to spiceproxy."""
    command = ["ss", "-Htn", "state", "established", "src", f"{lab.address}:3128"]
    return len(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def paint(serial, colour):
    """Fills the guest's screen with a colour."""
    serial.send(f"printf '\\033[{colour[0]}m\\033[2J\\033[H' > /dev/tty0; echo painted-$(({colour[0]}*2))")
    serial.expect(f"painted-{colour[0] * 2}")


def wait_until_seen(display, viewer, colour):
    """Waits until most of a text screen of 720 by 400 shows it in the viewer's window."""

    def seen():
        assert viewer.process.poll() is None, f"remote-viewer ended:\n{viewer.log()[-4000:]}"
        return display.count(colour[1]) > 250_000

    wait_for(f"the viewer shows {colour[1]}", seen, every=0.5)


def test_the_answer_has_what_a_viewer_needs(lab, machine):
    _, guest, _ = machine
    told = guest.spiceproxy.post(proxy="2001:db8::1")
    assert (told["type"], told["title"], told["proxy"]) == ("spice", f"VM {VMID} - tiny", "http://[2001:db8::1]:3128")
    assert 61000 <= told["tls-port"] <= 61999
    assert re.fullmatch("[0-9a-f]{40}", told["password"])
    plain = rf"pvespiceproxy:[0-9a-f]{{8}}:{VMID}:{lab.node.lower()}:{told['tls-port']}"
    assert re.fullmatch(rf"{plain}::[0-9a-f]{{40}}", told["host"])
    assert told["host-subject"].startswith("OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=")
    authority = (lab.root / "etc/pve/pve-root-ca.pem").read_text()
    assert told["ca"] == authority.replace("\n", "\\n")
    assert told["delete-this-file"] == 1
    file = keys(viewer_file(lab))
    assert file["proxy"] == f"http://{lab.address}:3128"
    assert file.keys() == told.keys()
    assert file["password"] != told["password"]


def test_remote_viewer_shows_the_guest(lab, machine, tmp_path):
    _, _, serial = machine
    paint(serial, BLUE)
    file = viewer_file(lab, proxy=lab.address)
    with Display() as display, Viewer(display, tmp_path, file) as viewer:
        wait_until_seen(display, viewer, BLUE)
        assert f"VM {VMID} - tiny" in display.titles()
        wait_for("one tunnel for each channel", lambda: tunnels(lab) >= 4)

        # The session is alive, and a reload of the proxy does not touch it.
        master, workers = lab.daemon_pids("spiceproxy")
        assert len(workers) == 1
        os.kill(master, signal.SIGHUP)
        wait_for("another worker", lambda: set(lab.daemon_pids("spiceproxy")[1]) - set(workers))
        paint(serial, RED)
        wait_until_seen(display, viewer, RED)
        wait_for("nothing is blue any more", lambda: display.count(BLUE[1]) < 1000, every=0.5)

        os.kill(viewer.process.pid, signal.SIGKILL)
        wait_for("the killed viewer's tunnels end", lambda: tunnels(lab) == 0)
    log = (lab.root / "var/log/pveproxy/access.log").read_text()
    connects = [line for line in log.splitlines() if '"CONNECT pvespiceproxy:' in line]
    assert connects and all(line.endswith(" 200 -") and "::***:" in line for line in connects), connects

    # Another one after that finds the guest's door as it was.
    with Display() as display, Viewer(display, tmp_path, viewer_file(lab, proxy=lab.address)) as viewer:
        wait_until_seen(display, viewer, RED)


def connect(lab, host):
    """The first line of spiceproxy's answer."""
    with socket.create_connection((lab.address, 3128), timeout=20) as client:
        client.sendall(f"CONNECT {host} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return client.recv(65536).decode().split("\r\n")[0]


def test_only_good_tickets_pass(lab, machine):
    _, guest, _ = machine
    told = guest.spiceproxy.post()
    host, port = told["host"], told["tls-port"]
    assert connect(lab, f"{host}:{port}") == "HTTP/1.0 200 OK"
    for bad in (host, f"{host}:22", f"{host[:-1]}x:{port}", f"{host}:{port}".replace(f":{VMID}:", ":401:")):
        assert connect(lab, bad) == "HTTP/1.0 401 invalid ticket", bad


def test_a_machine_without_a_viewer_says_so(lab, machine):
    answer = lab.call("POST", f"/nodes/{lab.node}/qemu/499/spiceproxy")
    assert (answer.status_code, "does not exist" in answer.reason) == (500, True), answer.reason
    api, _, _ = machine
    create(lab, api, 401, ide2="none,media=cdrom", boot="order=scsi0")
    answer = lab.call("POST", f"/nodes/{lab.node}/qemu/401/spiceproxy")
    assert (answer.status_code, answer.reason) == (500, "VM 401 not running")
    other = api.nodes(lab.node).qemu(401)
    lab.run_task(api, other.status.start.post())
    answer = lab.call("POST", f"/nodes/{lab.node}/qemu/401/spiceproxy")
    assert (answer.status_code, answer.reason) == (500, "no spice port")
    lab.run_task(api, other.status.stop.post())
