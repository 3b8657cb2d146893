"""A farm: eight converters, one docker-registry, one MariaDB; processes and the database die, blobs get lost."""

import concurrent.futures
import json
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.request

from tests.e2e.support import CONVERTOR, OBDCTL, Registry, TestCase, run
from tests.images.layout import Layer, Layout

CONVERTERS = 8
IMAGES = 60


class MariaDb:
    """A server of its own on the loopback, ended at the end of a `with`."""

    def __init__(self, directory):
        self.directory = directory

    def __enter__(self):
        data = self.directory / "data"
        made = run("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--user=root",
                   "--skip-test-db", f"--datadir={data}")
        assert made.code == 0, made
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.socket = self.directory / "socket"
        self.arguments = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={self.socket}", "--user=root",
                          f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"]
        self.start()
        self.ask("create database dedup; create user 'farm'@'%' identified by 'p@ss:word'; "
                 "grant all on dedup.* to 'farm'@'%'")
        return self

    def start(self):
        self.child = subprocess.Popen(self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if run("mariadb", "--no-defaults", f"--socket={self.socket}", "-e", "select 1").code == 0:
                return
            time.sleep(0.05)
        raise AssertionError("mariadbd does not start")

    def ask(self, statement):
        result = run("mariadb", "--no-defaults", f"--socket={self.socket}", "-e", statement)
        assert result.code == 0, result

    def restart(self):
        """As after a crash."""
        self.child.kill()
        self.child.wait()
        self.start()

    def dsn(self):
        return f"farm:p@ss:word@tcp(127.0.0.1:{self.port})/dedup"

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()


def make_images(seed):
    """Layers of images that share them: each image is a path in a tree, named by the choice at each depth."""
    source = random.Random(seed)
    return {f"t{number}": [(depth, source.randrange(1 + 2 * depth)) for depth in range(source.randrange(2, 6))]
            for number in range(IMAGES)}


def make_layer(choice):
    source = random.Random(repr(choice))
    layer = Layer("none")
    for number in range(10):
        layer.file(b"d%d/%d-%d" % (choice[0], choice[1], number), source.randbytes(5000))
    return layer.file(b"top", repr(choice).encode())


@unittest.skipUnless(shutil.which("mariadbd") and shutil.which("mariadb-install-db"), "mariadb-server is not installed")
class Farm(TestCase):
    def test_farm(self):
        seed = 20
        print(f"seed {seed}")
        self.random = random.Random(seed)
        self.images = make_images(seed)
        self.chains = {tuple(path[:depth + 1]) for path in self.images.values() for depth in range(len(path))}
        (self.dir / "mariadb").mkdir()
        with Registry(self.dir / "registry") as self.registry, MariaDb(self.dir / "mariadb") as self.db:
            self.push_sources()
            self.expect(0, OBDCTL, "db", "init", "--db-type", "mysql", env={"OBD_DB_STR": self.db.dsn()})
            self.nobody_dies()
            self.some_die()
            self.blobs_get_lost()

    def push_sources(self):
        layout = Layout(str(self.dir / "source"))
        for tag, path in self.images.items():
            layout.tag(tag, layout.image([make_layer(choice) for choice in path]))
        layout.finish()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda tag: self.expect(
                0, "skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.dir}/source:{tag}",
                f"docker://{self.registry.host}/acme/app:{tag}"), self.images))

    def convert(self, tag, *options, **more):
        return run(CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", tag, "-o", f"{tag}_obd", "--plain", "--json",
                   "--progress", "none", "--threads", 1, "-d", f"work_{tag}", "--db-type", "mysql", *options,
                   cwd=self.dir, env={"OBD_DB_STR": self.db.dsn()}, **more)

    def convert_all(self, convert):
        with concurrent.futures.ThreadPoolExecutor(CONVERTERS) as pool:
            return dict(zip(self.images, pool.map(convert, self.images)))

    def check_all(self):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda tag: self.expect(0, OBDCTL, "check", "-r", f"{self.registry.host}/acme/app", "-i", tag,
                                                  "-o", f"{tag}_obd", "--plain"), self.images))

    def made(self, results):
        """How many layers were made, not found."""
        lines = [json.loads(line) for result in results.values() for line in result.out.splitlines()]
        return sum(1 for line in lines if line["type"] == "layer" and not line["reused"])

    def nobody_dies(self):
        results = self.convert_all(lambda tag: self.convert(tag, "--require-db"))
        for result in results.values():
            self.assertEqual(0, result.code, result)
        print(f"{self.made(results)} layers made for {sum(map(len, self.images.values()))} in {IMAGES} images")
        self.assertEqual(len(self.chains), self.made(results))
        self.check_all()

    def some_die(self):
        """Other options, so that all is made again; a third of the runs is killed once, the database restarted."""
        moments = {tag: self.random.uniform(0.02, 0.5) for tag in self.images if self.random.random() < 0.35}

        def convert(tag):
            if tag in moments:
                result = self.convert(tag, "--vsize", 32, kill_after=moments[tag], kill_with=signal.SIGKILL)
                self.assertIn(result.code, (0, -signal.SIGKILL), result)
            return self.convert(tag, "--vsize", 32)

        restart = threading.Timer(1.5, self.db.restart)
        restart.start()
        results = self.convert_all(convert)
        restart.join()
        for result in results.values():
            self.assertEqual(0, result.code, result)
        print(f"{len(moments)} killed: {self.made(results)} layers made, {len(self.chains)} needed")
        self.check_all()

    def blobs_get_lost(self):
        digests = set()
        for tag in self.images:
            shown = self.expect(0, "skopeo", "inspect", "--raw", "--tls-verify=false",
                                f"docker://{self.registry.host}/acme/app:{tag}_obd")
            digests.update(layer["digest"] for layer in json.loads(shown.out)["layers"])
        for digest in self.random.sample(sorted(digests), 6):
            url = f"http://{self.registry.host}/v2/acme/app/blobs/{digest}"
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()
        results = self.convert_all(lambda tag: self.convert(tag, "--vsize", 32, "--require-db"))
        for result in results.values():
            self.assertEqual(0, result.code, result)
        print(f"6 blobs lost: {self.made(results)} layers made")
        self.assertGreaterEqual(self.made(results), 6)
        self.check_all()
