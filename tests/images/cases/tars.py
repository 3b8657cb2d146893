"""Tar dialects and what surrounds the tar: compression, end marks, media types."""

import gzip

from ..layout import DOCKER, Layer, gzip_member, zstd_frame, zstd_skippable
from ..tarbuild import Content, Entry, base256, encode, gnu_long, header, pad, pax_block
from .registry import case


def ordinary(dialect, layer=None):
    layer = layer or Layer()
    layer.defaults = {"dialect": dialect}
    layer.dir(b"dir", mode=0o1755, uid=1, gid=2)
    layer.file(b"dir/file", b"content", mode=0o4755)
    layer.file(b"dir/empty")
    layer.symlink(b"dir/symlink", b"file")
    layer.hardlink(b"dir/hardlink", b"dir/file", mode=0o4755)
    if dialect != "v7":
        layer.node(b"dir/char", "char", (1, 3))
        layer.node(b"dir/block", "block", (8, 1))
        layer.node(b"dir/fifo", "fifo")
    return layer


@case()
def tar_v7():
    """Headers from before ustar: no magic, directories known by their slash."""
    layer = ordinary("v7")
    layer.file(b"n" * 100, b"a name that fills its field")
    layer.symlink(b"l", b"t" * 100)
    return [layer]


@case()
def tar_ustar():
    """Plain ustar: names in two fields, full fields without NUL, numbers in other spellings."""
    layer = ordinary("ustar")
    layer.file(b"p" * 100 + b"/" + b"n" * 100, b"prefix and name")
    layer.file(b"p" * 155 + b"/" + b"n" * 100, b"both full")
    layer.file(b"n" * 100, b"name full")
    layer.symlink(b"full", b"t" * 100)
    # Octal with leading spaces, without terminator, and with a trailing space.
    layer.raw(header(b"spaces", b"0", size=b"          3 ", mode=b"   644 ", mtime=b"       1234 ")
              + pad(b"abc"), Entry(b"spaces", "file", content=Content.of(b"abc"), mtime=0o1234 * 10**9))
    layer.raw(header(b"unterminated", b"0", size=b"000000000003", mode=b"00000644", mtime=b"000000001234")
              + pad(b"abc"), Entry(b"unterminated", "file", content=Content.of(b"abc"), mtime=0o1234 * 10**9))
    # Typeflag 7 (contiguous) is a file; so is NUL.
    layer.raw(header(b"contiguous", b"7", size=3) + pad(b"abc"),
              Entry(b"contiguous", "file", content=Content.of(b"abc"), mtime=0))
    layer.raw(header(b"nul", b"\0", size=3) + pad(b"abc"), Entry(b"nul", "file", content=Content.of(b"abc"), mtime=0))
    return [layer]


@case()
def tar_gnu():
    """GNU's dialect: long names and targets, base-256 numbers, both for one entry, in either order."""
    layer = ordinary("gnu")
    long_name, long_target = b"d/" * 60 + b"n" * 200, b"t/" * 400
    layer.file(long_name, b"1")
    layer.symlink(b"long-target", long_target)
    layer.symlink(b"both/" + long_name, long_target)
    layer.hardlink(b"hard-" + long_name, long_name)
    layer.dir(b"dir/" * 50)
    entry = Entry(b"order/" + long_name, "symlink", mode=0o777, target=long_target, mtime=9 * 10**9)
    layer.raw(gnu_long(b"L", entry.path) + gnu_long(b"K", entry.target)
              + header(b"short", b"2", mode=0o777, mtime=9, linkname=b"short", magic=b"ustar  \0"), entry)
    layer.raw(header(b"base256", b"0", mode=0o600, uid=base256(70000, 8), gid=base256(5, 8), size=base256(3, 12),
                     mtime=base256(-7, 12), magic=b"ustar  \0") + pad(b"abc"),
              Entry(b"base256", "file", mode=0o600, uid=70000, gid=5, content=Content.of(b"abc"), mtime=-7 * 10**9))
    return [layer]


