"""Small inputs that ask for much memory, time or disk."""

import hashlib
import struct
import zlib

from ..layout import Layer, gzip_member
from ..tarbuild import END_MARK, gnu_long, header, pax_block
from .registry import image, layer

GIB = 1 << 30


def gzip_zeroes(prefix, count, suffix):
    """A gzip stream of prefix, `count` zeroes (whole MiB) and suffix, made without holding them."""
    deflate, chunk = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    head = deflate.compress(prefix) + deflate.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a chunk refers to nothing before it, so that it can be repeated.
    middle = deflate.compress(chunk) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(prefix)
    for _ in range(count >> 20):
        crc = zlib.crc32(chunk, crc)
    size = len(prefix) + count + len(suffix)
    return (b"\x1f\x8b\x08\0" + bytes(5) + b"\xff" + head + middle * (count >> 20) + deflate.compress(suffix)
            + deflate.flush() + struct.pack("<II", zlib.crc32(suffix, crc), size & 0xFFFFFFFF))


def diff_id_of_zeroes(heads, count):
    """The diffID of a tar of members that hold `count` zeroes each (whole MiB)."""
    plain, chunk = hashlib.sha256(), bytes(1 << 20)
    for head in heads:
        plain.update(head)
        for _ in range(count >> 20):
            plain.update(chunk)
    plain.update(END_MARK)
    return "sha256:" + plain.hexdigest()


def with_layers(layout, *upper):
    layout.tag("test", layout.image([Layer().file(b"bottom", b"1"), *upper]))


def with_blob(layout, blob, diff_id=None):
    top = Layer()
    top.blob, top.diff_id = blob, diff_id
    with_layers(layout, top)


ANOTHERS_DIFF_ID = "sha256:" + "5" * 64


def large_layer(diff_id=None):
    """A file of 2 GiB; with the right diffID the image is good on a larger disk."""
    head, layer = header(b"victim", b"0", size=2 * GIB), Layer()
    layer.blob = gzip_zeroes(head, 2 * GIB, END_MARK)
    layer.diff_id = diff_id or diff_id_of_zeroes([head], 2 * GIB)
    return layer


@image(codes=(8,), says=r"--vsize", arguments=("--vsize", "1"))
def file_larger_than_disk(layout):
    """A gzip bomb: a file of 2 GiB of zeroes on a disk of 1 GiB."""
    with_layers(layout, large_layer())


@image(codes=(3,), says="layer 2 of 2.*diff ID", arguments=("--vsize", "1"))
def damaged_file_larger_than_disk(layout):
    """The same with another's diffID: no size of disk would help."""
    with_layers(layout, large_layer(ANOTHERS_DIFF_ID))


@image(codes=(3,), says="layer 3 of 3.*diff ID", arguments=("--vsize", "1"))
def damaged_layer_above_a_full_disk(layout):
    """A layer that is too large is followed by one with another's diffID."""
    above = Layer().file(b"above", b"1")
    above.diff_id = ANOTHERS_DIFF_ID
    with_layers(layout, large_layer(), above)


@image(codes=(8,), says=r"--vsize", arguments=("--vsize", "1"))
def files_larger_than_disk(layout):
    """Many files that fill a disk of 1 GiB together."""
    size = 48 << 20
    heads = [header(b"victim%d" % i, b"0", size=size) for i in range(24)]
    with_blob(layout, b"".join(gzip_zeroes(head, size, b"") for head in heads) + gzip_member(END_MARK),
              diff_id_of_zeroes(heads, size))


@image(codes=(8,), says=r"--vsize", arguments=("--vsize", "1"))
def too_many_inodes(layout):
    """More files than a disk of 1 GiB has inodes."""
    top = Layer()
    top.parts.append(b"".join(header(b"d%d/%d" % (i // 1000, i), b"0") for i in range(700_000)))
    layout.tag("test", layout.image([top]))


@layer()
def pax_header_huge(top):
    """A pax header of 128 MiB in a layer that compresses to little."""
    top.raw(pax_block([(b"comment", b"x" * (128 << 20)), (b"path", b"victim")]) + header(b"victim", b"0"))


@layer()
def pax_header_claims_much(top):
    """A pax header that says that it has 8 GiB."""
    top.raw(header(b"PaxHeaders/x", b"x", size=8 * GIB - 1) + bytes(512))


@layer()
def long_name_bomb(top):
    """A GNU long name of 64 MiB."""
    top.raw(gnu_long(b"L", b"n/" * (32 << 20)) + header(b"victim", b"0"))


@layer()
def long_name_claims_much(top):
    """A GNU long name that says that it has 8 GiB."""
    top.raw(header(b"././@LongLink", b"L", size=8 * GIB - 1, magic=b"ustar  \0") + bytes(512))


@layer()
def global_pax_huge(top):
    """A global pax header of 64 MiB."""
    top.raw(pax_block([(b"comment", b"x" * (64 << 20))], b"g") + header(b"victim", b"0"))


@layer()
def global_pax_many(top):
    """A hundred thousand global records, kept until the layer ends."""
    top.raw(b"".join(pax_block([(b"VENDOR.%d.%d" % (i, j), b"v" * 100) for j in range(50)], b"g")
                     for i in range(2000)) + header(b"victim", b"Q"))


@layer(codes=(3, 8))
def sparse_spans_many(top):
    """A sparse map of four million spans."""
    numbers = b",".join(b"%d,0" % (i * 8192) for i in range(4_000_000))
    top.raw(pax_block([(b"GNU.sparse.size", b"%d" % (1 << 40)), (b"GNU.sparse.numblocks", b"4000000"),
                       (b"GNU.sparse.map", numbers), (b"GNU.sparse.name", b"victim")]) + header(b"x", b"0"))


@image(says="layer")
def tail_bomb(layout):
    """Bytes after the end mark count for the diffID; here they are 1 GiB, and the diffID is another's."""
    with_blob(layout, gzip_zeroes(header(b"victim", b"0") + END_MARK, GIB, b""))
