"""A directory: a slapd of our own, with its own config, data and certificates, found by its pid and ended by it."""

import io
import os
import pathlib
import signal
import socket
import subprocess
import textwrap
import threading

from places import own_port
from waiting import wait_for

SUFFIX = "dc=corp,dc=test"
ROOT = f"cn=root,{SUFFIX}"
ROOT_PASSWORD = "root secret"

SCHEMA = """
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
    SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.2 NAME 'expire' EQUALITY integerMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.3 NAME 'defaultNamingContext' EQUALITY distinguishedNameMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'labPerson' SUP top AUXILIARY MAY ( sAMAccountName $ expire ) )
"""


def entry(dn, **attributes):
    """An entry as LDIF. A value may be a list."""
    lines = [f"dn: {dn}"]
    for name, values in attributes.items():
        lines += [f"{name}: {value}" for value in ([values] if isinstance(values, str) else values)]
    return "\n".join(lines) + "\n"


def person(name, password=None, place=f"ou=people,{SUFFIX}", rdn=None, **more):
    more = {"cn": name, "sn": name, "uid": name, "sAMAccountName": name} | more
    if password:
        more["userPassword"] = password
    return entry(f"{rdn or f'uid={name}'},{place}", objectClass=["inetOrgPerson", "labPerson"], **more)


def group(name, *members, **more):
    return entry(
        f"cn={name},ou=groups,{SUFFIX}",
        objectClass="groupOfNames",
        cn=name,
        # The class demands one.
        member=[f"uid={member},ou=people,{SUFFIX}" for member in members] or [ROOT],
        **more,
    )


