"""The package as a file and as it lies on a node: units and their sandboxes, what belongs to it, and how it is built."""

import hashlib
import pathlib
import re
import subprocess
import tomllib

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
# How exposed a unit may be, as `systemd-analyze security` counts: 0 is best, 10 is a unit without any sandbox.
EXPOSURE = {"pveproxy": 2.0, "spiceproxy": 2.0, "pvestatd": 5.0, "pvescheduler": 5.0}
SERVICES = [
    "pve-cluster", "pve-guests", "pvedaemon", "pveproxy", "pvescheduler", "pvestatd", "qmeventd", "spiceproxy",
]  # fmt: skip
DAEMONS = ["pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "qmeventd"]
OTHERS = ["pve-storage.target", "qemu.slice"]


@pytest.fixture(scope="module")
def tree(package, tmp_path_factory):
    """The package unpacked."""
    directory = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--raw-extract", package.path, directory], check=True)
    return directory


def test_units_are_right_for_the_systemd_of_each_release(node):
    units = [f"{name}.service" for name in SERVICES] + OTHERS
    for unit in units:
        code, output = node.try_run("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{unit}")
        # What other packages' units have to say is theirs.
        own = [line for line in output.splitlines() if unit in line]
        assert (code, own) == (0, []), output


def test_sandboxes_are_as_tight_as_promised(node):
    for name, limit in EXPOSURE.items():
        unit = f"/usr/lib/systemd/system/{name}.service"
        output = node.run("systemd-analyze", "security", "--no-pager", "--offline=true", unit)
        level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", output)[1])
        assert level <= limit, output


def test_reloads_are_awaited_where_systemd_can(node, release):
    kind = {"bookworm": "notify", "trixie": "notify-reload"}[release]
    for name in DAEMONS:
        assert node.run("systemctl", "show", "--property=Type", "--value", name).strip() == kind, name


def test_metrics_tell_that_all_daemons_run(host):
    """pveproxy sees them from inside its sandbox."""
    text = host.session().get(f"{host.url}/api2/metrics", timeout=30).text
    up = dict(re.findall(r'^pve_up\{daemon="(\w+)".*\} (\d)$', text, re.MULTILINE))
    assert up == dict.fromkeys(DAEMONS, "1"), text


def test_every_program_has_its_page_and_its_completions(tree):
    programs = sorted(path.name for path in (tree / "usr/bin").iterdir())
    tools = {path.name for path in (tree / "usr/bin").iterdir() if path.is_symlink()}
    listed = subprocess.run([tree / "usr/bin/pve-cli", "--help"], capture_output=True, text=True, check=True).stdout
    assert tools == set(re.findall(r"^  (\S+) ", listed.split("TOOLS")[1], re.MULTILINE))
    assert {"pvecm", "pvesh", "pveum", "qm", "vma"} <= tools
    for program in programs:
        pages = list((tree / "usr/share/man").glob(f"man[18]/{program}.[18].gz"))
        assert len(pages) == 1, program
        if program != "pve-cli":
            scripts = [
                f"bash-completion/completions/{program}",
                f"fish/vendor_completions.d/{program}.fish",
                f"zsh/vendor-completions/_{program}",
            ]
            for script in scripts:
                assert program in (tree / "usr/share" / script).read_text(), script


def test_default_files_are_shipped_commented_and_kept(tree):
    conffiles = (tree / "DEBIAN/conffiles").read_text().split()
    for name in ("pvedaemon", "pveproxy"):
        assert f"/etc/default/{name}" in conffiles
        lines = (tree / "etc/default" / name).read_text().splitlines()
        assert [line for line in lines if line and not line.startswith("#")] == []
    assert {"/etc/logrotate.d/pve", "/etc/pam.d/proxmox-ve-auth"} <= set(conffiles)


def test_the_version_is_that_of_the_programs(tree):
    version = tomllib.loads((PROJECT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    control = (tree / "DEBIAN/control").read_text()
    assert f"\nVersion: {version}\n" in control
    shown = subprocess.run([tree / "usr/bin/pveproxy", "--version"], capture_output=True, text=True, check=True).stdout
    assert version in shown


def test_notices_of_crates_are_in_it(tree):
    listed = subprocess.run(["zcat", tree / "usr/share/doc/pve-rs/crates.txt.gz"], capture_output=True, text=True, check=True)
    for crate in ("hyper ", "rustls ", "tokio ", "aws-lc-sys "):
        assert f"\n  {crate}" in listed.stdout, crate
    # What only tests or the build need is not in the programs.
    assert "\n  proptest " not in listed.stdout
    assert "Permission is hereby granted, free of charge" in listed.stdout


def test_lintian_has_nothing_to_say(package):
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", package.path]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr


def test_packing_twice_gives_the_same_bytes():
    """What is packed again, at another time and under another umask, is the same to the byte."""

    def build(umask):
        ran = subprocess.run([PROJECT / "tools/deb", "dev"], capture_output=True, text=True, umask=umask)
        assert ran.returncode == 0, ran.stderr
        return hashlib.sha256(pathlib.Path(ran.stdout.strip()).read_bytes()).hexdigest()

    assert build(0o022) == build(0o027)
