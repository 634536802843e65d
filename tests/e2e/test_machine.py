"""A virtual machine's life, from nothing to nothing, as an automation author drives it."""

import threading

import proxmoxer
import pytest

from lab import Lab
from rfb import Screen
from waiting import wait_for

MACHINE = {
    "name": "tiny",
    "memory": "256",
    "kvm": 0,
    "serial0": "socket",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1,format=qcow2",
    "virtio0": "local:0.25,format=raw",
    "ide2": "local:iso/tiny.iso,media=cdrom",
    "boot": "order=ide2",
    "net0": "virtio",
}


def upload_iso(lab, api, iso):
    with open(iso, "rb") as content:
        upid = api.nodes(lab.node).storage("local").upload.post(content="iso", filename=content)
    lab.run_task(api, upid)
    listed = api.nodes(lab.node).storage("local").content.get(content="iso")
    assert [(row["volid"], row["size"]) for row in listed] == [("local:iso/tiny.iso", iso.stat().st_size)]


def state(lab, api, vmid):
    return api.nodes(lab.node).qemu(vmid).status.current.get()["status"]


def create(lab, api, vmid, **changes):
    log = lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=vmid, **{**MACHINE, **changes}))
    assert "successfully created disk 'local:" in log


def start(lab, api, vmid):
    """Starts the machine and waits until its serial port says that it booted."""
    machine = api.nodes(lab.node).qemu(vmid)
    upid = machine.status.start.post()
    serial = lab.serial(vmid)
    serial.expect("tiny-guest ready")
    lab.run_task(api, upid)
    assert state(lab, api, vmid) == "running"
    return serial


def whole_life(lab, iso):
    api = lab.api()
    vmid = int(api.cluster.nextid.get())
    upload_iso(lab, api, iso)
    create(lab, api, vmid)
    machine = api.nodes(lab.node).qemu(vmid)

    config = machine.config.get()
    assert config["scsi0"] == f"local:{vmid}/vm-{vmid}-disk-0.qcow2,size=1G"
    assert config["virtio0"] == f"local:{vmid}/vm-{vmid}-disk-1.raw,size=256M"
    assert config["net0"].startswith("virtio=BC:24:11:")
    assert (config["memory"], config["kvm"]) == ("256", 0)

    serial = start(lab, api, vmid)
    serial.send("cat /proc/partitions; ls /sys/class/net; echo done-$((6*7))")
    serial.expect("done-42")
    assert "sda" in serial.seen and "vda" in serial.seen and "eth0" in serial.seen

    current = machine.status.current.get()
    assert (current["qmpstatus"], current["name"], current["maxmem"]) == ("running", "tiny", 256 << 20)
    assert current["pid"] > 1 and current["ha"] == {"managed": 0}
    listed = api.nodes(lab.node).qemu.get()
    assert [(row["vmid"], row["status"]) for row in listed] == [(vmid, "running")]

    screen_shows_text(lab, api, vmid)
    pause_and_go_on(lab, api, vmid, serial)

    # The guest powers itself off, and the status follows without anybody asking QEMU.
    serial.send("poweroff -f")
    wait_for("the machine is stopped", lambda: state(lab, api, vmid) == "stopped")

    # Again, and this time its power button is pressed.
    start(lab, api, vmid).close()
    lab.run_task(api, machine.status.shutdown.post(timeout=60))
    assert state(lab, api, vmid) == "stopped"

    # And again, the hard way.
    start(lab, api, vmid).close()
    lab.run_task(api, machine.status.reset.post())
    lab.serial(vmid).expect("tiny-guest ready")
    with pytest.raises(proxmoxer.ResourceException, match="is running - destroy failed"):
        machine.delete()
    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete(purge=1))
    assert api.nodes(lab.node).qemu.get() == []
    assert api.nodes(lab.node).storage("local").content.get(content="images") == []


