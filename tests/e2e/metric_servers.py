"""Real metric servers, each with a directory and ports of its own: InfluxDB, Graphite's carbon, and a collector of
OpenTelemetry whose schema is the one its makers publish."""

import gzip
import http.server
import json
import os
import socket
import subprocess
import threading
import urllib.parse

import requests
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from places import own_port
from waiting import wait_for

HOST = "127.0.0.1"


def takes(port):
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


class Program:
    """A server in the foreground, with a log beside its files."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()

    def run(self, *words, **environment):
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        wait_for(f"{words[0]} listens", lambda: self._listens())

    def _listens(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()[-4000:]
        return takes(self.port)

    def __exit__(self, *_):
        # What it keeps is of no use to anybody.
        self.process.kill()
        self.process.wait()


class Influx(Program):
    """InfluxDB 1.6: lines by UDP go to the database `udp`. It has nothing below /api/v2 yet."""

    def __enter__(self):
        self.port, self.udp_port, backup = own_port(), own_port(), own_port()
        config = self.directory / "influxdb.conf"
        config.write_text(
            f"""
            reporting-disabled = true
            bind-address = "{HOST}:{backup}"
            [meta]
              dir = "{self.directory}/meta"
            [data]
              dir = "{self.directory}/data"
              wal-dir = "{self.directory}/wal"
              index-version = "inmem"
            [monitor]
              store-enabled = false
            [http]
              bind-address = "{HOST}:{self.port}"
            [[udp]]
              enabled = true
              bind-address = "{HOST}:{self.udp_port}"
              database = "udp"
              batch-timeout = "100ms"
            """
        )
        self.run("influxd", "-config", str(config))
        for name in ("udp", "http"):
            self.ask(f"CREATE DATABASE {name}")
        return self

    def ask(self, query, database=""):
        """Rows of the first series, as dictionaries."""
        answer = requests.post(
            f"http://{HOST}:{self.port}/query", params={"db": database, "q": query, "epoch": "s"}, timeout=20
        )
        answer.raise_for_status()
        result = answer.json()["results"][0]
        assert "error" not in result, result
        return [dict(zip(series["columns"], row)) for series in result.get("series", []) for row in series["values"]]

    def write(self, lines):
        """What InfluxDB itself says to lines that came by HTTP."""
        where = f"http://{HOST}:{self.port}/write"
        return requests.post(where, params={"db": "http", "precision": "ns"}, data=lines, timeout=20)


class Carbon(Program):
    """carbon-cache, which writes a file for each path."""

    def __enter__(self):
        self.port, pickle, query = own_port(), own_port(), own_port()
        directory = self.directory
        (directory / "carbon.conf").write_text(
            f"""
[cache]
STORAGE_DIR = {directory}
CONF_DIR = {directory}
LOG_DIR = {directory}
PID_DIR = {directory}
LOCAL_DATA_DIR = {directory}/whisper
LINE_RECEIVER_INTERFACE = {HOST}
LINE_RECEIVER_PORT = {self.port}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = {HOST}
UDP_RECEIVER_PORT = {self.port}
PICKLE_RECEIVER_INTERFACE = {HOST}
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = {HOST}
CACHE_QUERY_PORT = {query}
MAX_CREATES_PER_MINUTE = inf
MAX_UPDATES_PER_SECOND = inf
MAX_CACHE_SIZE = inf
ENABLE_TAGS = False
USER =
"""
        )
        (directory / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 10s:1d\n")
        self.run("carbon-cache", f"--config={directory}/carbon.conf", "--debug", "start")
        return self

    def last(self, path):
        """The newest value of a path, read by Graphite's own library; None if there is none."""
        file = self.directory / "whisper" / (path.replace(".", "/") + ".wsp")
        if not file.exists():
            return None
        # The library is the system's, not this environment's.
        script = (
            "import sys, time, whisper\n"
            "_, values = whisper.fetch(sys.argv[1], time.time() - 600)\n"
            "print(next((value for value in reversed(values) if value is not None), ''))"
        )
        output = subprocess.run(
            ["/usr/bin/python3", "-c", script, str(file)], check=True, capture_output=True, text=True
        ).stdout.strip()
        return float(output) if output else None


class Web:
    """A web server in a thread: takes POSTs until the test ends."""

    def __init__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                self.answer(outer.get(self))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    self.answer(outer.post(self, body))
                except Exception as error:  # what is wrong is for the test to say, not for this thread
                    outer.errors.append(repr(error))
                    self.answer(400)

            def log_message(self, *_):
                pass

        self.errors = []
        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def get(self, _request):
        return 404

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class InfluxV2(Web):
    """The door of InfluxDB 2 before an InfluxDB 1: looks at path and token, and hands on the lines."""

    def __init__(self, influx, token):
        super().__init__()
        self.influx, self.token = influx, token

    def get(self, request):
        return 200 if request.path == "/health" else 404

    def post(self, request, body):
        where = urllib.parse.urlsplit(request.path)
        assert where.path == "/api/v2/write", request.path
        assert urllib.parse.parse_qs(where.query) == {"org": ["lab org"], "bucket": ["proxmox"]}, request.path
        if request.headers["Authorization"] != f"Token {self.token}":
            return 401
        answer = self.influx.write(body)
        assert answer.status_code == 204, answer.text
        return 204


class Collector(Web):
    """A collector of OpenTelemetry: metrics by name, each a list of (labels, value)."""

    def __init__(self):
        super().__init__()
        self.metrics, self.resource, self.lock = {}, {}, threading.Lock()

    def post(self, request, body):
        assert request.path == "/v1/metrics", request.path
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["X-Scope"] == "lab"
        if request.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        message = ExportMetricsServiceRequest()
        json_format.Parse(body, message, ignore_unknown_fields=False)
        with self.lock:
            for resource in message.resource_metrics:
                self.resource = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self.take(metric)
        return 200

    def take(self, metric):
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        if kind == "sum":
            # Sums since a start, that only grow.
            assert (data.aggregation_temporality, data.is_monotonic) == (2, True)
            assert metric.name.endswith("_total")
        for point in data.data_points:
            labels = {each.key: each.value.string_value for each in point.attributes}
            value = getattr(point, point.WhichOneof("value"))
            self.metrics.setdefault(metric.name, []).append((labels, value, kind, metric.unit))

    def find(self, name, **labels):
        """The newest value with these labels."""
        with self.lock:
            found = [each for each in self.metrics.get(name, []) if labels.items() <= each[0].items()]
        return found[-1] if found else None


def base64_of(value):
    import base64

    return base64.b64encode(json.dumps(value).encode()).decode()
