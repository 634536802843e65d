"""`pveum`: the same users and rights as the API's, with daemons and without."""

import concurrent.futures
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import termios
import time

import proxmoxer
import pytest
import yaml

from directory import ROOT, ROOT_PASSWORD, SUFFIX, Certificates, Slapd, person
from lab import BINARIES, Lab
from pages import blocks, pasted
from tools import without_waits
from waiting import wait_for

PASSWORD = "S3cret!pw"


class Tool:
    """`pveum` on a lab's root."""

    def __init__(self, root):
        self.root = root

    def words(self, *words):
        return [os.fspath(BINARIES / "pve-cli"), "pveum", "--root", os.fspath(self.root), *map(str, words)]

    def run(self, *words, **options):
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=60, **options)
        assert "panicked" not in done.stderr, done
        return done

    def __call__(self, *words, **options):
        """A call that goes well: what it printed."""
        done = self.run(*words, **options)
        assert (done.returncode, without_waits(done.stderr)) == (0, ""), (words, done)
        return done.stdout

    def json(self, *words):
        return json.loads(self(*words, "--output-format", "json"))

    def refused(self, *words, **options):
        """A call that fails: what it said."""
        done = self.run(*words, **options)
        assert (done.returncode, done.stdout) == (255, ""), (words, done)
        return without_waits(done.stderr)


@pytest.fixture(scope="module")
def pveum(lab):
    return Tool(lab.root)


def by(key, rows):
    return sorted(rows, key=lambda row: row[key])


def test_lists_are_those_of_the_api(lab, pveum):
    api = lab.api()
    pveum("group", "add", "ops", "--comment", "Operators")
    pveum("user", "add", "lister@pve", "--groups", "ops", "--password", PASSWORD, "--comment", "café, \"quoted\"")
    pveum("user", "token", "add", "lister@pve", "ci", "--comment", "x")
    pveum("pool", "add", "listed", "--comment", "a pool")
    pveum("acl", "modify", "/pool/listed", "--roles", "PVEPoolUser,PVEVMUser", "--groups", "ops")
    pveum("role", "add", "Lister", "--privs", "VM.Audit")
    pveum("realm", "add", "listed", "--type", "openid", "--issuer-url", "https://id.invalid", "--client-id", "pve")
    for words, method, key in [
        (("user", "list"), api.access.users, "userid"),
        (("group", "list"), api.access.groups, "groupid"),
        (("role", "list"), api.access.roles, "roleid"),
        (("realm", "list"), api.access.domains, "realm"),
        (("pool", "list"), api.pools, "poolid"),
        (("user", "token", "list", "lister@pve"), api.access.users("lister@pve").token, "tokenid"),
    ]:
        told = pveum.json(*words)
        assert by(key, told) == by(key, method.get()), words
        # The other formats say the same.
        assert yaml.safe_load(pveum(*words, "--output-format", "yaml")) == told
        assert json.loads(pveum(*words, "--output-format", "json-pretty")) == told
        table = pveum(*words)
        assert all(row[key] in table for row in told)
    order = lambda rows: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
    assert order(pveum.json("acl", "list")) == order(api.access.acl.get())
    permissions = api.access.permissions
    assert pveum.json("user", "permissions", "lister@pve") == permissions.get(userid="lister@pve")
    told = pveum.json("user", "token", "permissions", "lister@pve", "ci")
    assert told == permissions.get(userid="lister@pve!ci")
    assert "café, \"quoted\"" in pveum("user", "list", "--noborder")


def test_what_the_tool_writes_the_api_knows_and_the_other_way_round(lab, pveum):
    api = lab.api()
    pveum("user", "add", "both@pve", "--email", "both@example.org", "--expire", 0)
    assert pveum.refused("user", "add", "both@pve") == "create user failed: user 'both@pve' already exists\n"
    with pytest.raises(proxmoxer.ResourceException, match="already exists"):
        api.access.users.post(userid="both@pve")
    api.access.users("both@pve").put(comment="by the API")
    (row,) = [row for row in pveum.json("user", "list") if row["userid"] == "both@pve"]
    assert (row["comment"], row["email"]) == ("by the API", "both@example.org")
    pveum("passwd", "both@pve", input=PASSWORD + "\n")
    assert lab.api("both@pve", PASSWORD).version.get()["release"] == "9.2"
    pveum("user", "modify", "both@pve", "--enable", "0")
    with pytest.raises(proxmoxer.AuthenticationError):
        lab.api("both@pve", PASSWORD)
    pveum("user", "delete", "both@pve")
    with pytest.raises(proxmoxer.ResourceException, match="no such user"):
        api.access.users("both@pve").get()


