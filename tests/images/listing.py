"""One text line for every path of a tree, the same for a mounted disk and for the model.

Usage: listing.py DIRECTORY
"""

import hashlib
import os
import stat
import sys

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char",
         stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


def escape(raw):
    return "".join(chr(c) if 33 <= c < 127 and c != 92 else f"\\x{c:02x}" for c in raw)


def seconds(nanoseconds):
    whole, rest = divmod(nanoseconds, 10**9)
    return f"{whole}.{rest:09d}"


def format_line(path, kind, mode, uid, gid, mtime, *, size=None, digest=None, rdev=None, target=None,
                group=None, xattrs=None):
    """`group` is the first path of a hardlink group, where it has more than one."""
    words = [escape(path), kind, f"{mode:04o}", f"{uid}:{gid}", f"mtime={seconds(mtime)}"]
    if kind == "file":
        words += [f"size={size}", f"sha256={digest}"]
    if kind in ("char", "block"):
        words.append(f"rdev={rdev[0]}:{rdev[1]}")
    if kind == "symlink":
        words.append(f"target={escape(target)}")
    if group is not None:
        words.append(f"links={escape(group)}")
    for name in sorted(xattrs or {}):
        words.append(f"xattr:{escape(name)}={xattrs[name].hex()}")
    return " ".join(words)


def hash_file(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def walk(root):
    """Every path below `root`, as (path in the tree, path on this machine), `root` itself as '/'."""
    yield b"/", root
    todo = [(b"", root)]
    while todo:
        prefix, directory = todo.pop()
        with os.scandir(directory) as names:
            for name in names:
                path = prefix + b"/" + name.name
                yield path, name.path
                if name.is_dir(follow_symlinks=False):
                    todo.append((path, name.path))


def read_xattrs(path):
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)}


def list_tree(root):
    """The lines of a directory tree, sorted by path. Needs root to see all xattrs."""
    found = sorted((path, real, os.lstat(real)) for path, real in walk(os.fsencode(root)))
    groups = {}
    for path, _, info in found:
        if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
            groups.setdefault(info.st_ino, path)
    lines, hashes = [], {}
    for path, real, info in found:
        kind = KINDS[stat.S_IFMT(info.st_mode)]
        more = {"xattrs": read_xattrs(real)}
        if kind == "file":
            if info.st_ino not in hashes:
                hashes[info.st_ino] = hash_file(real)
            more.update(size=info.st_size, digest=hashes[info.st_ino])
        elif kind in ("char", "block"):
            more["rdev"] = (os.major(info.st_rdev), os.minor(info.st_rdev))
        elif kind == "symlink":
            more["target"] = os.readlink(real)
        if kind != "dir":
            more["group"] = groups.get(info.st_ino)
        lines.append(format_line(path, kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid,
                                 info.st_mtime_ns, **more))
    return lines


if __name__ == "__main__":
    print("\n".join(list_tree(sys.argv[1])))
