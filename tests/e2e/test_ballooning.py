"""Automatic ballooning: a guest gives memory up and gets it back as the node's target says."""

from test_machine import start, upload_iso
from waiting import wait_for

MEMORY, LEAST = 224, 128
MACHINE = {
    "name": "balloon",
    "memory": str(MEMORY),
    "balloon": LEAST,
    "kvm": 0,
    "serial0": "socket",
    "ide2": "local:iso/tiny.iso,media=cdrom",
    "boot": "order=ide2",
}


def test_the_nodes_target_moves_a_guests_balloon(lab, iso):
    api = lab.api()
    upload_iso(lab, api, iso)
    vmid = int(api.cluster.nextid.get())
    machine = api.nodes(lab.node).qemu(vmid)

    def target(percent):
        """How much of the node's memory is to be in use: of real pressure there is none to be had."""
        (lab.root / "etc/pve/nodes" / lab.node / "config").write_text(f"ballooning-target: {percent}\n")

    def balloon():
        return machine.status.current.get().get("balloon")

    target(0)
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=vmid, **MACHINE))
    start(lab, api, vmid)
    current = wait_for("the guest tells of its memory", lambda: shown(machine))
    assert (current["balloon"], current["balloon_min"], current["shares"]) == (LEAST << 20, LEAST << 20, 1000)
    assert current["maxmem"] == current["ballooninfo"]["max_mem"] == MEMORY << 20
    assert 0 < current["mem"] == current["ballooninfo"]["total_mem"] - current["freemem"] < MEMORY << 20

    target(100)
    wait_for("the guest gets all of its memory", lambda: balloon() == MEMORY << 20, seconds=60)
    # It can spare some of that, and its guest says so.
    target(0)
    wait_for("the guest gives memory up", lambda: balloon() == LEAST << 20, seconds=60)
    assert f"qemu status update of {vmid}" not in lab.log()

    lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete())


def shown(machine):
    """The status page, once the balloon's driver has told the guest's figures and the start has set the balloon."""
    current = machine.status.current.get()
    return current if "freemem" in current and current.get("balloon") == LEAST << 20 else None
