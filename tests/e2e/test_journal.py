"""The node's journal, as a web interface follows it: a real journal, read through both daemons."""

import pathlib
import subprocess

import pytest

from lab import wait_for

# Of Debian's package systemd-journal-remote: makes journals from text.
WRITER = "/lib/systemd/systemd-journal-remote"
START = 1_700_000_000
ENTRIES = 40_000


def write(lab, name, numbers):
    """A file of the lab's journal with an entry a second."""
    place = lab.root / "var/log/journal"
    place.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"__REALTIME_TIMESTAMP={(START + n) * 1_000_000}\n__MONOTONIC_TIMESTAMP={n * 1_000_000}\n"
        f"_BOOT_ID={'a' * 32}\n_HOSTNAME=n1\nSYSLOG_IDENTIFIER=prog\n_PID=7\nMESSAGE=message {n} {'x' * 60}\n\n"
        for n in numbers
    )
    subprocess.run([WRITER, "-o", place / f"{name}.journal", "-"], input=text.encode(), check=True, capture_output=True)


@pytest.fixture(scope="module")
def journal(lab):
    write(lab, "system", range(ENTRIES))


def ask(lab, user="root@pam", **parameters):
    return lab.call("GET", f"/nodes/{lab.node}/journal", user=user, **parameters)


def numbers(answer):
    assert answer.status_code == 200, answer.reason
    lines = answer.json()["data"]
    return [int(line.split(": message ")[1].split()[0]) for line in lines[1:-1]]


def test_a_client_follows_the_journal(lab, journal):
    answer = ask(lab, lastentries=500)
    assert answer.headers["Content-Type"] == "application/json" and answer.headers["Content-Encoding"] == "gzip"
    assert numbers(answer) == list(range(ENTRIES - 500, ENTRIES)) and answer.json()["success"] == 1
    newest, oldest = answer.json()["data"][-1], answer.json()["data"][0]
    # Nothing new, then something.
    assert ask(lab, startcursor=newest).json() == {"data": [], "success": 1}
    write(lab, "more", range(ENTRIES, ENTRIES + 3))
    assert numbers(ask(lab, startcursor=newest)) == [ENTRIES, ENTRIES + 1, ENTRIES + 2]
    # Scrolling up, and a range of time.
    before = ask(lab, endcursor=oldest, lastentries=100)
    assert numbers(before) == list(range(ENTRIES - 600, ENTRIES - 500))
    assert numbers(ask(lab, since=START + 5, until=START + 8)) == [5, 6, 7, 8]
    # The same in the other format.
    where = f"{lab.url}/api2/extjs/nodes/{lab.node}/journal"
    assert lab.session().get(where, params={"since": START, "until": START}, timeout=30).json()["success"] == 1


def test_contradictions_and_strangers_are_refused(lab, journal):
    refused = ask(lab, since=1, startcursor="s=1;i=1")
    assert (refused.status_code, refused.reason) == (400, "Parameter verification failed.")
    assert refused.json()["errors"] == {"startcursor": "conflicts with 'since'"}
    refused = ask(lab, endcursor="--help")
    assert refused.json()["errors"] == {"endcursor": "not a cursor of the journal"}
    lab.call("POST", "/access/users", userid="reader@pve")
    refused = ask(lab, user="reader@pve", lastentries=1)
    assert (refused.status_code, refused.reason) == (
        403, f"Permission check failed (/nodes/{lab.node}, Sys.Syslog)"
    )


def peaks(lab):
    pids = [pid for name in ("pveproxy", "pvedaemon") for pid in lab.daemon_pids(name)[1]]
    statuses = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(status.split("VmHWM:")[1].split()[0]) for status in statuses)


def readers(lab):
    place = str(lab.root / "var/log/journal")
    found = subprocess.run(["pgrep", "-f", f"journalctl .*--directory={place}"], capture_output=True, text=True)
    return found.stdout.split()


def test_a_large_journal_is_made_while_it_is_sent(lab, journal):
    ask(lab, lastentries=1)
    before = peaks(lab)
    everything = numbers(ask(lab))
    assert everything[:ENTRIES] == list(range(ENTRIES))
    assert peaks(lab) - before < 8 << 10, (before, peaks(lab))
    # Whoever stops reading leaves nothing behind.
    where = f"{lab.url}/api2/json/nodes/{lab.node}/journal"
    answer = lab.session().get(where, stream=True, timeout=30)
    assert answer.raw.read(100)
    answer.close()
    wait_for("its reader has gone", lambda: readers(lab) == [])
