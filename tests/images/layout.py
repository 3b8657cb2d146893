"""Writes OCI layouts: layers in any compression, configs, manifests, indexes."""

import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass, field

from .tarbuild import END_MARK, Content, Entry, encode, pax_block

OCI = {"manifest": "application/vnd.oci.image.manifest.v1+json", "index": "application/vnd.oci.image.index.v1+json",
       "config": "application/vnd.oci.image.config.v1+json", "layer": "application/vnd.oci.image.layer.v1.tar"}
DOCKER = {"manifest": "application/vnd.docker.distribution.manifest.v2+json",
          "index": "application/vnd.docker.distribution.manifest.list.v2+json",
          "config": "application/vnd.docker.container.image.v1+json",
          "layer": "application/vnd.docker.image.rootfs.diff.tar"}


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def gzip_member(data, level=6, name=b"", comment=b"", extra=b"", header_crc=False):
    """One gzip member with any of its optional header fields, and no clock in it."""
    flags = (2 if header_crc else 0) | (4 if extra else 0) | (8 if name else 0) | (16 if comment else 0)
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff"
    if extra:
        head += struct.pack("<H", len(extra)) + extra
    head += (name + b"\0" if name else b"") + (comment + b"\0" if comment else b"")
    if header_crc:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (head + deflate.compress(data) + deflate.flush()
            + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))


def zstd_frame(data, block=1 << 17):
    """A zstd frame of raw and run-length blocks: valid, and needs no library to write."""
    out = [struct.pack("<IBQ", 0xFD2FB528, 0xE0, len(data))]  # single segment, 8-byte content size
    pieces = [data[i:i + block] for i in range(0, len(data), block)] or [b""]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        run = len(piece) > 1 and piece.count(piece[0]) == len(piece)
        head = len(piece) << 3 | (2 if run else 0) | (1 if last else 0)
        out.append(head.to_bytes(3, "little") + (piece[:1] if run else piece))
    return b"".join(out)


def zstd_skippable(data):
    return struct.pack("<II", 0x184D2A53, len(data)) + data


@dataclass
class Layer:
    """A layer under construction: tar bytes beside what they mean."""
    compression: str = "gzip"
    parts: list = field(default_factory=list)
    entries: list = field(default_factory=list)
    end: bytes = END_MARK
    blob: bytes | None = None  # overrides what compress() would give
    diff_id: str | None = None  # overrides the digest of tar()
    defaults: dict = field(default_factory=dict)  # encode() options of every entry

    def add(self, entry, **options):
        self.parts.append(encode(entry, **{**self.defaults, **options}))
        self.entries.append(entry)
        return self

    def raw(self, data, *entries):
        """Bytes that are written as they are, and what they mean, if anything."""
        self.parts.append(data)
        self.entries += entries
        return self

    def file(self, path, data=b"", options=None, **fields):
        content = data if isinstance(data, Content) else Content.of(data)
        return self.add(Entry(path, "file", content=content, **fields), **(options or {}))

    def dir(self, path, mode=0o755, options=None, **fields):
        return self.add(Entry(path, "dir", mode=mode, **fields), **(options or {}))

    def symlink(self, path, target, options=None, **fields):
        return self.add(Entry(path, "symlink", mode=0o777, target=target, **fields), **(options or {}))

    def hardlink(self, path, target, options=None, **fields):
        return self.add(Entry(path, "hardlink", target=target, **fields), **(options or {}))

    def node(self, path, kind, rdev=(0, 0), options=None, **fields):
        return self.add(Entry(path, kind, rdev=rdev, **fields), **(options or {}))

    def whiteout(self, path):
        directory, _, name = path.rpartition(b"/")
        return self.file((directory + b"/" if directory else b"") + b".wh." + name)

    def opaque(self, directory):
        return self.file((directory + b"/" if directory else b"") + b".wh..wh..opq")

    def global_pax(self, *records):
        return self.raw(pax_block(list(records), b"g", b"GlobalHead/1"))

    def tar(self):
        return b"".join(self.parts) + self.end

    def compress(self):
        if self.blob is not None:
            return self.blob
        if self.compression == "gzip":
            return gzip_member(self.tar())
        return zstd_frame(self.tar()) if self.compression == "zstd" else self.tar()


class Layout:
    """An OCI layout directory; index.json is written by finish()."""

    def __init__(self, path):
        self.path = path
        self.refs = []
        os.makedirs(os.path.join(path, "blobs", "sha256"))

    def blob(self, data, media_type, **fields):
        digest = sha256(data)
        with open(os.path.join(self.path, "blobs", "sha256", digest[7:]), "wb") as out:
            out.write(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def json_blob(self, value, media_type, **fields):
        return self.blob(json.dumps(value, indent=1).encode(), media_type, **fields)

    def image(self, layers, *, types=OCI, platform=None, config=None, manifest=None, change=None):
        """Writes one image and returns its manifest's descriptor.

        config, manifest: extra fields; change(config, manifest): a last edit before they are written
        """
        descriptors, diff_ids = [], []
        for layer in layers:
            suffix = {"gzip": ("+gzip", ".gzip"), "zstd": ("+zstd", ".zstd"), "none": ("", "")}[layer.compression]
            media_type = types["layer"] + suffix[0 if types is OCI else 1]
            descriptors.append(self.blob(layer.compress(), media_type))
            diff_ids.append(layer.diff_id or sha256(layer.tar()))
        platform = platform or {"architecture": "amd64", "os": "linux"}
        config_json = {**platform, "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]},
                       "rootfs": {"type": "layers", "diff_ids": diff_ids},
                       "history": [{"created_by": f"layer {i}"} for i in range(len(layers))], **(config or {})}
        manifest_json = {"schemaVersion": 2, "mediaType": types["manifest"], "layers": descriptors,
                         **(manifest or {})}
        if change:
            change(config_json, manifest_json)
        manifest_json.setdefault("config", self.json_blob(config_json, types["config"]))
        return self.json_blob(manifest_json, types["manifest"])

    def index(self, manifests, *, types=OCI, extra=None):
        value = {"schemaVersion": 2, "mediaType": types["index"], "manifests": manifests, **(extra or {})}
        return self.json_blob(value, types["index"])

    def tag(self, name, descriptor):
        annotations = {**descriptor.get("annotations", {}), "org.opencontainers.image.ref.name": name}
        self.refs.append({**descriptor, "annotations": annotations})

    def finish(self):
        with open(os.path.join(self.path, "oci-layout"), "w") as out:
            out.write('{"imageLayoutVersion":"1.0.0"}')
        with open(os.path.join(self.path, "index.json"), "w") as out:
            json.dump({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": self.refs}, out, indent=1)
