"""Writes layer tars byte by byte, in every dialect that a layer may come in.

Python's tarfile refuses or repairs much of what these images need (raw names, wrong
numbers, sparse maps), so the headers are made here by hand.
"""

from dataclasses import dataclass, field

BLOCK = 512
END_MARK = bytes(2 * BLOCK)
OCTAL_MAX = {8: 8**7 - 1, 12: 8**11 - 1}

TYPEFLAGS = {"file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4",
             "dir": b"5", "fifo": b"6"}


@dataclass
class Content:
    """A file's bytes: `size` zeroes with `segments` [(offset, bytes)] laid over them, in order."""
    size: int = 0
    segments: list = field(default_factory=list)

    @staticmethod
    def of(data):
        return Content(len(data), [(0, data)] if data else [])

    def stored(self):
        return b"".join(data for _, data in self.segments)

    def full(self):
        out = bytearray(self.size)
        for offset, data in self.segments:
            out[offset:offset + len(data)] = data
        return bytes(out)


@dataclass
class Entry:
    """What one tar entry means. `mtime` is in nanoseconds."""
    path: bytes
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_500_000_000 * 10**9
    content: Content = field(default_factory=Content)
    target: bytes = b""
    rdev: tuple = (0, 0)
    xattrs: dict = field(default_factory=dict)


def pad(data):
    return data + bytes(-len(data) % BLOCK)


def octal(number, width):
    return b"%0*o\0" % (width - 1, number)


