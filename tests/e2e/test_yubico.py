"""One-time passwords of Yubico keys, with a validation server that speaks the protocol 2.0.

What happens when that server is wrong, or is not there, is tested in `crates/pve-access/tests/yubico`.
"""

import base64
import hashlib
import hmac
import http.server
import secrets
import threading
import urllib.parse

import pytest

PASSWORD = secrets.token_urlsafe(12)
API_ID = "4711"
API_KEY = secrets.token_bytes(20)


def sign(fields):
    text = "&".join(f"{name}={fields[name]}" for name in sorted(fields))
    return base64.b64encode(hmac.new(API_KEY, text.encode(), hashlib.sha1).digest()).decode()


class Answers(http.server.BaseHTTPRequestHandler):
    """Each password is good once, for who signs the question."""

    used = set()

    def do_GET(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        signature = asked.pop("h", None)
        if asked.get("id") != API_ID or signature != sign(asked):
            status = "BAD_SIGNATURE"
        else:
            status = "REPLAYED_OTP" if asked["otp"] in self.used else "OK"
            self.used.add(asked["otp"])
        said = {"otp": asked["otp"], "nonce": asked["nonce"], "sl": "100", "status": status}
        lines = [f"{name}={value}\r\n" for name, value in {"h": sign(said), **said}.items()]
        body = "".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/verify"
        running.shutdown()


def test_a_realm_demands_yubico_keys(lab, server):
    user = f"y{secrets.token_hex(4)}@pve"
    root = lambda verb, path, **data: lab.call(verb, path, **data)
    assert root("POST", "/access/users", userid=user, password=PASSWORD).ok
    new = dict(type="yubico", description="green key", value="ccccccbchvth" + "c" * 32)
    answer = root("POST", f"/access/tfa/{user}", **new)
    assert "no yubico otp configuration available for realm pve" in answer.reason
    key = base64.b64encode(API_KEY).decode()
    assert root("PUT", "/access/domains/pve", tfa=f"type=yubico,id={API_ID},key={key},url={server}").ok
    answer = root("POST", f"/access/tfa/{user}", **new)
    assert answer.ok, answer.reason
    (entry,) = root("GET", f"/access/tfa/{user}").json()["data"]
    assert (entry["type"], entry["description"]) == ("yubico", "green key")

    log_in = lambda **data: root("POST", "/access/ticket", username=user, **data)
    half = log_in(password=PASSWORD).json()["data"]
    assert half["NeedTFA"] == 1
    assert half["ticket"].startswith('PVE:!tfa!{"yubico"%3Atrue}:')
    second = {"tfa-challenge": half["ticket"]}
    assert log_in(password=f"yubico:{new['value']}", **second).status_code == 401, "it was used to add the key"
    whole = log_in(password="yubico:ccccccbchvth" + "d" * 32, **second).json()["data"]
    assert "cap" in whole and "NeedTFA" not in whole
    assert log_in(password="yubico:ccccccbchvth" + "d" * 32, **second).status_code == 401
    both = log_in(password=PASSWORD, otp="yubico:ccccccbchvth" + "e" * 32).json()["data"]
    assert "cap" in both
    assert key not in lab.log()
