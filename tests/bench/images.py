"""The benchmark's images: made once from Debian's packages, or written by rule, and kept as OCI layouts."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.images.layout import OCI, Layout  # noqa: E402

MTIME = 1_600_000_000

# Each list is one layer: Debian packages unpacked side by side. `*tar.xz` members of source packages are
# unpacked too.
PACKAGES = {
    "application": [
        ["libc6", "libc-bin", "coreutils", "bash", "dash", "perl-base", "libssl3", "util-linux", "apt", "dpkg",
         "tzdata", "locales", "systemd", "libperl5.36", "perl-modules-5.36", "openssl", "ca-certificates"],
        ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libpython3.11", "git",
         "vim-runtime", "vim", "libicu72"],
        ["gcc-12", "cpp-12", "libgcc-12-dev"],
        ["libnode108", "curl", "libcurl4", "iputils-ping", "less"],
    ],
    "small-files": [
        ["linux-source-6.1"],
        ["libboost1.74-dev"],
        ["golang-1.19-src", "node-typescript", "node-core-js", "node-lodash"],
        ["npm", "eslint", "webpack", "node-babel7", "node-es-abstract", "node-caniuse-lite", "node-undici",
         "perl-doc", "git-doc", "python3.11-doc"],
    ],
    "large": [
        ["libllvm14", "llvm-14-dev", "libclang-cpp14", "clang-14", "libclang-14-dev", "llvm-14"],
        ["openjdk-17-jdk-headless", "openjdk-17-jre-headless", "rustc", "libstd-rust-dev", "libstd-rust-1.63"],
        ["chromium", "chromium-common", "firefox-esr", "libwebkit2gtk-4.1-0"],
        ["libreoffice-core", "libreoffice-common", "libreoffice-writer", "libreoffice-calc"],
        ["texlive-fonts-recommended", "texlive-latex-extra", "texlive-pictures", "libboost1.74-dev"],
        ["gcc-12", "g++-12", "cpp-12", "libstdc++-12-dev", "golang-1.19-go", "golang-1.19-src", "blender-data"],
    ],
}

# Parts of an unpacked source that would make an image of small files one of large ones.
LEFT_OUT = ["usr/src/linux-source-*/drivers/gpu/drm/amd"]


class LayerFile:
    """A gzip layer that is written into a layout as a stream, hashed on both sides."""

    def __init__(self, layout):
        self.layout, self.path = layout, os.path.join(layout.path, "layer.partial")
        self.out = open(self.path, "wb")
        self.plain, self.packed, self.deflate, self.size = hashlib.sha256(), hashlib.sha256(), zlib.compressobj(6, 8, 31), 0

    def write(self, data):
        self.plain.update(data)
        self.size += len(data)
        self._put(self.deflate.compress(data))
        return len(data)

    def _put(self, data):
        self.packed.update(data)
        self.out.write(data)

    def finish(self):
        """The layer's descriptor and diffID."""
        self._put(self.deflate.flush())
        size = self.out.tell()
        self.out.close()
        digest = self.packed.hexdigest()
        os.rename(self.path, os.path.join(self.layout.path, "blobs", "sha256", digest))
        descriptor = {"mediaType": OCI["layer"] + "+gzip", "digest": "sha256:" + digest, "size": size}
        return descriptor, "sha256:" + self.plain.hexdigest()


def tar_directory(directory, sink):
    """Writes a directory as GNU tar does, in the order of names, owned by root."""
    tar = subprocess.Popen(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C", directory, "-cf",
                            "-", "."], stdout=subprocess.PIPE)
    while data := tar.stdout.read(1 << 20):
        sink.write(data)
    if tar.wait() != 0:
        raise SystemExit("tar failed")


def unpack_packages(names, cache, target):
    """Downloads packages with apt (without installing them) and unpacks them side by side."""
    cache.mkdir(parents=True, exist_ok=True)
    for name in names:
        found = list(cache.glob(f"{name}_*.deb"))
        if not found:
            if subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name], cwd=cache).returncode != 0:
                print(f"  no package {name}: left out", file=sys.stderr)
                continue
            found = list(cache.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg", "-x", found[0], target], check=True)
    for source in target.glob("usr/src/*.tar.xz"):
        subprocess.run(["tar", "-xf", source, "-C", source.parent], check=True)
        source.unlink()
    for pattern in LEFT_OUT:
        for directory in target.glob(pattern):
            shutil.rmtree(directory)


def package_layers(layout, lists, work):
    for names in lists:
        directory = work / "unpacked"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        unpack_packages(names, work / "packages", directory)
        layer = LayerFile(layout)
        tar_directory(directory, layer)
        shutil.rmtree(directory)
        yield layer.finish()


def written_layer(layout, entries):
    """A layer of small files: (path, content)."""
    layer = LayerFile(layout)
    with tarfile.open(fileobj=layer, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for path, content in entries:
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(content), MTIME
            archive.addfile(info, io.BytesIO(content))
    return layer.finish()


def huge_directory(layout, _):
    yield written_layer(layout, ((f"big/file-{n:05d}", b"%d\n" % n) for n in range(50_000)))
    yield written_layer(layout, ((f"big/.wh.file-{n:05d}", b"") for n in range(0, 50_000, 2)))


def million_files(layout, _):
    yield written_layer(layout, ((f"d{n // 100_000}/d{n // 500}/file-{n:07d}", b"%d\n" % n * (n % 40))
                                 for n in range(1_000_000)))


def builder(name):
    if name in PACKAGES:
        return lambda layout, work: package_layers(layout, PACKAGES[name], work)
    return {"huge-directory": huge_directory, "million-files": million_files}[name]


NAMES = [*PACKAGES, "huge-directory", "million-files"]


def count_files(layout, manifest):
    """How many entries and tar bytes an image has."""
    entries = size = 0
    for layer in manifest["layers"]:
        blob = Path(layout) / "blobs" / "sha256" / layer["digest"][7:]
        with gzip.open(blob) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            for _ in archive:
                entries += 1
                archive.members = []
            size += archive.offset
    return entries, size


def make_image(name, work):
    """The layout of an image, made if it is not there; its facts are in facts.json beside it."""
    target = work / "images" / name
    if not (target / "facts.json").exists():
        print(f"making the image {name}", file=sys.stderr, flush=True)
        shutil.rmtree(target, ignore_errors=True)
        layout = Layout(str(target / "layout"))
        made = list(builder(name)(layout, work))
        config = layout.json_blob({"architecture": "amd64", "os": "linux",
                                   "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]}},
                                  OCI["config"])
        manifest = {"schemaVersion": 2, "mediaType": OCI["manifest"], "config": config,
                    "layers": [descriptor for descriptor, _ in made]}
        layout.tag("test", layout.json_blob(manifest, OCI["manifest"]))
        layout.finish()
        entries, size = count_files(target / "layout", manifest)
        facts = {"entries": entries, "tar_bytes": size, "layers": [layer["digest"][7:] for layer in manifest["layers"]]}
        (target / "facts.json").write_text(json.dumps(facts))
    return target