def base256(number, width):
    """GNU's binary numbers: the top bit set, then two's complement, big-endian."""
    raw = bytearray((number % (1 << (8 * width))).to_bytes(width, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def header(name, typeflag, *, mode=0o644, uid=0, gid=0, size=0, mtime=0, linkname=b"",
           magic=b"ustar\x0000", uname=b"", gname=b"", dev=(0, 0), prefix=b"", tail=b"", checksum=None):
    """One header block. Numbers may be given as bytes, to be written as they are."""
    def number(value, width):
        if isinstance(value, bytes):
            return value.ljust(width, b"\0")
        if 0 <= value <= OCTAL_MAX[width]:
            return octal(value, width)
        return base256(value, width)

    block = bytearray(BLOCK)
    fields = [(0, 100, name), (100, 8, number(mode, 8)), (108, 8, number(uid, 8)), (116, 8, number(gid, 8)),
              (124, 12, number(size, 12)), (136, 12, number(mtime, 12)), (148, 8, b" " * 8),
              (156, 1, typeflag), (157, 100, linkname), (257, 8, magic), (265, 32, uname), (297, 32, gname)]
    if magic != bytes(8):
        fields += [(329, 8, number(dev[0], 8)), (337, 8, number(dev[1], 8)), (345, 155, prefix)]
    for offset, width, value in fields:
        if len(value) > width:
            raise ValueError(f"{value!r} does not fit {width} bytes")
        block[offset:offset + len(value)] = value
    if tail:
        block[345:345 + len(tail)] = tail
    total = sum(block) if checksum is None else checksum
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def pax_record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax_block(records, typeflag=b"x", name=b"PaxHeaders/x"):
    """The extended header that precedes an entry; `records` is [(key, value)] or raw bytes."""
    body = records if isinstance(records, bytes) else b"".join(pax_record(k, v) for k, v in records)
    return header(name, typeflag, size=len(body)) + pad(body)


def pax_time(nanoseconds):
    sign, value = (b"-", -nanoseconds) if nanoseconds < 0 else (b"", nanoseconds)
    seconds, rest = divmod(value, 10**9)
    return sign + b"%d" % seconds + (b".%09d" % rest if rest else b"")


def gnu_long(typeflag, text):
    return header(b"././@LongLink", typeflag, size=len(text) + 1, magic=b"ustar  \0") + pad(text + b"\0")


def encode(entry, dialect="pax", sparse=None, xattr_style="SCHILY", extra=(), typeflag=None):
    """The bytes of one entry: headers, body and padding.

    dialect:     pax, gnu, ustar or v7
    sparse:      None, gnu-old, gnu-0.0, gnu-0.1 or gnu-1.0
    xattr_style: SCHILY or LIBARCHIVE; pax only
    extra:       further pax records
    """
    name = entry.path
    if entry.kind == "dir" and not name.endswith(b"/"):
        name += b"/"
    typeflag = typeflag or TYPEFLAGS[entry.kind]
    body = b""
    if entry.kind == "file":
        body = entry.content.stored() if sparse else entry.content.full()
    if sparse:
        return _encode_sparse(entry, name, body, sparse, extra)
    if dialect == "pax":
        return _encode_pax(entry, name, typeflag, body, xattr_style, extra)
    if dialect == "gnu":
        out = b""
        if len(entry.target) > 100:
            out += gnu_long(b"K", entry.target)
        if len(name) > 100:
            out += gnu_long(b"L", name)
        return out + header(name[:100], typeflag, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=len(body),
                            mtime=_whole_seconds(entry), linkname=entry.target[:100], magic=b"ustar  \0",
                            dev=entry.rdev) + pad(body)
    if dialect == "ustar":
        prefix = b""
        if len(name) > 100:
            cut = name.index(b"/", len(name) - 101)
            prefix, name = name[:cut], name[cut + 1:]
        return header(name, typeflag, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=len(body),
                      mtime=_whole_seconds(entry), linkname=entry.target, dev=entry.rdev, prefix=prefix) + pad(body)
    if dialect == "v7":
        flag = typeflag if entry.kind in ("hardlink", "symlink") else b"\0"
        return header(name, flag, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=len(body),
                      mtime=_whole_seconds(entry), linkname=entry.target, magic=bytes(8)) + pad(body)
    raise ValueError(dialect)


def _whole_seconds(entry):
    seconds, rest = divmod(entry.mtime, 10**9)
    if rest:
        raise ValueError("this dialect has no nanoseconds")
    return seconds


def _pax_fields(entry):
    """Records for what ustar's fields can't hold, and the values left for the fields."""
    records, fields = [], {}
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value > OCTAL_MAX[8]:
            records.append((key, b"%d" % value))
        else:
            fields[key.decode()] = value
    seconds, rest = divmod(entry.mtime, 10**9)
    if rest or not 0 <= seconds <= OCTAL_MAX[12]:
        records.append((b"mtime", pax_time(entry.mtime)))
    else:
        fields["mtime"] = seconds
    return records, fields


def _encode_pax(entry, name, typeflag, body, xattr_style, extra):
    records, fields = _pax_fields(entry)
    if len(name) > 100 or not name.isascii():
        records.append((b"path", name))
    if len(entry.target) > 100 or not entry.target.isascii():
        records.append((b"linkpath", entry.target))
    for key, value in entry.xattrs.items():
        if xattr_style == "SCHILY":
            records.append((b"SCHILY.xattr." + key, value))
        else:
            records.append((b"LIBARCHIVE.xattr." + _percent(key), _base64(value)))
    records += extra
    out = pax_block(records) if records else b""
    return out + header(name[:100], typeflag, mode=entry.mode, size=len(body), linkname=entry.target[:100],
                        dev=entry.rdev, **fields) + pad(body)


def _percent(key):
    return b"".join(bytes([c]) if 33 <= c < 127 and c not in b"%=" else b"%%%02X" % c for c in key)


def _base64(value):
    import base64
    return base64.b64encode(value).rstrip(b"=")


def _encode_sparse(entry, name, body, sparse, extra):
    content = entry.content
    spans = [(offset, len(data)) for offset, data in content.segments]
    if not spans or spans[-1][0] + spans[-1][1] < content.size:
        spans.append((content.size, 0))
    if sparse == "gnu-old":
        return _encode_old_sparse(entry, name, body, spans)
    records, fields = _pax_fields(entry)
    stored_name = name
    if sparse == "gnu-0.0":
        if len(name) > 100 or not name.isascii():
            records.append((b"path", name))
        records += [(b"GNU.sparse.size", b"%d" % content.size), (b"GNU.sparse.numblocks", b"%d" % len(spans))]
        for offset, length in spans:
            records += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    elif sparse == "gnu-0.1":
        stored_name = b"GNUSparseFile.1/x"
        records += [(b"GNU.sparse.size", b"%d" % content.size), (b"GNU.sparse.numblocks", b"%d" % len(spans)),
                    (b"GNU.sparse.map", b",".join(b"%d,%d" % span for span in spans)),
                    (b"GNU.sparse.name", name)]
    elif sparse == "gnu-1.0":
        stored_name = b"GNUSparseFile.1/x"
        records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
                    (b"GNU.sparse.realsize", b"%d" % content.size)]
        numbers = b"%d\n" % len(spans) + b"".join(b"%d\n%d\n" % span for span in spans)
        body = pad(numbers) + body
    else:
        raise ValueError(sparse)
    return pax_block(records + list(extra)) + header(stored_name[:100], b"0", mode=entry.mode, size=len(body),
                                                     **fields) + pad(body)


def sparse_structs(spans, count):
    packed = b"".join(octal(offset, 12)[:12] + octal(length, 12)[:12] for offset, length in spans[:count])
    return packed.ljust(24 * count, b"\0")


def old_sparse_header(name, spans, real_size, stored_size, *, mode=0o644, uid=0, gid=0, mtime=0):
    """A GNU 'S' header and its extension blocks; `spans` is written as it is."""
    rest = spans[4:]
    # From offset 345: atime, ctime, offset, longnames, one unused byte; then the map.
    tail = bytes(41) + sparse_structs(spans, 4) + (b"\1" if rest else b"\0") + octal(real_size, 12)
    out = header(name, b"S", mode=mode, uid=uid, gid=gid, mtime=mtime, size=stored_size, magic=b"ustar  \0",
                 tail=tail)
    while rest:
        chunk, rest = rest[:21], rest[21:]
        out += (sparse_structs(chunk, 21) + (b"\1" if rest else b"\0")).ljust(BLOCK, b"\0")
    return out


def _encode_old_sparse(entry, name, body, spans):
    return old_sparse_header(name, spans, entry.content.size, len(body), mode=entry.mode, uid=entry.uid,
                             gid=entry.gid, mtime=_whole_seconds(entry)) + pad(body)
