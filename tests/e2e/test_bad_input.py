"""Bad input at every boundary gives upstream's clear error and loses nothing."""

import contextlib
import subprocess

import pytest

from lab import Lab

QEMU = "/nodes/{node}/qemu"


def create_plain(lab, vmid):
    api = lab.api()
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=vmid, kvm=0, memory="64"))


def errors(answer):
    assert answer.status_code == 400, answer.text
    assert answer.reason == "Parameter verification failed."
    return answer.json()["errors"]


@pytest.mark.parametrize(
    "parameters, expected",
    [
        ({"vmid": "abc"}, {"vmid": "type check ('integer') failed - got 'abc'"}),
        ({"vmid": 99}, {"vmid": "invalid format - value does not look like a valid VM ID\n"}),
        ({}, {"vmid": "property is missing and it is not optional"}),
        (
            {"vmid": 500, "bogus": 1},
            {"bogus": "property is not defined in schema and the schema does not allow additional properties"},
        ),
        ({"vmid": 500, "cores": 0}, {"cores": "value must have a minimum value of 1"}),
        ({"vmid": 500, "kvm": "yes"}, {"kvm": "type check ('boolean') failed - got 'yes'"}),
        (
            {"vmid": 500, "bios": "efi"},
            {"bios": "value 'efi' does not have a value in the enumeration 'seabios, ovmf'"},
        ),
        (
            {"vmid": 500, "net0": "virtio,tag=5000"},
            {"net0": "invalid format - format error\nnet0.tag: value must have a maximum value of 4094\n"},
        ),
    ],
)
def test_wrong_parameters_are_named(lab, parameters, expected):
    answer = lab.call("POST", QEMU.format(node=lab.node), **parameters)
    assert errors(answer) == expected


def test_a_taken_id_is_refused(lab):
    create_plain(lab, 501)
    answer = lab.call("POST", QEMU.format(node=lab.node), vmid=501)
    assert answer.status_code == 500
    assert answer.reason == f"unable to create VM 501 - VM 501 already exists on node '{lab.node}'"


def test_a_missing_machine_says_does_not_exist(lab):
    answer = lab.call("GET", QEMU.format(node=lab.node) + "/999/config")
    assert answer.status_code == 500
    assert answer.reason == f"Configuration file 'nodes/{lab.node}/qemu-server/999.conf' does not exist"


def test_hand_broken_files_keep_what_a_person_wrote(lab):
    create_plain(lab, 502)
    config = lab.root / f"etc/pve/nodes/{lab.node}/qemu-server/502.conf"
    config.write_text("# mine\n" + config.read_text() + "colour: blue\ncores: many\nno key at all\n")
    path = QEMU.format(node=lab.node) + "/502/config"
    assert lab.call("PUT", path, sockets=2).status_code == 200
    for kept in ["# mine", "colour: blue", "cores: many", "no key at all", "sockets: 2"]:
        assert kept in config.read_text(), kept

    users = lab.root / "etc/pve/user.cfg"
    users.write_text(users.read_text() + "nonsense line\nuser:bad user@pve:1:0:::::\n")
    assert lab.call("POST", "/access/groups", groupid="after").status_code == 200
    assert "nonsense line" in users.read_text() and "group:after" in users.read_text()

    storages = lab.root / "etc/pve/storage.cfg"
    before = storages.read_text() if storages.exists() else ""
    storages.write_text(before + "\nweird: thing\n\tkey value\n\n# a remark\ndir: d1\n\tpath /srv/d1\n\tbogus 1\n")
    where = lab.root / "d2"
    where.mkdir()
    assert lab.call("POST", "/storage", storage="d2", type="dir", path=str(where)).status_code == 200
    for kept in ["weird: thing", "# a remark", "bogus 1", "dir: d2"]:
        assert kept in storages.read_text(), kept


def test_bodies_that_are_no_parameters_are_refused(lab):
    session = lab.session()
    where = f"{lab.url}/api2/json/access/groups"
    answer = session.post(where, data="{", headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code in (400, 500) and "malformed JSON string" in answer.reason
    answer = session.post(where, data="x", headers={"Content-Type": "text/plain"}, timeout=30)
    assert (answer.status_code, answer.reason) == (506, "upload 'Content-Type 'text/plain' not implemented")
    answer = session.post(where, data="x=" + "y" * 524288, timeout=30)
    assert (answer.status_code, answer.reason) == (501, "for data too large")
    answer = session.delete(where + "/x", data="a=1", timeout=30)
    assert (answer.status_code, answer.reason) == (501, "Unexpected content for method 'DELETE'")


def test_an_upload_with_a_wrong_name_or_checksum_leaves_nothing(lab):
    where = f"{lab.url}/api2/json/nodes/{lab.node}/storage/local/upload"
    session = lab.session()
    answer = session.post(where, data={"content": "iso"}, files={"filename": ("x.txt", b"123")}, timeout=30)
    assert errors(answer) == {"filename": "wrong file extension"}
    answer = session.post(
        where,
        data={"content": "iso", "checksum-algorithm": "sha256", "checksum": "0" * 64},
        files={"filename": ("x.iso", b"123")},
        timeout=30,
    )
    assert "checksum mismatch" in lab.wait_task(lab.api(), answer.json()["data"])
    assert lab.call("GET", f"/nodes/{lab.node}/storage/local/content", content="iso").json()["data"] == []
    assert list((lab.root / "var/tmp").glob("pveupload-*")) == []


def test_a_full_disk_keeps_the_old_configuration(playground):
    root = playground / "full"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=755", "tmpfs", root], check=True)
    try:
        with Lab(root) as lab:
            create_plain(lab, 503)
            config = root / f"etc/pve/nodes/{lab.node}/qemu-server/503.conf"
            path = QEMU.format(node=lab.node) + "/503/config"
            before = config.read_bytes()
            with filled(root):
                answer = lab.call("PUT", path, description="x" * 8000)
                assert answer.status_code == 500
                assert "No space left on device" in answer.reason
                assert config.read_bytes() == before
                assert not [name for name in config.parent.iterdir() if ".tmp." in name.name]
            answer = lab.call("PUT", path, description="x" * 8000)
            assert answer.status_code == 200
            assert b"x" * 100 in config.read_bytes()
    finally:
        subprocess.run(["umount", root], check=True)


@contextlib.contextmanager
def filled(directory):
    """A file system without a free byte."""
    ballast = directory / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"\0" * 4096)
    yield
    ballast.unlink()
