"""Clients that are in use everywhere: curl, openssl, sslyze, h2load and Chromium."""

import gzip
import hashlib
import json
import os
import signal
import subprocess

import pytest
import sslyze

from browser import Browser
from memory import peak
from waiting import wait_for


def run(*command, stdin=b"", timeout=60):
    """A program's outcome: (exit status, what it printed)."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=timeout, env={"PATH": os.environ["PATH"]}
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def curl(lab, path, *options):
    """What curl prints for a path of the lab, whose certificate it believes."""
    authority = lab.root / "etc/pve/pve-root-ca.pem"
    url = f"{lab.url}{path}"
    code, told = run("curl", "-sS", "--cacert", authority, "--max-time", "50", *options, url)
    assert code == 0, told
    return told


def credentials(lab):
    """The options of curl for root@pam's session."""
    headers = lab.session().headers
    return [word for name in ("Cookie", "CSRFPreventionToken") for word in ("-H", f"{name}: {headers[name]}")]


# curl


def test_curl_keeps_a_connection_whose_certificate_it_believes(lab):
    version = f"{lab.url}/api2/json/version"
    told = curl(lab, "/", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_version} %{num_connects}\n", *credentials(lab), version)
    assert told.splitlines() == ["1.1 1", "1.1 0"]
    code, _ = run("curl", "-s", f"{lab.url}/")
    assert code == 60, "not by the system's authorities"
    headers = curl(lab, "/api2/json/version", "-D", "-", "-o", "/dev/null", *credentials(lab))
    assert headers.startswith("HTTP/1.1 200 OK\r\n")


@pytest.fixture(scope="module")
def uploaded(lab, playground):
    """An upload by curl: (the file, the id of its task)."""
    file = playground / "some name.iso"
    file.write_bytes(os.urandom(3_000_001))
    answer = curl(
        lab,
        f"/api2/json/nodes/{lab.node}/storage/local/upload",
        *credentials(lab),
        *("-F", "content=iso", "-F", f"filename=@{file};type=application/octet-stream"),
    )
    upid = json.loads(answer)["data"]
    lab.run_task(lab.api(), upid)
    return file, upid


def test_curl_uploads_a_file(lab, uploaded):
    file, _ = uploaded
    names = [path for path in lab.root.rglob("template/iso/*.iso") if path.read_bytes() == file.read_bytes()]
    assert len(names) == 1, names


def test_a_task_log_of_any_size_is_saved_with_little_memory(lab, uploaded):
    _, upid = uploaded
    path = f"/api2/json/nodes/{lab.node}/tasks/{upid}/log?download=1"
    log = next(path for path in (lab.root / "var/log/pve/tasks").rglob(upid))
    head = curl(lab, path, "-D", "-", *credentials(lab)).replace("\r", "")
    assert "\nContent-Type: text/plain\n" in head and head.endswith(log.read_text())
    assert f'\nContent-Disposition: attachment; filename="task-{lab.node}-imgcopy-' in head
    original = log.read_bytes()
    with log.open("ab") as more:
        for _ in range(16):
            more.write(os.urandom(1 << 19).hex().encode())
            more.write(b"\n")
    processes = [pid for name in ("pvedaemon", "pveproxy") for pid in lab.daemon_pids(name)[1]]
    before = {pid: peak(pid) for pid in processes}
    saved = lab.root.with_name("saved.gz")
    try:
        curl(lab, path, "-o", saved, *credentials(lab))
        text = gzip.decompress(saved.read_bytes())
        assert len(text) > 16 << 20
        assert hashlib.sha256(text).digest() == hashlib.sha256(log.read_bytes()).digest()
    finally:
        saved.unlink(missing_ok=True)
        log.write_bytes(original)
    grown = {pid: peak(pid) - before[pid] for pid in processes}
    assert max(grown.values()) < 8 * 1024, grown


# openssl


def handshake(lab, *options, stdin=b""):
    return run("openssl", "s_client", "-connect", f"{lab.address}:8006", *options, stdin=stdin)


