"""Realms whose users a directory knows: log-ins, tried connections, synchronisation, its jobs; against a real slapd."""

import concurrent.futures
import contextlib
import fcntl
import os
import pathlib
import re
import signal
import subprocess
import time

import proxmoxer
import pytest
from directory import (
    ROOT, ROOT_PASSWORD, SUFFIX, Certificates, Liar, Slapd, Strange, Upn, end_of_page, group, person, told,
)  # fmt: skip
from lab import BINARIES
from waiting import wait_for

BASE = dict(type="ldap", server1="127.0.0.1", base_dn=SUFFIX, user_attr="uid")
SEARCHER = dict(bind_dn=ROOT, password=ROOT_PASSWORD)
STRANGE_NAMES = {"a*": "star pw", "p(q)": "paren pw", "b\\c": "backslash pw", "jörg": "ümlaut pw", "with,comma": "comma pw"}


@pytest.fixture(scope="module")
def certificates(playground):
    return Certificates(playground / "certificates")


@pytest.fixture(scope="module")
def slapd(playground, certificates):
    people = [
        person("alice", "alice pw", mail="alice@corp.test", givenName="Alice"),
        person("bob", "bob pw", mail="not a mail address"),
        person("with,comma", STRANGE_NAMES["with,comma"], rdn=r"uid=with\,comma"),
        *(person(name, STRANGE_NAMES[name], rdn=f"cn=strange{i}", cn=f"strange{i}") for i, name in enumerate(STRANGE_NAMES) if name.isascii() and "," not in name and "\\" not in name),
    ]
    with Slapd(playground / "slapd", certificates, [*people, group("admins", "alice", "bob"), group("empty")]) as running:
        running.add(person("b\\c", STRANGE_NAMES["b\\c"], rdn="cn=strange8", cn="strange8"))
        yield running


