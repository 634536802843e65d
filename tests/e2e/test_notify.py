"""What daemons tell systemd: through a real socket, by the real binaries."""

import fcntl
import json
import os
import signal
import time

import pytest

from daemons import WEB_USER, Daemon, Root
from waiting import wait_for

DAEMONS = ["pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler", "qmeventd"]


@pytest.fixture(scope="module")
def root(playground):
    return Root(playground / "notify")


@pytest.mark.parametrize("name", DAEMONS)
def test_ready_reloading_stopping_and_the_watchdog(root, name):
    with Daemon(root, name, watchdog=20, notify=True) as daemon:
        told = daemon.notifications
        ready = told.wait("READY")
        assert (ready["READY"], ready["pid"]) == ("1", daemon.pid), "NotifyAccess=main is enough"
        count = len(daemon.workers())
        assert ready["STATUS"] == f"{count} worker(s)"
        assert told.wait("WATCHDOG")["pid"] == daemon.pid

        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        workers = daemon.workers()
        daemon.reload()
        reloading = told.wait("RELOADING")
        after = time.clock_gettime(time.CLOCK_MONOTONIC)
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= after, "Type=notify-reload compares it"
        assert reloading["pid"] == daemon.pid
        ready = told.wait("READY")
        assert ready["STATUS"] == f"{count} worker(s), {count} of before"
        wait_for("the old workers are gone", lambda: not set(workers) & set(daemon.workers()))
        last = wait_for(
            "the status says so", lambda: (m := told.wait("STATUS"))["STATUS"] == f"{count} worker(s)" and m, every=0
        )
        assert last["pid"] == daemon.pid
        # The image that the reload executed has its watchdog, too.
        assert told.wait("WATCHDOG")["WATCHDOG"] == "1"

        os.kill(daemon.pid, signal.SIGTERM)
        assert told.wait("STOPPING")["STOPPING"] == "1"
        assert daemon.process.wait(timeout=30) == 0


def test_a_watchdog_meant_for_another_process_is_not_fed(root):
    with Daemon(root, "spiceproxy", watchdog=1, watchdog_pid=1, notify=True) as daemon:
        messages = [daemon.notifications.wait("READY")]
        daemon.reload()
        # Until the old worker is gone more time goes by than a watchdog of one second would leave.
        while messages[-1].get("STATUS") != "1 worker(s)" or len(messages) < 3:
            messages.append(daemon.notifications.next())
        assert not any("WATCHDOG" in message for message in messages)


def test_a_worker_that_hangs_is_replaced_and_the_daemon_lives_on(root):
    root.settings("MAX_WORKERS=2\n")
    with Daemon(root, "pveproxy", watchdog=20, notify=True) as daemon:
        daemon.notifications.wait("READY")
        victim, other = daemon.workers()
        os.kill(victim, signal.SIGSTOP)
        daemon.logged(f"worker {victim} hangs, killing it")
        daemon.logged(f"worker {victim} died: signal SIGKILL")
        wait_for("another worker", lambda: len(daemon.workers()) == 2 and victim not in daemon.workers())
        assert other in daemon.workers(), "the other one goes on"
        assert daemon.notifications.wait("WATCHDOG")
        # All at once: systemd need not step in either.
        hung = daemon.workers()
        for worker in hung:
            os.kill(worker, signal.SIGSTOP)
        for worker in hung:
            daemon.logged(f"worker {worker} hangs, killing it")
        wait_for("new workers", lambda: len(daemon.workers()) == 2 and not set(hung) & set(daemon.workers()))
        assert daemon.notifications.wait("WATCHDOG")


def test_a_worker_that_does_not_get_ready_is_replaced(root):
    root.settings("MAX_WORKERS=1\n")
    # Opening it takes as long as nobody reads.
    root.access_log.unlink()
    os.mkfifo(root.access_log)
    os.chown(root.access_log, WEB_USER, WEB_USER)
    try:
        with Daemon(root, "pveproxy", watchdog=20, notify=True) as daemon:
            (victim,) = wait_for("a worker", daemon.workers)
            daemon.logged(f"worker {victim} hangs, killing it")
            root.access_log.unlink()
            daemon.notifications.wait("READY")
            assert victim not in daemon.workers()
    finally:
        if root.access_log.is_fifo():
            root.access_log.unlink()


def test_the_event_daemon_serves_while_it_waits_for_a_guests_lock(root):
    # A backup died while the daemon did not run, and somebody changes its VM.
    config = root.path / f"etc/pve/nodes/{root.node}/qemu-server/100.conf"
    config.write_text("lock: backup\nmemory: 32\n")
    marker, lock = root.path / "run/qemu-server/100.backup", root.path / "var/lock/qemu-server/lock-100.conf"
    for file in (marker, lock):
        file.parent.mkdir(parents=True, exist_ok=True)
    nobody = {"pid": (1 << 22) - 1, "started": 1}
    marker.write_text(json.dumps({**nobody, "debt": {"guest": "Nothing", "frozen": False, "files": []}}))
    try:
        with open(lock, "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with Daemon(root, "qmeventd", watchdog=20, notify=True) as daemon:
                daemon.notifications.wait("READY")
                assert marker.exists() and "lock: backup" in config.read_text()
                fcntl.flock(held, fcntl.LOCK_UN)
                wait_for("it is settled", lambda: not marker.exists() and "lock:" not in config.read_text())
                assert "hangs" not in daemon.log()
    finally:
        config.unlink()
        marker.unlink(missing_ok=True)


def test_the_watchdog_is_fed_only_while_a_worker_serves(root):
    root.settings("MAX_WORKERS=1\n")
    logs = root.access_log.parent
    away = logs.with_name("away")
    logs.rename(away)
    logs.write_text("no directory\n")
    try:
        with Daemon(root, "pveproxy", watchdog=4, notify=True) as daemon:
            daemon.logged("unable to open log file '/var/log/pveproxy/access.log' - Not a directory")

            def is_silent():
                try:
                    while "WATCHDOG" not in daemon.notifications.next(seconds=4):
                        pass
                except TimeoutError:
                    return True

            wait_for("the watchdog starves", is_silent, every=0)
            assert daemon.process.poll() is None, "whether to restart it is systemd's business"
            logs.unlink()
            away.rename(logs)
            # The next attempt is after five seconds.
            assert daemon.notifications.wait("WATCHDOG")
    finally:
        if away.exists():
            logs.unlink()
            away.rename(logs)