def test_a_ticket_opens_the_api(lab, pveum):
    pveum("user", "add", "ticket@pve", "--password", PASSWORD)
    ticket = pveum("ticket", "ticket@pve", input=PASSWORD + "\n").strip()
    assert ticket.startswith("PVE:ticket@pve:")
    session = lab.session()
    session.headers["Cookie"] = "PVEAuthCookie=" + ticket.replace("+", "%2B").replace("=", "%3D").replace("/", "%2F")
    assert session.get(f"{lab.url}/api2/json/version", timeout=30).status_code == 200
    told = json.loads(pveum("ticket", "ticket", "--realm", "pve", "--output-format", "json", input=PASSWORD))
    assert told["username"] == "ticket@pve" and told["CSRFPreventionToken"]
    assert pveum.refused("ticket", "ticket@pve", input="wrong-password\n") == "401 authentication failure\n"


def test_a_token_of_the_tool_opens_the_api(lab, pveum):
    pveum("user", "add", "robot@pve")
    made = pveum.json("user", "token", "add", "robot@pve", "ci")
    header = {"Authorization": f"PVEAPIToken={made['full-tokenid']}={made['value']}"}
    session = lab.session()
    del session.headers["Cookie"]
    call = lambda: session.get(f"{lab.url}/api2/json/version", headers=header, timeout=30).status_code
    assert call() == 200
    pveum("user", "token", "delete", "robot@pve", "ci")
    assert call() == 401


def test_second_factors_are_listed_unlocked_and_deleted(lab, pveum):
    pveum("user", "add", "factor@pve", "--password", PASSWORD)
    api = lab.api("factor@pve", PASSWORD)
    api.access.tfa("factor@pve").post(type="recovery", password=PASSWORD)
    path = lab.root / "etc/pve/priv/tfa.cfg"
    content = json.loads(path.read_text())
    content["users"]["factor@pve"]["totp-locked"] = True
    path.write_text(json.dumps(content))
    assert pveum.json("user", "tfa", "list", "factor@pve") == [
        row for row in lab.api().access.tfa.get() if row["userid"] == "factor@pve"
    ]
    (line,) = pveum("user", "tfa", "list", "--noborder", "--noheader").splitlines()
    assert line.split() == ["factor@pve", "recovery", "recovery", "1", "totp"]
    assert pveum("user", "tfa", "unlock", "factor@pve") == "1\n"
    assert pveum("user", "tfa", "unlock", "factor@pve") == "0\n"
    # Half a log-in prints its ticket, and says that it is half.
    half = pveum.run("ticket", "factor@pve", input=PASSWORD)
    assert half.stdout.startswith("PVE:!tfa!") and "second factor needed" in half.stderr
    assert pveum.refused("user", "tfa", "delete", "factor@pve", "--id", "none") == "no such entry\n"
    assert pveum.refused("user", "tfa", "delete", "none@pve") == "no such user ('none@pve')\n"
    pveum("user", "tfa", "delete", "factor@pve")
    assert pveum.refused("user", "tfa", "delete", "factor@pve") == "user 'factor@pve' has no second factors\n"
    assert pveum("user", "tfa", "list", "factor@pve") == ""
    assert "factor@pve" not in path.read_text()
    assert pveum("ticket", "factor@pve", input=PASSWORD).startswith("PVE:factor@pve:")