class Realm:
    """A realm that exists for the length of a test, with users of it."""

    def __init__(self, lab, name, **options):
        self.lab, self.name = lab, name
        self.api = lab.api()
        self.api.access.domains.post(realm=name, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for user in self.api.access.users.get():
            if user["userid"].endswith("@" + self.name):
                self.api.access.users(user["userid"]).delete()
        for row in self.api.access.groups.get():
            if row["groupid"].endswith("-" + self.name):
                self.api.access.groups(row["groupid"]).delete()
        self.api.access.domains(self.name).delete()

    def user(self, name):
        self.api.access.users.post(userid=f"{name}@{self.name}")

    def change(self, **options):
        self.api.access.domains(self.name).put(**options)

    def login(self, name, password):
        """Whether a user gets a ticket."""
        reply = self.lab.session().post(
            f"{self.lab.url}/api2/json/access/ticket",
            data={"username": f"{name}@{self.name}", "password": password},
            timeout=60,
        )
        assert reply.status_code in (200, 401), reply.reason
        return reply.status_code == 200

    def reason(self, name, password):
        """Logs in, which must fail, and returns the reason from the log: the client is told none."""
        lines = lambda: re.findall(rf"user={re.escape(name)}@{self.name} msg=(.*?)(?: \[request|$)", self.lab.log(), re.M)
        before = len(lines())
        assert not self.login(name, password)
        return wait_for("the reason is logged", lambda: lines()[before:], 10)[0]

    def sync(self, **options):
        """Synchronises; the task's log."""
        return self.lab.run_task(self.api, self.api.access.domains(self.name).sync.post(**options))

    def users(self):
        return {user["userid"]: user for user in self.api.access.users.get(full=1) if user["userid"].endswith("@" + self.name)}

    def groups(self):
        rows = self.api.access.groups.get()
        return {row["groupid"]: row["users"] for row in rows if row["groupid"].endswith("-" + self.name)}

    def stored(self):
        """Its lines of the file: those of others may change meanwhile."""
        lines = (self.lab.root / "etc/pve/user.cfg").read_text().splitlines()
        return [line for line in lines if re.search(rf"[@-]{self.name}\b", line)]


def refused(call, **parameters):
    """Calls, demands a refusal, and returns its text."""
    with pytest.raises(proxmoxer.ResourceException) as error:
        call(**parameters)
    return str(error.value)


@pytest.fixture(scope="module")
def scheduled(lab, slapd):
    """A job that is due every minute, made when the first test begins: the last one looks what came of it."""
    with Realm(lab, "jobs", **BASE, **SEARCHER, port=slapd.port) as realm:
        realm.api.cluster.jobs("realm-sync")("nightly").post(
            realm="jobs", schedule="*", scope="both", comment="all: of them", **{"remove-vanished": "entry"}
        )
        yield realm


def test_users_log_in_by_every_mode(lab, slapd, certificates, scheduled):
    verified = dict(server1="localhost", verify=1, capath=os.fspath(certificates["ca"]))
    modes = {
        "plain": dict(port=slapd.port),
        "tls": dict(mode="ldaps", port=slapd.tls_port),
        "secure": dict(secure=1, port=slapd.tls_port),
        "starttls": dict(mode="ldap+starttls", port=slapd.port),
        "tls-verified": dict(mode="ldaps", port=slapd.tls_port, **verified),
        "starttls-verified": dict(mode="ldap+starttls", port=slapd.port, **verified, sslversion="tlsv1_2"),
        "ipv6": dict(mode="ldaps", port=slapd.tls_port, **verified | dict(server1="::1"), sslversion="tlsv1_3"),
        "searcher": dict(port=slapd.port, **SEARCHER),
    }
    for name, options in modes.items():
        with Realm(lab, f"by-{name}", **BASE | options) as realm:
            realm.user("alice")
            assert realm.login("alice", "alice pw"), name


def test_who_is_not_let_in_and_why(lab, slapd):
    with Realm(lab, "corp", **BASE, port=slapd.port) as realm, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for name in ("alice", "ghost", "admins", "a", "bob"):
            realm.user(name)
        cases = {
            ("alice", "wrong"): "invalidCredentials (49)",
            ("bob", ""): "no password",
            ("ghost", "x"): "user dn is empty",
            # There is `a*`, and `a` is not it.
            ("a", STRANGE_NAMES["a*"]): "user dn is empty",
        }
        reasons = pool.map(lambda case: realm.reason(*case), cases)
        assert dict(zip(cases, reasons)) == cases
        # A name that exists in the directory alone is nobody here.
        assert not realm.login("nobody", "x")

        realm.change(bind_dn=ROOT)
        assert realm.reason("alice", "alice pw") == "missing password for realm corp"
        realm.change(password="wrong")
        assert realm.reason("alice", "alice pw") == "ldap bind failed: invalidCredentials (49)"
        realm.change(password=ROOT_PASSWORD)
        assert realm.login("alice", "alice pw")
        # Where older releases kept it.
        priv = lab.root / "etc/pve/priv"
        (priv / "ldap").mkdir(mode=0o700)
        (priv / "realm/corp.pw").rename(priv / "ldap/corp.pw")
        assert realm.login("alice", "alice pw")
        realm.change(delete="bind_dn,password")
        assert not (priv / "ldap/corp.pw").exists()


def test_names_with_letters_that_filters_know_are_names(lab, slapd):
    with Realm(lab, "corp", **BASE, port=slapd.port) as realm:
        names = [name for name in STRANGE_NAMES if name.isascii()]
        for name in names:
            realm.user(name)
            assert realm.login(name, STRANGE_NAMES[name]), name
        assert not realm.login("p(q)", STRANGE_NAMES["a*"])


def test_a_second_server_answers_for_the_first(lab, slapd, certificates):
    # Nobody listens there, and there somebody is silent.
    with Realm(lab, "corp", **BASE | dict(server1="127.0.0.9", server2="127.0.0.1", port=slapd.port)) as realm:
        realm.user("alice")
        assert realm.login("alice", "alice pw")
        text = refused(realm.change, server2="127.0.0.8", **{"check-connection": 1})
        assert f"unable to connect to '127.0.0.9:{slapd.port}' - Connection refused" in text
        assert f"unable to connect to '127.0.0.8:{slapd.port}' - Connection refused" in text


def test_a_connection_is_tried_before_a_realm_is_kept(lab, slapd, certificates):
    domains = lab.api().access.domains
    check = {"check-connection": 1}
    plain = BASE | dict(realm="corp", port=slapd.port) | check
    tls = BASE | dict(realm="corp", mode="ldaps", port=slapd.tls_port, server1="localhost", verify=1) | check
    ca, other = (os.fspath(certificates[name]) for name in ("ca", "other-ca"))
    directory = certificates.path / "trusted"
    directory.mkdir()
    (directory / "some-name.crt").write_bytes(certificates["ca"].read_bytes())

    for options, text in [
        (plain | dict(port=1), "unable to connect to '127.0.0.1:1' - Connection refused"),
        (plain | SEARCHER | dict(password="wrong"), "ldap bind failed: invalidCredentials (49)"),
        (plain | dict(bind_dn=ROOT), "missing password for realm corp"),
        (tls | dict(capath=other), "invalid peer certificate"),
        (tls, "invalid peer certificate"),
        (tls | dict(capath=ca, server1="127.0.0.2", server2="127.0.0.1", port=slapd.port), "unable to connect to"),
        (tls | dict(capath="/nowhere"), "/nowhere"),
        (tls | dict(capath="/dev/zero"), "/dev/zero: no file of certificates"),
        (tls | dict(capath=ca, cert=ca, certkey="/dev/zero"), "/dev/zero: no file of certificates"),
        (tls | dict(capath=ca, sslversion="tlsv1_1"), "'sslversion tlsv1_1' is no longer supported"),
        (tls | dict(capath=ca, cert=other, certkey="/nowhere"), "/nowhere"),
    ]:
        found = refused(domains.post, **options)
        assert found.startswith("500") and "add auth server failed: " in found and text in found, (options, found)
    assert "corp" not in [realm["realm"] for realm in domains.get()]

    for options in [
        plain,
        plain | SEARCHER,
        tls | dict(capath=ca),
        tls | dict(capath=os.fspath(directory)),
        tls | dict(verify=0),
        tls | dict(verify=0, capath=other),
        tls | dict(capath=ca, mode="ldap+starttls", port=slapd.port),
    ]:
        domains.post(**options)
        domains("corp").delete()

    # The same for a realm that is there: it stays as it is when the new way is none.
    domains.post(**plain | SEARCHER)
    text = refused(domains("corp").put, bind_dn="cn=nobody", **check)
    assert "update auth server failed: ldap bind failed: invalidCredentials (49)" in text
    assert domains("corp").get()["bind_dn"] == ROOT
    domains("corp").put(comment="checked", **check)
    assert "missing password for realm corp" in refused(domains("corp").put, delete="password", **check)
    domains("corp").put(delete="password")
    domains("corp").delete()


def test_a_certificate_shows_the_server_who_we_are(lab, playground, certificates):
    settings = "TLSVerifyClient demand"
    with Slapd(playground / "demanding", certificates, [person("alice", "alice pw")], settings=settings) as slapd:
        client = dict(cert=os.fspath(certificates["client"]), certkey=os.fspath(certificates.key("client")))
        tls = BASE | dict(mode="ldaps", port=slapd.tls_port, server1="localhost", verify=1, capath=os.fspath(certificates["ca"]))
        text = refused(lab.api().access.domains.post, realm="corp", **tls, **SEARCHER, **{"check-connection": 1})
        assert "add auth server failed: " in text
        with Realm(lab, "corp", **tls, **client) as realm:
            realm.user("alice")
            assert realm.login("alice", "alice pw")
            # Only a server that has proved who it is gets to see it.
            realm.change(verify=0)
            assert "connect" in realm.reason("alice", "alice pw")
        assert "BIND dn=\"\"" not in slapd.said(), "the certificate says who searches"


def test_a_certificate_that_signed_itself_is_trusted_where_it_is_named(lab, playground, certificates):
    with Slapd(playground / "selfsigned", certificates, [], server="self") as slapd:
        tls = BASE | dict(realm="corp", mode="ldaps", port=slapd.tls_port, verify=1) | {"check-connection": 1}
        domains = lab.api().access.domains
        trusted = dict(capath=os.fspath(certificates["self"]))
        domains.post(**tls | dict(server1="localhost") | trusted)
        domains("corp").delete()
        assert "invalid peer certificate" in refused(domains.post, **tls | dict(server1="127.0.0.1") | trusted)
        assert "invalid peer certificate" in refused(
            domains.post, **tls | dict(server1="localhost", capath=os.fspath(certificates["ca"]))
        )


def test_servers_that_say_nothing_or_nonsense_cost_a_log_in_and_nothing_else(lab):
    # An entry as deep as a stack is not: 30 84 … inside each other.
    deep = b""
    for _ in range(60_000):
        deep = b"\x30\x84" + len(deep).to_bytes(4, "big") + deep if len(deep) < 300_000 else deep
    answers = {
        "silent": (b"", "timeout"),
        "nonsense": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "ldap bind failed: "),
        "deep": (deep, "unable to ask the LDAP server - the helper died"),
        "empty": (b"\x30\x00", "ldap bind failed: the server closed the connection"),
    }
    _, before = lab.daemon_pids("pvedaemon")

    def attempt(name):
        answer, _ = answers[name]
        with Strange(answer) as server, Realm(lab, name, **BASE, port=server.port) as realm:
            realm.user("alice")
            return realm.reason("alice", "pw")

    with concurrent.futures.ThreadPoolExecutor(len(answers)) as pool:
        reasons = dict(zip(answers, pool.map(attempt, answers)))
    for name, (_, text) in answers.items():
        assert text in reasons[name], reasons
    assert lab.daemon_pids("pvedaemon")[1] == before, "no worker died"


