"""OpenID Connect with a real provider: npm's oidc-provider, driven through its own log-in and consent pages."""

import html
import json
import pathlib
import re
import subprocess
import urllib.parse

import proxmoxer
import pytest
import requests
from waiting import wait_for

NPM = pathlib.Path(__file__).resolve().parent.parent / "npm"


@pytest.fixture(scope="module")
def issuer(lab):
    """A running provider, which sends browsers back to the lab."""
    process = subprocess.Popen(
        ["node", NPM / "oidc-provider.js", lab.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("http://127."), process.stderr.read()
        yield line
    finally:
        process.terminate()
        process.communicate(timeout=30)


def make_realm(lab, name, issuer, client, **options):
    options = {key.replace("_", "-"): value for key, value in options.items()}
    lab.api().access.domains.post(
        realm=name,
        type="openid",
        **{"issuer-url": issuer, "client-id": client, "client-key": f"secret of {client}", "username-claim": "username"},
        **options,
    )


@pytest.fixture(scope="module")
def realm(lab, issuer):
    """A realm that makes users and groups."""
    options = dict(autocreate=1, groups_claim="groups", groups_autocreate=1, scopes="email profile groups")
    make_realm(lab, "sso", issuer, "by-rsa", **options)
    return "sso"


def post(lab, path, **parameters):
    """A call by a browser that is not logged in."""
    return requests.post(f"{lab.url}/api2/json{path}", data=parameters, verify=False, timeout=60)


def go_to_provider(lab, realm, name):
    """What a browser brings back from the provider when its user logs in there: the parameters of its last URL."""
    answer = post(lab, "/access/openid/auth-url", **{"realm": realm, "redirect-url": lab.url})
    assert answer.status_code == 200, answer.text
    browser = requests.Session()
    browser.trust_env = False
    page = browser.get(answer.json()["data"], allow_redirects=False, timeout=30)
    for _ in range(20):
        where = page.headers.get("Location", "")
        if where.startswith(lab.url):
            return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(where).query))
        if page.is_redirect:
            page = browser.get(urllib.parse.urljoin(page.url, where), allow_redirects=False, timeout=30)
            continue
        assert page.status_code == 200, page.text
        form = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page.text, re.S)
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[2]))
        if 'name="login"' in form[2]:
            fields |= {"login": name, "password": "anything"}
        page = browser.post(html.unescape(form[1]), data=fields, allow_redirects=False, timeout=30)
    raise AssertionError(f"the provider goes round in circles: {page.url}")


def come_back(lab, brought):
    return post(lab, "/access/openid/login", **{"state": brought["state"], "code": brought["code"], "redirect-url": lab.url})


def test_a_person_logs_in_and_becomes_a_user_with_groups(lab, realm):
    brought = go_to_provider(lab, realm, "alice")
    assert json.loads(brought["state"])["realm"] == realm
    state = lab.root / f"var/lib/pve-manager/proxmox-openid-auth-state-{realm}"
    assert state.stat().st_mode & 0o777 == 0o600 and len(json.loads(state.read_text())) == 1

    answer = come_back(lab, brought)
    assert answer.status_code == 200, answer.text
    login = answer.json()["data"]
    assert login["username"] == f"alice@{realm}" and set(login["cap"]) >= {"vms", "dc", "nodes"}
    assert json.loads(state.read_text()) == []
    session = requests.Session()
    session.verify = session.trust_env = False
    session.headers["Cookie"] = "PVEAuthCookie=" + requests.utils.quote(login["ticket"], safe="")
    assert session.get(f"{lab.url}/api2/json/version", timeout=30).status_code == 200

    user = lab.api().access.users(f"alice@{realm}").get()
    assert (user["email"], user["firstname"], user["lastname"]) == ("alice@id.example", "alice", "Tester")
    assert (user["enable"], user["groups"]) == (1, [f"alice-{realm}", f"team-{realm}"])
    wait_for("the success is logged", lambda: f"successful openid auth for user 'alice@{realm}'" in lab.log())
    audit = rf'audit: user=alice@{realm} rhost=127\.\S+ POST /access/openid/login "created user, joined alice-{realm}, .*": ok'
    wait_for("the new user is in the audit log", lambda: re.search(audit, lab.log()))

    # The second time nothing is made.
    assert come_back(lab, go_to_provider(lab, realm, "alice")).status_code == 200
    assert lab.log().count("created user") == 1
    # There is no password for such users.
    with pytest.raises(proxmoxer.AuthenticationError):
        lab.api(f"alice@{realm}", "anything")


def test_a_token_signed_with_a_curve_and_a_user_that_must_exist(lab, issuer):
    make_realm(lab, "curve", issuer, "by-curve")
    assert come_back(lab, go_to_provider(lab, "curve", "carol")).status_code == 401
    wait_for("the reason is logged", lambda: "msg=no such user ('carol@curve')" in lab.log())
    lab.api().access.users.post(userid="carol@curve")
    login = come_back(lab, go_to_provider(lab, "curve", "carol")).json()["data"]
    assert login["username"] == "carol@curve"
    lab.api().access.users("carol@curve").put(enable=0)
    assert come_back(lab, go_to_provider(lab, "curve", "carol")).status_code == 401


def test_what_is_not_the_providers_word_is_refused_late_and_logged(lab, realm):
    brought = go_to_provider(lab, realm, "mallory")
    answer = come_back(lab, brought | {"code": "guessed"})
    assert (answer.status_code, answer.reason) == (401, "authentication failure")
    assert answer.json() == {"data": None, "message": "authentication failure\n"}
    assert answer.elapsed.total_seconds() >= 2.9
    # The state was used up by that.
    assert come_back(lab, brought).status_code == 401
    # What fail2ban is told to look for.
    line = r"pvedaemon\[\d+\]: .*openid authentication failure; rhost=127\.\S+ msg="
    wait_for("the failures are logged", lambda: re.search(line + r"no openid auth state found", lab.log()))
    wait_for("the reason is logged", lambda: re.search(line + r".*invalid_grant", lab.log()))
    assert "mallory" not in json.dumps(lab.api().access.users.get())


def test_realms_that_are_none_or_of_another_type(lab, realm):
    for name, text in [("none", "authentication domain 'none' does not exist"), ("pve", "wrong realm type (pve != openid)")]:
        answer = post(lab, "/access/openid/auth-url", **{"realm": name, "redirect-url": lab.url})
        assert (answer.status_code, answer.json()["message"].strip()) == (500, text)
    assert [row["subdir"] for row in lab.api().access.openid.get()] == ["auth-url", "login"]


def test_strangers_are_not_told_why_a_provider_cannot_be_asked(lab):
    make_realm(lab, "gone", "http://127.0.0.1:1", "by-rsa")
    answer = post(lab, "/access/openid/auth-url", **{"realm": "gone", "redirect-url": lab.url})
    assert (answer.status_code, answer.json()["message"].strip()) == (500, "openid discovery failed")
    wait_for("the reason is logged", lambda: re.search("unable to begin an openid log-in - openid discovery failed: .*127.0.0.1:1 ", lab.log()))


def test_no_secret_is_in_the_log(lab, realm):
    assert "secret of" not in lab.log()
    assert lab.api().access.domains(realm).get()["client-key"] == "secret of by-rsa"