def test_a_realm_is_synchronised_and_its_log_printed(pveum, playground):
    certificates = Certificates(playground / "pveum-certificates")
    with Slapd(playground / "pveum-slapd", certificates, [person("dora", "dora pw"), person("emil")]) as slapd:
        where = ["--server1", "127.0.0.1", "--port", slapd.port, "--base_dn", SUFFIX, "--user_attr", "uid"]
        words = ["realm", "add", "dir", "--type", "ldap", *where, "--bind_dn", ROOT, "--password"]
        pveum(*words, input=ROOT_PASSWORD + "\n")
        users = lambda: {row["userid"] for row in pveum.json("user", "list") if row["userid"].endswith("@dir")}
        told = pveum("realm", "sync", "dir", "--scope", "users", "--dry-run")
        assert told.endswith("TASK OK\n") and users() == set()
        told = pveum("realm", "sync", "dir", "--scope", "users")
        assert "dora@dir" in told and told.endswith("TASK OK\n")
        assert users() == {"dora@dir", "emil@dir"}
        # The password goes to the directory from a process of its own.
        assert pveum("ticket", "dora@dir", input="dora pw\n").startswith("PVE:dora@dir:")
        assert pveum("realm", "sync", "dir", "--scope", "users", "--quiet") == ""
    done = pveum.run("realm", "sync", "dir", "--scope", "users")
    assert done.returncode == 255 and "TASK ERROR: " in done.stdout, done
    refused = "400 Parameter verification failed.\nscope: value 'all' does not have a value in the enumeration"
    assert pveum.refused("realm", "sync", "dir", "--scope", "all").startswith(refused)


def typed(tool, words, keys):
    """What a call says on a terminal on which somebody types, and its exit code. A prompt is waited for before each key."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(tool.words()[0], tool.words(*words))
    told = b""

    def read():
        nonlocal told
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                told += os.read(terminal, 4096)
            except OSError:
                return True
        return False

    for number, line in enumerate(keys, 1):
        wait_for(f"prompt {number}: {told!r}", lambda: read() or told.count(b"assword: ") == number, 30, every=0)
        os.write(terminal, line)
    wait_for(f"its end: {told!r}", read, 30, every=0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return told.decode(), code


def test_passwords_are_typed_unseen(lab, pveum):
    pveum("user", "add", "typed@pve")
    told, code = typed(pveum, ["passwd", "typed@pve"], [PASSWORD.encode() + b"\n"] * 2)
    assert (told, code) == ("Enter new password: \r\nRetype new password: \r\n", 0)
    assert lab.api("typed@pve", PASSWORD).version.get()
    told, code = typed(pveum, ["user", "add", "other@pve", "--password"], [b"0ne-password\n", b"an0ther-one\n"])
    assert (told.splitlines()[-1], code) == ("Passwords do not match!", 255)
    assert "other@pve" not in pveum("user", "list")
    told, code = typed(pveum, ["ticket", "typed@pve"], [b"wr\x7f\x7f" + PASSWORD.encode() + b"\r"])
    assert told.startswith("Enter password: \r\nPVE:typed@pve:") and code == 0
    assert typed(pveum, ["passwd", "typed@pve"], [b"half\x03"])[1] == 255


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_a_prompt_leaves_the_terminal_as_it_was(lab, pveum, number):
    terminal, own = pty.openpty()
    try:
        before = termios.tcgetattr(own)
        child = subprocess.Popen(pveum.words("passwd", "root@pam"), stdin=own, stdout=own, stderr=own)
        wait_for("silence", lambda: not termios.tcgetattr(own)[3] & termios.ECHO, 30, every=0.01)
        child.send_signal(number)
        assert child.wait(30) == -number
        assert termios.tcgetattr(own) == before
    finally:
        os.close(terminal)
        os.close(own)


def test_what_a_terminal_is_told_does_nothing_to_it(lab, pveum):
    told, code = typed(pveum, ["group", "delete", "x\x1b[31m"], [])
    assert code == 255 and "\x1b" not in told and "\\u{1b}[31m" in told, told


def test_no_daemon_is_needed(playground):
    root = playground / "pveum-alone"
    tool = Tool(root)
    with Lab(root) as lab:
        password = lab.password
    tool("user", "add", "offline@pve", "--password", PASSWORD)
    tool("group", "add", "night")
    tool("user", "modify", "offline@pve", "--groups", "night")
    tool("acl", "modify", "/", "--roles", "PVEAuditor", "--groups", "night")
    tool("realm", "modify", "pve", "--comment", "Ours")
    assert tool.json("user", "permissions", "offline@pve", "--path", "/nodes")["/nodes"]["Sys.Audit"] == 1
    assert tool("ticket", "admin@pve", input=password).startswith("PVE:admin@pve:")
    for name in ("user.cfg", "domains.cfg", "priv/shadow.cfg"):
        stat = (root / "etc/pve" / name).stat()
        assert (stat.st_uid, stat.st_mode & 0o777) == (0, 0o600 if "priv" in name else 0o640), name
        assert stat.st_gid == (root / "etc/pve").stat().st_gid
    with Lab(root) as lab:
        assert "Sys.Audit" in lab.api("offline@pve", PASSWORD).access.permissions.get(path="/")["/"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_the_files_whole(lab, pveum, number):
    # A user and a password: two files.
    words = lambda name: ["user", "add", name, "--password", PASSWORD, "--comment", "x" * 50]
    started = time.monotonic()
    pveum(*words(f"first{number:d}@pve"))
    length = time.monotonic() - started
    random.seed(5)
    killed = 0
    for which in range(20):
        before = pveum.json("user", "list")
        name = f"killed{number:d}x{which}"
        child = subprocess.Popen(pveum.words(*words(name + "@pve")), stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, length * 1.2))  # Where the kill falls is what this test varies.
        child.send_signal(number)
        killed += child.wait() == -number
        after = pveum.json("user", "list")
        assert [row for row in after if row["userid"] != name + "@pve"] == before
        shadow = (lab.root / "etc/pve/priv/shadow.cfg").read_text().splitlines()
        assert all(re.fullmatch(r"[^:]+:\$5\$[^:]+:", line) for line in shadow), shadow
        has_password = any(line.startswith(name + ":") for line in shadow)
        is_there = len(after) > len(before)
        # A signal that can be caught leaves no half.
        assert is_there == has_password or (number == signal.SIGKILL and has_password)
    assert killed > 0
    # No lock is left, for the daemons neither.
    new = {"userid": f"first{number:d}@pve", "password": PASSWORD + "2", "confirmation-password": lab.password}
    lab.api().access.password.put(**new)
    assert lab.api(f"first{number:d}@pve", PASSWORD + "2").version.get()


def test_changes_of_the_tool_and_of_the_api_do_not_lose_each_other(lab, pveum):
    api = lab.api()
    changes = [lambda n=n: pveum("group", "add", f"tool{n}") for n in range(12)]
    changes += [lambda n=n: api.access.groups.post(groupid=f"api{n}") for n in range(12)]
    random.Random(7).shuffle(changes)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for change in [pool.submit(change) for change in changes]:
            change.result()
    groups = {row["groupid"] for row in api.access.groups.get()}
    assert groups >= {f"{who}{n}" for who in ("tool", "api") for n in range(12)}


# A /dev of the call's own, with a system log in it.
OWN_LOG = """
mount -t tmpfs none "$DIR"
for name in null zero random urandom; do
    touch "$DIR/$name"
    mount --bind "/dev/$name" "$DIR/$name"
