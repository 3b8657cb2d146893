"""Modes, owners, times, extended attributes, devices, the root directory."""

import struct

from ..layout import Layer
from .registry import case

SECOND = 10**9


def acl(*entries):
    """A POSIX ACL as the kernel's interface has it: (tag, permissions, id or None)."""
    out = struct.pack("<I", 2)
    for tag, permissions, who in entries:
        out += struct.pack("<HHI", tag, permissions, 0xFFFFFFFF if who is None else who)
    return out


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
CAPABILITY_V2 = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep
CAPABILITY_V3 = struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 1000)  # in a user namespace


@case()
def modes():
    """Every special bit on files and directories, modes 0000 and 7777, changed by an upper layer."""
    lower, upper = Layer(), Layer()
    for mode in (0, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6755, 0o7777):
        lower.file(b"files/%04o" % mode, b"mode", mode=mode)
        lower.dir(b"dirs/%04o" % mode, mode=mode)
        upper.file(b"files/%04o" % mode, b"mode", mode=mode ^ 0o7777)
        upper.dir(b"dirs/%04o" % mode, mode=mode ^ 0o7777)
    # Some writers leave the file type in the mode field.
    lower.file(b"files/typed", b"x", mode=0o4711)
    lower.parts[-1] = lower.parts[-1].replace(b"0004711\0", b"0104711\0", 1)
    lower.parts[-1] = _sum(lower.parts[-1])
    return [lower, upper]


def _sum(block):
    total = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    return block[:148] + b"%06o\0 " % total + block[156:]