class Certificates:
    """An authority with a server's and a client's certificate, and another authority that signed nothing."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.mkdir()
        for name in ("ca", "other-ca"):
            self._openssl(
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.path / f"{name}.key", "-out", self[name],
            )
        self._signed("server", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1")
        self._signed("client", "extendedKeyUsage=clientAuth")
        # As people make them who have no authority.
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", self.path / "self.key", "-out", self["self"],
        )

    def __getitem__(self, name):
        return self.path / f"{name}.pem"

    def key(self, name):
        return self.path / f"{name}.key"

    def _signed(self, name, extension):
        request = self.path / f"{name}.csr"
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", self.key(name), "-out", request,
        )
        extensions = self.path / f"{name}.ext"
        extensions.write_text(extension + "\n")
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self["ca"], "-CAkey", self.key("ca"), "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", self[name],
        )

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(os.fspath, arguments)], check=True, capture_output=True)


class Slapd:
    """A running slapd with the given entries."""

    def __init__(self, path, certificates, entries, server="server", settings=""):
        self.path = pathlib.Path(path)
        self.path.mkdir()
        (self.path / "data").mkdir()
        self.port, self.tls_port = own_port(), own_port()
        schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in ("core", "cosine", "inetorgperson"))
        (self.path / "lab.schema").write_text(SCHEMA)
        (self.path / "root.ldif").write_text(f"dn:\ndefaultNamingContext: {SUFFIX}\n")
        (self.path / "slapd.conf").write_text(
            textwrap.dedent(
                f"""
                {{schemas}}
                include {self.path}/lab.schema
                modulepath /usr/lib/ldap
                moduleload back_mdb
                rootDSE {self.path}/root.ldif
                pidfile {self.path}/slapd.pid
                TLSCACertificateFile {certificates["ca"]}
                TLSCertificateFile {certificates[server]}
                TLSCertificateKeyFile {certificates.key(server)}
                {settings}
                database mdb
                suffix "{SUFFIX}"
                rootdn "{ROOT}"
                rootpw "{ROOT_PASSWORD}"
                directory {self.path}/data
                maxsize 67108864
                dbnosync
                index objectClass,uid eq,pres
                limits dn.exact="{ROOT}" size=unlimited
                access to attrs=userPassword by anonymous auth by * none
                access to * by * read
                """
            ).replace("{schemas}", schemas)
        )
        base = [
            entry(SUFFIX, objectClass=["dcObject", "organization"], dc="corp", o="corp"),
            *(entry(f"ou={name},{SUFFIX}", objectClass="organizationalUnit", ou=name) for name in ("people", "groups")),
        ]
        subprocess.run(
            ["/usr/sbin/slapadd", "-q", "-f", self.path / "slapd.conf"],
            input="\n".join([*base, *entries]),
            text=True,
            check=True,
            capture_output=True,
        )

    def __enter__(self):
        self.log = open(self.path / "log", "wb")
        self.process = subprocess.Popen(
            [
                "/usr/sbin/slapd", "-f", self.path / "slapd.conf", "-d", "256",
                "-h", f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port} ldaps://[::1]:{self.tls_port}",
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        wait_for("slapd takes connections", self._takes, 30)
        return self

    def _takes(self):
        assert self.process.poll() is None, (self.path / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def change(self, ldif, *options):
        """Changes entries as `ldapmodify` does."""
        subprocess.run(
            ["ldapmodify", "-H", f"ldap://127.0.0.1:{self.port}", "-x", "-D", ROOT, "-w", ROOT_PASSWORD, *options],
            input=ldif, text=True, check=True, capture_output=True,
        )  # fmt: skip

    def add(self, *entries):
        self.change("\n".join(entries), "-a")

    def delete(self, *dns):
        self.change("\n".join(f"dn: {dn}\nchangetype: delete\n" for dn in dns))

    def said(self):
        return (self.path / "log").read_text(errors="replace")


class Strange:
    """A server that takes connections and answers each with the same bytes – with nothing, by default."""

    def __init__(self, answer=b""):
        self.answer = answer
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections = []

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        try:
            connection.recv(4096)
            connection.sendall(self.answer)
        except OSError:
            pass

    def __exit__(self, *_):
        # `accept` wakes only to a socket that was shut down.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            connection.close()


class Liar(Strange):
    """A server that lets everybody in, and answers every search as it is told; then it closes the connection, or waits."""

    def __init__(self, *operations, end=b"", closes=False):
        super().__init__()
        self.operations, self.end, self.closes = operations, end, closes

    def _answer(self, connection):
        stream = connection.makefile("rb")
        try:
            while stream.read(1):
                _, number, operation = split(stream.read(read_length(stream)))
                if operation[0] == 0x60:
                    connection.sendall(message(number, pack(0x61, SUCCESS)))
                elif operation[0] == 0x63:
                    connection.sendall(b"".join(message(number, what) for what in self.operations) + self.end)
                    if self.closes:
                        connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Upn:
    """What Active Directory can and slapd cannot: users bind as `NAME@DOMAIN`. A relay before a slapd that puts their
    entries' names in the place of such names, and passes all else."""

    def __init__(self, slapd, domain):
        self.slapd, self.domain = slapd, domain
        self.names = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.slapd.port))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    @staticmethod
    def _answers(server, client):
        with server, client:
            try:
                while data := server.recv(65536):
                    client.sendall(data)
            except OSError:
                pass

    def _requests(self, client, server):
        stream = client.makefile("rb")
        try:
            while message := self._message(stream):
                server.sendall(message)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _message(self, stream):
        """The next message, a bind's name replaced; nothing at the end."""
        if not (tag := stream.read(1)):
            return b""
        body = stream.read(read_length(stream))
        number = split(body)
        operation = split(number[2])
        if operation[0] != 0x60:
            return tag + length(len(body)) + body
        version = split(operation[1])
        name = split(version[2])
        self.names.append(name[1].decode())
        user, at, domain = name[1].decode().rpartition("@")
        if at and domain == self.domain:
            name = (name[0], f"uid={user},ou=people,{SUFFIX}".encode(), name[2])
        bind = pack(0x02, version[1]) + pack(name[0], name[1]) + name[2]
        return pack(tag[0], pack(0x02, number[1]) + pack(0x60, bind) + operation[2])


def read_length(stream):
    first = stream.read(1)[0]
    return first if first < 128 else int.from_bytes(stream.read(first - 128), "big")


def split(data):
    """The first element of BER: its tag, its content, and what stands behind it."""
    stream = io.BytesIO(data)
    tag = stream.read(1)[0]
    content = stream.read(read_length(stream))
    return tag, content, stream.read()


def length(number):
    return bytes([number]) if number < 128 else b"\x84" + number.to_bytes(4, "big")


def pack(tag, content):
    return bytes([tag]) + length(len(content)) + content


# A result without name and text.
SUCCESS = b"\x0a\x01\x00\x04\x00\x04\x00"


def message(number, operation):
    return pack(0x30, pack(0x02, number) + operation)


def told(dn, **attributes):
    """A search's entry."""
    pairs = [pack(0x30, pack(0x04, name.encode()) + pack(0x31, pack(0x04, value))) for name, value in attributes.items()]
    return pack(0x64, pack(0x04, dn) + pack(0x30, b"".join(pairs)))


def end_of_page(cookie):
    """A search's end that wants to be asked on: RFC 2696."""
    value = pack(0x30, b"\x02\x01\x00" + pack(0x04, cookie))
    control = pack(0x30, pack(0x04, b"1.2.840.113556.1.4.319") + pack(0x04, value))
    return pack(0x65, SUCCESS) + pack(0xA0, control)
