"""Whiteouts and opaque whiteouts in every order, with and without entries of their own layer."""

from ..layout import Layer
from .registry import case


def base():
    layer = Layer()
    for directory in (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"):
        layer.dir(directory, mode=0o750, uid=11, mtime=10**9)
        for name in (b"one", b"two", b"sub/three", b"sub/sub/four"):
            layer.file(directory + b"/" + name, directory + name)
    layer.symlink(b"link", b"a")
    layer.node(b"device", "char", (1, 3))
    return layer


@case()
def whiteout_kinds():
    """Whiteouts of files, trees, symlinks and devices, of what is absent, below what is absent."""
    upper = Layer()
    upper.whiteout(b"a/one")
    upper.whiteout(b"b")
    upper.whiteout(b"c/sub")
    upper.whiteout(b"link")
    upper.whiteout(b"device")
    upper.whiteout(b"absent")
    upper.whiteout(b"d/absent")
    # A whiteout with a body, odd metadata, another dialect.
    upper.file(b"d/.wh.one", b"ignored", mode=0, uid=99)
    upper.file(b"d/.wh.two", options={"dialect": "v7"})
    # Twice, and through what another whiteout hides.
    upper.whiteout(b"e/one")
    upper.whiteout(b"e/one")
    upper.whiteout(b"f/sub/sub/four")
    upper.whiteout(b"f/sub")
    upper.whiteout(b"g")
    upper.whiteout(b"g/one")
    # What AUFS leaves behind is neither a file nor a whiteout.
    upper.file(b".wh..wh.aufs")
    upper.dir(b".wh..wh.orph")
    upper.dir(b".wh..wh.plnk")
    return [base(), upper]


@case()
def whiteout_order():
    """A whiteout hides what lies below, never its own layer, before or after the entry that replaces it."""
    upper = Layer()
    upper.whiteout(b"a/one")
    upper.file(b"a/one", b"after the whiteout")
    upper.file(b"a/two", b"before the whiteout")
    upper.whiteout(b"a/two")
    upper.whiteout(b"b")
    upper.dir(b"b", mode=0o700)
    upper.file(b"b/new", b"1")
    upper.dir(b"c", mode=0o700)
    upper.file(b"c/new", b"2")
    upper.whiteout(b"c")
    upper.file(b"d/new", b"in an implied directory")
    upper.whiteout(b"d")
    upper.whiteout(b"e")
    upper.file(b"e/sub/new", b"3")
    upper.file(b"f", b"a file in the place of a directory")
    upper.whiteout(b"f")
    upper.file(b"g/sub/sub/four", b"4")
    upper.whiteout(b"g/sub")
    upper.whiteout(b"link")
    upper.dir(b"link")
    upper.file(b"link/inside", b"not in a")
    again = Layer()
    again.whiteout(b"a/one")
    again.whiteout(b"b/new")
    return [base(), upper, again]


@case()
def opaque():
    """Opaque directories: before, after and among their new entries, implied, nested, and at the root."""
    second, third, fourth = Layer(), Layer(), Layer()
    second.dir(b"a", mode=0o700)
    second.opaque(b"a")
    second.file(b"a/new", b"after")
    second.dir(b"b", mode=0o701)
    second.file(b"b/new", b"before")
    second.file(b"b/sub/new", b"before")
    second.opaque(b"b")
    second.file(b"c/one", b"same name as below")
    second.opaque(b"c")
    second.file(b"c/two", b"same name too")
    second.opaque(b"d")
    second.opaque(b"e/sub")
    second.opaque(b"f")
    second.opaque(b"f/sub")
    second.file(b"f/sub/x", b"only this")
    second.opaque(b"g")
    second.whiteout(b"g/one")
    second.file(b"g/one", b"new in spite of both")
    second.opaque(b"h")
    second.dir(b"h/sub")
    second.opaque(b"h/sub/sub")
    third.opaque(b"b")
    third.opaque(b"a")
    third.opaque(b"a")
    fourth.file(b"first", b"1")
    fourth.opaque(b"")
    fourth.file(b"last", b"2")
    return [base(), second, third, fourth]


@case()
def opaque_through_symlink():
    """Whiteouts and opaque whiteouts whose parent is a symlink of a lower layer."""
    upper = Layer()
    upper.opaque(b"link")
    upper.file(b"link/new", b"in a")
    top = Layer()
    top.whiteout(b"link/new")
    return [base(), upper, top]


@case()
def whiteout_only_layers():
    """Layers that hold nothing but whiteouts, until nothing is left; then something again."""
    layers = [base()]
    for directory in (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"link", b"device"):
        layers.append(Layer().whiteout(directory))
    layers.append(Layer().file(b"again", b"something"))
    return layers
