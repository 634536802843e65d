"""Security keys (WebAuthn) as a web interface uses them: in Chromium, with authenticators that Chromium makes up.

That wrong answers of every kind are refused is tested in `crates/pve-access/tests/webauthn`; here it is a browser that
answers, through `pveproxy`.
"""

import json
import secrets

import pytest

from browser import Browser
from waiting import wait_for

PASSWORD = secrets.token_urlsafe(12)

# What a web interface does with binary values: base64url in JSON, buffers in the browser.
SCRIPT = """
window.lab = (() => {
    const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
    const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '');
    let csrf = '';

    const call = async (method, path, data) => {
        const options = { method, headers: { CSRFPreventionToken: csrf } };
        if (data) options.body = new URLSearchParams(data);
        const answer = await fetch('/api2/extjs' + path, options);
        const body = await answer.text();
        // Who is not logged in gets no body.
        return body ? JSON.parse(body) : { success: 0, message: answer.statusText };
    };
    const enter = ({ ticket, CSRFPreventionToken }) => {
        document.cookie = `PVEAuthCookie=${encodeURIComponent(ticket)}; path=/; secure`;
        csrf = CSRFPreventionToken;
    };
    const half = async (username, password) => {
        const { data } = await call('POST', '/access/ticket', { username, password });
        if (!data.NeedTFA) enter(data);
        const field = data.ticket.split(':')[1];
        const challenge = field.startsWith('!tfa!') ? JSON.parse(decodeURIComponent(field.slice(5))) : null;
        return { ticket: data.ticket, challenge };
    };

    return {
        call,
        half,
        leave: () => { document.cookie = 'PVEAuthCookie=; path=/; max-age=0'; csrf = ''; },
        register: async (userid, password, description) => {
            const path = `/access/tfa/${userid}`;
            const first = await call('POST', path, { type: 'webauthn', password, description });
            if (!first.success) return first;
            const options = JSON.parse(first.data.challenge);
            const { challenge } = options.publicKey;
            options.publicKey.challenge = bytes(challenge);
            options.publicKey.user.id = bytes(options.publicKey.user.id);
            for (const known of options.publicKey.excludeCredentials ?? []) known.id = bytes(known.id);
            let key;
            try {
                key = await navigator.credentials.create(options);
            } catch (error) {
                return { success: 0, message: error.name };
            }
            const value = JSON.stringify({
                id: key.id,
                type: key.type,
                rawId: text(key.rawId),
                response: {
                    attestationObject: text(key.response.attestationObject),
                    clientDataJSON: text(key.response.clientDataJSON),
                },
            });
            const second = await call('POST', path, { type: 'webauthn', password, challenge, value });
            return { ...second, key: key.id };
        },
        // What a key says to a challenge; another one than was asked for, if it is named.
        ask: async ({ webauthn }, key) => {
            const options = structuredClone(webauthn);
            const { challenge, allowCredentials } = options.publicKey;
            options.publicKey.challenge = bytes(challenge);
            if (key) allowCredentials.splice(0, Infinity, { type: 'public-key', id: key });
            for (const allowed of allowCredentials) allowed.id = bytes(allowed.id);
            let said;
            try {
                said = await navigator.credentials.get(options);
            } catch (error) {
                return error.name;
            }
            return 'webauthn:' + JSON.stringify({
                id: said.id,
                type: said.type,
                challenge,
                rawId: text(said.rawId),
                response: {
                    authenticatorData: text(said.response.authenticatorData),
                    clientDataJSON: text(said.response.clientDataJSON),
                    signature: text(said.response.signature),
                },
            });
        },
        answer: async (username, { ticket }, password) => {
            const result = await call('POST', '/access/ticket', { username, password, 'tfa-challenge': ticket });
            if (result.success) enter(result.data);
            return Boolean(result.success);
        },
    };
})(), true
"""


class Page:
    """A page of the lab's own server, under a name that keys accept."""

    def __init__(self, browser):
        self.browser = browser
        self.authenticator = None
        browser.call("WebAuthn.enable")
        browser.open("https://localhost:8006/")
        browser.run(SCRIPT)

    def plug_in(self):
        """Another security key takes the place of the one before, if any."""
        if self.authenticator:
            self.browser.call("WebAuthn.removeVirtualAuthenticator", authenticatorId=self.authenticator)
        options = {"protocol": "ctap2", "transport": "usb", "automaticPresenceSimulation": True}
        answer = self.browser.call("WebAuthn.addVirtualAuthenticator", options=options)
        self.authenticator = answer["authenticatorId"]

    def uses(self):
        """How often the key was used."""
        answer = self.browser.call("WebAuthn.getCredentials", authenticatorId=self.authenticator)
        return sum(credential["signCount"] for credential in answer["credentials"])

    def run(self, function, *arguments):
        return self.browser.run(f"lab.{function}({', '.join(map(json.dumps, arguments))})")


