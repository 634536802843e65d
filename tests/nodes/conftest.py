"""Fixtures: a package, images of both releases, and nodes."""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# Clients that the end-to-end tests have: screens, terminals.
sys.path.append(str(HERE.parent / "e2e"))

from host import VMID, Host, Package  # noqa: E402
from node import CACHE, RELEASES, Network, Node, Run, image, missing  # noqa: E402


# Tests share nodes, so their order counts: the last ones take the product away.
ORDER = ["harness", "installed", "running", "settings", "services", "upgrade", "reboot", "removal", "bare"]
# Where a removal leaves something, if it leaves anything. What is in /root is of those who log in.
TREES = ("/etc", "/opt", "/run", "/srv", "/usr", "/var")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    def place(item):
        name = item.module.__name__.removeprefix("test_")
        return ORDER.index(name if name in ORDER else "services")

    def is_shown_elsewhere(item):
        callspec = getattr(item, "callspec", None)
        return item.get_closest_marker("once") and callspec and callspec.params.get("release") != RELEASES[-1]

    elsewhere = [item for item in items if is_shown_elsewhere(item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = sorted((item for item in items if item not in elsewhere), key=place)
    lacking = missing()
    if lacking:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"SKIP: nodes need {lacking}"))


@pytest.fixture(scope="session")
def run():
    """This run's name; leftovers of dead runs are gone."""
    made = Run()
    yield made
    made.close()


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The package under test: a copy, which stays what it is when another is built meanwhile."""
    path = os.environ.get("PVE_TEST_DEB")
    assert path, "PVE_TEST_DEB names the package: tests/run nodes builds it and sets this"
    work = tmp_path_factory.mktemp("package")
    return Package(shutil.copy(path, work), work)


@pytest.fixture(scope="session")
def images(package):
    """The root directories of clean nodes: {release: directory}."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(lambda release: image(release, package.path), RELEASES)))


@pytest.fixture(scope="session")
def network(run):
    made = Network(run)
    yield made
    made.close()


@pytest.fixture(scope="session", params=RELEASES)
def release(request):
    return request.param


@pytest.fixture
def blank(network, images, release):
    """Makes nodes with nothing installed, which the test boots; they end with the test."""
    with contextlib.ExitStack() as nodes:
        yield lambda **options: nodes.enter_context(Node(network, images[release], **{"name": "n2", **options}))


@pytest.fixture(scope="session")
def node(network, images, release, package):
    """A node per release with the product on it as `apt-get install` leaves it, and the tiny guest as an ISO. Tests
    share it, in the order of their files, and leave it as they found it."""
    with Node(network, images[release]) as made:
        made.boot()
        made.tree_before = made.tree(*TREES)
        made.install_output = package.install(made)
        made.put(CACHE / "tiny.iso", "/var/lib/vz/template/iso/tiny.iso")
        yield made


@pytest.fixture(scope="session")
def host(node):
    """The shared node's clients, with a password set for root."""
    return Host(node).set_password().wait_until_up()


@pytest.fixture(scope="session")
def guest(host):
    """A virtual machine on the shared node that runs from now on: (its number, the pid of its QEMU)."""
    host.create_guest(VMID)
    return VMID, host.start_guest(VMID)
