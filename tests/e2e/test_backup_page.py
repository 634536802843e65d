"""Every command of docs/backup.md, as somebody pastes it who has taken the tour up to its third step."""

from lab import Lab
from pages import adapted, blocks, pasted

# The tour's machine, without what a backup has no use for.
MACHINE = """
VMID=$(api GET /cluster/nextid | value)
api POST "/nodes/$NODE/qemu" --data vmid="$VMID" --data name=tour --data memory=64 --data kvm=0 \\
    --data scsihw=virtio-scsi-single --data-urlencode scsi0=local:1,format=qcow2 --data net0=virtio | task
"""


def test_the_page(playground):
    root = playground / "page"
    needed = ["export PVE_LAB_ROOT", 'eval "$(pve-lab ticket', "api() {", "task() {"]
    tour = [block for block in blocks("docs/tour.md") if any(text in block for text in needed)]
    assert len(tour) == len(needed), "the tour no longer defines what the page needs"
    script = adapted("\n".join([*tour, MACHINE, *blocks("docs/backup.md")]), root, {})
    with Lab(root):
        told = pasted(script)
    for expected in (
        '"next-run":',
        '"reason":"backup=yes"',
        "INFO: Backup job finished successfully",
        '"state":"st',
        "DEV: dev_id=1",
        "file format: raw",
        '"mark":"protected"',
        "UPID:",
    ):
        assert expected in told, f"{expected}: {told}"
