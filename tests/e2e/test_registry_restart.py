"""A registry that is killed and comes back while an image is converted."""

import shutil
import socket
import threading

from tests.e2e.support import CONVERTOR, OBDCTL, Registry, TestCase, image

MOMENTS = {"while a manifest is read": b"GET /v2/acme/app/manifests/",
           "while a layer is read": b"GET /v2/acme/app/blobs/",
           "when an upload begins": b"POST /v2/acme/app/blobs/uploads/",
           "while a layer is sent": b"PATCH /v2/acme/app/blobs/uploads/",
           "when an upload ends": b"PUT /v2/acme/app/blobs/uploads/",
           "when the image is tagged": b"PUT /v2/acme/app/manifests/"}


class Gate:
    """Forwards connections to a registry. When a request that begins with `trigger` has passed, `action` is called."""

    def __init__(self, registry, action):
        self.registry, self.action, self.trigger, self.acted = registry, action, None, 0
        self.lock = threading.Lock()  # guards trigger and acted
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"localhost:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.registry.port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.forward, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.forward, args=(server, client, False), daemon=True).start()

    def forward(self, source, sink, requests):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if requests:
                    self.watch(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def watch(self, data):
        with self.lock:
            if self.trigger is None or not data.startswith(self.trigger):
                return
            self.trigger = None
            self.acted += 1
            self.action()


class RegistryRestart(TestCase):
    def setUp(self):
        super().setUp()
        for program in ("docker-registry", "skopeo"):
            if not shutil.which(program):
                self.skipTest(f"no {program}")

    def push(self, registry):
        self.expect(0, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false",
                    f"oci:{image('replaced') / 'layout'}:test", f"docker://{registry.host}/acme/app:in")

    def test_conversion_goes_on(self):
        """Whatever the registry was doing when it was killed, the image is the one that it is without that."""
        local = self.copy_image("replaced", to="local")
        self.convert(local, "--oci")
        expected = self.digest_of(local)
        for index, (moment, trigger) in enumerate(MOMENTS.items()):
            # Each time a new registry: what it has is not sent again.
            with (self.subTest(moment), Registry(self.dir / f"registry{index}") as registry,
                  Gate(registry, registry.restart) as gate):
                self.push(registry)
                gate.trigger = trigger
                self.expect(0, CONVERTOR, "-r", f"{gate.host}/acme/app", "-i", "in", "-o", "out", "--plain", "--oci",
                            "--retry", "20", "--retry-delay", "0.05")
                self.assertEqual(1, gate.acted, "the registry was killed")
                found = self.expect(0, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}",
                                    f"docker://{registry.host}/acme/app:out").out.strip()
                self.assertEqual(expected, found)
                self.expect(0, OBDCTL, "verify", "-r", f"{registry.host}/acme/app", "-i", "out", "--plain")

    def test_without_retries_the_first_failure_is_the_last(self):
        """--retry 0: exit code 5, and nothing is tagged."""
        with Registry(self.dir / "registry") as registry, Gate(registry, lambda: registry.child.kill()) as gate:
            self.push(registry)
            gate.trigger = MOMENTS["while a layer is sent"]
            result = self.expect(5, CONVERTOR, "-r", f"{gate.host}/acme/app", "-i", "in", "-o", "out", "--plain",
                                 "--retry", "0")
            self.assertIn(gate.host, result.err)
            registry.restart()
            self.expect(1, "skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/acme/app:out")
