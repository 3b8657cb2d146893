"""Hardlinks, symlinks, and parents that are symlinks."""

from ..layout import Layer
from .registry import case


@case()
def hardlinks():
    """Links within a layer, to layers below, to links, to symlinks and devices; broken by replacement."""
    first, second, third = Layer(), Layer(), Layer()
    first.file(b"a/one", b"shared", mode=0o640, uid=3, xattrs={b"user.x": b"1"})
    same = {"mode": 0o640, "uid": 3}
    first.hardlink(b"a/two", b"a/one", **same)
    first.hardlink(b"b/three", b"./a/two", **same)
    first.hardlink(b"b/absolute", b"/a/one", **same)
    first.symlink(b"sym", b"a/one")
    first.hardlink(b"sym-again", b"sym")
    first.node(b"dev", "char", (1, 3))
    first.hardlink(b"dev-again", b"dev")
    first.node(b"pipe", "fifo")
    first.hardlink(b"pipe-again", b"pipe")
    first.file(b"empty")
    first.hardlink(b"empty-again", b"empty")
    first.file(b"lonely", b"lower")
    first.file(b"r/x", b"to be replaced")
    first.hardlink(b"r/y", b"r/x")
    first.hardlink(b"r/z", b"r/x")
    # Across layers; replacing one name leaves the others; a whiteout takes one name away.
    second.hardlink(b"c/four", b"a/one", **same)
    second.hardlink(b"lonely2", b"lonely")
    second.file(b"r/x", b"new")
    second.whiteout(b"r/y")
    second.whiteout(b"sym")
    # The same link again, and one over a file.
    third.hardlink(b"a/two", b"a/one", **same)
    third.hardlink(b"r/x", b"lonely")
    third.hardlink(b"b/five", b"b/three", **same)
    return [first, second, third]


@case()
def hardlink_many():
    """A file with a thousand names, half of them removed, one name replaced."""
    first, second = Layer(), Layer()
    first.file(b"links/0000", b"content of a thousand names")
    for number in range(1, 1000):
        first.hardlink(b"links/%04d" % number, b"links/0000")
    for number in range(0, 1000, 2):
        second.whiteout(b"links/%04d" % number)
    second.file(b"links/0001", b"alone")
    return [first, second]


@case()
def hardlink_parents():
    """Hardlink targets whose parents are symlinks, resolved inside the root."""
    first, second = Layer(), Layer()
    first.file(b"real/file", b"1")
    first.symlink(b"relative", b"real")
    first.symlink(b"absolute", b"/real")
    first.symlink(b"up", b"../../../real")
    first.hardlink(b"one", b"relative/file")
    first.hardlink(b"two", b"absolute/file")
    second.hardlink(b"three", b"up/file")
    second.hardlink(b"absolute/four", b"one")
    return [first, second]


@case()
def symlinks():
    """Targets of every length around what the inode holds, up to the longest; then replaced."""
    first, second = Layer(), Layer()
    for length in (1, 2, 58, 59, 60, 61, 62, 99, 100, 101, 155, 255, 256, 1000, 1023, 1024, 2048, 4094, 4095):
        target = (b"0123456789/" * 400)[:length]
        first.symlink(b"pax/%d" % length, target)
        first.symlink(b"gnu/%d" % length, target, options={"dialect": "gnu"})
    first.symlink(b"odd/bytes", b"\xff\xfe \n\t\\")
    first.symlink(b"odd/self", b"self")
    first.symlink(b"odd/absolute", b"/etc/../etc/passwd")
    first.symlink(b"odd/dot", b".")
    second.symlink(b"pax/4095", b"short now")
    second.symlink(b"pax/1", b"/" + b"long" * 100)
    second.file(b"pax/60", b"a file now")
    second.dir(b"pax/61")
    return [first, second]


@case()
def parents_missing():
    """Entries without parents; the parents come later, in this layer or the next, or never."""
    first, second = Layer(), Layer()
    first.file(b"never/listed/file", b"1")
    first.file(b"later/here/file", b"2")
    first.dir(b"later", mode=0o700, uid=1, mtime=5 * 10**9)
    first.dir(b"later/here", mode=0o711, uid=2, xattrs={b"user.a": b"b"})
    first.file(b"next/here/file", b"3")
    first.symlink(b"s/y/m", b"../../never")
    first.node(b"f/i/fo", "fifo")
    second.dir(b"next/here", mode=0o2750, gid=9)
    second.file(b"never/listed/too", b"4")
    second.file(b"brand/new/file", b"5")
    second.hardlink(b"hard/link/here", b"never/listed/file")
    return [first, second]


@case()
def parents_symlinks():
    """Parents that are symlinks: absolute, relative, with '..', chained, out of the root and back."""
    first, second, third = Layer(), Layer(), Layer()
    first.dir(b"usr/lib", mode=0o711, mtime=10**9)
    first.symlink(b"lib", b"usr/lib")
    first.symlink(b"lib-absolute", b"/usr/lib")
    first.symlink(b"deep/er/up", b"../../usr/./lib/")
    first.symlink(b"escape", b"../../../../usr/lib")
    first.symlink(b"escape-absolute", b"/../../usr/lib")
    first.symlink(b"chain3", b"chain2")
    first.symlink(b"chain2", b"/chain1")
    first.symlink(b"chain1", b"lib")
    first.symlink(b"slashes", b"//usr///lib//")
    first.symlink(b"long", b"./" * 100 + b"usr/lib")
    first.file(b"lib/same-layer", b"0")
    for number, parent in enumerate((b"lib", b"lib-absolute", b"deep/er/up", b"escape", b"escape-absolute", b"chain3",
                                     b"slashes", b"long")):
        second.file(parent + b"/file%d" % number, b"%d" % number)
        second.dir(parent + b"/dir%d/inner" % number)
    # What is below a symlink can be hidden through it; the symlink itself can be replaced by a directory.
    third.whiteout(b"lib/file0")
    third.whiteout(b"chain3/dir1")
    third.dir(b"lib-absolute", mode=0o700)
    third.file(b"lib-absolute/mine", b"not in usr/lib")
    third.file(b"lib/file3", b"replaced through a symlink")
    return [first, second, third]


@case()
def path_forms():
    """Leading '/', './', doubled slashes, '.' and '..' inside paths; all mean plain paths."""
    layer = Layer()
    layer.file(b"/absolute", b"1")
    layer.file(b"./dotted", b"2")
    layer.file(b"a//b///c", b"3")
    layer.file(b"x/./y/./z", b"4")
    layer.file(b"x/gone/../y/w", b"5")
    layer.file(b"//x//y//v", b"6")
    layer.dir(b"./dir/./", mode=0o700)
    layer.dir(b"/dir2//", mode=0o710)
    layer.hardlink(b"./hard", b"x/gone/../../absolute")
    upper = Layer()
    upper.file(b"./x/y/.wh.z")
    upper.file(b"/a/b/.wh.c")
    upper.file(b"dir/../x/y/.wh.w")
    return [layer, upper]