CROWD = 1500


@pytest.fixture(scope="module")
def crowd(playground, certificates):
    """A directory of more users than one answer holds."""
    people = [person(f"user{i}", mail=f"user{i}@corp.test") for i in range(CROWD)]
    with Slapd(playground / "crowd", certificates, [*people, group("all", *(f"user{i}" for i in range(CROWD)))]) as running:
        yield running


def test_a_crowd_is_synchronised_page_by_page(lab, crowd):
    with Realm(lab, "crowd", **BASE, **SEARCHER, port=crowd.port, sync_attributes="email=mail") as realm:
        lines = realm.sync(scope="both")
        users = realm.users()
        assert len(users) == CROWD
        assert users["user1499@crowd"]["email"] == "user1499@corp.test"
        assert len(realm.groups()["all-crowd"].split(",")) == CROWD
        for line in (
            "starting sync for realm crowd",
            "read 900 users",
            f"read {CROWD} users",
            "adding user 'user0@crowd'",
            "adding group 'all-crowd'",
        ):
            assert line in lines.splitlines(), lines[-2000:]
        # Nothing is left to do, and then nobody is left.
        assert "adding" not in realm.sync(scope="both")
        realm.change(filter="uid=nobody", group_filter="cn=nobody")
        realm.sync(scope="both", **{"remove-vanished": "entry"})
        assert (realm.users(), realm.groups()) == ({}, {})


