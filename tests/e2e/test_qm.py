"""`qm`, `pvesm`, `vzdump`, `pvenode` and `pveversion` as administrators and their scripts call them, with a real guest."""

import os
import pty
import re
import select
import subprocess

import pytest

from lab import BINARIES
from test_machine import MACHINE, upload_iso
from tools import without_waits
from waiting import wait_for


class Tools:
    """The command lines on a lab's root."""

    def __init__(self, lab):
        self.lab = lab

    def words(self, line):
        tool, *words = line if isinstance(line, list) else line.split()
        return [os.fspath(BINARIES / "pve-cli"), tool, *map(str, words), "--root", os.fspath(self.lab.root)]

    def run(self, line, **options):
        done = subprocess.run(self.words(line), capture_output=True, text=True, timeout=120, **options)
        assert "panicked" not in done.stderr, done
        return done

    def __call__(self, line):
        """A call that goes well: what it printed."""
        done = self.run(line)
        assert (done.returncode, without_waits(done.stderr)) == (0, ""), done
        return done.stdout

    def refused(self, line):
        """What is said to a call that fails."""
        done = self.run(line)
        assert done.returncode == 255, done
        return done.stderr


@pytest.fixture
def tools(lab):
    return Tools(lab)


def create(tools, vmid, *words):
    options = [f"--{key}={value}" for key, value in MACHINE.items()]
    return tools(["qm", "create", vmid, *options, *words])


def test_a_machine_lives_by_the_command_line(lab, iso, tools):
    upload_iso(lab, lab.api(), iso)
    assert tools("qm list") == ""
    log = create(tools, 100, "--boot", "order=ide2;scsi0")
    assert "successfully created disk" in log and log.endswith("TASK OK\n")
    header, row = tools("qm list").splitlines()
    assert header == "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       "
    assert row.split() == ["100", "tiny", "stopped", "256", "1.00", "0"]
    assert tools("qm status 100") == "status: stopped\n"
    config = dict(line.split(": ", 1) for line in tools("qm config 100").splitlines())
    assert config["name"] == "tiny" and "digest" not in config
    # A word may be cut short, an option has one dash or two, and an older name does the same.
    assert tools("qm conf 100") == tools("qm config 100")
    assert tools("qm set 100 -onboot 1 --description two%20words") == ""
    assert "\nonboot: 1\n" in tools("qm config 100")
    assert tools("qm resize 100 scsi0 +1G").endswith("TASK OK\n")
    assert "size=2G" in tools("qm config 100")

    assert tools("qm start 100").endswith("TASK OK\n")
    lab.serial(100).expect("tiny-guest ready")
    row = tools("qm list").splitlines()[1].split()
    pid = int((lab.root / "run/qemu-server/100.pid").read_text())
    assert row[2] == "running" and int(row[-1]) == pid
    verbose = tools("qm status 100 --verbose").splitlines()
    assert f"pid: {pid}" in verbose and "qmpstatus: running" in verbose and verbose == sorted(verbose)
    # What runs is what is printed.
    shown = tools("qm showcmd 100")
    arguments = open(f"/proc/{pid}/cmdline").read().split("\0")
    assert all(argument in shown for argument in ("scsi0", "-daemonize", "tiny")) and arguments[0] in shown
    assert tools("qm showcmd 100 --pretty").replace(" \\\n  ", " ") == shown
    assert tools("qm suspend 100").endswith("TASK OK\n")
    assert "qmpstatus: paused" in tools("qm status 100 --verbose")
    assert tools("qm resume 100").endswith("TASK OK\n")
    assert tools("qm sendkey 100 ctrl") == ""
    # What waits for the next start is told apart from what runs.
    tools("qm set 100 --memory 300")
    assert {"cur memory: 256", "new memory: 300"} <= set(tools("qm pending 100").splitlines())

    done = tools.run("qm start 100")
    assert (done.returncode, done.stdout) == (255, "TASK ERROR: VM 100 already running\n"), done
    # Somebody waits for its end, and it comes.
    assert "still running" in tools.refused("qm wait 100 --timeout 1")
    waits = subprocess.Popen(tools.words("qm wait 100 -timeout 60"))
    assert tools("qm stop 100").endswith("TASK OK\n")
    assert waits.wait(timeout=60) == 0
    assert tools("qm status 100") == "status: stopped\n"

    # A lock is in everybody's way until somebody takes it off.
    tools("qm set 100 --lock backup")
    assert "locked (backup)" in tools.run("qm start 100").stdout + tools.run("qm start 100").stderr
    assert tools("qm unlock 100") == ""
    assert "\nlock:" not in tools("qm config 100")
    assert tools("qm destroy 100").endswith("TASK OK\n")
    assert tools.refused("qm status 100") == f"Configuration file 'nodes/{lab.node}/qemu-server/100.conf' does not exist\n"


def test_what_makes_no_sense_is_refused(tools):
    assert tools.refused("qm frobnicate 100").startswith("ERROR: unknown command 'qm frobnicate'\nUSAGE: qm ")
    assert tools.refused("qm status").startswith("400 not enough arguments\nqm status <vmid>")
    assert tools.refused("qm status 5").startswith("400 Parameter verification failed.\nvmid: ")
    assert tools.refused("qm sendkey 100").startswith("400 not enough arguments\nqm sendkey <vmid> <key>")
    assert "Unknown option: nosuch" in tools.refused("qm config 100 --nosuch 1")
    # Verbs come with their methods: nobody may take one for another whose method is not there.
    for verb in ("clone", "migrate", "template"):
        done = tools.run(f"qm {verb} 100 101")
        assert done.returncode == 255


