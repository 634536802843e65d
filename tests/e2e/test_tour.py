"""Every command of docs/tour.md, as a newcomer pastes it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from lab import BINARIES, Lab

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def blocks():
    """The shell blocks of the tour, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", (REPOSITORY / "docs/tour.md").read_text(), re.S | re.M)


def test_the_tour(playground, iso):
    root = playground / "tour"
    # What a test has already: a running lab, the packages, the ISO, the Python packages. Nobody types in a test.
    instead = {
        r"^make run .*$": "",
        r"^apt-get install .*$": "",
        r"^tools/install .*$": "",
        r"^tests/guest/build .*$": "",
        r"^python3 -m venv .*$": "",
        r"^/srv/tour-venv/bin/pip .*$": "",
        r"^socat -,raw\S* (.*)$": r"{ socat -u \1 - || true; } | grep -m 1 'tiny-guest ready'",
        r"^rm -rf .*$": "",
        r"/srv/tour-venv/bin/python": sys.executable,
        r"/srv/tour-iso": str(playground / "tour-iso"),
        r"/srv/tour": str(root),
        r"\$PWD/target/release": str(BINARIES),
        r"\bscreen\.ppm": str(playground / "screen.ppm"),
    }
    script = "\n".join(blocks())
    for pattern, replacement in instead.items():
        script, count = re.subn(pattern, replacement, script, flags=re.M)
        assert count, f"the tour no longer says {pattern!r}"

    (playground / "tour-iso").mkdir()
    shutil.copy(iso, playground / "tour-iso/tiny.iso")
    with Lab(root):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=REPOSITORY,
            env={**os.environ, "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "tiny-guest ready" in told
    assert "TASK ERROR" not in told, told
    assert (playground / "screen.ppm").stat().st_size > 640 * 400 * 3
    for finished in ("qmcreate OK", "qmstart OK", "qmstop OK", "qmdestroy OK"):
        assert finished in told, told
