"""Tar entries that lie or that no filesystem can hold."""

from ..tarbuild import BLOCK, Entry, base256, encode, gnu_long, header, pad, pax_block, pax_record
from .registry import layer


def overlong_path(component=b"n" * 250, count=200):
    return b"/".join([component] * count)


@layer(says="byte|offset|checksum")
def header_checksum(top):
    """A header whose checksum is wrong."""
    top.raw(header(b"bad", b"0", checksum=1))


@layer(says="byte|offset")
def header_garbage(top):
    """A block that is no header where one must stand."""
    top.raw(b"\xa5" * BLOCK)


@layer()
def size_negative(top):
    """A negative size, in base-256."""
    top.raw(header(b"victim", b"0", size=base256(-512, 12)))


@layer(codes=(3, 8))
def size_overflow(top):
    """A size that wraps when it is rounded up to blocks."""
    top.raw(header(b"victim", b"0", size=base256(2**63 - 1, 12)))


@layer()
def size_overflow_pax(top):
    """A pax size beyond 64 bits."""
    top.raw(pax_block([(b"size", b"99999999999999999999999")]) + header(b"victim", b"0"))


@layer()
def size_negative_pax(top):
    """A negative pax size."""
    top.raw(pax_block([(b"size", b"-1")]) + header(b"victim", b"0"))


@layer()
def size_not_octal(top):
    """Digits that are not octal in the size field."""
    top.raw(header(b"victim", b"0", size=b"00000009999\0"))


@layer()
def mode_not_octal(top):
    """Letters in the mode field."""
    top.raw(header(b"victim", b"0", mode=b"rwxr-xr\0"))


@layer()
def uid_too_large(top):
    """A user id beyond 32 bits."""
    top.raw(pax_block([(b"uid", b"4294967296")]) + header(b"victim", b"0"))


@layer()
def uid_negative(top):
    """A negative user id."""
    top.raw(header(b"victim", b"0", uid=base256(-5, 8)))


@layer()
def pax_length_short(top):
    """A pax record whose length ends inside its key."""
    top.raw(pax_block(b"3 path=elsewhere\n") + header(b"victim", b"0"))


@layer()
def pax_length_long(top):
    """A pax record longer than its header."""
    top.raw(pax_block(b"999 path=elsewhere\n") + header(b"victim", b"0"))


@layer()
def pax_length_huge(top):
    """A pax record's length that does not fit 64 bits."""
    top.raw(pax_block(b"99999999999999999999999999 path=x\n") + header(b"victim", b"0"))


@layer()
def pax_length_missing(top):
    """A pax record without a length."""
    top.raw(pax_block(b"path=x\n") + header(b"victim", b"0"))


@layer()
def pax_no_equals(top):
    """A pax record without '='."""
    top.raw(pax_block(b"8 pathx\n") + header(b"victim", b"0"))


@layer()
def pax_no_newline(top):
    """A pax record that does not end in a newline."""
    top.raw(pax_block(b"9 path=xy" + pax_record(b"uid", b"1")) + header(b"victim", b"0"))


@layer()
def pax_bad_mtime(top):
    """A time that is not a number."""
    top.raw(pax_block([(b"mtime", b"yesterday")]) + header(b"victim", b"0"))


@layer()
def pax_xattr_bad_base64(top):
    """A LIBARCHIVE attribute that is not base64."""
    top.raw(pax_block([(b"LIBARCHIVE.xattr.user.x", b"*!*")]) + header(b"victim", b"0"))


@layer(codes=(3, 8))
def xattr_too_large(top):
    """An extended attribute that fits no block."""
    top.raw(pax_block([(b"SCHILY.xattr.user.big", b"x" * 65536)]) + header(b"victim", b"0"))


@layer(codes=(3, 8))
def xattrs_too_many(top):
    """Attributes that fit one by one but not together."""
    top.raw(pax_block([(b"SCHILY.xattr.user.a%03d" % i, b"x" * 100) for i in range(100)]) + header(b"victim", b"0"))


@layer()
def xattr_name_too_long(top):
    """An attribute's name of more than 255 bytes."""
    top.raw(pax_block([(b"SCHILY.xattr.user." + b"n" * 300, b"x")]) + header(b"victim", b"0"))


@layer()
def nul_in_path(top):
    """A NUL in a pax path."""
    top.raw(pax_block([(b"path", b"victim\0hidden")]) + header(b"victim", b"0"))


@layer()
def nul_in_target(top):
    """A NUL in a pax link target."""
    top.raw(pax_block([(b"linkpath", b"target\0hidden")]) + header(b"victim", b"2", linkname=b"x"))


@layer()
def empty_path(top):
    """A file whose name is empty."""
    top.raw(header(b"", b"0", size=3) + pad(b"abc"))


