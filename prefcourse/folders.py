"""Where the files of this person lie: what can be made again (cache), and what cannot (data). Knows platforms only."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache() -> Path:
    """Where the platform keeps caches: PREFCOURSE_CACHE if set, else XDG, ~/Library/Caches or LOCALAPPDATA."""
    return _folder("PREFCOURSE_CACHE", "XDG_CACHE_HOME", ".cache", "Caches", "Cache")


def data() -> Path:
    """Where the platform keeps data: PREFCOURSE_HOME if set, else XDG, Application Support or LOCALAPPDATA."""
    return _folder("PREFCOURSE_HOME", "XDG_DATA_HOME", ".local/share", "Application Support", "Data")


def _folder(own: str, xdg: str, unix: str, mac: str, windows: str) -> Path:
    if named := os.environ.get(own):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / mac / "prefcourse"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "prefcourse" / windows
    base = Path(os.environ.get(xdg, ""))
    return (base if base.is_absolute() else Path.home() / unix) / "prefcourse"
