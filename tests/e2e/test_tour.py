"""Every command of docs/tour.md, as a newcomer pastes it."""

import shutil
import sys

from lab import Lab
from pages import adapted, blocks, pasted


def test_the_tour(playground, iso):
    root = playground / "tour"
    # What a test has already: a running lab, the packages, the ISO, the Python packages. Nobody types in a test.
    instead = {
        r"^make run .*$": "",
        r"^tools/install .*$": "",
        r"^tests/guest/build .*$": "",
        r"^python3 -m venv .*$": "",
        r"^/srv/tour-venv/bin/pip .*$": "",
        r"^socat -,raw\S* (.*)$": r"{ socat -u \1 - || true; } | grep -m 1 'tiny-guest ready'",
        r"^rm -rf .*$": "",
        r"/srv/tour-venv/bin/python": sys.executable,
        r"/srv/tour-iso": str(playground / "tour-iso"),
        r"\bscreen\.ppm": str(playground / "screen.ppm"),
    }
    script = adapted("\n".join(blocks("docs/tour.md")), root, instead)

    (playground / "tour-iso").mkdir()
    shutil.copy(iso, playground / "tour-iso/tiny.iso")
    with Lab(root):
        told = pasted(script)
    assert "tiny-guest ready" in told
    assert (playground / "screen.ppm").stat().st_size > 640 * 400 * 3
    for finished in ("qmcreate OK", "qmstart OK", "qmstop OK", "qmdestroy OK"):
        assert finished in told, told
