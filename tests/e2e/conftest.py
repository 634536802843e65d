"""Fixtures: labs, their clients, and the tiny guest."""

import os
import pathlib
import shutil
import tempfile

import pytest

from lab import Lab

ISO = pathlib.Path(__file__).resolve().parent.parent / ".cache" / "tiny.iso"


@pytest.fixture(scope="session")
def iso():
    """The bootable ISO of the tiny guest."""
    assert ISO.exists(), "run tests/run: it builds the tiny guest"
    return ISO


@pytest.fixture(scope="session")
def system_user():
    """A user of this machine, for logins through PAM: (name, password)."""
    from lab import SystemUser

    with SystemUser() as user:
        yield user


@pytest.fixture(scope="session")
def playground():
    """A directory that the web side's user may pass, with a path short enough for sockets."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="pve-e2e-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def lab(playground, request):
    """One running lab per test module."""
    with Lab(playground / request.module.__name__.removeprefix("test_")) as running:
        yield running


@pytest.fixture
def bridge():
    """A bridge of this machine that exists for the length of a test."""
    from lab import Bridge

    with Bridge(f"pvetest{os.getpid()}") as made:
        yield made
