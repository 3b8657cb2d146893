"""Servers around a docker-registry: certificates, a TLS proxy, a token service, files, a place that never answers."""

import base64
import json
import os
import socket
import socketserver
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, failure):
    """Until something listens on a port of the loopback; `failure()` says why nothing did."""
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(failure())


def openssl(*arguments, stdin=None):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


class Authority:
    """A certificate authority in a directory; makes NAME.crt and NAME.key there."""

    def __init__(self, directory, name="ca"):
        self.directory, self.name = Path(directory), name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                f"/CN=test authority {name}", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, *extensions):
        """(certificate, key) of a leaf."""
        request, certificate, key = (self.directory / f"{name}.{kind}" for kind in ("csr", "crt", "key"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        wanted = self.directory / f"{name}.ext"
        wanted.write_text("\n".join(extensions) + "\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days",
                "2", "-extfile", wanted, "-out", certificate)
        return certificate, key

    def issue_server(self, name="server"):
        return self.issue(name, "subjectAltName=DNS:localhost,IP:127.0.0.1")


class TlsProxy:
    """An nginx on the loopback that speaks TLS for a registry, and wants clients to have a certificate of `clients`.

    `http2`: offers that too. protocols() says what its clients have spoken.
    """

    def __init__(self, directory, registry, certificate, key, clients=None, http2=False):
        self.directory, self.registry = Path(directory), registry
        self.certificate, self.key, self.clients, self.http2 = certificate, key, clients, http2

    def __enter__(self):
        self.directory.mkdir(parents=True)
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        verify = f"ssl_verify_client on; ssl_client_certificate {self.clients};" if self.clients else ""
        scratch = "".join(f"{kind}_temp_path {self.directory}/{kind};\n"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        config = self.directory / "nginx.conf"
        config.write_text(f"""
            {user}
            daemon off; worker_processes 1; pid {self.directory}/pid; error_log {self.directory}/log;
            events {{}}
            http {{
              log_format protocol $server_protocol; access_log {self.directory}/protocols protocol;
              client_max_body_size 0; {scratch}
              server {{
                listen 127.0.0.1:{self.port} ssl {"http2" if self.http2 else ""};
                ssl_certificate {self.certificate}; ssl_certificate_key {self.key}; {verify}
                location / {{
                  proxy_pass http://127.0.0.1:{self.registry.port};
                  proxy_set_header Host $http_host;
                  proxy_set_header X-Forwarded-Proto https;
                  proxy_request_buffering off;
                }}
              }}
            }}""")
        self.child = subprocess.Popen(["nginx", "-e", self.directory / "log", "-p", self.directory, "-c", config],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, lambda: (self.directory / "log").read_text())
        return self

    def protocols(self):
        return set((self.directory / "protocols").read_text().split())

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()


class HttpServer:
    """A server of ours on the loopback, from serve() to the end of its context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def serve(self, handler):
        """Its URL."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class TokenServer(HttpServer):
    """Issues tokens that a docker-registry believes, to one user, by GET and by OAuth2's POST.

    Every other token has ended when it is issued; `requests` has what was asked for.
    """

    ISSUER = "test issuer"
    SERVICE = "test service"

    def __init__(self, directory, user, password, identity_token):
        self.authority = Authority(directory, "issuer")
        self.user, self.password, self.identity_token = user, password, identity_token
        self.requests, self.tokens = [], []
        self.issued = 0
        self.lock = threading.Lock()

    def registry_auth(self):
        """What the registry's configuration says of it."""
        return {"token": {"realm": self.realm, "service": self.SERVICE, "issuer": self.ISSUER,
                          "rootcertbundle": str(self.authority.certificate)}}

    def __enter__(self):
        outer = self

        class Handler(HttpServer.Handler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                given = self.headers.get("Authorization", "")
                expected = base64.b64encode(f"{outer.user}:{outer.password}".encode()).decode()
                self.answer("GET", query.get("scope", []), given == f"Basic {expected}", "token")

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                fields = {name: values[0] for name, values in form.items()}
                good = (fields.get("grant_type") == "refresh_token"
                        and fields.get("refresh_token") == outer.identity_token)
                self.answer("POST", fields.get("scope", "").split(), good, "access_token")

            def answer(self, method, scopes, good, field):
                body = json.dumps({field: outer.issue(scopes), "expires_in": 300} if good else
                                  {"errors": [{"code": "UNAUTHORIZED", "message": "no such login"}]}).encode()
                with outer.lock:
                    outer.requests.append((method, scopes, good))
                self.reply(200 if good else 401, body)

        self.realm = f"{self.serve(Handler)}/token"
        return self

    def issue(self, scopes):
        with self.lock:
            self.issued += 1
            ended = self.issued % 2 == 1
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        # The registry allows for clocks that differ by a minute.
        claims = {"iss": self.ISSUER, "sub": self.user, "aud": self.SERVICE, "jti": str(self.issued), "iat": now - 600,
                  "nbf": now - 600, "exp": now - 120 if ended else now + 300, "access": access}
        token = self.sign(claims)
        with self.lock:
            self.tokens.append(token)
        return token

    def sign(self, claims):
        pem = self.authority.certificate.read_text()
        der = "".join(line for line in pem.splitlines() if not line.startswith("-"))
        header = {"alg": "ES256", "typ": "JWT", "x5c": [der]}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = openssl("dgst", "-sha256", "-sign", self.authority.key, stdin=text.encode())
        return f"{text}.{_base64url(_raw_signature(signature))}"


def _base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _raw_signature(der):
    """JWT wants the two numbers of an ECDSA signature without ASN.1 around them."""
    first = der[4:4 + der[3]]
    second = der[6 + der[3]:]
    return b"".join(int.from_bytes(number, "big").to_bytes(32, "big") for number in (first, second))


class FileServer(HttpServer):
    """Serves `files` (path to bytes) over plain HTTP; `requests` has (path, headers in lower case) of each request."""

    def __enter__(self):
        outer = self
        self.files, self.requests = {}, []

        class Handler(HttpServer.Handler):
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                outer.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
                body = outer.files.get(path)
                self.reply(404 if body is None else 200, body or b"")

        self.url = self.serve(Handler)
        return self


class Silence:
    """A port of the loopback that takes connections and says nothing; `connected` tells of the first."""

    def __enter__(self):
        outer = self
        self.connected, self.over = threading.Event(), threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                outer.connected.set()
                outer.over.wait()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.host = f"localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