def screen_shows_text(lab, api, vmid):
    console = api.nodes(lab.node).qemu(vmid).vncproxy.post(websocket=1)
    session = lab.session("admin@pve")
    screen = Screen(lab, session, vmid, console["port"], console["ticket"], console["password"])
    pixels = screen.fetch()
    assert screen.width >= 640 and screen.height >= 400
    assert len({pixels[at : at + 3] for at in range(0, len(pixels), 4)}) > 1, "the screen is blank"
    screen.close()


def pause_and_go_on(lab, api, vmid, serial):
    machine = api.nodes(lab.node).qemu(vmid)
    lab.run_task(api, machine.status.suspend.post())
    assert machine.status.current.get()["qmpstatus"] == "paused"
    lab.run_task(api, machine.status.resume.post())
    assert machine.status.current.get()["qmpstatus"] == "running"
    serial.send("echo back-$((40+2))")
    serial.expect("back-42")


def test_whole_life(lab, iso):
    whole_life(lab, iso)


def test_the_same_in_two_labs_at_once(playground, iso):
    with Lab(playground / "one") as one, Lab(playground / "two") as two:
        assert one.address != two.address
        failures = []

        def run(lab):
            try:
                whole_life(lab, iso)
            except BaseException as error:  # noqa: B902 - reported by the main thread
                failures.append(error)

        threads = [threading.Thread(target=run, args=(lab,)) for lab in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in failures:
            raise failure


def test_changes_wait_for_the_next_start(lab, iso):
    api = lab.api()
    create(lab, api, 300, ide2="none,media=cdrom", boot="order=scsi0")
    machine = api.nodes(lab.node).qemu(300)
    lab.run_task(api, machine.status.start.post())

    machine.config.put(cores=2, description="fast: applied at once")
    pending = {row["key"]: row for row in machine.pending.get()}
    assert pending["cores"] == {"key": "cores", "pending": 2} and "pending" not in pending["description"]
    assert "cores" not in machine.config.get(current=1)

    digest = machine.config.get()["digest"]
    machine.config.put(name="renamed", digest=digest)
    with pytest.raises(proxmoxer.ResourceException, match="checksum mismatch|detected modified configuration"):
        machine.config.put(name="again", digest=digest)

    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.status.start.post())
    assert machine.config.get(current=1)["cores"] == 2
    lab.run_task(api, machine.status.stop.post())

    lab.run_task(api, machine.resize.put(disk="scsi0", size="+1G"))
    assert "size=2G" in machine.config.get()["scsi0"]
    lab.run_task(api, machine.delete())


def test_a_reboot_starts_the_machine_again(lab, iso):
    api = lab.api()
    if not api.nodes(lab.node).storage("local").content.get(content="iso"):
        upload_iso(lab, api, iso)
    create(lab, api, 301)
    start(lab, api, 301).close()
    machine = api.nodes(lab.node).qemu(301)
    before = machine.status.current.get()["pid"]
    lab.run_task(api, machine.status.reboot.post(timeout=60))
    wait_for(
        "the machine runs again",
        lambda: machine.status.current.get().get("pid", before) != before,
    )
    lab.serial(301).expect("tiny-guest ready")
    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete())


def test_a_bridge_that_exists_is_used_and_left_alone(lab, iso, bridge):
    api = lab.api()
    create(lab, api, 302, ide2="none,media=cdrom", boot="order=scsi0", net0=f"virtio,bridge={bridge.name}")
    machine = api.nodes(lab.node).qemu(302)
    lab.run_task(api, machine.status.start.post())
    assert len(bridge.ports()) == 1
    lab.run_task(api, machine.status.stop.post())
    assert bridge.ports() == []
    machine.config.put(net0="virtio,bridge=nobridge0")
    upid = machine.status.start.post()
    assert "bridge 'nobridge0' does not exist" in lab.wait_task(api, upid)
    lab.run_task(api, machine.delete())
