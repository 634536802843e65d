"""How the command line tools treat locks and signals."""

import pathlib
import re


def without_waits(told):
    """What a tool said, but for waiting: somebody else may have had a file just then."""
    return re.sub(r"^trying to acquire (lock\.\.\. OK|cfs lock '.*' \.\.\.)\n", "", told, flags=re.M)


def heeds_interrupts(child):
    """Whether a tool follows its task already: until then Ctrl-C ends it, from then on a thread waits for it."""
    try:
        return any(name.read_text() == "signals\n" for name in pathlib.Path(f"/proc/{child.pid}/task").glob("*/comm"))
    except OSError:  # a thread that was there has ended
        return False
