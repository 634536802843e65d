"""Every command of docs/backup.md, as somebody pastes it who has taken the tour up to its third step."""

import os
import re
import subprocess

from lab import BINARIES, Lab
from test_tour import REPOSITORY

# The tour's machine, without what a backup has no use for.
MACHINE = """
VMID=$(api GET /cluster/nextid | value)
api POST "/nodes/$NODE/qemu" --data vmid="$VMID" --data name=tour --data memory=64 --data kvm=0 \\
    --data scsihw=virtio-scsi-single --data-urlencode scsi0=local:1,format=qcow2 --data net0=virtio | task
"""


def blocks(page):
    """The shell blocks of a page, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", (REPOSITORY / page).read_text(), re.S | re.M)


def test_the_page(playground):
    root = playground / "page"
    needed = ["export PVE_LAB_ROOT", 'eval "$(pve-lab ticket', "api() {", "task() {"]
    tour = [block for block in blocks("docs/tour.md") if any(text in block for text in needed)]
    assert len(tour) == len(needed), "the tour no longer defines what the page needs"
    script = "\n".join([*tour, MACHINE, *blocks("docs/backup.md")])
    for pattern, replacement in {
        r"^apt-get install .*$": "",
        r"/srv/tour": str(root),
        r"\$PWD/target/release": str(BINARIES),
    }.items():
        script, count = re.subn(pattern, replacement, script, flags=re.M)
        assert count, f"the tour no longer says {pattern!r}"
    with Lab(root):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=REPOSITORY,
            env={**os.environ, "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            # The scheduler looks once a minute.
            timeout=300,
        )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "TASK ERROR" not in told, told
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
