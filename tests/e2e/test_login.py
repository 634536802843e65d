"""Ways in, and ways that stay shut."""

import html
import json
import os
import re
import subprocess
import time

import proxmoxer
import pytest
import requests
from waiting import wait_for


def test_version_is_what_clients_expect(lab):
    version = lab.api().version.get()
    assert (version["version"], version["release"]) == ("9.2.3", "9.2")


def test_pve_realm_lets_the_right_password_in(lab):
    assert lab.api().access.users("admin@pve").get()["enable"] == 1


def test_pam_realm_asks_the_machine(lab, system_user):
    user = f"{system_user.name}@pam"
    assert lab.call("POST", "/access/users", userid=user).status_code == 200
    api = lab.api(user, system_user.password)
    assert api.version.get()["release"] == "9.2"
    with pytest.raises(proxmoxer.AuthenticationError):
        lab.api(user, system_user.password + "x")


def test_a_wrong_password_is_refused_late_and_without_a_reason(lab):
    answer = requests.post(
        f"{lab.url}/api2/json/access/ticket",
        data={"username": "admin@pve", "password": "wrong"},
        verify=False,
        timeout=30,
    )
    assert (answer.status_code, answer.reason) == (401, "authentication failure")
    assert answer.json() == {"data": None, "message": "authentication failure\n"}
    assert answer.elapsed.total_seconds() >= 2.9


def test_no_ticket_gives_401_without_a_body(lab):
    answer = requests.get(f"{lab.url}/api2/json/version", verify=False, timeout=30)
    assert (answer.status_code, answer.reason, answer.content) == (401, "No ticket", b"")


def test_a_change_needs_the_csrf_token(lab):
    session = lab.session()
    del session.headers["CSRFPreventionToken"]
    answer = session.post(f"{lab.url}/api2/json/access/groups", data={"groupid": "nocsrf"}, timeout=30)
    assert (answer.status_code, answer.reason) == (401, "Permission denied - invalid csrf token")
    assert "nocsrf" not in lab.call("GET", "/access/groups").text


def test_a_user_without_privileges_sees_and_does_nothing(lab):
    assert lab.call("POST", "/access/users", userid="nobody@pve", password="nothing-at-all").status_code == 200
    api = lab.api("nobody@pve", "nothing-at-all")
    assert api.nodes(lab.node).qemu.get() == []
    with pytest.raises(proxmoxer.ResourceException) as refused:
        api.nodes(lab.node).qemu.post(vmid=100)
    assert refused.value.status_code == 403
    with pytest.raises(proxmoxer.ResourceException) as refused:
        api.nodes(lab.node).storage("local").content.post(filename="vm-100-disk-0.raw", vmid=100, size="1M")
    assert refused.value.status_code == 403


def test_rights_follow_roles_groups_and_acls(lab):
    root = lambda verb, path, /, **parameters: lab.call(verb, path, **parameters).raise_for_status()
    root("POST", "/access/users", userid="dev@pve", password="developer")
    root("POST", "/access/groups", groupid="devs")
    root("PUT", "/access/users/dev@pve", groups="devs")
    root("POST", "/access/roles", roleid="Looker", privs="VM.Audit")
    root("PUT", "/access/acl", path="/vms", roles="Looker", groups="devs")
    rights = lab.api("dev@pve", "developer").access.permissions.get(path="/vms/4711")
    assert rights == {"/vms/4711": {"VM.Audit": 1}}


def test_a_token_works_until_it_is_deleted(lab):
    made = lab.api().access.users("admin@pve").token("ci").post(privsep=0, comment="pipeline")
    assert made["full-tokenid"] == "admin@pve!ci"
    by_token = lambda secret: proxmoxer.ProxmoxAPI(
        lab.address, user="admin@pve", token_name="ci", token_value=secret, verify_ssl=False, timeout=30
    )
    api = by_token(made["value"])
    # Answered by pveproxy itself, by pvedaemon, and a change without a CSRF token.
    assert api.version.get()["version"]
    assert api.cluster.nextid.get()
    api.access.groups.post(groupid="by-token")
    with pytest.raises(proxmoxer.ResourceException) as refused:
        api.access.password.put(userid="admin@pve", password="other")
    assert refused.value.status_code == 403

    renewed = api.access.users("admin@pve").token("ci").put(regenerate=1)
    for version in (made["value"], "00000000-0000-4000-8000-000000000000", ""):
        with pytest.raises(proxmoxer.ResourceException) as refused:
            by_token(version).version.get()
        assert refused.value.status_code == 401
    assert by_token(renewed["value"]).version.get()["version"]
    lab.api().access.users("admin@pve").token("ci").delete()
    with pytest.raises(proxmoxer.ResourceException):
        by_token(renewed["value"]).version.get()
    assert renewed["value"] not in lab.log()