done
ln -s "$LOG" "$DIR/log"
mount --rbind "$DIR" /dev
exec "$@"
"""


def test_a_change_is_one_line_in_the_system_log_without_secrets(lab, pveum, playground):
    path = playground / "log"
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(os.fspath(path))
    place = playground / "dev"
    place.mkdir()
    words = pveum.words("user", "add", "logged@pve", "--password", PASSWORD)
    environment = {**os.environ, "DIR": os.fspath(place), "LOG": os.fspath(path)}
    subprocess.run(["unshare", "--mount", "sh", "-ec", OWN_LOG, "sh", *words], check=True, timeout=30, env=environment)
    log.setblocking(False)
    lines = []
    try:
        while True:
            lines.append(log.recv(65536).decode())
    except BlockingIOError:
        log.close()  # That was all: who wrote has ended.
    (line,) = [line for line in lines if "audit:" in line]
    pattern = r" pveum\[\d+\]: audit: user=root@pam rhost= POST /access/users password=… userid=logged@pve: ok"
    assert re.search(pattern, line), line
    assert not any(PASSWORD in line for line in lines), lines


def test_the_commands_of_the_page_work(lab, pveum):
    commands = [block for block in blocks("docs/access.md") if "pveum" in block]
    assert commands
    # What the page says of labs, and a file as somebody has it.
    lines = ["\n".join(commands).replace("/srv/lab", str(lab.root)).replace("pve-cli ", f"{BINARIES}/pve-cli ")]
    told = pasted("\n".join([f"cd {lab.root}", f"echo {PASSWORD} > password-of-joe", *lines]))
    assert "joe@pve!ci" in told and "VM.PowerMgmt (*)" in told
    assert lab.api("joe@pve", PASSWORD).version.get()
