"""Pages of the documentation as programs: their shell blocks, and running them as somebody pastes them."""

import os
import pathlib
import re
import subprocess

from lab import BINARIES

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def blocks(page):
    """The shell blocks of a page, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", (REPOSITORY / page).read_text(), re.S | re.M)


def adapted(script, root, instead):
    """A script for the lab at `root`: patterns replaced by what a test has instead. Each must occur."""
    always = {r"^apt-get install .*$": "", r"\$PWD/target/release": str(BINARIES)}
    # The directory is the last to be replaced: other names begin with it.
    for pattern, replacement in {**instead, **always, r"/srv/tour": str(root)}.items():
        script, count = re.subn(pattern, replacement, script, flags=re.M)
        assert count, f"the page no longer says {pattern!r}"
    return script


def pasted(script):
    """Runs a script of a page, whose lab runs already: what it said."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        # The scheduler looks once a minute, and the guests are emulated.
        timeout=300,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "TASK ERROR" not in told, told
    return told
