"""Sparse maps that lie."""

from ..tarbuild import BLOCK, header, old_sparse_header, pad, pax_block
from .registry import layer

MIB = 1 << 20


def old(top, spans, real_size, stored):
    top.raw(old_sparse_header(b"victim", spans, real_size, len(stored)) + pad(stored))


def version_01(top, numbers, size, stored, blocks=None):
    count = len(numbers.split(b",")) // 2 if blocks is None else blocks
    top.raw(pax_block([(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % count),
                       (b"GNU.sparse.map", numbers), (b"GNU.sparse.name", b"victim")])
            + header(b"x", b"0", size=len(stored)) + pad(stored))


def version_10(top, numbers, size, stored, padded=True):
    body = (pad(numbers) if padded else numbers) + stored
    top.raw(pax_block([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"victim"),
                       (b"GNU.sparse.realsize", b"%d" % size)]) + header(b"x", b"0", size=len(body)) + pad(body))


@layer()
def sparse_old_order(top):
    """An old map whose spans go backwards."""
    old(top, [(8192, 512), (0, 512)], MIB, bytes(1024))


@layer()
def sparse_old_overlap(top):
    """An old map whose spans overlap."""
    old(top, [(0, 1024), (512, 512)], MIB, bytes(1536))


@layer()
def sparse_old_beyond(top):
    """An old map that goes beyond the file."""
    old(top, [(MIB, 512)], MIB, bytes(512))


@layer()
def sparse_old_more_than_stored(top):
    """An old map of more data than follows."""
    old(top, [(0, 4096)], MIB, bytes(512))


@layer()
def sparse_old_less_than_stored(top):
    """An old map of less data than follows."""
    old(top, [(0, 512)], MIB, bytes(4096))


@layer()
def sparse_old_endless(top):
    """An old map whose extensions never end: the archive does."""
    extension = bytearray(BLOCK)
    extension[504] = 1
    block = old_sparse_header(b"victim", [(i * 1024, 0) for i in range(5)], MIB, 0)[:BLOCK]
    top.raw(block + bytes(extension) * 10)
    top.end = b""


@layer()
def sparse_01_order(top):
    """A 0.1 map whose spans go backwards."""
    version_01(top, b"8192,512,0,512", MIB, bytes(1024))


@layer()
def sparse_01_count(top):
    """A 0.1 map with fewer spans than it says."""
    version_01(top, b"0,512", MIB, bytes(512), blocks=7)


@layer()
def sparse_01_odd(top):
    """A 0.1 map with an offset and no length."""
    version_01(top, b"0,512,8192", MIB, bytes(512), blocks=2)


@layer()
def sparse_01_overflow(top):
    """A 0.1 map whose offset and length wrap."""
    version_01(top, b"18446744073709551104,1024", MIB, bytes(1024))


@layer()
def sparse_01_not_numbers(top):
    """A 0.1 map of letters."""
    version_01(top, b"zero,five", MIB, bytes(512))


@layer()
def sparse_01_negative(top):
    """A 0.1 map with a negative offset."""
    version_01(top, b"-512,512", MIB, bytes(512))


@layer()
def sparse_10_no_end(top):
    """A 1.0 map that promises more numbers than the entry holds."""
    version_10(top, b"1000000\n0\n512\n", MIB, bytes(512))


@layer()
def sparse_10_long_number(top):
    """A 1.0 map with a number of thousands of digits."""
    version_10(top, b"1\n" + b"1" * 5000 + b"\n512\n", MIB, bytes(512))


@layer()
def sparse_10_unpadded(top):
    """A 1.0 map cut off with its entry."""
    version_10(top, b"2\n0\n512\n", MIB, b"", padded=False)


@layer()
def sparse_10_count_huge(top):
    """A 1.0 map whose count asks for all memory."""
    version_10(top, b"18446744073709551615\n0\n512\n", MIB, bytes(512))


@layer()
def sparse_10_beyond(top):
    """A 1.0 map that ends behind the real size."""
    version_10(top, b"1\n1048576\n512\n", MIB, bytes(512))


@layer()
def sparse_real_size_negative(top):
    """A negative real size."""
    top.raw(pax_block([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"victim"),
                       (b"GNU.sparse.realsize", b"-5")]) + header(b"x", b"0", size=512) + pad(b"0\n"))


@layer()
def sparse_version_unknown(top):
    """A sparse version that does not exist: its body must not be taken for content."""
    top.raw(pax_block([(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"7"), (b"GNU.sparse.name", b"victim"),
                       (b"GNU.sparse.realsize", b"5")]) + header(b"x", b"0", size=512) + pad(b"0\n"))


@layer(codes=(8,))
def sparse_size_beyond_ext4(top):
    """A hole larger than any ext4 file."""
    version_01(top, b"0,512", 2**60, bytes(512))