def test_storages_and_volumes(lab, tools):
    header, row = tools("pvesm status").splitlines()
    assert header == "Name             Type     Status           Total            Used       Available        %"
    assert re.match(r"local             dir     active +\d+ +\d+ +\d+ +\d+\.\d\d%$", row)
    made = tools(["pvesm", "alloc", "local", 300, "", "4M"])
    volume = re.fullmatch(r"successfully created '(local:300/vm-300-disk-0\.raw)'\n", made)[1]
    path = tools(f"pvesm path {volume}").strip()
    assert os.path.getsize(path) == 4 << 20
    lines = tools("pvesm list local --vmid 300").splitlines()
    assert lines[0].split() == ["Volid", "Format", "Type", "Size", "VMID"]
    assert lines[1].split() == [volume, "raw", "images", str(4 << 20), "300"]
    # The disk of a machine that does not list it is found.
    create(tools, 300)
    assert f"add unreferenced volume '{volume}' as 'unused0' to config" in tools("qm rescan --vmid 300")
    assert f"unused0: {volume}" in tools("qm config 300")
    tools("qm destroy 300 --destroy-unreferenced-disks 1")

    assert tools(f"pvesm add dir more --path {lab.root}/srv/more --content images,backup") == ""
    assert len(tools("pvesm status").splitlines()) == 3
    assert tools("pvesm set more --disable 1") == ""
    row = tools("pvesm status --noheader").splitlines()[1].split()
    assert row == ["more", "dir", "disabled", "N/A", "N/A", "N/A", "N/A"]
    assert tools("pvesm remove more") == ""
    assert "more" not in tools("pvesm status")


def test_backups_are_made_stopped_and_read(lab, tools):
    create(tools, 301)
    log = tools("vzdump 301 --mode stop --compress 0")
    assert "INFO: Finished Backup of VM 301" in log and log.endswith("TASK OK\n")
    (volume,) = re.findall(r"local:backup/vzdump-qemu-301-\S+", tools("pvesm list local --content backup"))
    assert "name: tiny" in tools(f"pvesm extractconfig {volume}")
    # One of them fails, and so does the call.
    done = tools.run("vzdump 301 999")
    assert done.returncode == 255 and "TASK ERROR: job errors" in done.stdout
    # What pve-guests.service does before it stops the guests: a backup that would take hours ends.
    tools(["qm", "set", 301, "--scsi2", "local:2"])
    disk = tools("pvesm path " + re.search(r"scsi2: ([^,]+)", tools("qm config 301"))[1]).strip()
    if disk.endswith(".raw"):
        with open(disk, "r+b") as file:
            for offset in range(0, 64 << 20, 1 << 20):
                file.seek(offset)
                file.write(os.urandom(1 << 20))
    runs = subprocess.Popen(tools.words("vzdump 301 --bwlimit 100 --compress 0"), stdout=subprocess.PIPE, text=True)
    begins = lambda: "vzdump" in [row["type"] for row in lab.api().nodes(lab.node).tasks.get(source="active")]
    wait_for("the backup runs", begins, 60)
    wait_for("the machine is held", lambda: "lock: backup" in tools("qm config 301"), 60)
    assert tools("vzdump -stop") == "OK\n"
    told, _ = runs.communicate(timeout=60)
    assert runs.returncode == 255 and "TASK ERROR" in told, told
    wait_for("the machine is let go", lambda: "lock:" not in tools("qm config 301"), 60)
    tools(f"pvesm free {volume}")
    wait_for("the machine is off", lambda: "stopped" in tools("qm status 301"), 60)
    tools("qm destroy 301")


def test_the_node_and_its_tasks(lab, tools):
    create(tools, 302)
    tools("qm destroy 302")
    rows = tools("pvenode task list --limit 1 --noborder --noheader --human-readable 0")
    (upid,) = re.findall(r"UPID:\S+", rows)
    assert ":qmdestroy:302:" in upid
    log = tools(f"pvenode task log {upid}")
    assert log.splitlines()[-1] == "TASK OK" and len(log.splitlines()) > 1
    status = tools(f"pvenode task status {upid} --output-format json")
    assert '"exitstatus":"OK"' in status
    assert re.fullmatch(r"pve-manager/9\.2\.\d+/[0-9a-f]{8,} \(running kernel: \S+\)\n", tools("pveversion"))
    release = lab.call("GET", "/version").json()["data"]
    assert tools("pveversion").startswith(f"pve-manager/{release['version']}/{release['repoid']} ")
    verbose = tools("pveversion --verbose").splitlines()
    assert verbose[1] == f"pve-manager: {release['version']} (running version: {release['version']}/{release['repoid']})"
    # A node is called localhost, too.
    name = ["pvesh", "--nooutput", "create", "/nodes/localhost/qemu", "--vmid", 303, "--memory", 64]
    assert "TASK OK" not in tools(name)
    assert tools("pvesh get /nodes/localhost/qemu/303/config --output-format json").count('"memory":"64"') == 1
    tools("qm destroy 303")


def test_a_terminal_shows_that_something_goes_on(tools):
    """A task that says nothing for a while: a machine without anything to boot does not hear its power button."""
    tools("qm create 304 --memory 64 --kvm 0")
    tools("qm start 304")
    call = tools.words("qm shutdown 304 --timeout 4 --forceStop 1")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(call[0], call)
    seen = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, seen
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            break
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert re.search(rb"\r\x1b\[Krunning 0:0\d", seen) and b"\r\nTASK WARNINGS: 1\r\n" in seen, seen
    # It goes before the log goes on, and nobody sees it who reads a pipe.
    assert seen.rindex(b"\r\x1b[K") > seen.rindex(b"running 0:")
    assert "\x1b" not in tools("qm destroy 304")