def test_openssl_gets_the_versions_and_ciphers_that_are_promised(lab):
    for options, expected in [
        (("-tls1_3",), "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
        (("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), "TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256"),
        (("-tls1_2",), "TLSv1.2, Cipher is ECDHE-RSA-AES256-GCM-SHA384"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), "TLSv1.2, Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
    ]:
        code, told = handshake(lab, *options)
        assert expected in told and "Verification error: " in told, (options, told)
        assert "No ALPN negotiated" in told
    authority = lab.root / "etc/pve/pve-root-ca.pem"
    code, told = handshake(lab, "-CAfile", authority, "-verify_return_error", "-verify_ip", lab.address)
    assert code == 0 and "Verify return code: 0 (ok)" in told, told
    # What is old or weak on one side is allowed on ours only.
    weak = "ALL:COMPLEMENTOFALL@SECLEVEL=0"
    for options in [
        ("-tls1_1", "-cipher", weak),
        ("-tls1", "-cipher", weak),
        ("-tls1_2", "-cipher", "AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"),
        ("-tls1_2", "-cipher", "NULL:aNULL@SECLEVEL=0"),
    ]:
        code, told = handshake(lab, *options)
        assert code != 0 and "Cipher is (NONE)" in told, (options, told)


def test_renegotiation_is_refused(lab):
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"{lab.address}:8006", "-tls1_2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    # `R` alone in a line asks s_client for it.
    told, _ = process.communicate(b"R\n", timeout=60)
    assert b"Secure Renegotiation IS supported" in told
    assert b"RENEGOTIATING" in told and b"no renegotiation" in told, told[-2000:]


# sslyze


def test_sslyze_finds_nothing_weak(lab):
    scanner = sslyze.Scanner()
    where = sslyze.ServerNetworkLocation(hostname=lab.address, ip_address=lab.address, port=8006)
    scanner.queue_scans([sslyze.ServerScanRequest(server_location=where)])
    (scan,) = scanner.get_results()
    assert scan.connectivity_error_trace is None, scan.connectivity_error_trace

    def result(name):
        attempt = getattr(scan.scan_result, name)
        assert attempt.status == sslyze.ScanCommandAttemptStatusEnum.COMPLETED, (name, attempt.error_trace)
        return attempt.result

    def accepted(name):
        return {suite.cipher_suite.name for suite in result(name).accepted_cipher_suites}

    for old in ("ssl_2_0_cipher_suites", "ssl_3_0_cipher_suites", "tls_1_0_cipher_suites", "tls_1_1_cipher_suites"):
        assert accepted(old) == set(), old
    assert accepted("tls_1_2_cipher_suites") == {
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    }
    assert accepted("tls_1_3_cipher_suites") == {
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    }
    assert not result("heartbleed").is_vulnerable_to_heartbleed
    assert not result("openssl_ccs_injection").is_vulnerable_to_ccs_injection
    assert result("robot").robot_result.name.startswith("NOT_VULNERABLE")
    assert not result("tls_compression").supports_compression
    renegotiation = result("session_renegotiation")
    assert renegotiation.supports_secure_renegotiation
    assert not renegotiation.is_vulnerable_to_client_renegotiation_dos
    assert not result("tls_1_3_early_data").supports_early_data
    assert result("tls_extended_master_secret").supports_ems_extension
    assert "X25519" in {curve.name for curve in result("elliptic_curves").supported_curves}


# Chromium

CONSOLE = """
(async () => {
    const form = (fields) => new URLSearchParams(fields);
    const post = async (path, fields, headers) => {
        const answer = await fetch("/api2/json" + path, { method: "POST", body: form(fields), headers });
        if (!answer.ok) throw new Error(path + ": " + answer.status + " " + await answer.text());
        return (await answer.json()).data;
    };
    const login = await post("/access/ticket", { username: USER, password: PASSWORD });
    document.cookie = "PVEAuthCookie=" + encodeURIComponent(login.ticket) + "; path=/; secure; SameSite=Lax";
    const nodes = (await (await fetch("/api2/json/nodes")).json()).data.map((node) => node.node);
    const path = "/nodes/" + nodes[0];
    const headers = { CSRFPreventionToken: login.CSRFPreventionToken };
    const console = await post(path + "/termproxy", {}, headers);
    const query = form({ port: console.port, vncticket: console.ticket });
    const socket = new WebSocket("wss://" + location.host + "/api2/json" + path + "/vncwebsocket?" + query, "binary");
    socket.binaryType = "arraybuffer";
    const seen = await new Promise((resolve, reject) => {
        let text = "";
        socket.onopen = () => socket.send(console.user + ":" + console.ticket + "\\n");
        socket.onmessage = (message) => {
            text += typeof message.data === "string" ? message.data : new TextDecoder().decode(message.data);
            if (text.startsWith("OK") && text.includes("login:")) resolve(text);
        };
        socket.onclose = (event) => reject(new Error("closed with " + event.code + " after " + JSON.stringify(text)));
    });
    socket.onclose = null;
    socket.close();
    return { nodes, user: login.username, protocol: socket.protocol, seen };
})()
"""


def use(browser, lab, protocol):
    """Looks at the start page, logs in and opens a console, all as scripts of a page do."""
    browser.open(f"{lab.url}/")
    assert browser.run("document.title") == "Virtual environment API"
    assert browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == protocol
    script = CONSOLE.replace("USER", json.dumps("admin@pve")).replace("PASSWORD", json.dumps(lab.password))
    outcome = browser.run(script)
    assert outcome["nodes"] == [lab.node] and outcome["user"] == "admin@pve"
    assert outcome["protocol"] == "binary" and "login:" in outcome["seen"], outcome
    # The pages of /api2/html are for a browser too, and it is logged in by now.
    browser.open(f"{lab.url}/api2/html")
    assert "nodes" in browser.run("[...document.querySelectorAll('h5 a')].map((link) => link.textContent)")
    browser.open(f"{lab.url}/api2/html/nodes")
    assert browser.run("document.querySelector('h5 a').textContent") == lab.node


def test_chromium_logs_in_and_opens_a_console(lab):
    with Browser() as browser:
        use(browser, lab, "http/1.1")


# HTTP/2


@pytest.fixture(scope="module")
def http2(lab):
    """The lab with HTTP2=1, after a reload."""
    settings = lab.root / "etc/default/pveproxy"
    settings.parent.mkdir(parents=True, exist_ok=True)
    before = settings.read_text() if settings.exists() else ""
    settings.write_text(before + "HTTP2=1\n")
    os.kill(lab.daemon_pids("pveproxy")[0], signal.SIGHUP)
    # Old workers go on for a moment.
    wait_for("HTTP/2 from each worker", lambda: all(version(lab) == "2" for _ in range(20)))
    return lab


def version(lab, *options):
    return curl(lab, "/", "-o", "/dev/null", "-w", "%{http_version}", "--http2", *options)


def h2load(lab, path, *options):
    """What h2load counted: (succeeded, failed and broken)."""
    code, told = run("h2load", *options, *credentials(lab)[:2], f"{lab.url}{path}", timeout=120)
    assert code == 0 and "Application protocol: h2" in told, told
    line = next(line for line in told.splitlines() if line.startswith("requests: "))
    numbers = {word: int(number) for number, word in (part.split()[:2] for part in line.removeprefix("requests: ").split(", "))}
    statuses = next(line for line in told.splitlines() if line.startswith("status codes: "))
    return numbers, statuses


def test_curl_and_h2load_speak_http_2(http2):
    assert version(http2, "--http1.1") == "1.1"
    told = curl(http2, "/api2/json/version", "--http2", "-D", "-")
    assert told.startswith("HTTP/2 401 ") and '"message":"No ticket\\n"' in told, told
    file = http2.root.with_name("by-http2.iso")
    file.write_bytes(os.urandom(2_000_003))
    path = f"/api2/json/nodes/{http2.node}/storage/local/upload"
    try:
        answer = curl(http2, path, "--http2", *credentials(http2), "-F", "content=iso", "-F", f"filename=@{file}")
        http2.run_task(http2.api(), json.loads(answer)["data"])
        (stored,) = http2.root.rglob("template/iso/by-http2.iso")
        assert stored.read_bytes() == file.read_bytes()
    finally:
        file.unlink()
    for path in ("/api2/json/version", f"/api2/json/nodes/{http2.node}/tasks"):
        numbers, statuses = h2load(http2, path, "-n", "1000", "-c", "4", "-m", "25")
        assert (numbers["succeeded"], numbers["failed"], numbers["errored"]) == (1000, 0, 0), numbers
        assert statuses.startswith("status codes: 1000 2xx"), statuses


def test_reloads_under_http_2_load_lose_no_request(http2):
    """Each curl asks over and over on its connection, and on a new one where it is told to leave."""
    count = 1000
    # The stream of errors is not buffered.
    output = 'output = "/dev/null"\nwrite-out = "%{stderr}%{http_code} %{http_version} %{num_connects}\\n"\n'
    config = http2.root.with_name("curl.config")
    config.write_text(f'url = "{http2.url}/api2/json/version"\n{output}' * count)
    options = ["-sS", "--no-progress-meter", "--http2", "--cacert", str(http2.root / "etc/pve/pve-root-ca.pem"), *credentials(http2)]
    master, _ = http2.daemon_pids("pveproxy")
    for _ in range(3):
        before = set(http2.daemon_pids("pveproxy")[1])
        clients = [
            subprocess.Popen(["curl", *options, *extra, "--config", config], stderr=subprocess.PIPE, bufsize=0)
            for extra in ([], [], ["--parallel", "--parallel-max", "20"])
        ]
        told = [client.stderr.readline() for client in clients]
        os.kill(master, signal.SIGHUP)
        wait_for("there are new workers", lambda: len(set(http2.daemon_pids("pveproxy")[1]) - before) >= 3, every=0.05)
        connections = []
        for client, first in zip(clients, told):
            lines = (first + client.communicate(timeout=120)[1]).decode().split("\n")[:-1]
            answers = [line.rpartition(" ")[0] for line in lines]
            assert client.returncode == 0 and answers == ["200 2"] * count, (client.returncode, set(answers), len(answers))
            connections.append(sum(int(line.rpartition(" ")[2]) for line in lines))
        assert max(connections[:2]) > 1, "the reload came while they asked"


def test_chromium_opens_consoles_beside_http_2(http2):
    with Browser() as browser:
        use(browser, http2, "h2")
