"""What the e2e tests share: running the programs, images, mounts, a registry.

Environment: OBD_BUILD   build directory with the programs (default build/release)
             OBD_IMAGES  where generated images are kept (default build/test-images)
"""

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.images.listing import list_tree  # noqa: E402

BUILD = Path(os.environ.get("OBD_BUILD", ROOT / "build" / "release")).resolve()
CONVERTOR = BUILD / "tools" / "convertor"
OBDCTL = BUILD / "tools" / "obdctl"
MKBASE = BUILD / "tools" / "obd-mkbase"
IS_ROOT = os.geteuid() == 0
TIMEOUT = 300

VERSION = "containerd.io/snapshot/overlaybd/version"
BLOB_DIGEST = "containerd.io/snapshot/overlaybd/blob-digest"
BLOB_SIZE = "containerd.io/snapshot/overlaybd/blob-size"


@dataclass
class Result:
    arguments: list
    code: int  # negative: killed by that signal
    out: str
    err: str
    seconds: float
    max_rss: int  # bytes

    def __str__(self):
        return (f"{' '.join(map(str, self.arguments))}\nexit code {self.code} after {self.seconds:.1f} s, "
                f"{self.max_rss >> 20} MiB\nstdout: {self.out[-2000:]}\nstderr: {self.err[-4000:]}")


def run(*arguments, cwd=None, timeout=TIMEOUT, kill_after=None, kill_with=signal.SIGKILL, env=None, stdin=None):
    """Runs a program to its end; `kill_after` seconds it gets the signal `kill_with`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        child = subprocess.Popen([str(a) for a in arguments], stdout=out, stderr=err, cwd=cwd,
                                 stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                 env={**os.environ, **(env or {})})
        if stdin is not None:
            child.stdin.write(stdin)
            child.stdin.close()
        usage = _wait(child, begin, timeout, kill_after, kill_with)
        seconds = time.monotonic() - begin
        out.seek(0)
        err.seek(0)
        return Result(list(arguments), child.returncode, out.read().decode(errors="replace"),
                      err.read().decode(errors="replace"), seconds, usage.ru_maxrss * 1024)


def _wait(child, begin, timeout, kill_after, kill_with):
    """Polls, since only wait4 tells what the child used."""
    sent = False
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage
        passed = time.monotonic() - begin
        if kill_after is not None and not sent and passed >= kill_after:
            child.send_signal(kill_with)
            sent = True
        if passed > timeout:
            child.kill()
            os.wait4(child.pid, 0)
            child.returncode = -9
            raise AssertionError(f"still running after {timeout} s: {child.args}")
        time.sleep(0.001 if passed < 1 else 0.01)


def _image_cache():
    """A directory named after the generators, so that a change of theirs makes the images anew."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "tests" / "images").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    base = Path(os.environ.get("OBD_IMAGES", ROOT / "build" / "test-images"))
    cache = base / digest.hexdigest()[:16]
    if not cache.exists():
        shutil.rmtree(base, ignore_errors=True)
        cache.mkdir(parents=True)
    return cache


IMAGES = _image_cache()


def image(name, program="generate"):
    """The directory of a generated image, made when it is first asked for."""
    path = IMAGES / program / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=IMAGES) as scratch:
            subprocess.run([ROOT / "tests" / "images" / program, scratch, name], check=True,
                           stdout=subprocess.DEVNULL)
            path.parent.mkdir(exist_ok=True)
            os.rename(Path(scratch) / name, path)
    return path


