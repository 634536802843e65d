"""Chromium without a window, driven by its DevTools protocol."""

import itertools
import json
import pathlib
import shutil
import subprocess
import tempfile

import requests
import websocket

from waiting import wait_for

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The lab's certificate authority is nobody's; that its certificates are right is for curl to say.
    "--ignore-certificate-errors",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


class ProtocolError(Exception):
    """A command that was not carried out."""


class Browser:
    """A running Chromium with one page."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pve-chromium-"))
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(
            ["chromium", *FLAGS, *self.flags, f"--user-data-dir={self.directory}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.numbers = itertools.count(1)
        port = wait_for("Chromium listens", self._port)
        pages = wait_for("Chromium has a page", lambda: self._pages(port))
        self.socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
        self.call("Page.enable")
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _port(self):
        assert self.process.poll() is None, (self.directory / "log").read_text(errors="replace")[-2000:]
        path = self.directory / "DevToolsActivePort"
        return path.exists() and path.read_text().partition("\n")[0]

    def _pages(self, port):
        session = requests.Session()
        session.trust_env = False
        targets = session.get(f"http://127.0.0.1:{port}/json/list", timeout=20).json()
        return [target for target in targets if target["type"] == "page"]

    def call(self, method, **parameters):
        """One command of the protocol; events that come in between are dropped."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise ProtocolError(message)
                return message["result"]

    def open(self, url):
        """Loads a page."""
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        wait_for(f"{url} is loaded", lambda: self.is_at(url))

    def is_at(self, url):
        """Whether that page is there with all its parts. In between there may be none that could be asked."""
        try:
            return self.run("document.readyState + location.href") == f"complete{url}"
        except ProtocolError:
            return False

    def run(self, script):
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")
