"""What the product is measured against: nginx and HAProxy, as Debian ships them, set up to do the same work.

The same number of workers, the same certificate, an access log on both sides, and the product's limit of 100 requests
per connection: each connection costs a handshake, and the comparison is not about how often.
"""

import subprocess

from processes import children, wait_for

NGINX_STATIC, NGINX_PROXY, NGINX_FILES = 8441, 8442, 8443
HAPROXY, RELAYED = 3129, 61000

NGINX = """
daemon off;
user www-data;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {directory}/nginx-access.log combined;
    default_type application/json;
    keepalive_requests 100;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:10m;
    upstream daemon {{
        server {address}:85;
        keepalive 64;
        keepalive_requests 100;
    }}
    server {{
        listen {address}:{NGINX_STATIC} ssl;
        location / {{ return 200 '{body}'; }}
    }}
    server {{
        listen {address}:{NGINX_PROXY} ssl;
        location / {{
            proxy_pass http://daemon;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen {address}:{NGINX_FILES} ssl;
        root {directory}/files;
        gzip on;
        gzip_comp_level 2;
        gzip_types application/json;
    }}
}}
"""

HAPROXY_SETTINGS = """
global
    nbthread 1
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend relay
    bind {address}:{HAPROXY}
    default_backend guest
backend guest
    server guest {address}:{RELAYED}
"""


class Rival:
    """A server in the foreground, ended with the block that started it."""

    def __init__(self, directory, command):
        self.log = directory / f"{command[0]}.out"
        self.command = command

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)

    def worker_pids(self):
        """Its workers, or itself if it has none."""
        if self.process.poll() is not None:
            raise SystemExit(f"bench: {self.command[0]} ended:\n{self.log.read_text()}")
        return children(self.process.pid) or [self.process.pid]


def nginx(lab, directory, body, pair):
    """nginx with that many workers as the lab has: a static answer, a proxy to the lab's daemon, and files."""
    certificate, key = pair
    (directory / "files").mkdir(exist_ok=True)
    settings = directory / "nginx.conf"
    names = dict(globals(), address=lab.address, workers=lab.workers)
    settings.write_text(NGINX.format(**names, directory=directory, body=body, certificate=certificate, key=key))
    return Rival(directory, ["nginx", "-p", directory, "-c", settings])


def settled(rival, workers):
    """The pids of a rival's workers, once they are there."""
    return wait_for("the rival's workers start", lambda: len(rival.worker_pids()) == workers and rival.worker_pids())


def haproxy(lab, directory):
    """HAProxy in TCP mode with splicing, one thread, in front of the port that iperf3 serves."""
    settings = directory / "haproxy.cfg"
    settings.write_text(HAPROXY_SETTINGS.format(**dict(globals(), address=lab.address)))
    return Rival(directory, ["haproxy", "-db", "-f", settings])


def iperf3(lab, directory):
    """The other end of the relay."""
    return Rival(directory, ["iperf3", "--server", "--bind", lab.address, "--port", str(RELAYED)])
