"""Backups of a real guest: scheduled, live, killed half-way; and what is restored from them."""

import hashlib
import os
import re
import signal
import subprocess
import time

import proxmoxer
import pytest

from waiting import wait_for

DISK = 256 << 20
# The guest writes one number after the other, each to the next slot of both disks: first that of `scsi0`, then that of
# `scsi1`. It finds them by their unit numbers: Linux looks at disks in parallel, so either may be the one named `sda`.
SLOTS = 64
STRIDE = 8192 * 512
WRITER = (
    "disks=$(cd /sys/bus/scsi/devices; ls -d *:[01]/block/sd* | sed 's,.*/,,'); "
    "n=1; while true; do s=$((n % 64 * 8192)); for d in $disks; do "
    "printf '%08d' $n | dd of=/dev/$d bs=512 seek=$s count=1 conv=notrunc,fsync 2>/dev/null || echo write-$((40+2))-failed; "
    "done; n=$((n+1)); done"
)
LATER_THAN_DUE = 60


def images(lab, vmid):
    return lab.root / f"var/lib/vz/images/{vmid}"


def archives(lab, vmid):
    return sorted((lab.root / "var/lib/vz/dump").glob(f"vzdump-qemu-{vmid}-*.vma*"))


def left_overs(lab):
    """What no backup may leave behind."""
    dump = lab.root / "var/lib/vz/dump"
    return [path.name for path in dump.glob("*") if path.suffix in (".dat", ".tmp")]


def put_on_disk(iso, disk):
    """Makes a disk bootable before its first start: the guest's image is one for disks, too."""
    subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", disk.suffix[1:], iso, disk], check=True)


def content(disk):
    """The hash of what a guest sees of a disk."""
    raw = disk.with_suffix(".flat")
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    digest = hashlib.sha256()
    with open(raw, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    raw.unlink()
    return digest.hexdigest()


def make(lab, api, vmid, **changes):
    machine = {
        "name": f"vm{vmid}",
        "memory": "192",
        "kvm": 0,
        "serial0": "socket",
        "scsihw": "virtio-scsi-pci",
        "net0": "virtio",
        "boot": "order=scsi0",
        **changes,
    }
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=vmid, **machine))


def boot(lab, api, vmid):
    """Starts a machine and gives its serial port once it booted."""
    upid = api.nodes(lab.node).qemu(vmid).status.start.post()
    serial = lab.serial(vmid)
    serial.expect("tiny-guest ready")
    lab.run_task(api, upid)
    return serial


def answers(serial):
    """Whether the guest still does what it is told."""
    serial.seen = ""
    serial.send("echo alive-$((40+2))")
    serial.expect("alive-42")


def stop_and_remove(lab, api, vmid):
    machine = api.nodes(lab.node).qemu(vmid)
    if machine.status.current.get()["status"] == "running":
        lab.run_task(api, machine.status.stop.post())
    lab.run_task(api, machine.delete(purge=1))


def numbers(disk):
    """The numbers in the slots of a raw disk."""
    with open(disk, "rb") as file:
        found = []
        for slot in range(SLOTS):
            file.seek(slot * STRIDE)
            found.append(int(file.read(8).decode() or 0))
    return found


def newest_of_one_instant(found):
    """The last number that was written, if the slots are what they were at one instant; fails if they are not."""
    newest = max(found)
    for number in range(newest - SLOTS + 1, newest + 1):
        assert found[number % SLOTS] == number, f"slot of {number} has {found[number % SLOTS]}, the newest is {newest}"
    return newest


@pytest.fixture(scope="module")
def api(lab):
    return lab.api()