@case()
def tar_pax():
    """pax records that override fields, empty ones, unknown ones, repeated ones, hdrcharset."""
    layer = ordinary("pax")
    layer.file(b"long/" * 200 + b"file", b"1", mtime=1234567890, uid=10**9)
    layer.symlink(b"t", b"x" * 3000)

    def override(name, records, **meaning):
        content = meaning.pop("data", b"abc")
        layer.raw(pax_block(records) + header(b"in-the-header", b"0", uid=1, gid=2, size=len(content), mtime=100)
                  + pad(content), Entry(name, "file", content=Content.of(content),
                                        **{"uid": 1, "gid": 2, "mtime": 100 * 10**9, **meaning}))

    override(b"in-the-record", [(b"path", b"in-the-record"), (b"uid", b"77"), (b"gid", b"88"), (b"mtime", b"99")],
             uid=77, gid=88, mtime=99 * 10**9)
    override(b"twice", [(b"path", b"first"), (b"path", b"twice"), (b"uid", b"5"), (b"uid", b"6")], uid=6)
    override(b"unknown", [(b"path", b"unknown"), (b"VENDOR.key", b"\0\xff"), (b"comment", b"=\n=")])
    override(b"utf\xc3\xa9", [(b"path", b"utf\xc3\xa9"), (b"uname", b"root"), (b"gname", b"root")])
    override(b"raw\xff\xfe", [(b"hdrcharset", b"BINARY"), (b"path", b"raw\xff\xfe")])
    override(b"atime", [(b"path", b"atime"), (b"atime", b"1.5"), (b"ctime", b"2.5"), (b"LIBARCHIVE.creationtime", b"3")])
    # A size record overrides the field.
    layer.raw(pax_block([(b"size", b"600"), (b"path", b"size-record")]) + header(b"x", b"0", size=0) + pad(b"z" * 600),
              Entry(b"size-record", "file", content=Content.of(b"z" * 600), mtime=0))
    # Records of one entry must not leak into the next.
    layer.raw(encode(Entry(b"after", "file", content=Content.of(b"plain"))), Entry(b"after", "file",
                                                                                content=Content.of(b"plain")))
    # A GNU long name and a pax header for one entry.
    layer.raw(pax_block([(b"mtime", b"50.25")]) + gnu_long(b"L", b"mixed/" * 30 + b"x") + header(b"m", b"0", size=0),
              Entry(b"mixed/" * 30 + b"x", "file", mtime=50 * 10**9 + 250_000_000))
    return [layer]


@case()
def pax_global():
    """Global pax headers: git's comment, then values for all that follows until others replace them."""
    layer = Layer()
    layer.global_pax((b"comment", b"0123456789abcdef"))
    layer.file(b"before", b"1", uid=3)
    layer.global_pax((b"uid", b"4000"), (b"mtime", b"1000.5"))
    layer.file(b"global", b"2", uid=4000, mtime=1000 * 10**9 + 500_000_000)
    layer.parts[-1] = encode(Entry(b"global", "file", content=Content.of(b"2")))
    override = Entry(b"local-wins", "file", uid=5_000_000, mtime=7 * 10**9 + 1, content=Content.of(b"3"))
    layer.add(override)
    layer.global_pax((b"uid", b"4001"))
    layer.raw(encode(Entry(b"changed", "dir")), Entry(b"changed", "dir", uid=4001, mtime=1000 * 10**9 + 500_000_000))
    # The next layer begins anew.
    upper = Layer()
    upper.file(b"upper", b"4", uid=6)
    return [layer, upper]


def simple(number, compression="gzip"):
    layer = Layer(compression)
    layer.file(b"file%d" % number, b"content %d" % number * 3000)
    layer.file(b"common", b"of layer %d" % number)
    return layer


@case()
def compressions():
    """Layers uncompressed, in gzip with several members and header fields, in zstd with several frames."""
    layers = [simple(0, "none"), simple(1, "zstd"), simple(2)]
    many = simple(3)
    data = many.tar()
    cuts = [0, 1, 511, 512, 513, 5000, 5000, len(data)]
    many.blob = b"".join(gzip_member(data[a:b], level=i % 10) for i, (a, b) in enumerate(zip(cuts, cuts[1:])))
    fields = simple(4)
    fields.blob = gzip_member(fields.tar(), name=b"layer.tar", comment=b"a comment", extra=b"AB\4\0abcd",
                              header_crc=True)
    stored = simple(5)
    stored.blob = gzip_member(stored.tar(), level=0)
    empty_members = simple(6)
    empty_members.blob = gzip_member(b"") + gzip_member(empty_members.tar()) + gzip_member(b"") * 3
    frames = simple(7, "zstd")
    data = frames.tar()
    frames.blob = (zstd_skippable(b"hello") + zstd_frame(data[:1000]) + zstd_skippable(b"") + zstd_frame(b"")
                   + zstd_frame(data[1000:], block=777))
    best = simple(8)
    best.blob = gzip.compress(best.tar(), 9, mtime=0)
    return layers + [many, fields, stored, empty_members, frames, best]


@case()
def framing():
    """Layers of zero bytes, with no end mark, with half of one, and with bytes after it."""
    layers = []
    for compression in ("none", "gzip", "zstd"):
        zero = Layer(compression)
        zero.end = b""
        layers.append(zero)
        layers.append(Layer(compression))  # the end mark alone
    for number, end in enumerate((b"", bytes(512), bytes(10240), bytes(1024) + b"garbage after the end",
                                  bytes(1024) + b"x" * 100_000, bytes(1024) + header(b"hidden", b"0", size=0))):
        layer = simple(number)
        layer.end = end
        layers.append(layer)
    last = simple(9, "none")
    last.end = bytes(1024 + 188)
    layers.append(last)
    return layers


@case(types=DOCKER)
def docker_types():
    """Docker's media types, with gzip and plain layers."""
    return [ordinary("gnu"), simple(1), simple(2, "none")]
