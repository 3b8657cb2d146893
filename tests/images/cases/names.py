"""Names in any bytes, long and deep paths, large directories that grow and shrink."""

from ..layout import Layer
from .registry import case


@case()
def names():
    """Names of every byte but '/' and NUL, of 255 bytes, not UTF-8, with newlines; and names that look special."""
    lower, upper = Layer(), Layer()
    for byte in range(1, 256):
        if byte != ord("/"):
            name = bytes([byte])
            lower.file(b"bytes/x" + name + b"y", name)
            lower.file(b"gnu/x" + name + b"y", name, options={"dialect": "gnu"})
    odd = [b"\xff\xfe\xfd", b"new\nline", b"tab\tand space ", b" leading", b"-rf", b"back\\slash", b"q'uo\"te", b"...",
           b"..x", b"*", b"\xc3\xa9", b"e\xcc\x81", "日本".encode(), b".wh", b".whx", b"wh.", b"x.wh.y", b"%2f",
           b"n" * 254, b"n" * 255, b"\xff" * 255, "é".encode() * 127, b"lost+found", b"a=b", b"12 path=x\n"]
    for name in odd:
        lower.file(b"odd/" + name, name)
        lower.dir(b"dirs/" + name)
        lower.file(b"dirs/" + name + b"/" + name, name)
        lower.symlink(b"symlinks/" + name, name)
    for name in odd[::2]:
        if len(name) <= 251:
            upper.whiteout(b"odd/" + name)
        upper.file(b"dirs/" + name + b"/" + name, b"replaced")
    return [lower, upper]


@case()
def deep():
    """Directories a thousand deep, long paths in pax and GNU form, the deepest file replaced and removed."""
    first, second, third = Layer(), Layer(), Layer()
    path = b"/".join([b"d"] * 1000)
    first.file(path + b"/file", b"deep")
    first.dir(path + b"/dir", mode=0o700, options={"dialect": "gnu"})
    long_path = b"/".join([b"%c" % (97 + i) * 250 for i in range(12)])
    first.file(long_path + b"/pax", b"1")
    first.file(long_path + b"/gnu", b"2", options={"dialect": "gnu"})
    first.hardlink(b"link", long_path + b"/pax")
    first.hardlink(b"link-gnu", long_path + b"/gnu", options={"dialect": "gnu"})
    second.file(path + b"/file", b"replaced")
    second.whiteout(long_path + b"/pax")
    third.whiteout(b"d")
    third.whiteout(b"a" * 250)
    return [first, second, third]


@case(every_layer=False, least_budget=16)
def huge_directory():
    """50,000 files in one directory, then a layer that removes half of them, then one that adds some."""
    first, second, third = Layer(), Layer(), Layer()
    name = b"big/a-rather-usual-file-name-%05d.txt"
    first.dir(b"big")
    for number in range(50_000):
        first.file(name % number, b"%d" % number if number % 100 == 0 else b"")
    for number in range(0, 50_000, 2):
        second.whiteout(name % number)
    for number in range(0, 50_000, 16):
        third.file(name % number, b"back")
    third.file(b"big/zzz", b"new")
    return [first, second, third]


@case()
def directory_sizes():
    """Directories around one block, one index block and back: grown, shrunk, emptied and refilled by layers."""
    layers = [Layer() for _ in range(5)]
    for count in (0, 1, 100, 200, 250, 260, 340, 400, 3000):
        directory = b"d%d" % count
        layers[0].dir(directory, mtime=count * 10**9)
        for number in range(count):
            layers[0].file(directory + b"/%07d" % number)
        for number in range(3, count):
            layers[1].whiteout(directory + b"/%07d" % number)
        for number in range(1000, 1000 + count):
            layers[2].file(directory + b"/x%d" % number)
        layers[3].opaque(directory)
        for number in range(count // 2):
            layers[4].symlink(directory + b"/s%d" % number, b"t%d" % number)
    # 255-byte names leave few to a block, so the index is deep.
    for number in range(600):
        layers[0].file(b"long/" + b"%0255d" % number)
    for number in range(0, 600, 3):
        layers[2].whiteout(b"long/" + b"%0251d" % number)
    return layers


@case()
def many_directories():
    """Two thousand directories with one file each, more than one group's share; then all replaced by files."""
    first, second = Layer(), Layer()
    for number in range(2000):
        first.dir(b"all/%04d" % number, mode=0o700 + number % 64, mtime=number * 10**9)
        first.file(b"all/%04d/f" % number, b"%d" % number)
    for number in range(0, 2000, 2):
        second.file(b"all/%04d" % number, b"now a file")
    return [first, second]