@case()
def owners():
    """Numeric owners up to 2^32-1, as octal, base-256 and pax records."""
    layer = Layer()
    values = [0, 1, 1000, 65534, 65535, 65536, 2097151, 2097152, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
    for value in values:
        for dialect in ("pax", "gnu"):
            layer.file(b"%s/u%d" % (dialect.encode(), value), b"u", uid=value, options={"dialect": dialect})
            layer.file(b"%s/g%d" % (dialect.encode(), value), b"g", gid=value, options={"dialect": dialect})
        layer.dir(b"d%d" % value, uid=value, gid=values[-1] - value)
        layer.symlink(b"l%d" % value, b"x", uid=value, gid=value)
    # Names of users must lose against numbers.
    layer.file(b"named", b"x", uid=12, gid=34)
    layer.parts[-1] = _sum(layer.parts[-1][:265] + b"root".ljust(32, b"\0") + b"daemon".ljust(32, b"\0")
                           + layer.parts[-1][329:])
    return [layer]


@case()
def mtimes():
    """Nanoseconds, times before 1970 and after 2038, times that ext4 can't hold, in every form."""
    layer = Layer()
    nanoseconds = [0, 1, 999_999_999, SECOND, 1_500_000_000 * SECOND + 123_456_789, -1, -SECOND, -3 * SECOND // 2,
                   (2**31 - 1) * SECOND + 999_999_999, 2**31 * SECOND, 2**31 * SECOND + 5, 2**32 * SECOND,
                   (2**32 + 2**31) * SECOND + 7, 3 * 2**32 * SECOND, -2**31 * SECOND, -2**31 * SECOND + 1,
                   (2**34 - 2**31 - 1) * SECOND, -2**31 * SECOND - SECOND, -2**40 * SECOND,
                   (2**34 - 2**31) * SECOND, 2**40 * SECOND]
    for number, value in enumerate(nanoseconds):
        layer.file(b"pax/f%02d" % number, b"t", mtime=value)
        layer.dir(b"pax/d%02d" % number, mtime=value)
        layer.symlink(b"pax/l%02d" % number, b"t", mtime=value)
        layer.node(b"pax/p%02d" % number, "fifo", mtime=value)
        if value % SECOND == 0:
            layer.file(b"gnu/f%02d" % number, b"t", mtime=value, options={"dialect": "gnu"})
    # More digits than nanoseconds have, and fewer.
    layer.file(b"digits/many", mtime=1_234_567_890_123_456_789,
               options={"extra": [(b"mtime", b"1234567890.1234567891234")]})
    layer.file(b"digits/few", mtime=1_234_567_890_500_000_000, options={"extra": [(b"mtime", b"1234567890.5")]})
    # A directory keeps its time when an upper layer adds to it, and takes the one given last.
    upper = Layer()
    upper.file(b"pax/d04/child", b"x", mtime=2 * SECOND)
    upper.dir(b"pax/d05", mtime=77 * SECOND + 7)
    return [layer, upper]


@case()
def xattrs():
    """Capabilities, ACLs, user, trusted and security attributes, in both spellings, large and binary."""
    lower, upper = Layer(), Layer()
    big = bytes(range(256)) * 12
    sets = {
        b"capability": {b"security.capability": CAPABILITY_V2},
        b"capability3": {b"security.capability": CAPABILITY_V3},
        b"user": {b"user.text": b"hello", b"user.empty": b"", b"user.binary": b"\0\n=\xff\0"},
        b"inode-and-block": {b"user.small": b"1234", b"user.big": big},
        b"block-only": {b"user.big": big[:3000], b"user.more": b"m" * 900},
        b"trusted": {b"trusted.overlay.opaque": b"y", b"trusted.md5": bytes(16)},
        b"long-name": {b"user." + b"n" * 250: b"v"},
        b"many": {b"user.attr%03d" % i: b"value %d" % i for i in range(60)},
        b"sorting": {b"user.b": b"1", b"user.aa": b"2", b"user.c": b"3", b"trusted.a": b"4", b"security.x": b"5"},
    }
    for style in ("SCHILY", "LIBARCHIVE"):
        for name, values in sets.items():
            lower.file(style.encode() + b"/" + name, name, xattrs=values, options={"xattr_style": style})
            lower.dir(style.encode() + b"/" + name + b".d", xattrs=values, options={"xattr_style": style})
    # Attributes of the same content share a block in ext4, here among more files than one.
    for number in range(20):
        lower.file(b"shared/%d" % number, b"%d" % number, xattrs={b"user.shared": b"s" * 500})
    access = acl((USER_OBJ, 7, None), (USER, 5, 1000), (GROUP_OBJ, 4, None), (GROUP, 6, 2000), (MASK, 7, None),
                 (OTHER, 1, None))
    default = acl((USER_OBJ, 7, None), (GROUP_OBJ, 5, None), (OTHER, 0, None))
    lower.file(b"acl/file", b"x", mode=0o771, xattrs={b"system.posix_acl_access": access})
    lower.dir(b"acl/dir", mode=0o771, xattrs={b"system.posix_acl_access": access,
                                               b"system.posix_acl_default": default})
    for kind, make in (("symlink", lambda p, **x: lower.symlink(p, b"nowhere", **x)),
                       ("fifo", lambda p, **x: lower.node(p, "fifo", **x)),
                       ("char", lambda p, **x: lower.node(p, "char", (1, 3), **x))):
        make(b"special/" + kind.encode(), xattrs={b"trusted.kind": kind.encode(), b"security.test": b"1" * 200})
    # An entry that comes again has exactly the attributes that it names.
    upper.file(b"SCHILY/capability", b"no longer capable")
    upper.dir(b"SCHILY/user.d", xattrs={b"user.other": b"1"})
    upper.dir(b"acl/dir", mode=0o755)
    upper.file(b"SCHILY/many", b"fewer", xattrs={b"user.attr000": b"changed"})
    for number in range(0, 20, 2):
        upper.file(b"shared/%d" % number, b"changed")
    return [lower, upper]


@case()
def xattrs_foreign():
    """Attributes of namespaces that ext4 does not have are left out; those beside them stay."""
    layer = Layer()
    kept = {b"user.kept": b"1"}
    for name in (b"com.apple.quarantine", b"nonsense", b"system.unknown", b"btrfs.compression"):
        layer.file(b"with-" + name, b"x", xattrs=kept, options={"extra": [(b"SCHILY.xattr." + name, b"value")]})
    return [layer]


@case()
def nodes():
    """Devices with small and large numbers, fifos, and the 0:0 device that overlayfs uses."""
    layer = Layer()
    for kind in ("char", "block"):
        for rdev in ((0, 0), (1, 3), (5, 1), (8, 255), (8, 256), (255, 255), (256, 0), (259, 1048575), (4095, 4095)):
            layer.node(b"dev/%s-%d-%d" % (kind.encode(), *rdev), kind, rdev, mode=0o660, gid=6)
    layer.node(b"run/fifo", "fifo", mode=0o600)
    upper = Layer()
    upper.node(b"dev/char-1-3", "char", (1, 5), mode=0o666)
    upper.node(b"dev/block-8-255", "fifo")
    upper.hardlink(b"dev/null", b"dev/char-5-1", mode=0o660, gid=6)
    return [layer, upper]


@case()
def root_directory():
    """Entries for the root itself: absent, then './', then '/' with other metadata."""
    first, second, third, fourth = Layer(), Layer(), Layer(), Layer()
    first.file(b"a", b"1")
    second.dir(b"./", mode=0o1711, uid=5, gid=6, mtime=123 * SECOND + 4, xattrs={b"user.root": b"yes"})
    second.file(b"./b", b"2")
    third.dir(b"/", mode=0o555, mtime=7 * SECOND)
    third.file(b"/c", b"3")
    fourth.file(b"d", b"4")
    return [first, second, third, fourth]