@pytest.fixture
def page(lab):
    # No origin: it is the host that the browser asks.
    assert lab.call("PUT", "/cluster/options", webauthn="rp=Lab,id=localhost").ok
    with Browser(f"--host-resolver-rules=MAP localhost {lab.address}") as browser:
        yield Page(browser)


@pytest.fixture
def user(lab):
    name = f"key{secrets.token_hex(4)}@pve"
    lab.api().access.users.post(userid=name, password=PASSWORD)
    return name


def enter(page, user):
    """Logs in with password and the key that is plugged in; the answer that opened."""
    half = page.run("half", user, PASSWORD)
    said = page.run("ask", half["challenge"])
    assert page.run("answer", user, half, said), "the key opens"
    return half, said


def test_a_key_is_registered_and_opens(lab, page, user):
    page.plug_in()
    assert page.run("half", user, PASSWORD)["challenge"] is None
    added = page.run("register", user, PASSWORD, "blue key")
    assert added["success"], added
    (entry,) = lab.api().access.tfa(user).get()
    assert (entry["type"], entry["description"], entry["id"]) == ("webauthn", "blue key", added["data"]["id"])
    assert lab.api().access.users(user).get()["keys"] == "x"
    again = page.run("register", user, PASSWORD, "once more")
    assert again["message"] == "InvalidStateError", "the browser knows that the key is there already"

    page.run("leave")
    assert not page.run("call", "GET", "/access/users")["success"]
    half, said = enter(page, user)
    assert page.run("call", "GET", "/access/users")["success"]
    stored = json.loads((lab.root / "etc/pve/priv/tfa.cfg").read_text())["users"][user]["webauthn"][0]["entry"]
    assert stored["counter"] == page.uses() > 0
    page.run("leave")
    assert not page.run("answer", user, half, said), "an answer opens once"
    enter(page, user)

    # With the last factor goes all that is known of them.
    path = f"/access/tfa/{user}/{entry['id']}?password={PASSWORD}"
    assert page.run("call", "DELETE", path)["success"]
    assert user not in (lab.root / "etc/pve/priv/tfa.cfg").read_text()
    assert "keys" not in lab.api().access.users(user).get()
    page.run("leave")
    assert page.run("half", user, PASSWORD)["challenge"] is None
    assert page.run("call", "GET", "/access/users")["success"]


def test_another_key_does_not_open(lab, page, user):
    page.plug_in()
    page.run("half", user, PASSWORD)
    assert page.run("register", user, PASSWORD, "blue key")["success"]
    page.plug_in()
    other = f"other{secrets.token_hex(4)}@pve"
    lab.api().access.users.post(userid=other, password=PASSWORD)
    page.run("leave")
    page.run("half", other, PASSWORD)
    foreign = page.run("register", other, PASSWORD, "red key")["key"]

    page.run("leave")
    half = page.run("half", user, PASSWORD)
    assert page.run("ask", half["challenge"]) == "NotAllowedError", "the browser finds no key"
    said = page.run("ask", half["challenge"], foreign)
    assert said.startswith("webauthn:")
    assert not page.run("answer", user, half, said), "it is somebody else's"
    # Nor does what it says to its own user.
    own = page.run("half", other, PASSWORD)
    assert not page.run("answer", user, page.run("half", user, PASSWORD), page.run("ask", own["challenge"]))
    assert page.run("answer", other, own, page.run("ask", own["challenge"]))
    wait_for("the failure is logged", lambda: "authentication failure; rhost=127." in lab.log())


def test_a_disabled_key_is_not_asked(lab, page, user):
    page.plug_in()
    page.run("half", user, PASSWORD)
    entry = page.run("register", user, PASSWORD, "blue key")["data"]["id"]
    half = page.run("half", user, PASSWORD)
    said = page.run("ask", half["challenge"])
    set_enabled = lambda on: page.run(
        "call", "PUT", f"/access/tfa/{user}/{entry}", {"password": PASSWORD, "enable": on}
    )
    assert set_enabled(0)["success"]
    assert not page.run("answer", user, half, said)
    assert page.run("half", user, PASSWORD)["challenge"] is None, "nothing is left to ask for"
    assert set_enabled(1)["success"]
    page.run("leave")
    enter(page, user)
