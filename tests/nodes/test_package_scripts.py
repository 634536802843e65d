"""What happens at installation, upgrade and removal where systemd does not run, where an administrator's policy forbids it
to be asked, and where somebody else's files are."""

import contextlib
import re
import subprocess

from waiting import wait_for

DAEMONS = ["qmeventd", "pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler"]
UNITS = ["pve-cluster", *DAEMONS, "pve-guests"]


class Chroot:
    """The root directory of a node that is not booted, as tools that make images see it."""

    def __init__(self, node):
        self.root = node.root

    def run(self, *words):
        command = ["chroot", self.root, "env", "DEBIAN_FRONTEND=noninteractive", *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def install(self, package):
        (self.root / "var/cache" / package.path.name).write_bytes(package.path.read_bytes())
        return self.run("dpkg", "--install", f"/var/cache/{package.path.name}")

    def state(self, name):
        return self.run("dpkg-query", "--show", "--showformat=${db:Status-Status}", name)[1]


@contextlib.contextmanager
def mounted(directory):
    """A file system of its own on a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "disk", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def active(node, units):
    return node.try_run("systemctl", "is-active", *(f"{unit}.service" for unit in units))[1].split()


def main_pids(node):
    return [node.run("systemctl", "show", "--property=MainPID", "--value", f"{name}.service") for name in DAEMONS]


def workers(node):
    """The workers' processes: a reload replaces them."""
    return set(node.shell("for name in pvedaemon pveproxy; do pgrep -f \"^$name worker\"; done").split())


def test_what_is_installed_without_systemd_is_ready_at_the_first_boot(blank, package):
    node = blank()
    chroot = Chroot(node)
    code, output = chroot.install(package)
    assert code == 0, output
    # The machine that makes an image is not the one that runs it: keys and names come later.
    assert list((node.root / "etc/pve").iterdir()) == []
    assert "root:100000:65536" in (node.root / "etc/subuid").read_text().splitlines()
    # Masked in the image, and an upgrade of it.
    (node.root / "etc/systemd/system/spiceproxy.service").symlink_to("/dev/null")
    code, output = chroot.install(package.newer(1))
    assert code == 0, output
    node.boot()
    wanted = [unit for unit in UNITS if unit != "spiceproxy"]
    wait_for(lambda: f"all is active: {active(node, wanted)}", lambda: set(active(node, wanted)) == {"active"})
    assert active(node, ["spiceproxy"]) == ["inactive"]
    subject = node.run("openssl", "x509", "-in", "/etc/pve/local/pve-ssl.pem", "-noout", "-subject")
    assert re.search(r"CN ?= ?n2(\.example\.org)?$", subject.strip()), subject

    # A policy that forbids everything: an upgrade asks systemd for nothing.
    before = main_pids(node), workers(node)
    node.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    node.run("chmod", "755", "/usr/sbin/policy-rc.d")
    package.newer(2).install(node)
    assert (main_pids(node), workers(node)) == before
    # Without it the same processes execute the new programs.
    node.run("rm", "/usr/sbin/policy-rc.d")
    package.newer(3).install(node)
    assert main_pids(node) == before[0]
    wait_for("workers of the new programs", lambda: not workers(node) & before[1])
    assert active(node, ["spiceproxy"]) == ["inactive"]

    # Removed and installed again: what is enabled runs again.
    node.run("systemctl", "disable", "--now", "pvescheduler", "pvestatd")
    node.run("apt-get", "remove", "-y", "pve-rs")
    assert set(active(node, DAEMONS)) <= {"inactive", "unknown"}
    assert node.try_run("pgrep", "-f", "pvedaemon")[1] == ""
    package.newer(3).install(node)
    stopped = ["spiceproxy", "pvescheduler", "pvestatd"]
    wanted = [unit for unit in UNITS if unit not in stopped]
    assert set(active(node, wanted)) == {"active"}
    assert set(active(node, stopped)) == {"inactive"}
    # Nor does the next boot start what is disabled, on behalf of another unit.
    node.reboot()
    wait_for(lambda: f"all is active: {active(node, wanted)}", lambda: set(active(node, wanted)) == {"active"})
    assert set(active(node, stopped)) == {"inactive"}

    # Settings that the new program does not start with: the old one goes on, and the upgrade says so.
    before = main_pids(node), workers(node)
    node.write("/etc/default/pveproxy", "POLICY=maybe\n")
    output = package.newer(4).install(node)
    assert "pveproxy.service was not reloaded and goes on as it was" in output
    assert "unknown policy 'maybe'" in output
    assert main_pids(node) == before[0] and active(node, ["pveproxy"]) == ["active"]


def test_guests_and_jobs_wait_for_remote_mounts_without_pveproxy(blank, package):
    node = blank()
    code, output = Chroot(node).install(package)
    assert code == 0, output
    units = node.root / "etc/systemd/system"
    (units / "pveproxy.service").symlink_to("/dev/null")
    # Stands for a mount of a server that takes its time.
    lines = ["[Unit]", "DefaultDependencies=no", "Before=remote-fs.target", "[Service]", "Type=oneshot",
             "RemainAfterExit=yes", "ExecStart=/bin/sleep 5"]  # fmt: skip
    (units / "far.service").write_text("".join(f"{line}\n" for line in lines))
    (units / "remote-fs.target.wants").mkdir(exist_ok=True)
    (units / "remote-fs.target.wants/far.service").symlink_to("../far.service")
    node.boot()
    wanted = ["pve-guests", "pvescheduler", "pvedaemon", "far"]
    wait_for(lambda: f"all is active: {active(node, wanted)}", lambda: set(active(node, wanted)) == {"active"})
    assert active(node, ["pveproxy"]) == ["inactive"]
    assert node.is_active("pve-storage.target")
    there = int(node.unit("far.service", "ActiveEnterTimestampMonotonic"))
    for unit in ("pve-guests.service", "pvescheduler.service"):
        # When it began to start.
        assert int(node.unit(unit, "InactiveExitTimestampMonotonic")) >= there, unit


def test_removal_and_purge_without_systemd_leave_guests_and_configurations(blank, package):
    node = blank()
    chroot = Chroot(node)
    assert chroot.install(package)[0] == 0
    # A database of upstream's, from before.
    for path in ("var/lib/pve-cluster/config.db", "etc/pve/user.cfg", "var/lib/vz/images/100/vm-100-disk-0.raw", "var/log/pve/tasks/index"):
        (node.root / path).parent.mkdir(parents=True, exist_ok=True)
        (node.root / path).write_text("mine")
    code, output = chroot.run("dpkg", "--remove", "pve-rs")
    assert code == 0, output
    assert chroot.state("pve-rs") == "config-files"
    assert (node.root / "var/log/pve/tasks/index").exists()
    # An administrator's disk for logs: emptied, and all else goes as without it.
    disk = node.root / "var/log/pveproxy"
    disk.mkdir()
    with mounted(disk):
        (disk / "access.log").write_text("mine")
        code, output = chroot.run("dpkg", "--purge", "pve-rs")
        assert code == 0, output
        assert "what is left of /var/log/pveproxy is yours to remove" in output
        assert list(disk.iterdir()) == []
    disk.rmdir()
    assert chroot.state("pve-rs") in ("", "not-installed") or "no packages found" in chroot.state("pve-rs"), output
    assert (node.root / "etc/pve/user.cfg").read_text() == "mine"
    assert (node.root / "var/lib/vz/images/100/vm-100-disk-0.raw").read_text() == "mine"
    assert (node.root / "var/lib/pve-cluster/config.db").read_text() == "mine"
    left = ["var/log/pve", "var/log/pveproxy", "var/lib/pve-manager", "etc/default/pveproxy", "usr/bin/pveproxy"]
    assert [path for path in left if (node.root / path).exists()] == []
    links = (node.root / "etc/systemd/system").rglob("*")
    assert [link.name for link in links if link.stem in UNITS] == []


def test_a_late_purge_leaves_what_somebody_else_has_installed_since(blank, package):
    node = blank()
    chroot = Chroot(node)
    assert chroot.install(package)[0] == 0
    assert chroot.run("dpkg", "--remove", "pve-rs")[0] == 0
    theirs = ["usr/bin/pvedaemon", "var/lib/pve-cluster/config.db", "var/log/pve/tasks/index"]
    for path in theirs:
        (node.root / path).parent.mkdir(parents=True, exist_ok=True)
        (node.root / path).write_text("theirs")
    link = node.root / "etc/systemd/system/multi-user.target.wants/pvedaemon.service"
    assert link.is_symlink()
    code, output = chroot.run("dpkg", "--purge", "pve-rs")
    assert code == 0 and "not ours" in output, output
    assert [path for path in theirs if not (node.root / path).exists()] == []
    assert link.is_symlink()


def test_somebody_elses_installation_is_refused_in_words(blank, package, tmp_path):
    node = blank()
    chroot = Chroot(node)
    # A package with our files, under a name that nobody knows.
    program = tmp_path / "other/usr/bin/pvedaemon"
    program.parent.mkdir(parents=True)
    program.write_text("theirs")
    for name in ("some-fork", "pve-manager"):
        control = tmp_path / "other/DEBIAN/control"
        control.parent.mkdir(exist_ok=True)
        control.write_text(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
        deb = node.root / f"var/cache/{name}.deb"
        subprocess.run(["dpkg-deb", "-Znone", "--build", tmp_path / "other", deb], check=True, stdout=subprocess.DEVNULL)
        assert chroot.run("dpkg", "--install", f"/var/cache/{name}.deb")[0] == 0
        code, output = chroot.install(package)
        assert code != 0
        if name == "pve-manager":
            assert "pve-rs conflicts with pve-manager" in output
        else:
            assert "/usr/bin/pvedaemon is there already and belongs to the package some-fork." in output
            assert "nothing was changed" in output
        assert chroot.state("pve-rs") in ("", "not-installed") or "no packages found" in chroot.state("pve-rs"), output
        assert (node.root / "usr/bin/pvedaemon").read_text() == "theirs"
        assert not (node.root / "usr/bin/pveproxy").exists()
        assert chroot.run("dpkg", "--purge", name)[0] == 0
