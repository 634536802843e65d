"""Waiting for a condition, which is how tests wait: never for a while."""

import time


def wait_for(what, condition, seconds=60, every=0.05):
    """Polls until `condition` returns something true, and returns that; fails with `what` after `seconds`. Where it is a
    function, it is asked then, and can tell how things are."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"timeout after {seconds} s: {what() if callable(what) else what}"
        time.sleep(every)
