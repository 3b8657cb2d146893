#!/usr/bin/env python3
"""Fails on an #include that no arrow between folders allows, and on headers that do not compile alone.

Usage: arch_check.py [BUILD]     BUILD: a configured build directory (default build/release)

Checked: which folder includes which; that headers of C libraries stay in .cpp files; that every header has
`#pragma once` and compiles by itself with the flags of its folder: as the first thing that its .cpp file includes, or
else here, unless nothing has changed since it did.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MAY_INCLUDE = {
    "common": set(),
    "blockfs": {"common"},
    "registry": {"common"},
    "dedupdb": {"common"},
    "convertor": {"common", "blockfs", "registry", "dedupdb"},
    "baselayers": {"common", "blockfs"},
    "tools": {"common", "blockfs", "registry", "dedupdb", "convertor", "baselayers"},
}
MAY_INCLUDE["tests"] = set(MAY_INCLUDE)

# Headers of libraries that only .cpp files may include: a caller must not need them.
C_LIBRARIES = re.compile(r"^(curl/|ext2fs/|et/|archive|zstd|zdict|lz4|isa-l|igzip|openssl/|sqlite3|mysql|cppconn/|"
                         r"nlohmann/(?!json_fwd)|zlib|xxhash)")

# The one header whose purpose is to bring such a library to the .cpp files of several folders.
JSON_HEADER = Path("common/json.h")

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def files(*suffixes):
    for folder in MAY_INCLUDE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def includes(path):
    """(line number, name, whether in quotes) of each include."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match.group(1) or match.group(2), match.group(1) is not None


def check_includes(path):
    """What is wrong with the includes of one file."""
    where = path.relative_to(ROOT)
    folder = where.parts[0]
    for number, name, quoted in includes(path):
        place = f"{where}:{number}"
        target = name.split("/")[0]
        if quoted and not (ROOT / name).is_file():
            yield f'{place}: "{name}" is not a path from the root of the project'
        elif target in MAY_INCLUDE and (ROOT / name).is_file():
            if not quoted:
                yield f"{place}: <{name}> is the project's own and takes quotes"
            if target != folder and target not in MAY_INCLUDE[folder]:
                yield f"{place}: {folder}/ must not include {target}/"
        if path.suffix == ".h" and folder != "tests" and where != JSON_HEADER and C_LIBRARIES.match(name):
            yield f"{place}: <{name}> belongs in a .cpp file"
        if name.endswith(".cpp"):
            yield f"{place}: a .cpp file is included"
    if path.suffix == ".h" and "#pragma once" not in path.read_text():
        yield f"{where}: no #pragma once"


def compile_commands(build):
    """(source, entry) of each file that the build compiles."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        yield Path(entry["directory"], entry["file"]).resolve(), entry


def flags_by_folder(commands, build):
    """For each folder the command of one of its files, without file names."""
    found = {}
    for source, entry in commands:
        if not source.is_relative_to(ROOT) or source.is_relative_to(build.resolve()):
            continue
        words = shlex.split(entry["command"])
        flags = []
        skip = False
        for word in words:
            if skip:
                skip = False
            elif word in ("-o", "-c", "-MF", "-MT", "-MQ"):
                skip = word != "-c"
            elif word not in ("-MD", "-MMD") and Path(entry["directory"], word).resolve() != source:
                flags.append(word)
        found.setdefault(source.relative_to(ROOT).parts[0], (flags, entry["directory"]))
    return found


def closure(path, seen=None):
    """A header and those of the project that it includes, itself or through others."""
    seen = set() if seen is None else seen
    if path not in seen:
        seen.add(path)
        for _, name, quoted in includes(path):
            if quoted and (ROOT / name).is_file():
                closure(ROOT / name, seen)
    return seen


def compile_header(path, flags, directory, cache):
    """The compiler's complaint about a header alone; None if there is none."""
    digest = hashlib.sha256(" ".join(flags).encode())
    for part in sorted(closure(path)):
        digest.update(str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes())
    stamp = cache / digest.hexdigest()
    if stamp.exists():
        return None
    # As an include of an empty file: a main file that is a header would warn about #pragma once.
    source = f'#include "{path.relative_to(ROOT)}"\n'
    result = subprocess.run([*flags, "-I", str(ROOT), "-fsyntax-only", "-O0", "-x", "c++", "-"], cwd=directory,
                            input=source, text=True, capture_output=True)
    if result.returncode != 0:
        return f"{path.relative_to(ROOT)} does not compile alone:\n{result.stderr[:3000]}"
    stamp.touch()
    return None


def is_proven_by_its_source(path, compiled):
    """Whether a .cpp file that the build compiles begins with it."""
    source = path.with_suffix(".cpp")
    if source.resolve() not in compiled:
        return False
    first = re.search(r'^#include (.*)$', source.read_text(), re.MULTILINE)
    return first is not None and first.group(1) == f'"{path.relative_to(ROOT)}"'


def check_headers(build):
    cache = build / "arch-check"
    cache.mkdir(exist_ok=True)
    commands = list(compile_commands(build))
    folders = flags_by_folder(commands, build)
    compiled = {source for source, _ in commands}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = []
        for path in files(".h"):
            folder = path.relative_to(ROOT).parts[0]
            if folder in folders and not is_proven_by_its_source(path, compiled):
                jobs.append(pool.submit(compile_header, path, *folders[folder], cache))
        yield from (complaint for job in jobs if (complaint := job.result()))


def main(arguments):
    build = Path(arguments[0] if arguments else ROOT / "build" / "release").resolve()
    complaints = [complaint for path in files(".h", ".cpp") for complaint in check_includes(path)]
    if (build / "compile_commands.json").exists():
        complaints += check_headers(build)
    else:
        complaints.append(f"{build} has no compile_commands.json: configure it first")
    print("\n".join(complaints))
    print(f"{len(list(files('.h', '.cpp')))} files, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