def test_a_schedule_that_is_due_leaves_an_archive_that_boots(lab, api, iso):
    make(lab, api, 400, scsi0="local:1,format=qcow2", scsi1="local:0.3,format=raw", description="two: disks")
    system = images(lab, 400) / "vm-400-disk-0.qcow2"
    put_on_disk(iso, system)
    with open(images(lab, 400) / "vm-400-disk-1.raw", "r+b") as data:
        for part in range(0, 300):
            data.seek(part << 20)
            data.write(os.urandom(5000))
    boot(lab, api, 400)
    due = (int(time.time()) // 60 + 1) * 60
    api.cluster.backup.post(
        id="each-minute",
        schedule="*:0/1",
        vmid="400",
        storage="local",
        mode="stop",
        compress="zstd",
        **{"prune-backups": "keep-last=2", "notes-template": "{{guestname}} of {{node}}"},
    )
    listed = {job["id"]: job for job in api.cluster.backup.get()}
    assert listed["each-minute"]["next-run"] in (due, due + 60)

    def run_of_the_job():
        tasks = api.nodes(lab.node).tasks.get(typefilter="vzdump", source="all")
        return next(iter(tasks), None)

    task = wait_for("the job starts", run_of_the_job, seconds=150)
    api.cluster.backup("each-minute").put(enabled=0)
    assert due <= task["starttime"] <= due + 60 + LATER_THAN_DUE
    assert task["starttime"] % 60 < LATER_THAN_DUE and task["user"] == "root@pam" and task["id"] == "400"
    log = lab.run_task(api, task["upid"])
    assert "INFO: starting new backup job: vzdump 400" in log
    assert "INFO: include disk 'scsi0' 'local:400/vm-400-disk-0.qcow2' 1G" in log
    assert re.search(r"INFO:  ?100% \(1\.3 GiB of 1\.3 GiB\) in ", log), log
    assert "INFO: Backup job finished successfully" in log

    (backup,) = api.nodes(lab.node).storage("local").content.get(content="backup", vmid=400)
    assert backup["format"] == "vma.zst" and backup["notes"] == f"vm400 of {lab.node}"
    # Stopped for the copy, and running again.
    assert api.nodes(lab.node).qemu(400).status.current.get()["status"] == "running"
    assert "lock" not in api.nodes(lab.node).qemu(400).config.get()

    lab.run_task(api, api.nodes(lab.node).qemu(400).status.stop.post())
    upid = api.nodes(lab.node).qemu.post(vmid=401, archive=backup["volid"], storage="local", unique=1)
    log = lab.run_task(api, upid)
    assert "rescan volumes..." in log and "progress 100%" in log
    assert content(system) == content(images(lab, 401) / "vm-401-disk-0.qcow2")
    assert content(images(lab, 400) / "vm-400-disk-1.raw") == content(images(lab, 401) / "vm-401-disk-1.raw")
    old, new = (api.nodes(lab.node).qemu(vmid).config.get() for vmid in (400, 401))
    assert new["description"].strip() == "two: disks" and new["net0"] != old["net0"] and new["vmgenid"] != old["vmgenid"]
    answers(boot(lab, api, 401))
    for vmid in (400, 401):
        stop_and_remove(lab, api, vmid)
    # The job was for this guest alone.
    assert api.cluster.backup.get() == []
    assert left_overs(lab) == []


@pytest.fixture(scope="module")
def writer(lab, api, iso):
    """A guest that writes all the time; its serial port, as long as it runs."""
    if not any(row["volid"].endswith("tiny.iso") for row in api.nodes(lab.node).storage("local").content.get(content="iso")):
        with open(iso, "rb") as file:
            lab.run_task(api, api.nodes(lab.node).storage("local").upload.post(content="iso", filename=file))
    disk = "local:0.25,format=raw"
    make(lab, api, 410, scsi0=disk, scsi1=disk, ide2="local:iso/tiny.iso,media=cdrom", boot="order=ide2")
    serial = boot(lab, api, 410)
    serial.send(f"({WRITER}) &")
    first = images(lab, 410) / "vm-410-disk-0.raw"
    wait_for("all slots are written", lambda: min_number(first) > 0, seconds=180, every=1)
    yield serial
    serial.close()
    stop_and_remove(lab, api, 410)


def min_number(disk):
    with open(disk, "rb") as file:
        return min(int(read_at(file, slot * STRIDE).strip(b"\0") or 0) for slot in range(SLOTS))


def read_at(file, place):
    file.seek(place)
    return file.read(8)


def test_a_backup_of_a_guest_that_writes_is_of_one_instant(lab, api, writer):
    # Slow enough that the guest writes each slot several times meanwhile.
    upid = api.nodes(lab.node).vzdump.post(vmid=410, storage="local", mode="snapshot", compress="0", bwlimit=40000)
    log = lab.run_task(api, upid, seconds=180)
    assert "INFO: started backup task '" in log and "INFO: backup mode: snapshot" in log
    answers(writer)
    assert "write-42-failed" not in writer.seen
    (archive,) = archives(lab, 410)
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=411, archive=f"local:backup/{archive.name}", storage="local"))
    first, second = (
        newest_of_one_instant(numbers(images(lab, 411) / f"vm-411-disk-{disk}.raw")) for disk in (0, 1)
    )
    assert first - 1 <= second <= first
    later = newest_number(lab)
    assert later > first + SLOTS, "the guest wrote too little during the backup to prove anything"
    stop_and_remove(lab, api, 411)


def newest_number(lab):
    return max(numbers(images(lab, 410) / "vm-410-disk-0.raw"))