def test_a_synchronisation_that_is_killed_changes_all_or_nothing(lab, crowd):
    with Realm(lab, "killed", **BASE, **SEARCHER, port=crowd.port) as realm, Strange() as silent:

        def kill_when(text):
            """Kills a synchronisation when it has said a text; whether it was still at it."""
            upid = realm.api.access.domains("killed").sync.post(scope="both")
            log = next(path for path in (lab.root / "var/log/pve/tasks").rglob(upid))
            wait_for(f"{text} is said", lambda: text in log.read_text(), every=0.005)
            # It may have been faster than we.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(upid.split(":")[2], 16), signal.SIGKILL)
            status = lambda: realm.api.nodes(lab.node).tasks(upid).status.get()
            wait_for("it is dead", lambda: status()["status"] == "stopped")
            return status()["exitstatus"] != "OK"

        def empty():
            realm.change(filter="uid=nobody", group_filter="cn=nobody")
            realm.sync(scope="both", **{"remove-vanished": "entry"})
            realm.change(delete="filter,group_filter")
            assert (realm.users(), realm.groups()) == ({}, {})

        # While it waits for the directory, and while it waits for the file with all that the directory said.
        realm.change(port=silent.port)
        assert kill_when("starting sync for realm killed")
        realm.change(port=crowd.port)
        with open(lab.root / "run/lock/pve-cfs/file-user_cfg", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert kill_when("got data from server")
        assert realm.stored() == []
        # While it writes.
        for text in ("adding user 'user0@killed'", "adding group 'all-killed'"):
            kill_when(text)
            count = len(realm.users())
            assert count in (0, CROWD), text
            assert len(realm.groups()) == (1 if count else 0), text
            empty()
        # No lock is left behind.
        realm.sync(scope="both")
        assert len(realm.users()) == CROWD
        empty()


def test_a_directory_that_lies_changes_nothing(lab):
    alice = told(b"uid=alice,dc=x", uid=b"alice")
    servers = {
        "leaves": (Liar(alice, closes=True), "ldap search failed: the server closed the connection"),
        "garbage": (Liar(alice, end=b"\xff" * 64), "ldap search failed: "),
        "no text": (Liar(told(b"uid=\xff", uid=b"alice")), ""),
        "empty page": (Liar(end_of_page(b"more")), "ldap search failed: the server sent an empty page and wants to be asked on"),
    }
    with Realm(lab, "lied", **BASE, port=1) as realm:
        realm.user("bob")
        before = realm.stored()
        for name, (server, text) in servers.items():
            with server:
                realm.change(port=server.port)
                upid = realm.api.access.domains("lied").sync.post(scope="both", **{"remove-vanished": "acl;entry;properties"})
                status = lab.wait_task(realm.api, upid)
            assert status != "OK" and status.startswith(text), (name, status)
            assert realm.stored() == before, name


def test_without_case_a_user_keeps_its_spelling(lab, slapd):
    with Realm(lab, "corp", **BASE, **SEARCHER, port=slapd.port, **{"case-sensitive": 0}) as realm:
        realm.user("Alice")
        realm.sync(scope="both", **{"remove-vanished": "acl;entry;properties"})
        assert {"Alice@corp", "bob@corp"} <= set(realm.users()) and "alice@corp" not in realm.users()
        assert realm.groups()["admins-corp"] == "Alice@corp,bob@corp"
        assert realm.login("ALICE", "alice pw")


def test_what_a_synchronisation_changes_is_what_was_asked_for(lab, playground, certificates):
    people = [
        person("alice", mail="alice@corp.test", givenName="Alice", expire="0"),
        person("bob", mail="not a mail address"),
        person("x", rdn="cn=short"),
        person("with space", rdn="cn=blank"),
    ]
    groups = [group("admins", "alice", "bob"), group("empty"), group("with space", "alice")]
    with (
        Slapd(playground / "small", certificates, [*people, *groups]) as slapd,
        Realm(lab, "small", **BASE, **SEARCHER, port=slapd.port) as realm,
    ):
        realm.change(sync_attributes="email=mail,firstname=givenName,shoesize=x", **{"sync-defaults-options": "enable-new=0"})
        sync = realm.api.access.domains("small").sync.post

        text = refused(sync)
        assert text.startswith("400") and "Not passed as parameter and not defined in realm default sync options." in text
        upid = sync(scope="both", **{"dry-run": 1})
        assert upid.split(":")[5:7] == ["auth-realm-sync-test", "small"]
        lines = lab.run_task(realm.api, upid)
        assert "adding user 'alice@small'" in lines and "adding group 'admins-small'" in lines
        assert realm.stored() == []

        # Users alone; the realm says that they are not let in.
        lines = realm.sync(scope="users")
        assert set(realm.users()) == {"alice@small", "bob@small", "x@small"} and realm.groups() == {}
        alice = realm.users()["alice@small"]
        assert (alice["enable"], alice["firstname"], alice["email"]) == (0, "Alice", "alice@corp.test")
        assert "email" not in realm.users()["bob@small"]
        for line in (
            "warning: skipping sync attribute 'shoesize=x' - not valid",
            "warning: skipping attribute 'mail' of user 'bob@small' - invalid format - value does not look like a valid email",
            "warning: skipping user 'with space@small' - ",
        ):
            assert line in lines, lines

        realm.change(**{"sync-defaults-options": "scope=both,enable-new=1"})
        lines = realm.sync()
        assert realm.groups() == {"admins-small": "alice@small,bob@small", "empty-small": ""}
        assert "warning: skipping group 'with space-small' - invalid name" in lines
        assert realm.users()["alice@small"]["enable"] == 0, "who was locked out stays so"

        # What people and the directory then do.
        users = realm.api.access.users
        users("alice@small").put(comment="by hand", lastname="L")
        users("alice@small").token("ci").post()
        for member in (dict(users="bob@small"), dict(groups="empty-small")):
            realm.api.access.acl.put(path="/vms", roles="PVEAuditor", **member)
        granted = lambda: {row["ugid"] for row in realm.api.access.acl.get() if row["path"] == "/vms"}
        slapd.delete(f"uid=bob,ou=people,{SUFFIX}", f"cn=empty,ou=groups,{SUFFIX}")
        slapd.change(f"dn: uid=alice,ou=people,{SUFFIX}\nchangetype: modify\ndelete: mail\n-\nreplace: givenName\ngivenName: Alicia\n")

        realm.sync()
        alice = realm.users()["alice@small"]
        assert (alice["firstname"], alice["email"], alice["comment"]) == ("Alicia", "alice@corp.test", "by hand")
        assert "bob@small" in realm.users() and realm.groups() == {"admins-small": "alice@small", "empty-small": ""}
        assert granted() == {"bob@small", "empty-small"}

        realm.sync(**{"remove-vanished": "acl"})
        assert granted() == set() and "bob@small" in realm.users() and "empty-small" in realm.groups()

        realm.sync(**{"remove-vanished": "properties"})
        alice = realm.users()["alice@small"]
        assert not {"email", "comment", "lastname"} & set(alice) and alice["firstname"] == "Alicia"
        assert alice["enable"] == 0 and [token["tokenid"] for token in alice["tokens"]] == ["ci"]
        assert "bob@small" in realm.users()

        # In the words of older clients.
        realm.sync(full=1)
        assert set(realm.users()) == {"alice@small", "x@small"} and set(realm.groups()) == {"admins-small"}

        # Who may, and that it is told.
        clerk = f"clerk{os.getpid()}@pve"
        users.post(userid=clerk, password="clerk pass")
        own = lab.api(clerk, "clerk pass").access.domains("small").sync.post
        assert refused(own).startswith("403")
        realm.api.access.acl.put(path="/access/groups", roles="PVEUserAdmin", users=clerk)
        assert refused(own).startswith("403")
        realm.api.access.acl.put(path="/access/realm/small", roles="PVEUserAdmin", users=clerk)
        lab.run_task(realm.api, own())
        for line in (
            rf"audit: user={clerk} rhost=\S+ POST /access/domains/\{{realm\}}/sync realm=small: ok",
            r"audit: .* POST /access/domains/\{realm\}/sync .*: 400 Parameter verification failed. \(scope:",
        ):
            wait_for(f"{line} is logged", lambda: re.search(line, lab.log()))
        users(clerk).delete()

        text = refused(realm.api.access.domains("pam").sync.post, scope="both")
        assert "Cannot sync realm type 'pam'! Only LDAP/AD realms can be synced." in text and text.startswith("500")
        text = refused(realm.api.access.domains("nowhere").sync.post, scope="both")
        assert "Realm does not exist." in text and text.startswith("400")
        # From the command line, too.
        def pveum(*words):
            command = [BINARIES / "pve-cli", "pveum", "--root", lab.root, "realm", *words]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
            return done.returncode, done.stdout + done.stderr

        status, said = pveum("sync", "small", "--dry-run", "1")
        assert status == 0 and "starting sync for realm small" in said, said
        options = [word for key, value in BASE.items() for word in (f"--{key}", value)]
        status, said = pveum("add", "typed", *options, "--port", "1", "--check-connection", "1")
        assert status != 0 and "unable to connect to '127.0.0.1:1' - Connection refused" in said, said
        status, said = pveum("add", "typed", *options, "--port", str(slapd.port), "--check-connection", "1")
        assert status == 0, said
        realm.api.access.domains("typed").delete()
        # A directory that is away changes nothing.
        realm.change(port=1)
        status = lab.wait_task(realm.api, sync())
        assert status == "unable to connect to '127.0.0.1:1' - Connection refused (os error 111)"
        assert set(realm.users()) == {"alice@small", "x@small"}


def test_an_active_directory_lets_users_in_by_their_domain(lab, slapd):
    options = dict(type="ad", server1="127.0.0.1", domain="corp.test")
    with Upn(slapd, "corp.test") as relay, Realm(lab, "ad", **options, port=relay.port) as realm:
        realm.user("alice")
        assert realm.login("alice", "alice pw")
        assert realm.reason("alice", "wrong") == "invalidCredentials (49)"
        assert relay.names == ["alice@corp.test"] * 2, "nobody searches"
        # A user that names a domain itself.
        realm.user("bob@corp.test")
        assert realm.login("bob@corp.test", "bob pw")
        assert relay.names[-1] == "bob@corp.test"
        # Where its entries are it says itself, and names are sAMAccountName's.
        realm.change(**SEARCHER)
        realm.sync(scope="both", **{"remove-vanished": "entry"})
        assert {"alice@ad", "bob@ad", "p(q)@ad"} <= set(realm.users())
        assert "bob@corp.test@ad" not in realm.users()
        assert realm.groups()["admins-ad"] == "alice@ad,bob@ad"


def test_a_job_of_the_scheduler_synchronises(lab, scheduled):
    realm = scheduled
    jobs = realm.api.cluster.jobs("realm-sync")
    job = jobs("nightly")
    state = pathlib.Path(lab.root / "etc/pve/priv/jobs/realm-sync-nightly.json")
    wait_for("the job runs", lambda: state.exists() and "upid" in state.read_text(), 130)
    wait_for("it is done", lambda: "alice@jobs" in realm.users())
    assert realm.groups()["admins-jobs"] == "alice@jobs,bob@jobs"

    (row,) = jobs.get()
    assert time.time() - row.pop("last-run") < 300 and row.pop("next-run") > time.time() - 60
    expected = {
        "id": "nightly", "type": "realm-sync", "realm": "jobs", "schedule": "*", "scope": "both", "enabled": 1,
        "comment": "all: of them", "remove-vanished": "entry",
    }  # fmt: skip
    assert row == expected and job.get() == expected
    tasks = [task for task in realm.api.nodes(lab.node).tasks.get(typefilter="auth-realm-sync") if task["id"] == "jobs"]
    assert {task["user"] for task in tasks} == {"root@pam"}

    assert "Job 'nightly' already exists" in refused(job.post, realm="jobs", schedule="daily", scope="users")
    for options, text in [
        (dict(realm="nowhere", scope="users"), "No such realm 'nowhere'"),
        (dict(realm="pam", scope="users"), "Only LDAP/AD realms can be synced."),
        (dict(realm="jobs"), "missing value for required option 'scope'"),
    ]:
        assert text in refused(jobs("other").post, schedule="daily", **options), text
    assert "no such realm-sync job" in refused(jobs("other").put, schedule="*", enabled=0)
    assert "No such job 'other'" in refused(jobs("other").get)
    assert "No such job 'other'" in refused(jobs("other").delete)
    assert "unable to delete required option 'schedule'" in refused(job.put, schedule="*", delete="schedule")
    job.put(schedule="*", enabled=0, delete="comment,remove-vanished", scope="users")
    assert job.get() == {"id": "nightly", "type": "realm-sync", "realm": "jobs", "schedule": "*", "scope": "users", "enabled": 0}
    job.delete()
    assert jobs.get() == [] and not state.exists()
