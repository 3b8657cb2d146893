"""What changes between layers and within one: types, repeated entries, long stacks."""

from ..layout import Layer
from ..tarbuild import Entry
from .registry import case

KINDS = ("file", "dir", "full-dir", "symlink", "dir-symlink", "fifo", "char", "hardlink")


def put(layer, path, kind, tag):
    """Adds an entry of any kind at `path`; `tag` makes it unlike others."""
    if kind == "file":
        layer.file(path, b"file " + tag, uid=1)
    elif kind == "dir":
        layer.dir(path, mode=0o711, uid=2)
    elif kind == "full-dir":
        layer.dir(path, mode=0o722, uid=3, mtime=44 * 10**9, xattrs={b"user.tag": tag})
        layer.file(path + b"/inner-" + tag, tag)
        layer.dir(path + b"/deeper-" + tag)
        layer.file(path + b"/deeper-" + tag + b"/file", tag)
    elif kind == "symlink":
        layer.symlink(path, b"nowhere-" + tag)
    elif kind == "dir-symlink":
        layer.symlink(path, b"/target")
    elif kind == "fifo":
        layer.node(path, "fifo", uid=4)
    elif kind == "char":
        layer.node(path, "char", (4, len(tag)))
    elif kind == "hardlink":
        layer.hardlink(path, b"target/file", mode=0o644)


@case()
def type_changes():
    """Every kind of entry replaced by every other in an upper layer, and back."""
    first, second, third = Layer(), Layer(), Layer()
    for layer in (first,):
        layer.dir(b"target")
        layer.file(b"target/file", b"linked")
    for before in KINDS:
        for after in KINDS:
            path = b"%s-then-%s" % (before.encode(), after.encode())
            put(first, path, before, b"lower")
            put(second, path, after, b"upper")
            put(third, path, before, b"again")
    return [first, second, third]


@case()
def repeated_entries():
    """The same path several times in one layer, in every pair of kinds; the last one wins."""
    first, second = Layer(), Layer()
    for layer in (first, second):
        layer.file(b"target/file", b"linked")
        for before in KINDS:
            for after in KINDS:
                path = b"%s-then-%s" % (before.encode(), after.encode())
                put(layer, path, before, b"early")
                put(layer, path, after, b"late")
    for number in range(50):
        first.file(b"fifty", b"%d" % number * 1000)
    # Removed from under a name that still stands.
    first.file(b"kept/a", b"kept")
    first.hardlink(b"kept/b", b"kept/a")
    first.file(b"kept/a", b"new")
    return [first, second]


@case(every_layer=False)
def many_layers():
    """Sixty layers that each change one file, add one and remove one."""
    layers = []
    for number in range(60):
        layer = Layer()
        layer.file(b"shared", b"layer %d " % number * 500)
        layer.file(b"added/%d" % number, b"%d" % number)
        if number:
            layer.whiteout(b"added/%d" % (number - 1))
        layers.append(layer)
    return layers


@case()
def moved_files():
    """A rename as layers tell it: the old name hidden, the new one with the same content."""
    first, second = Layer(), Layer()
    first.dir(b"old")
    for number in range(30):
        first.file(b"old/%d" % number, b"%d" % number * 5000)
    second.whiteout(b"old")
    second.dir(b"new")
    for number in range(30):
        second.file(b"new/%d" % number, b"%d" % number * 5000)
    return [first, second]


@case()
def reused_inodes():
    """Inodes freed by one layer and taken by the next with other kinds: nothing of the old may shine through."""
    layers = [Layer() for _ in range(4)]
    kinds = ["file", "full-dir", "symlink", "char", "fifo"]
    for turn, layer in enumerate(layers):
        if turn:
            layer.opaque(b"t")
        layer.dir(b"t")
        for number in range(40):
            kind = kinds[(number + turn) % len(kinds)]
            put(layer, b"t/%d-%d" % (turn, number), kind, b"turn%d" % turn)
        layer.add(Entry(b"t/attributes%d" % turn, "file", xattrs={b"user.turn": b"%d" % turn * 300}))
    return layers
