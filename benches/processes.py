"""Processes under measurement: what they have used of the processor and of memory, as the kernel counts it."""

import os
import pathlib
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")


def wait_for(what, condition, seconds=60, every=0.05):
    """Polls until `condition` returns something true, and returns that; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: timeout after {seconds} s: {what}")
        time.sleep(every)


def children(pid):
    """The pids of a process's children."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processor_seconds(pids):
    """User and system time of processes, all their threads, finished ones too."""

    def seconds(pid):
        # The name in parentheses may hold blanks; utime and stime are fields 14 and 15 of the line.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    return sum(map(seconds, pids))


def resident_megabytes(pid):
    """What a process has in memory, pages that it shares with others included."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"bench: process {pid} says nothing about its memory")
