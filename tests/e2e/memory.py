"""Memory of processes."""

import pathlib


def peak(pid):
    """The most memory that a process has had, in KiB, without the pages of its program: those come with the first request
    that needs them, which may be any."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith(("VmHWM:", "RssFile:"))}
    return sizes["VmHWM:"] - sizes["RssFile:"]
