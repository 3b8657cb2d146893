"""File contents: sizes around blocks, replaced files, sparse files in every form."""

import random

from ..layout import Layer
from ..tarbuild import Content
from .registry import case

MIB = 1 << 20


def noise(size, seed):
    return random.Random(seed).randbytes(size)


def text(size):
    return (b"The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]


@case()
def sizes():
    """Files of sizes around sectors, blocks and runs; text, noise and zeroes."""
    layer = Layer()
    for size in (0, 1, 59, 60, 61, 511, 512, 513, 4095, 4096, 4097, 8191, 8192, 8193, 65535, 65536, 65537, MIB - 1,
                 MIB, MIB + 1):
        layer.file(b"text/%d" % size, text(size))
        layer.file(b"noise/%d" % size, noise(size, size))
        layer.file(b"zero/%d" % size, bytes(size))
    # More than one LSMT run (16376 sectors) in one piece, and a file of half zero blocks.
    layer.file(b"long-run", text(9 * MIB))
    layer.file(b"checkered", b"".join(noise(4096, i) if i % 2 else bytes(4096) for i in range(64)))
    return [layer]


@case()
def replaced():
    """Files replaced by larger, smaller, empty and equal ones; metadata changed with the content kept."""
    first, second, third = Layer(), Layer(), Layer()
    for before in (0, 1, 4096, 100_000, MIB):
        for after in (0, 1, 4096, 100_000, MIB):
            name = b"%d-to-%d" % (before, after)
            first.file(name, noise(before, before))
            second.file(name, noise(after, after + 1))
    first.file(b"same", noise(50_000, 5))
    second.file(b"same", noise(50_000, 5))
    first.file(b"chmod", noise(50_000, 6), mode=0o600)
    second.file(b"chmod", noise(50_000, 6), mode=0o755, uid=9)
    third.opaque(b"")
    third.file(b"only", b"this is left")
    return [first, second, third]


def segments(size, *spans):
    return Content(size, [(offset, noise(length, offset + length)) for offset, length in spans])


# Only the last span of a map may be no multiple of 512 bytes: programs disagree on padding after others.
SPARSE = {
    b"hole-first": segments(3 * MIB, (3 * MIB - 4096, 4096)),
    b"hole-last": segments(3 * MIB, (0, 4096)),
    b"hole-only": segments(5 * MIB),
    b"hole-middle": segments(2 * MIB, (0, 8192), (MIB, 8192), (2 * MIB - 512, 512)),
    b"unaligned": segments(MIB + 77, (100, 512), (4090, 1024), (9000, 512), (70_000, 5120), (MIB, 77)),
    b"same-block": segments(8192, (0, 512), (700, 512), (2048, 512), (3900, 300)),
    b"five": segments(MIB, *[(i * 65536, 4096) for i in range(5)]),
    b"thirty": segments(MIB, *[(i * 32768, 512) for i in range(30)]),
    b"touching": segments(65536, (0, 4096), (4096, 4096), (8192, 4096)),
    b"many": segments(20 * MIB, *[(i * 12288, 4096) for i in range(1500)]),
    b"tiny": segments(1),
}


@case(max_blocks={style + b"/" + name: blocks for style in (b"gnu-old", b"gnu-0.0", b"gnu-0.1", b"gnu-1.0")
                  for name, blocks in ((b"hole-first", 8), (b"hole-last", 8), (b"hole-only", 0), (b"five", 40),
                                       (b"thirty", 240), (b"unaligned", 56))})
def sparse():
    """GNU sparse files: old, 0.0, 0.1 and 1.0, with maps of one to 1,500 spans; then replaced."""
    first, second = Layer(), Layer()
    for style in ("gnu-old", "gnu-0.0", "gnu-0.1", "gnu-1.0"):
        for number, (name, content) in enumerate(SPARSE.items()):
            first.file(style.encode() + b"/" + name, content, mode=0o640, uid=7, options={"sparse": style})
            if number % 2:
                second.file(style.encode() + b"/" + name, b"dense now")
        first.file(style.encode() + b"/" + b"n" * 120, SPARSE[b"five"], mtime=5 * 10**9,
                   options={"sparse": style} if style != "gnu-old" else {})
    first.hardlink(b"link-to-sparse", b"gnu-1.0/five", mode=0o640, uid=7)
    second.file(b"gnu-old/hole-last", SPARSE[b"many"], options={"sparse": "gnu-0.1"})
    return [first, second]


@case(max_blocks={b"over-1-gib": 24, b"over-4-gib": 16}, vsize=16)
def sparse_large():
    """Sparse files beyond 1 GiB and beyond 4 GiB with a few blocks of data."""
    layer = Layer()
    layer.file(b"over-1-gib", segments(1025 * MIB + 5, (0, 512), (512 * MIB, 512), (1025 * MIB, 5)),
               options={"sparse": "gnu-1.0"})
    layer.file(b"over-4-gib", segments(4096 * MIB + 4097, (4096 * MIB - 10, 20)), options={"sparse": "gnu-old"})
    return [layer]


@case()
def zeroes():
    """A file of plain zeroes larger than any buffer, not marked as sparse; compressed to almost nothing."""
    layer = Layer()
    layer.file(b"zeroes", bytes(40 * MIB))
    layer.file(b"nearly", bytes(10 * MIB) + b"x" + bytes(10 * MIB))
    return [layer]
