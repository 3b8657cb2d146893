"""Random histories: each seed is a case, so a failure names its seed."""

import os
import random

from ..layout import Layer
from ..model import OPAQUE, WHITEOUT, ModelError, Node, apply_layer, find_directory, new_root
from ..tarbuild import Content, Entry
from .registry import case

KINDS = ["file"] * 6 + ["dir"] * 4 + ["symlink"] * 2 + ["hardlink"] * 3 + ["char", "fifo", "whiteout", "whiteout",
                                                                          "opaque", "sparse"]


class History:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = [b"n%d" % i for i in range(8)]

    def path(self):
        return b"/".join(self.random.choices(self.names, k=self.random.choice((1, 2, 2, 3, 3, 4))))

    def fields(self, kind):
        pick = self.random
        xattrs = {}
        if kind in ("file", "dir") and pick.random() < 0.2:
            xattrs = {b"user.r%d" % i: pick.randbytes(pick.choice((3, 40, 300))) for i in range(pick.randint(1, 4))}
        return {"mode": 0o777 if kind == "symlink" else pick.randrange(0o10000), "uid": pick.randrange(70_000),
                "gid": pick.randrange(2**20), "mtime": pick.randrange(-10**18, 10**19), "xattrs": xattrs}

    def content(self, sparse):
        pick = self.random
        if sparse:
            spans, position = [], 0
            for _ in range(pick.randint(0, 8)):
                position += pick.randrange(20_000)
                length = pick.randrange(1, 20) * 512
                spans.append((position, pick.randbytes(length)))
                position += length
            return Content(position + pick.randrange(20_000), spans)
        return Content.of(pick.randbytes(pick.choice((0, 1, 100, 4096, 5000, 70_000))))

    def add(self, layer, tree):
        """Adds one random entry that the model accepts."""
        kind = self.random.choice(KINDS)
        path = self.path()
        if kind == "whiteout":
            directory, _, name = path.rpartition(b"/")
            self.accept(layer, Entry((directory + b"/" if directory else b"") + WHITEOUT + name, "file"), tree)
        elif kind == "opaque":
            self.accept(layer, Entry(path + b"/.wh..wh..opq", "file"), tree)
        elif kind == "hardlink":
            self.accept(layer, Entry(path, "hardlink", target=self.path()), tree)
        elif kind == "symlink":
            self.accept(layer, Entry(path, kind, target=self.random.choice((b"/", b"", b"../")) + self.path(),
                                     **self.fields(kind)), tree)
        elif kind == "sparse":
            entry = Entry(path, "file", content=self.content(True), **self.fields("file"))
            entry.xattrs = {}
            self.accept(layer, entry, tree, sparse=self.random.choice(("gnu-0.0", "gnu-0.1", "gnu-1.0")))
        else:
            content = self.content(False) if kind == "file" else Content()
            self.accept(layer, Entry(path, kind, content=content, rdev=(1, 3) if kind == "char" else (0, 0),
                                     **self.fields(kind)), tree)

    def accept(self, layer, entry, tree, **options):
        parent, name = os.path.split(entry.path)
        if name.startswith(WHITEOUT):
            name = name[len(WHITEOUT):]
        if entry.kind != "dir" and is_full(tree, parent.split(b"/"), name) and self.random.random() < 0.8:
            return  # else most trees would stay small
        if is_clear(tree, layer.entries, entry):
            layer.add(entry, **options)


def is_full(tree, parents, name):
    """Whether a directory of the layers below, with something in it, stands at this path."""
    try:
        parent = find_directory(tree, [part for part in parents if part], create=False)
    except ModelError:
        return True
    if parent and name == OPAQUE[len(WHITEOUT):]:
        return bool(parent.children)
    return bool(parent and name in parent.children and parent.children[name].children)


