"""Pools, realms and second factors, as automation meets them."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import re
import secrets
import struct
import time

import proxmoxer
import pytest
from waiting import wait_for


class Device:
    """A device that shows codes (RFC 6238)."""

    def __init__(self):
        self.key = secrets.token_bytes(20)
        secret = base64.b32encode(self.key).decode()
        self.uri = f"otpauth://totp/Lab:e2e?secret={secret}&digits=6&algorithm=SHA1&period=30&issuer=Lab"
        self.used = 0

    def code(self):
        """A code that counts now and was not used before: of the step before, of this one, or of the next."""

        def unused():
            now, age = divmod(time.time(), 30)
            # The last one only while there is time left to send it.
            steps = (now - 1, now, now + 1) if age < 15 else (now, now + 1)
            return next((int(step) for step in steps if step > self.used), None)

        self.used = wait_for("the next code", unused, 60)
        digest = hmac.new(self.key, struct.pack(">Q", self.used), hashlib.sha1).digest()
        word = struct.unpack(">I", digest[digest[-1] & 15 :][:4])[0] & 0x7FFFFFFF
        return f"{word % 1000000:06}"


class Person:
    """A user with a password, made for one test."""

    def __init__(self, lab):
        self.lab = lab
        self.name = f"p{secrets.token_hex(4)}@pve"
        self.password = secrets.token_urlsafe(12)
        lab.api().access.users.post(userid=self.name, password=self.password)

    def api(self, **options):
        return proxmoxer.ProxmoxAPI(
            self.lab.address, user=self.name, password=self.password, verify_ssl=False, timeout=30, **options
        )

    def recover(self, key):
        """A log-in with a recovery key, which proxmoxer cannot send: what it answers, `None` for a refusal."""
        post = lambda **data: self.lab.session().post(
            f"{self.lab.url}/api2/json/access/ticket", data={"username": self.name, **data}, timeout=30
        ).json()["data"]
        half = post(password=self.password)
        return post(password=f"recovery:{key}", **{"tfa-challenge": half["ticket"]})

    def with_device(self):
        device = Device()
        factor = dict(type="totp", description="phone", totp=device.uri, value=device.code(), password=self.password)
        self.api().access.tfa(self.name).post(**factor)
        device.used -= 2  # Showing a code is not using it.
        return device


@pytest.fixture
def person(lab):
    return Person(lab)


def refused(status, call, **parameters):
    """Calls, demands that status, and returns the text."""
    with pytest.raises(proxmoxer.ResourceException) as error:
        call(**parameters)
    assert error.value.status_code == status, error.value
    return str(error.value)


def test_pools_give_their_members_to_who_holds_the_pool(lab, person):
    api = lab.api()
    vmid = api.cluster.nextid.get()
    lab.run_task(api, api.nodes(lab.node).qemu.post(vmid=vmid, name="pooled", memory=64))
    api.pools.post(poolid="team", comment="of the team")
    api.pools.post(poolid="team/web")
    api.pools.put(poolid="team/web", vms=vmid, storage="local")
    assert person.api().pools.get() == []
    assert person.api().nodes(lab.node).qemu.get() == []
    api.access.acl.put(path="/pool/team", roles="PVEVMUser,PVEPoolUser", users=person.name)

    own = person.api()
    assert [pool["poolid"] for pool in own.pools.get()] == ["team", "team/web"]
    (web,) = own.pools.get(poolid="team/web")
    assert [member["id"] for member in web["members"]] == [f"qemu/{vmid}", f"storage/{lab.node}/local"]
    assert [str(guest["vmid"]) for guest in own.nodes(lab.node).qemu.get()] == [vmid]
    assert own.pools("team").get() == {"comment": "of the team", "members": []}
    refused(403, own.pools.put, poolid="team", vms=vmid)

    text = refused(500, api.pools.put, poolid="team", vms=vmid)
    assert f"VM {vmid} belongs already to pool 'team/web' and 'allow-move' is not set" in text
    api.pools("team").put(vms=vmid, **{"allow-move": 1})
    assert "not empty (contains pool 'team/web')" in refused(500, api.pools.delete, poolid="team")
    # A guest that goes leaves its pool.
    lab.run_task(api, api.nodes(lab.node).qemu(vmid).delete())
    assert api.pools("team").get()["members"] == []
    assert "contains storage 'local'" in refused(500, api.pools.delete, poolid="team/web")
    api.pools.put(poolid="team/web", storage="local", delete=1)
    api.pools.delete(poolid="team/web")
    api.pools("team").delete()
    assert "/pool/team" not in json.dumps(api.access.acl.get())


def test_a_realm_is_made_changed_and_deleted(lab):
    api = lab.api()
    api.access.domains.post(
        realm="corp", type="ldap", server1="192.0.2.1", base_dn="dc=x", user_attr="uid", password="bind-secret"
    )
    password = lab.root / "etc/pve/priv/realm/corp.pw"
    assert password.read_text() == "bind-secret"
    assert password.stat().st_mode & 0o777 == 0o600
    shown = api.access.domains("corp").get()
    assert (shown["server1"], shown.get("password")) == ("192.0.2.1", None)
    api.access.domains("corp").put(comment="Head office", digest=shown["digest"])
    text = refused(500, api.access.domains("corp").put, comment="again", digest=shown["digest"])
    assert "detected modified configuration" in text
    assert "corp" in [realm["realm"] for realm in api.access.domains.get()]
    api.access.domains("corp").delete()
    assert not password.exists()
    assert "bind-secret" not in lab.log()


def test_a_login_with_a_code(lab, person):
    device = person.with_device()
    own = person.api(otp=device.code())
    assert own.access.tfa(person.name).get()[0]["description"] == "phone"
    with pytest.raises(proxmoxer.AuthenticationError):
        person.api(otp="000000")
    with pytest.raises(proxmoxer.AuthenticationError):
        person.api()
    # The half ticket opens nothing.
    half = lab.session().post(
        f"{lab.url}/api2/json/access/ticket", data={"username": person.name, "password": person.password}, timeout=30
    ).json()["data"]
    assert half["NeedTFA"] == 1 and "cap" not in half
    answer = lab.session().get(
        f"{lab.url}/api2/json/version", headers={"Cookie": f"PVEAuthCookie={half['ticket']}"}, timeout=30
    )
    assert (answer.status_code, answer.reason) == (401, "No ticket")


def test_a_recovery_key_opens_once_and_ends_a_lockout(lab, person):
    device = person.with_device()
    keys = person.api(otp=device.code()).access.tfa(person.name).post(type="recovery", password=person.password)
    keys = keys["recovery"]
    assert len(keys) == 10

    def wrong(_):
        with pytest.raises(proxmoxer.AuthenticationError):
            person.api(otp="000000")

    # Every refusal is late: all at once, which the counters must stand too.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(wrong, range(8)))
    api = lab.api()
    locked = lambda: [row["userid"] for row in api.access.tfa.get() if row.get("totp-locked")]
    assert locked() == [person.name]
    with pytest.raises(proxmoxer.AuthenticationError):
        person.api(otp=device.code())
    login = person.recover(keys[0])
    assert login["ticket"].startswith(f"PVE:{person.name}:") and "cap" in login
    assert locked() == []
    assert person.recover(keys[0]) is None


def test_an_administrator_unlocks(lab, person):
    device = person.with_device()
    path = lab.root / "etc/pve/priv/tfa.cfg"
    content = json.loads(path.read_text())
    content["users"][person.name]["totp-locked"] = True
    path.write_text(json.dumps(content))
    with pytest.raises(proxmoxer.AuthenticationError):
        person.api(otp=device.code())
    device.used -= 1  # It was not looked at.
    assert lab.api().access.users(person.name)("unlock-tfa").put() == 1
    assert person.api(otp=device.code()).version.get()["release"] == "9.2"


def test_the_log_tells_who_changed_what_and_who_failed(lab, person):
    # What fail2ban is told to look for.
    with pytest.raises(proxmoxer.AuthenticationError):
        lab.api(person.name, "wrong-password")
    failed = rf"pvedaemon\[\d+\]: .*authentication failure; rhost=127\.\S+ user={re.escape(person.name)} msg=.+"
    wait_for("the failure is logged", lambda: re.search(failed, lab.log()))
    lab.api().access.users(person.name).put(comment="note", email="a@example.org")
    line = rf"audit: user=admin@pve rhost=127\.\S+ PUT /access/users/{{userid}} .*userid={re.escape(person.name)}: ok"
    wait_for("the change is logged", lambda: re.search(line, lab.log()))
    refused(403, person.api().access.users(person.name).put, comment="mine")
    assert person.password not in lab.log()