def test_a_killed_backup_leaves_nothing_and_the_guest_runs_on(lab, api, writer):
    before = archives(lab, 410)
    node = api.nodes(lab.node)
    for compress in ("0", "zstd"):
        upid = node.vzdump.post(vmid=410, storage="local", mode="snapshot", compress=compress, bwlimit=10000)

        def lines():
            return [line["t"] for line in node.tasks(upid).log.get(limit=0)]

        wait_for("the copy goes on", lambda: any(re.search(r"INFO: +[1-9]\d?% ", line) for line in lines()), every=0.2)
        assert node.qemu(410).config.get()["lock"] == "backup"
        os.kill(int(upid.split(":")[2], 16), signal.SIGKILL)
        wait_for("the lock is gone", lambda: "lock" not in node.qemu(410).config.get())
        assert archives(lab, 410) == before
        assert node.qemu(410).status.current.get()["qmpstatus"] == "running"
        answers(writer)
        reached = newest_number(lab)
        wait_for("the guest writes on", lambda: newest_number(lab) > reached + SLOTS, seconds=120)
        assert "write-42-failed" not in writer.seen
        assert lab.wait_task(api, upid) not in ("OK", "")
    # The next one finds nothing in its way.
    lab.run_task(api, node.vzdump.post(vmid=410, storage="local", mode="suspend", compress="zstd", remove=0))
    assert len(archives(lab, 410)) == len(before) + 1
    assert left_overs(lab) == []
    answers(writer)


def test_a_stopped_backup_task_ends_in_order(lab, api, writer):
    before = archives(lab, 410)
    node = api.nodes(lab.node)
    upid = node.vzdump.post(vmid=410, storage="local", mode="snapshot", bwlimit=10000)
    wait_for("the copy goes on", lambda: node.qemu(410).config.get().get("lock") == "backup")
    node.tasks(upid).delete()
    assert lab.wait_task(api, upid) == "interrupted by signal"
    assert "lock" not in node.qemu(410).config.get() and archives(lab, 410) == before and left_overs(lab) == []
    answers(writer)


def test_a_full_disk_fails_the_backup_and_not_the_guest(lab, api, writer):
    small = lab.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=True)
    try:
        api.storage.post(storage="small", type="dir", path=os.fspath(small), content="backup")
        upid = api.nodes(lab.node).vzdump.post(vmid=410, storage="small", mode="snapshot", compress="0")
        assert lab.wait_task(api, upid) in ("OK", "job errors")
        incompressible(lab, writer)
        upid = api.nodes(lab.node).vzdump.post(vmid=410, storage="small", mode="snapshot", compress="0")
        assert lab.wait_task(api, upid) == "job errors"
        log = "\n".join(line["t"] for line in api.nodes(lab.node).tasks(upid).log.get(limit=0))
        assert "ERROR: Backup of VM 410 failed" in log and "No space left on device" in log
        assert [path.name for path in (small / "dump").glob("*") if path.suffix in (".dat", ".tmp")] == []
        assert "lock" not in api.nodes(lab.node).qemu(410).config.get()
        answers(writer)
        assert "write-42-failed" not in writer.seen
    finally:
        api.storage("small").delete()
        subprocess.run(["umount", small], check=True)


def incompressible(lab, writer):
    """Fills part of the guest's second disk, away from the slots."""
    writer.seen = ""
    writer.send("dd if=/dev/urandom of=/dev/sdb bs=1M seek=1 count=2 conv=notrunc,fsync 2>/dev/null; for i in 1 2 3 4 5 6 7 8 9 10 11 12; "
                "do dd if=/dev/urandom of=/dev/sdb bs=1M seek=$((i*4+1)) count=3 conv=notrunc,fsync 2>/dev/null; done; echo filled-$((40+2))")
    writer.expect("filled-42")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"vmid": "410", "all": 1}, "option conflicts with option 'vmid'"),
        ({}, "property is missing"),
        ({"vmid": "410", "storage": "local", "notes-template": "{{foo}}"}, "variable 'foo' at char 4"),
    ],
)
def test_a_wrong_order_is_refused_at_once(lab, api, parameters, message):
    with pytest.raises(proxmoxer.ResourceException) as refused:
        api.nodes(lab.node).vzdump.post(**parameters)
    assert message in str(refused.value) or message in str(refused.value.errors)


def test_figures_move_with_the_guest(lab, api, writer):
    """The writer has kept its virtual CPU and its disks busy for a while by now."""
    machine = api.nodes(lab.node).qemu(410)

    def figures():
        rows = machine.rrddata.get(timeframe="hour", cf="AVERAGE")
        return [row for row in rows if row.get("cpu", 0) > 0.05 and row.get("diskwrite", 0) > 0]

    assert wait_for("a row shows load", figures, seconds=150, every=2)
    assert any(row.get("cpu", 0) > 0 for row in api.nodes(lab.node).rrddata.get(timeframe="hour"))
