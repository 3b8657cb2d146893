"""What an image's tree is: layers applied one after the other to nodes in memory.

This is the judge of the e2e tests, so it shares nothing with the converter. It works on
what entries mean (tarbuild.Entry), not on tar bytes.
"""

import hashlib
from dataclasses import dataclass, field

from .listing import format_line
from .tarbuild import Content

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
EXT4_MIN_SECONDS = -2**31
EXT4_MAX_SECONDS = 2**34 - 2**31 - 1
MAX_SYMLINKS = 40


class ModelError(Exception):
    """The image is one that the converter must refuse."""


@dataclass(eq=False)
class Node:
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: Content = field(default_factory=Content)
    target: bytes = b""
    rdev: tuple = (0, 0)
    xattrs: dict = field(default_factory=dict)
    children: dict = field(default_factory=dict)


def new_root():
    return Node("dir", 0o755)


def split_path(path):
    """The components of an entry's path, `.` and `..` resolved in the text."""
    parts = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise ModelError(f"{path!r} escapes the root")
            parts.pop()
        else:
            parts.append(part)
    return parts


def clamp_mtime(mtime):
    seconds, rest = divmod(mtime, 10**9)
    if seconds < EXT4_MIN_SECONDS:
        return EXT4_MIN_SECONDS * 10**9
    if seconds > EXT4_MAX_SECONDS:
        return EXT4_MAX_SECONDS * 10**9
    return seconds * 10**9 + rest


def find_directory(root, parts, create):
    """The directory at `parts`, symlinks followed inside `root`; None if missing and not `create`."""
    trail, todo, followed = [root], list(reversed(parts)), 0
    while todo:
        part = todo.pop()
        if part == b"..":
            if len(trail) > 1:
                trail.pop()
            continue
        here = trail[-1]
        child = here.children.get(part)
        if child is None:
            if not create:
                return None
            child = here.children[part] = Node("dir", 0o755)
        if child.kind == "symlink":
            followed += 1
            if followed > MAX_SYMLINKS:
                raise ModelError("too many symlinks")
            if child.target.startswith(b"/"):
                trail = [root]
            todo += [p for p in reversed(child.target.split(b"/")) if p not in (b"", b".")]
        elif child.kind == "dir":
            trail.append(child)
        elif create:
            raise ModelError("a parent is not a directory")
        else:
            return None
    return trail[-1]


def apply_layer(root, entries):
    """Changes `root` as the layer says. Whiteouts see the layers below only."""
    hide, add = [], []
    for entry in entries:
        parts = split_path(entry.path)
        is_whiteout = bool(parts) and parts[-1].startswith(WHITEOUT)
        (hide if is_whiteout else add).append((parts, entry))
    removals = []
    for parts, _ in hide:
        parent = find_directory(root, parts[:-1], create=False)
        if parent is None:
            continue
        if parts[-1] == OPAQUE:
            removals += [(parent, name) for name in parent.children]
        elif not parts[-1].startswith(WHITEOUT * 2):
            removals.append((parent, parts[-1][len(WHITEOUT):]))
    for parent, name in removals:
        parent.children.pop(name, None)
    for parts, entry in add:
        _apply_entry(root, parts, entry)


def _apply_entry(root, parts, entry):
    if not parts:
        if entry.kind != "dir":
            raise ModelError("the root must be a directory")
        _set_metadata(root, entry)
        return
    parent, name = find_directory(root, parts[:-1], create=True), parts[-1]
    old = parent.children.get(name)
    if entry.kind == "hardlink":
        target = split_path(entry.target)
        directory = find_directory(root, target[:-1], create=False) if target else None
        found = directory.children.get(target[-1]) if directory else None
        if found is None or found.kind == "dir":
            raise ModelError("a hardlink to nothing or to a directory")
        parent.children[name] = found
    elif entry.kind == "dir" and old is not None and old.kind == "dir":
        _set_metadata(old, entry)
    else:
        node = Node(entry.kind, entry.mode, content=entry.content, target=entry.target, rdev=entry.rdev)
        _set_metadata(node, entry)
        parent.children[name] = node


def _set_metadata(node, entry):
    node.mode, node.uid, node.gid = entry.mode, entry.uid, entry.gid
    node.mtime = clamp_mtime(entry.mtime)
    node.xattrs = dict(entry.xattrs)


_hashes = {}


def _digest(content):
    """SHA-256 of a content, kept by object: trees after each layer share their files."""
    if id(content) not in _hashes:
        digest, position, zeroes = hashlib.sha256(), 0, bytes(1 << 20)

        def skip(count):
            while count > 0:
                digest.update(zeroes[:min(count, len(zeroes))])
                count -= len(zeroes)

        for offset, data in content.segments:
            skip(offset - position)
            digest.update(data)
            position = offset + len(data)
        skip(content.size - position)
        _hashes[id(content)] = (content, digest.hexdigest())
    return _hashes[id(content)][1]


def list_model(root):
    """The lines that listing.list_tree() gives for this tree when it is mounted."""
    found, todo = [], [(b"/", root)]
    while todo:
        path, node = todo.pop()
        found.append((path, node))
        for name, child in node.children.items():
            todo.append(((path if path != b"/" else b"") + b"/" + name, child))
    found.sort(key=lambda pair: pair[0])
    first, count = {}, {}
    for path, node in found:
        first.setdefault(id(node), path)
        count[id(node)] = count.get(id(node), 0) + 1
    lines = []
    for path, node in found:
        more = {"xattrs": node.xattrs}
        if node.kind == "file":
            more.update(size=node.content.size, digest=_digest(node.content))
        elif node.kind in ("char", "block"):
            more["rdev"] = node.rdev
        elif node.kind == "symlink":
            more["target"] = node.target
        if count[id(node)] > 1:
            more["group"] = first[id(node)]
        lines.append(format_line(path, node.kind, node.mode, node.uid, node.gid, node.mtime, **more))
    return lines
