"""Landlock through ctypes: what this process, and all that it starts, may touch from now on. Linux only.

Knows the kernel's interface (landlock(7)) and nothing of courses. Cannot be undone by the process. UDP stays open.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on all architectures
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15  # truncate, ioctl
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI -> how many rights about files it knows
_NO_NEW_PRIVILEGES, _DROP_CAPABILITY = 38, 24
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Rules:
    """Paths with all below them; what is in none of them is out of reach."""

    read: tuple[str, ...]  # and execute
    write: tuple[str, ...]  # and read
    names: tuple[str, ...] = ()  # only the names in these folders


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def abi() -> int:
    """The version of the interface; 0 where there is none."""
    return max(0, libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1))


def restrict(rules: Rules) -> None:
    """OSError where the kernel refuses. Also: no TCP from ABI 4 on, no signals to processes outside from ABI 6 on."""
    version = abi()
    if not version:
        raise OSError("this kernel has no Landlock")
    every = (1 << _FS_RIGHTS.get(version, 16)) - 1
    network, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = _Ruleset(every, network, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(libc.syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0))
    read = _EXECUTE | _READ_FILE | _READ_DIR
    for paths, allowed in ((rules.read, read), (rules.write, every), (rules.names, _READ_DIR)):
        for path in paths:
            _allow(ruleset, path, allowed & every)
    for capability in range(64):  # root keeps its files and loses its powers; others have none to lose
        libc.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
    _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        allowed &= _ON_FILES
    rule = _Beneath(allowed, folder)
    _checked(libc.syscall(_ADD, ruleset, 1, ctypes.byref(rule), 0))
    os.close(folder)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