def is_clear(lower, entries, entry):
    """Whether the layer with `entry` added is valid and leaves no room for opinions.

    A whiteout whose parent this layer touches, and a parent that is a dangling symlink, would.
    """
    tree = copy_tree(lower)
    parts = entry.path.split(b"/")
    is_whiteout = parts[-1].startswith(WHITEOUT)
    try:
        if is_whiteout and find_directory(lower, parts[:-1], create=False) is None:
            return False
        apply_layer(tree, entries)
        if not is_whiteout and crosses_symlink_to_nothing(tree, parts[:-1]):
            return False
        if entry.kind == "hardlink" and (find_directory(tree, parts, create=False)
                                         or is_same_name(tree, parts, entry.target.split(b"/"))):
            return False
        tree = copy_tree(lower)
        apply_layer(tree, entries + [entry])
    except ModelError:
        return False
    return not passes_symlink_to_whiteout(lower, entry) and not needs_hidden_symlink(lower, entries + [entry])


def is_same_name(tree, one, other):
    """Whether two paths, symlinks in their parents followed, are one name: a link to itself."""
    return one[-1] == other[-1] and (find_directory(tree, one[:-1], create=False)
                                     is find_directory(tree, other[:-1], create=False))


def crosses_symlink_to_nothing(tree, parts):
    here = tree
    for number, part in enumerate(parts):
        child = here.children.get(part)
        if child is None:
            return False
        if child.kind == "symlink" and find_directory(tree, parts[:number + 1], create=False) is None:
            return True
        here = find_directory(tree, parts[:number + 1], create=False)
        if here is None:
            return True
    return False


def passes_symlink_to_whiteout(lower, entry):
    """Whether a whiteout lies behind a symlink: in a random layer its meaning could depend on order."""
    parts = entry.path.split(b"/")
    if not parts[-1].startswith(WHITEOUT):
        return False
    here = lower
    for part in parts[:-1]:
        here = here.children.get(part)
        if here is None or here.kind != "dir":
            return True
    return False


def needs_hidden_symlink(lower, entries):
    """Whether some entry's way leads through a symlink of the layers below that this layer hides or replaces.

    A reader that learns of it only later, from a whiteout behind the entry, cannot know.
    """
    tree = copy_tree(lower)
    apply_layer(tree, [entry for entry in entries if entry.path.rpartition(b"/")[2].startswith(WHITEOUT)])
    paths = [entry.path for entry in entries] + [entry.target for entry in entries if entry.kind == "hardlink"]
    return any(way(lower, path) != way(tree, path) for path in paths if has_symlink(lower, path))


def way(tree, path):
    """What the parents of a path are, as kinds and targets; how far they exist."""
    found, here = [], tree
    for number, part in enumerate(path.split(b"/")[:-1]):
        child = here.children.get(part) if here else None
        found.append(child and (child.kind, child.target))
        try:
            here = find_directory(tree, path.split(b"/")[:number + 1], create=False)
        except ModelError:
            here = None
    return found


def has_symlink(tree, path):
    return any(step and step[0] == "symlink" for step in way(tree, path))


def copy_tree(node, seen=None):
    """A deep copy that keeps hardlinks and shares contents."""
    seen = {} if seen is None else seen
    if id(node) not in seen:
        seen[id(node)] = Node(node.kind, node.mode, node.uid, node.gid, node.mtime, node.content, node.target,
                              node.rdev, dict(node.xattrs))
        seen[id(node)].children = {name: copy_tree(child, seen) for name, child in node.children.items()}
    return seen[id(node)]


def history(seed, layers, entries):
    writer, tree, out = History(seed), new_root(), []
    for _ in range(layers):
        layer = Layer()
        for _ in range(entries):
            writer.add(layer, tree)
        apply_layer(tree, layer.entries)
        out.append(layer)
    return out


for number in range(1, 13):
    def random_case(seed=number):
        return history(seed, 3 + seed % 5, 20 + 10 * seed)

    random_case.__doc__ = f"A random history of layers from seed {number}, checked against the model."
    case(f"random_{number:02d}", vsize=4)(random_case)
