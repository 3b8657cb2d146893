"""Broken compression, cut archives, blobs that are not what their digest says."""

import os
import struct

from ..layout import Layer, gzip_member, sha256, zstd_frame
from ..tarbuild import BLOCK, header, pad
from .registry import image, layer


def good_layer(compression="gzip"):
    top = Layer(compression)
    for number in range(50):
        top.file(b"file%d" % number, bytes((number * i) % 251 for i in range(5000)))
    return top


def one_layer(layout, top, change=None):
    bottom = Layer().file(b"bottom", b"1")
    layout.tag("test", layout.image([bottom, top], change=change))


@layer()
def cut_in_header(top):
    """An archive that ends inside a header."""
    top.raw(header(b"victim", b"0")[:300])
    top.end = b""


@layer()
def cut_in_body(top):
    """An archive that ends inside a file."""
    top.raw(header(b"victim", b"0", size=100_000) + b"x" * 5000)
    top.end = b""


@layer()
def cut_in_padding(top):
    """An archive that ends inside the padding of a file."""
    top.raw(header(b"victim", b"0", size=100) + b"x" * 200)
    top.end = b""


@layer()
def cut_in_pax(top):
    """An archive that ends inside a pax header."""
    top.raw(header(b"PaxHeaders/x", b"x", size=5000) + pad(b"30 path=whatever\n"))
    top.end = b""


@layer()
def entry_after_zero_block(top):
    """One zero block followed by a header: some readers stop there, others go on."""
    top.raw(bytes(BLOCK) + header(b"victim", b"0"))


@image(says="layer")
def gzip_corrupt(layout):
    """A flipped byte in the middle of a gzip stream."""
    top = good_layer()
    data = bytearray(top.compress())
    data[len(data) // 2] ^= 0xFF
    top.blob = bytes(data)
    one_layer(layout, top)


@image(says="layer")
def gzip_crc(layout):
    """A gzip stream with a wrong checksum."""
    top = good_layer()
    top.blob = top.compress()[:-8] + b"\0\1\2\3" + top.compress()[-4:]
    one_layer(layout, top)


@image(says="layer")
def gzip_length(layout):
    """A gzip stream with a wrong length."""
    top = good_layer()
    top.blob = top.compress()[:-4] + struct.pack("<I", 5)
    one_layer(layout, top)


@image(says="layer")
def gzip_truncated(layout):
    """A gzip stream cut in its data."""
    top = good_layer()
    top.blob = top.compress()[:-300]
    one_layer(layout, top)


@image(says="layer")
def gzip_truncated_trailer(layout):
    """A gzip stream without the last bytes of its trailer."""
    top = good_layer()
    top.blob = top.compress()[:-3]
    one_layer(layout, top)


@image(says="layer")
def gzip_truncated_at_member(layout):
    """A gzip stream whose second member is cut inside its header."""
    top = good_layer()
    data = top.tar()
    top.blob = gzip_member(data[:5000]) + gzip_member(data[5000:])[:7]
    one_layer(layout, top)


@image(says="layer")
def gzip_garbage_after(layout):
    """Bytes behind a gzip stream that are no member."""
    top = good_layer()
    top.blob = top.compress() + b"garbage that is not gzip"
    one_layer(layout, top)


@image(says="layer")
def gzip_flags(layout):
    """A gzip header with reserved flags."""
    top = good_layer()
    data = bytearray(top.compress())
    data[3] |= 0xE0
    top.blob = bytes(data)
    one_layer(layout, top)


@image(says="layer")
def zstd_truncated(layout):
    """A zstd frame cut in its data."""
    top = good_layer("zstd")
    top.blob = top.compress()[:-1000]
    one_layer(layout, top)


@image(says="layer")
def zstd_size_lies(layout):
    """A zstd frame that holds less than its header says."""
    top = good_layer("zstd")
    data = bytearray(zstd_frame(top.tar()))
    data[5:13] = struct.pack("<Q", len(top.tar()) + 1)
    top.blob = bytes(data)
    one_layer(layout, top)


@image(says="layer")
def zstd_garbage(layout):
    """A zstd frame with bytes behind it that are no frame."""
    top = good_layer("zstd")
    top.blob = top.compress() + b"garbage that is not zstd"
    one_layer(layout, top)


@image(says="layer")
def zstd_window_huge(layout):
    """A zstd frame that asks for a window of terabytes."""
    top = Layer("zstd")
    top.blob = struct.pack("<IBB", 0xFD2FB528, 0x00, 0xFF) + bytes([1, 0, 0])
    one_layer(layout, top)


@image(says="diff")
def diff_id_mismatch(layout):
    """A layer that is not the one whose diffID the config names."""
    def change(config, _):
        config["rootfs"]["diff_ids"][1] = sha256(b"something else")
    one_layer(layout, good_layer(), change)


@image(says="digest")
def blob_digest_mismatch(layout):
    """A blob whose bytes are not those of its digest, of the same length."""
    top = good_layer("none")
    one_layer(layout, top)
    path = os.path.join(layout.path, "blobs", "sha256", sha256(top.compress())[7:])
    with open(path, "r+b") as blob:
        blob.seek(700)
        blob.write(b"\xff")


@image(says="size|length|bytes")
def blob_too_short(layout):
    """A blob that ends before its size."""
    top = good_layer()
    one_layer(layout, top)
    path = os.path.join(layout.path, "blobs", "sha256", sha256(top.compress())[7:])
    os.truncate(path, os.path.getsize(path) - 10)


@image(says="size|length|bytes")
def blob_too_long(layout):
    """A blob that goes on after its size."""
    top = good_layer()
    one_layer(layout, top)
    with open(os.path.join(layout.path, "blobs", "sha256", sha256(top.compress())[7:]), "ab") as blob:
        blob.write(b"more")


@image(codes=(3, 4), says="blob|layer")
def blob_missing(layout):
    """A layer whose blob is not in the layout."""
    top = good_layer()
    one_layer(layout, top)
    os.unlink(os.path.join(layout.path, "blobs", "sha256", sha256(top.compress())[7:]))
