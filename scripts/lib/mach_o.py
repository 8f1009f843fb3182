"""Prints what Mach-O files say of themselves, as JSON. mach_o.py FILE…"""

import json
import sys

from macholib.mach_o import (
    LC_BUILD_VERSION,
    LC_ID_DYLIB,
    LC_LOAD_DYLIB,
    LC_LOAD_WEAK_DYLIB,
    LC_REEXPORT_DYLIB,
    LC_RPATH,
)
from macholib.MachO import MachO
from macholib.SymbolTable import SymbolTable

# The numbers of libraries in a symbol's entry; all others have a meaning of their own.
LIBRARIES = range(1, 0xFD)


def text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def describe(path: str) -> dict:
    binary = MachO(path)
    (header,) = binary.headers
    symbols = SymbolTable(binary, header=header)
    found = {
        "processor": header.header.cputype,
        "libraries": [],
        "rpaths": [],
        "exports": [name.decode() for _, name in symbols.extdefsyms],
        "undefined": [name.decode() for _, name in symbols.undefsyms],
        # Of these the ones that are looked for in all that is loaded, and in no library by its name.
        "loose": [name.decode() for entry, name in symbols.undefsyms if entry.n_desc >> 8 not in LIBRARIES],
    }
    for load, command, data in header.commands:
        if load.cmd == LC_ID_DYLIB:
            found["id"] = text(data)
        elif load.cmd in (LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB):
            found["libraries"].append(text(data))
        elif load.cmd == LC_RPATH:
            found["rpaths"].append(text(data))
        elif load.cmd == LC_BUILD_VERSION:
            version = int(command.minos)
            found["macos"] = f"{version >> 16}.{version >> 8 & 255}"
    return found


json.dump({path: describe(path) for path in sys.argv[1:]}, sys.stdout)