@layer()
def root_is_a_file(top):
    """A file in the place of the root."""
    top.file(b".", b"x")


@layer(says=r"\.\.")
def escape_file(top):
    """A path that leaves the root."""
    top.file(b"../victim", b"x")


@layer(says=r"\.\.")
def escape_deep(top):
    """A path that leaves the root after entering it."""
    top.file(b"a/../../victim", b"x")


@layer()
def escape_hardlink(top):
    """A hardlink whose target leaves the root."""
    top.hardlink(b"victim", b"../../etc/passwd")


@layer()
def escape_whiteout(top):
    """A whiteout outside the root."""
    top.file(b"../.wh.etc")


@layer()
def hardlink_to_directory(top):
    """A hardlink to a directory."""
    top.hardlink(b"victim", b"dir")


@layer()
def hardlink_missing(top):
    """A hardlink to nothing."""
    top.hardlink(b"victim", b"nothing/here")


@layer()
def hardlink_cycle(top):
    """Two hardlinks to one another."""
    top.hardlink(b"victim1", b"victim2").hardlink(b"victim2", b"victim1")


@layer()
def hardlink_to_itself(top):
    """A hardlink to its own, new name."""
    top.hardlink(b"victim", b"victim")


@layer()
def hardlink_empty_target(top):
    """A hardlink without a target."""
    top.hardlink(b"victim", b"")


@layer()
def hardlink_with_body(top):
    """A hardlink that states a size: parsers disagree on whether a body follows."""
    top.raw(header(b"victim", b"1", linkname=b"dir/file", size=512) + pad(b"body"))


@layer()
def symlink_empty_target(top):
    """A symlink to nothing at all, which no kernel would make."""
    top.symlink(b"victim", b"")


@layer()
def symlink_too_long(top):
    """A symlink target of 4,096 bytes, one more than fits."""
    top.symlink(b"victim", b"t" * 4096)


@layer()
def symlink_loop(top):
    """A parent that is a symlink loop."""
    top.symlink(b"one", b"two").symlink(b"two", b"one").file(b"one/victim", b"x")


@layer()
def symlink_chain(top):
    """A chain of a hundred symlinks as a parent, more than the kernel follows."""
    top.dir(b"chain0")
    for number in range(100):
        top.symlink(b"chain%d" % (number + 1), b"chain%d" % number)
    top.file(b"chain100/victim", b"x")


@layer()
def parent_is_a_file(top):
    """An entry below what is a file in a lower layer."""
    top.file(b"dir/file/victim", b"x")


@layer()
def component_too_long(top):
    """A name of 256 bytes."""
    top.file(b"dir/" + b"n" * 256, b"x")


@layer()
def component_too_long_gnu(top):
    """A GNU long name of one component of 70,000 bytes."""
    top.file(b"n" * 70_000, b"x", options={"dialect": "gnu"})


@layer()
def typeflag_unknown(top):
    """A typeflag that nobody has defined."""
    top.add(Entry(b"victim", "file"), typeflag=b"Q")


@layer()
def typeflag_multivolume(top):
    """A continuation of a file from another volume."""
    top.add(Entry(b"victim", "file"), dialect="gnu", typeflag=b"M")


@layer()
def long_name_without_entry(top):
    """A GNU long name at the end of the archive."""
    top.raw(gnu_long(b"L", b"n" * 200))


@layer()
def pax_without_entry(top):
    """A pax header at the end of the archive."""
    top.raw(pax_block([(b"path", b"victim")]))


@layer()
def whiteout_nothing(top):
    """A whiteout of the empty name."""
    top.file(b"dir/.wh.")


@layer()
def whiteout_dot(top):
    """A whiteout of '.'."""
    top.file(b"dir/.wh..")


@layer()
def whiteout_dot_dot(top):
    """A whiteout of '..'."""
    top.file(b"dir/.wh...")


@layer()
def whiteout_as_parent(top):
    """An entry below a whiteout."""
    top.file(b"dir/.wh.file/victim", b"x")


@layer()
def device_too_large(top):
    """A device number that does not fit."""
    top.raw(header(b"victim", b"3", dev=(base256(2**40, 8), 0)))


@layer(codes=(3, 8))
def path_too_long(top):
    """A path of 50,000 bytes."""
    top.file(overlong_path(), b"x")


@layer()
def directory_with_negative_body(top):
    """A directory whose header has a negative size."""
    top.raw(header(b"victim/", b"5", size=base256(-1, 12)))


@layer()
def entry_after_entry_bad(top):
    """A good header, then one whose size runs over the end of the archive."""
    top.raw(encode(Entry(b"fine", "file")))
    top.raw(header(b"victim", b"0", size=1 << 30))