def test_a_ticket_renews_itself(lab):
    api = lab.api()
    ticket, csrf = api.get_tokens()
    renewed = requests.post(
        f"{lab.url}/api2/json/access/ticket",
        data={"username": "admin@pve", "password": ticket},
        verify=False,
        timeout=30,
    ).json()["data"]
    assert renewed["ticket"].startswith("PVE:admin@pve:")
    assert csrf.split(":")[0] == ticket.split(":")[2]


def test_proxmoxer_takes_up_a_session_and_renews_it(lab, monkeypatch):
    ticket, _ = lab.api().get_tokens()
    # A ticket in place of the password, and from now on one for each call.
    api = lab.api(password=ticket)
    asked = lambda: (lab.root / "var/log/pveproxy/access.log").read_text().count('"POST /api2/json/access/ticket HTTP/1.1" 200')
    before = wait_for("the log-ins are in the access log", asked)
    monkeypatch.setattr("proxmoxer.backends.https.ProxmoxHTTPAuth.renew_age", -1)
    for number in range(3):
        api.access.groups.post(groupid=f"renewed-{number}")
    wait_for("each call renewed the ticket", lambda: asked() >= before + 3)
    assert api.get_tokens()[0].startswith("PVE:admin@pve:")


def test_pvestatd_makes_a_new_key_when_the_old_one_is_a_day_old(lab):
    session = lab.session("admin@pve")
    key = lab.root / "etc/pve/authkey.pub"
    before = key.read_text()
    yesterday = time.time() - 86_500
    os.utime(key, (yesterday, yesterday))
    wait_for("pvestatd makes a new key", lambda: key.read_text() != before, 40)
    wait_for("the private half follows", lambda: "BEGIN" in (lab.root / "etc/pve/priv/authkey.key").read_text())
    assert (lab.root / "etc/pve/authkey.pub.old").read_text() == before
    assert (lab.root / "etc/pve/priv/authkey.key").stat().st_mode & 0o777 == 0o600
    # Who is logged in stays so, also for changes, and who logs in gets a ticket of the new key.
    where = f"{lab.url}/api2/json"
    assert session.get(f"{where}/version", timeout=30).status_code == 200
    assert session.post(f"{where}/access/groups", data={"groupid": "after-rotation"}, timeout=30).status_code == 200
    api = lab.api()
    assert api.version.get()["release"] == "9.2"
    (lab.root / "etc/pve/authkey.pub.old").unlink()
    assert session.get(f"{where}/version", timeout=30).status_code == 401, "only the old key knew it"
    assert api.version.get()["release"] == "9.2"


def test_start_page_tells_nothing_secret(lab):
    page = requests.get(f"{lab.url}/", verify=False, timeout=30)
    assert page.status_code == 200
    assert "9.2.3" in page.text
    assert lab.password not in page.text


def test_the_start_pages_command_logs_in_whoever_types_a_password(lab):
    page = requests.get(f"{lab.url}/", verify=False, timeout=30).text
    command = html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.S)[1]).replace("root@pam", "admin@pve")
    done = subprocess.run(
        ["bash", "-c", command], input=f"{lab.password}\n", capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["data"]["username"] == "admin@pve", done


def test_a_browser_at_the_viewers_port_is_no_error_of_the_daemon(lab):
    answer = requests.get(f"http://{lab.address}:3128/", timeout=30)
    assert (answer.status_code, answer.reason) == (501, "method 'GET' not available")
    line = '"GET / HTTP/1.1" 501'
    wait_for("the access log has it", lambda: line in (lab.root / "var/log/pveproxy/access.log").read_text())
    assert "err method" not in lab.log()


def test_plain_http_on_the_tls_port_is_redirected(lab):
    answer = requests.get(f"http://{lab.address}:8006/x?y=1", allow_redirects=False, timeout=30)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://{lab.address}:8006/x?y=1"


def test_methods_without_a_handler_say_so(lab):
    answer = lab.call("GET", "/cluster/ha/rules")
    assert answer.status_code == 501
    answer = lab.call("GET", "/no/such/path")
    assert (answer.status_code, answer.reason) == (501, "Method 'GET /no/such/path' not implemented")


def test_extjs_always_answers_200(lab):
    answer = lab.session().get(f"{lab.url}/api2/extjs/no/such/path", timeout=30)
    assert answer.status_code == 200
    assert (answer.json()["success"], answer.json()["status"]) == (0, 501)


def test_the_certificate_comes_from_the_labs_own_ca(lab):
    ca = lab.root / "etc/pve/pve-root-ca.pem"
    session = lab.session()
    session.verify = str(ca)
    # The certificate names localhost and the node, not a lab's 127.0.0.N: the check of the name is left out.
    adapter = requests.adapters.HTTPAdapter()
    adapter.init_poolmanager(10, 10, assert_hostname=False)
    session.mount("https://", adapter)
    assert session.get(f"{lab.url}/api2/json/version", timeout=30).status_code == 200