def snapshot(directory):
    """Every file below a directory with its size, and index.json with its content."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file():
            name = str(path.relative_to(directory))
            found[name] = path.read_text() if path.name == "index.json" else path.stat().st_size
    return found


def read_blob(layout, digest):
    return (Path(layout) / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def find_tag(layout, tag):
    """The descriptor that index.json has for a tag, or None."""
    for descriptor in json.loads((Path(layout) / "index.json").read_text())["manifests"]:
        if descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
            return descriptor
    return None


@functools.cache
def can_mount():
    """Whether loop devices with ext4 work here."""
    if not IS_ROOT:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        disk, where = Path(scratch) / "disk", Path(scratch) / "mnt"
        where.mkdir()
        with open(disk, "wb") as out:
            out.truncate(8 << 20)
        if run("mkfs.ext4", "-q", disk).code or run("mount", "-o", "loop", disk, where).code:
            return False
        run("umount", where)
        return True


class Mount:
    """A disk image on a loop device, unmounted at the end of a `with`."""

    def __init__(self, disk, where, options):
        self.disk, self.where, self.options = disk, Path(where), options

    def __enter__(self):
        self.where.mkdir(exist_ok=True)
        result = run("mount", "-t", "ext4", "-o", "loop," + self.options, self.disk, self.where)
        assert result.code == 0, result
        return self.where

    def __exit__(self, *_):
        result = run("umount", self.where)
        assert result.code == 0, result


class Registry:
    """A docker-registry on a free port of the loopback, ended and removed at the end of a `with`."""

    def __init__(self, directory, users=None, auth=None, tls=None, access_log=False, validation=None):
        """`auth`, `tls` and `validation`: sections of the registry's configuration."""
        self.directory, self.users, self.auth, self.tls = Path(directory), users or {}, auth, tls
        self.validation = validation
        self.access_log = access_log

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host = f"localhost:{self.port}"
        self.storage = self.directory / "storage"
        self.storage.mkdir(parents=True)
        config = {"version": "0.1", "log": {"accesslog": {"disabled": not self.access_log}, "level": "error"},
                  "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
                  "http": {"addr": f"127.0.0.1:{self.port}", "secret": "survives a restart"}}
        if self.users:
            passwords = self.directory / "htpasswd"
            passwords.write_text("".join(f"{user}:{_bcrypt(word)}\n" for user, word in self.users.items()))
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        if self.auth:
            config["auth"] = self.auth
        if self.tls:
            config["http"]["tls"] = self.tls
        if self.validation:
            config["validation"] = self.validation
        self.config = self.directory / "config.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.log = open(self.directory / "log", "wb")
        return self.start()

    def start(self):
        self.child = subprocess.Popen(["docker-registry", "serve", self.config], stdout=self.log, stderr=self.log)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def requests(self):
        """(method, path, status, bytes of the answer) of all requests so far; needs `access_log`."""
        lines = (self.directory / "log").read_text(errors="replace").splitlines()
        found = (re.search(r'"(\S+) (\S+) HTTP/1\.1" (\d+) (\d+)', line) for line in lines)
        return [(match[1], match[2], int(match[3]), int(match[4])) for match in found if match]

    def restart(self):
        """As after a crash: on the same port, with the same storage."""
        self.child.kill()
        self.child.wait()
        self.start()

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        self.log.close()


def _bcrypt(word):
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crypt
    return crypt.crypt(word, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))


class TestCase(unittest.TestCase):
    """A test with a directory of its own, in which the programs run."""

    maxDiff = None

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="obd-e2e-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def copy_layout(self, source, name="layout"):
        """A layout of its own with the blobs hard-linked: programs must never write into a blob."""
        target = self.dir / name
        for path in Path(source).rglob("*"):
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.parent.name == "sha256":
                os.link(path, to) if os.stat(self.dir).st_dev == path.stat().st_dev else shutil.copy(path, to)
            elif path.is_file():
                shutil.copy(path, to)
        return target

    def copy_image(self, name, program="generate", to="layout"):
        return self.copy_layout(image(name, program) / "layout", to)

    def expect(self, code, *arguments, **options):
        result = run(*arguments, cwd=options.pop("cwd", self.dir), **options)
        self.assertEqual(code, result.code, result)
        return result

    def convert(self, layout, *arguments, code=0, source="test", target="test_obd", **options):
        return self.expect(code, CONVERTOR, "-r", f"oci:{layout}", "-i", source, "-o", target, *arguments, **options)

    def digest_of(self, layout, tag="test_obd"):
        descriptor = find_tag(layout, tag)
        self.assertIsNotNone(descriptor, f"{layout} has no tag {tag}")
        return descriptor["digest"]

    def assert_same_files(self, before, after, result):
        """Two snapshots are the same; says in what they differ."""
        changed = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()
                   if before.get(name) != after.get(name)}
        self.assertEqual({}, changed, f"files (before, after) that differ\n{result}")

    def assert_clean_disk(self, disk):
        """e2fsck finds nothing to say."""
        result = run("e2fsck", "-fn", disk)
        self.assertEqual(0, result.code, result)
        # Five phases and a summary are all that it prints of a good filesystem.
        complaints = [line for line in result.out.splitlines()
                      if not re.match(r"Pass \d[A-Z]?: |.*: \d+/\d+ files \(.*\), \d+/\d+ blocks$", line)]
        self.assertEqual([], [line for line in complaints if line.strip()], result)

    def assert_tree(self, expected_file, mounted):
        expected = Path(expected_file).read_text().splitlines()
        # The kernel has no name for the last user id and shows the overflow id in its place.
        expected = [re.sub(r"(?<=[ :])4294967295(?=[: ])", "65534", line, count=2) for line in expected]
        found = list_tree(mounted)
        if expected != found:
            missing, extra = set(expected) - set(found), set(found) - set(expected)
            lines = [f"- {line[:300]}" for line in sorted(missing)[:10]] + [f"+ {line[:300]}" for line in
                                                                           sorted(extra)[:10]]
            self.fail(f"{len(missing)} lines missing, {len(extra)} not expected; first ones:\n" + "\n".join(lines))
