"""Logins, tokens and certificates against real servers; no secret in any output."""

import base64
import json
import shutil
import subprocess

from tests.e2e.servers import Authority, Silence, TlsProxy, TokenServer
from tests.e2e.support import CONVERTOR, OBDCTL, Registry, TestCase

USER, PASSWORD = "me", "open:sesame-4711"
OTHER_USER, OTHER_PASSWORD = "you", "another-word-0815"
IDENTITY = "identity-token-2342"


def basic(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class Login(TestCase):
    def setUp(self):
        super().setUp()
        for program in ("docker-registry", "nginx", "openssl"):
            if not shutil.which(program):
                self.skipTest(f"no {program}")
        self.layout = self.copy_image("replaced")
        self.empty = self.dir / "empty"
        self.empty.mkdir()

    def environment(self, **more):
        """Without the logins of whoever runs the tests."""
        places = {name: str(self.empty) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG")}
        return {**places, **{name: str(value) for name, value in more.items()}}

    def run_quietly(self, code, *arguments, env=None, secrets=(), **options):
        """A run in which no secret is printed, however much is logged."""
        result = self.expect(code, *arguments, "--verbose", env=env or self.environment(), **options)
        for secret in (PASSWORD, basic(USER, PASSWORD), OTHER_PASSWORD, basic(OTHER_USER, OTHER_PASSWORD), IDENTITY,
                       *secrets):
            self.assertNotIn(secret, result.out + result.err)
        return result

    def push(self, code, repository, *arguments, **options):
        return self.run_quietly(code, CONVERTOR, "-r", f"oci:{self.layout}", "-i", "test", "--target-repository",
                                repository, "-o", "obd", "--oci", *arguments, **options)

    def verify(self, code, repository, *arguments, **options):
        return self.run_quietly(code, OBDCTL, "verify", "-r", repository, "-i", "obd", *arguments, **options)

    def test_password(self):
        """By standard input, an auth file, docker's file, and a credential helper; flags count first."""
        with Registry(self.dir / "registry", {USER: PASSWORD}) as registry:
            repository = f"{registry.host}/acme/app"
            self.push(6, repository)
            self.push(6, repository, "-u", USER, "--password-stdin", stdin=b"wrong\n")
            self.push(0, repository, "-u", USER, "--password-stdin", stdin=f"{PASSWORD}\n".encode())

            auths = self.dir / "auth.json"
            auths.write_text(json.dumps({"auths": {registry.host: {"auth": basic(USER, "wrong")},
                                                   f"{registry.host}/acme": {"auth": basic(USER, PASSWORD)}}}))
            named = self.environment(REGISTRY_AUTH_FILE=auths)
            self.verify(0, repository, env=named)
            self.verify(6, f"{registry.host}/other", env=named)
            self.verify(6, repository, "-u", "me:wrong", env=named)
            self.push(0, repository, env=named)

            docker = self.dir / "docker"
            docker.mkdir()
            (docker / "config.json").write_text(json.dumps({"auths": {registry.host: {}}, "credsStore": "test"}))
            self.write_helper("test", f"""grep -q '^{registry.host}$' || exit 7
                echo '{json.dumps({"Username": USER, "Secret": PASSWORD})}'""")
            helped = self.environment(DOCKER_CONFIG=docker, PATH=f"{self.dir}:/usr/bin:/bin")
            self.verify(0, repository, env=helped)
            (docker / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
            self.write_helper("test", "echo 'the key ring is locked'; exit 1")
            self.assertIn("the key ring is locked", self.verify(6, repository, env=helped).err)
            (docker / "config.json").write_text("{")
            self.assertIn("config.json", self.verify(2, repository, env=helped).err)

    def write_helper(self, name, script):
        path = self.dir / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def test_each_side_has_its_login(self):
        """Source and target in two registries; what was given for one is never sent to the other."""
        with (Registry(self.dir / "one", {USER: PASSWORD}) as one,
              Registry(self.dir / "two", {OTHER_USER: OTHER_PASSWORD, USER: PASSWORD}) as two):
            source, target = f"{one.host}/acme/app", f"{two.host}/acme/app"
            # Only the registry at hand is a registry: -u is for that.
            self.push(0, source, "-u", USER, "--password-stdin", stdin=PASSWORD.encode())
            # The second registry would take it as well, but is not where it was given for.
            refused = self.run_quietly(6, OBDCTL, "check", "--source", target, "-i", "obd", "-r", source, "-o", "obd",
                                       "-u", USER, "--password-stdin", stdin=PASSWORD.encode())
            self.assertIn(two.host, refused.err)
            self.push(0, target, "--dest-username", OTHER_USER, "--dest-password-stdin", stdin=OTHER_PASSWORD.encode())
            self.push(6, target, "--src-username", OTHER_USER, "--src-password-stdin", stdin=OTHER_PASSWORD.encode())
            self.verify(0, target, "-u", USER, "--password-stdin", stdin=PASSWORD.encode())
            self.expect(0, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds",
                        f"{USER}:{PASSWORD}", f"oci:{self.layout}:test", f"docker://{source}:in")
            copy = [CONVERTOR, "-r", source, "-i", "in", "--target-repository", target, "-o", "x"]
            refused = self.run_quietly(6, *copy, "-u", f"{USER}:{PASSWORD}")
            self.assertRegex(refused.err, f"--username is for {one.host}, not for {two.host}")
            self.run_quietly(0, *copy, "--src-username", f"{USER}:{PASSWORD}", "--dest-username",
                             f"{OTHER_USER}:{OTHER_PASSWORD}")

    def test_certificates(self):
        """An authority of its own, clients that need a certificate, and --insecure; files are named if unusable."""
        ours, stranger = Authority(self.dir / "ca"), Authority(self.dir / "stranger")
        server = ours.issue_server()
        client, key = ours.issue("client", "extendedKeyUsage=clientAuth")
        folder = self.dir / "certs.d"
        folder.mkdir()
        for source, name in ((ours.certificate, "ca.crt"), (stranger.certificate, "more.crt"), (client, "client.cert"),
                             (key, "client.key")):
            shutil.copy(source, folder / name)
        with (Registry(self.dir / "registry") as registry,
              TlsProxy(self.dir / "nginx", registry, *server, clients=ours.certificate) as proxy):
            repository = f"{proxy.host}/acme/app"
            self.assertIn("not trusted", self.push(5, repository).err)
            self.assertIn("not trusted", self.push(5, repository, "--root-ca", stranger.certificate).err)
            self.assertIn("400", self.push(5, repository, "--root-ca", ours.certificate).err)
            self.push(0, repository, "--dest-cert-dir", folder)
            self.verify(0, repository, "--cert-dir", folder)
            pair = f"{client}:{key}"
            self.verify(0, repository, "--root-ca", stranger.certificate, "--root-ca", ours.certificate, "--client-cert",
                        pair)
            self.verify(0, repository, "--client-cert", pair, env=self.environment(SSL_CERT_FILE=ours.certificate))
            system = self.dir / "system"
            system.mkdir()
            shutil.copy(ours.certificate, system / "ca.crt")
            self.expect(0, "openssl", "rehash", system)
            self.verify(0, repository, "--client-cert", pair, env=self.environment(SSL_CERT_DIR=system))
            self.verify(0, repository, "--insecure", "--client-cert", pair)
            self.verify(0, f"{registry.host}/acme/app", "--insecure")
            missing = self.dir / "missing.crt"
            self.assertIn(str(missing), self.verify(2, repository, "--root-ca", missing).err)
            (folder / "client.key").unlink()
            self.assertIn("client.key", self.verify(2, repository, "--cert-dir", folder).err)

    def test_http_2(self):
        """Where it is offered it is spoken; a conversion over it goes as over the other."""
        ours = Authority(self.dir / "ca")
        server = ours.issue_server()
        for http2, spoken in ((False, "HTTP/1.1"), (True, "HTTP/2.0")):
            with (self.subTest(spoken), Registry(self.dir / f"registry{http2}") as registry,
                  TlsProxy(self.dir / f"nginx{http2}", registry, *server, http2=http2) as proxy):
                repository = f"{proxy.host}/acme/app"
                self.push(0, repository, "--root-ca", ours.certificate)
                self.verify(0, repository, "--root-ca", ours.certificate)
                self.assertEqual({spoken}, proxy.protocols())

    def test_registry_that_wants_certificates_itself(self):
        ours = Authority(self.dir / "ca")
        certificate, key = ours.issue_server()
        client = ":".join(map(str, ours.issue("client", "extendedKeyUsage=clientAuth")))
        tls = {"certificate": str(certificate), "key": str(key), "clientcas": [str(ours.certificate)]}
        with Registry(self.dir / "registry", tls=tls) as registry:
            repository = f"{registry.host}/acme/app"
            self.push(0, repository, "--root-ca", ours.certificate, "--client-cert", client)
            self.verify(5, repository, "--root-ca", ours.certificate)
            self.verify(0, repository, "--root-ca", ours.certificate, "--client-cert", client)

    def test_tokens(self):
        """From a token service by password and by identity token; those that have ended are fetched again."""
        with TokenServer(self.dir / "tokens", USER, PASSWORD, IDENTITY) as service:
            with Registry(self.dir / "registry", auth=service.registry_auth()) as registry:
                repository = f"{registry.host}/acme/app"
                self.push(6, repository)
                self.push(6, repository, "-u", USER, "--password-stdin", stdin=b"wrong")
                del service.requests[:]
                self.push(0, repository, "-u", USER, "--password-stdin", stdin=PASSWORD.encode())
                self.assertEqual({("GET", True)}, {(method, good) for method, _, good in service.requests})
                scopes = [scope for _, scope, _ in service.requests]
                self.assertIn(["repository:acme/app:pull,push"], scopes)
                self.assertGreater(len(scopes), 1, "the first token had ended")

                del service.requests[:]
                auths = self.dir / "auth.json"
                auths.write_text(json.dumps({"auths": {registry.host: {"identitytoken": IDENTITY}}}))
                self.verify(0, repository, env=self.environment(REGISTRY_AUTH_FILE=auths), secrets=service.tokens)
                self.assertEqual({("POST", ("repository:acme/app:pull",), True)},
                                 {(method, tuple(scope), good) for method, scope, good in service.requests})
                result = self.push(0, repository, env=self.environment(REGISTRY_AUTH_FILE=auths))
                for token in service.tokens:
                    self.assertNotIn(token, result.out + result.err)

    def test_password_is_not_in_the_process_list(self):
        """It is overwritten in the program's own arguments before anything else is done."""
        secret = f"{USER}:{PASSWORD}"
        for given in (["-u", secret], [f"-u{secret}"], [f"--username={secret}"], ["--src-username", secret]):
            with self.subTest(given[0][:12]), Silence() as silence:
                child = subprocess.Popen([CONVERTOR, "-r", f"{silence.host}/a", "-i", "a", "-o", "b", "--plain", *given],
                                         cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                try:
                    self.assertTrue(silence.connected.wait(20))
                    shown = open(f"/proc/{child.pid}/cmdline", "rb").read().decode()
                finally:
                    child.terminate()
                    said = child.communicate()[0].decode()
                self.assertIn(f"{USER}:{'*' * len(PASSWORD)}", shown)
                self.assertNotIn("sesame", shown + said)
                self.assertIn("password on the command line", said)
