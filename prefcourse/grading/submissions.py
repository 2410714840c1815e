"""What was handed in: a folder of notebooks, a folder of folders, or a zip, as Canvas, Moodle and others give them.

Knows files and names. Names are data: they are shown, never used as a path. Opens nothing but regular files, follows no
links, unpacks nothing to disk, and knows no grading. What cannot be read is found too, with the reason.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 5_000_000  # of one notebook
MAX_ZIP = 200_000_000  # of a zip inside the folder
MAX_NOTEBOOKS = 50  # of one learner: more is a mistake or an attack
MAX_DEPTH = 30  # of folders
ROOMS = ("notebooks", "exercises", "solutions")  # of the course: no learner is called so
NOTEBOOK = re.compile(r".+\.ipynb(\.txt|\.json)?", re.IGNORECASE | re.DOTALL)  # browsers like to append .txt
CANVAS = re.compile(r"(?P<who>.+?)(?P<late>_LATE)?_(?P<user>\d{1,20})_(?P<upload>\d{1,20})_(?P<file>.+)", re.DOTALL)
MOODLE = re.compile(r"(?P<who>.+?)_(?P<user>\d{1,20})_assignsubmission_(file|onlinetext)(_.*)?", re.DOTALL)
MARKER = re.compile(rb"# EXERCISE (\d{1,3})\.\d|\\?\"exercise\\?\":\s*\\?\"(\d{1,3})\.\d")
TURNS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}  # invisible, and they turn text around


class Unreadable(ValueError):
    """No notebook can be had from it; the message says why."""


@dataclass(frozen=True)
class Submission:
    name: str  # as found, printable; never a path
    student: str
    learner: str = ""  # what tells learners apart
    place: Path | None = None  # the notebook, or the zip that it is in
    member: zipfile.ZipInfo | None = None
    problem: str = ""  # why it cannot be read
    upload: tuple[int, int] | None = None  # Canvas counts uploads: its number, and the attempt
    notes: tuple[str, ...] = ()
    digest: str = ""  # sha256 of the content, and
    chapter: str = ""  # what it answers: known once it was read


class Entry(NamedTuple):
    """A file or folder as found."""

    parts: tuple[str, ...]
    place: Path
    member: zipfile.ZipInfo | None = None
    problem: str = ""

    @property
    def is_notebook(self) -> bool:
        return bool(NOTEBOOK.fullmatch(self.parts[-1]))


class Learner(NamedTuple):
    key: str
    shown: str
    upload: tuple[int, int] | None = None
    late: bool = False


def find(source: Path, chapters: Collection[str] = ()) -> list[Submission]:
    """Everything handed in, in the order of its names. `chapters` are stems of notebooks: no learner is called so.

    A learner who handed in something, but no notebook, is one submission with a problem. OSError if there is no source.
    """
    found = list(_zip_entries(source, ()) if source.is_file() else _folder_entries(source, ()))
    unnamed = [_around(entry.parts) for entry in found if not _system_learner(entry.parts)]
    shared = len(os.path.commonprefix(unnamed)) if unnamed else 0
    of_learner = defaultdict(list)
    for entry in found:
        named = _system_learner(entry.parts)
        who = named or _plain_learner(entry, shared, chapters)
        stray = not (entry.is_notebook or entry.problem or named) and len(entry.parts) == shared + 1
        if not stray:  # the instructor's own list of marks beside the submissions, say
            of_learner[who.key].append((who, entry))
    submissions = [s for entries in of_learner.values() for s in _of_one(entries)]
    return sorted(submissions, key=lambda s: natural(s.name))


def _around(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The folders that may lie around all learners: a zip inside the batch is one learner's."""
    return tuple(itertools.takewhile(lambda part: not part.lower().endswith(".zip"), parts[:-1]))


def natural(text: str) -> list:
    """To sort names as people do: 2.9 before 2.10, and a before B."""
    parts = re.findall(r"\d{1,18}|\D+", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts] + [(2, 0, text)]


def printable(text: str, longest: int = 200) -> str:
    """The same words, harmless on a terminal and in a file: control characters are spelled out, the end is cut."""

    def spelled(char: str) -> str:
        hidden = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in TURNS
        return char.encode("unicode_escape", "surrogatepass").decode() if hidden else char

    shown = "".join(map(spelled, text))
    if len(shown) <= longest:
        return shown
    return f"{shown[: longest - 10]}…{sha256(shown.encode()).hexdigest()[:8]}"  # two long names stay two


# --- who handed it in --------------------------------------------------------------------------------------


def _system_learner(parts: tuple[str, ...]) -> Learner | None:
    """The learner whom Canvas or Moodle wrote into a name of the path."""
    for part in parts:
        if named := MOODLE.fullmatch(part):
            return Learner(f"moodle {named['who']} {named['user']}", f"{named['who']} ({named['user']})")
        if named := CANVAS.fullmatch(part):
            attempt = re.search(r"-(\d{1,4})\.[^.]+$", named["file"])
            upload = (int(named["upload"]), int(attempt[1]) if attempt else 0)
            return Learner(f"canvas {named['user']}", f"{named['who']} ({named['user']})", upload, bool(named["late"]))
    return None


def _plain_learner(entry: Entry, shared: int, chapters: Collection[str]) -> Learner:
    """The first folder below what all files share; else the file's name without the chapter's; else the last folder."""
    own, above = ([part for part in parts if part not in ROOMS] for parts in (entry.parts[shared:-1], entry.parts[:-1]))
    stem = re.sub(r"(\s*\(\d+\))?\.(ipynb|zip|txt|json)\b", "", entry.parts[-1][:255], flags=re.IGNORECASE)
    rest = functools.reduce(lambda name, chapter: name.replace(chapter, ""), sorted(chapters, key=len)[::-1], stem)
    name = next(filter(None, [*own[:1], rest.strip(" _-.()"), *above[-1:], stem]), "unknown")
    return Learner(f"plain {name}", re.sub(r"\.zip$", "", name, flags=re.IGNORECASE))


def _of_one(found: list[tuple[Learner, Entry]]) -> list[Submission]:
    """The notebooks of one learner; or one submission that says why there is none."""
    notebooks = [pair for pair in found if pair[1].is_notebook]
    answers = [pair for pair in notebooks if ROOMS[1] in pair[1].parts[:-1]]
    notebooks = answers or notebooks  # in a copy of the whole course only that room is the learner's
    if notebooks and len(notebooks) <= MAX_NOTEBOOKS:
        return [_submission(who, entry) for who, entry in notebooks]
    names = ", ".join(entry.parts[-1] for _, entry in found[:3]) + ", ..." * (len(found) > 3)
    reasons = [entry.problem for _, entry in found if entry.problem]
    problem = f"no notebook (.ipynb) in it, but {printable(names)}"
    if len(notebooks) > MAX_NOTEBOOKS:
        problem = f"{len(notebooks)} notebooks by one learner; at most {MAX_NOTEBOOKS} are looked at"
    who, first = next((pair for pair in found if pair[1].problem), found[0])
    return [replace(_submission(who, first), problem=reasons[0] if reasons and not notebooks else problem)]


def _submission(who: Learner, entry: Entry) -> Submission:
    notes = ("late, says Canvas",) if who.late else ()
    name, shown = printable("/".join(entry.parts)), printable(who.shown, 80)
    return Submission(name, shown, who.key, entry.place, entry.member, entry.problem, who.upload, notes)


# --- looking into folders and zips -------------------------------------------------------------------------


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _folder_entries(folder: Path, parts: tuple[str, ...]) -> Iterator[Entry]:
    try:
        inside = sorted(item for item in os.listdir(folder) if not _hidden(item))
    except PermissionError:
        yield Entry(parts or (folder.name,), folder, problem="a folder that may not be read: its permissions forbid it")
        return
    if not inside and parts:
        yield Entry(parts, folder, problem="an empty folder")
    for name in inside:
        yield from _entry(folder / name, (*parts, name))


def _entry(place: Path, parts: tuple[str, ...]) -> Iterable[Entry]:
    mode = place.lstat().st_mode
    if stat.S_ISLNK(mode):
        return [Entry(parts, place, problem="a symbolic link: links are not followed")]
    if stat.S_ISDIR(mode):
        deep = [Entry(parts, place, problem=f"folders nested deeper than {MAX_DEPTH}")]
        return deep if len(parts) > MAX_DEPTH else _folder_entries(place, parts)
    if stat.S_ISREG(mode) and place.suffix.lower() == ".zip":
        return _zip_entries(place, parts)
    special = "" if stat.S_ISREG(mode) else "not a regular file, but a pipe, a socket or a device"
    return [Entry(parts, place, problem=special)]


def _zip_entries(place: Path, parts: tuple[str, ...]) -> Iterator[Entry]:
    """The files in a zip, from its table of contents. `parts` are empty for the batch itself."""
    try:
        if parts and place.stat().st_size > MAX_ZIP:
            raise Unreadable(f"a zip above {MAX_ZIP // 1_000_000} MB is not opened")
        members = [member for member in _open_zip(place).infolist() if not member.is_dir()]
    except (Unreadable, OSError) as error:
        if not parts:
            raise
        yield Entry(parts, place, problem=str(error))
        return
    for member in members:
        names = tuple(part for part in re.split(r"[/\\]", member.filename) if part not in ("", "."))
        if names and not any(_hidden(name) for name in names if name != ".."):
            yield Entry((*parts, *names), place, member, _problem_of(member))


def _problem_of(member: zipfile.ZipInfo) -> str:
    """Why a file in a zip is refused unread."""
    if re.match(r"[/\\]|[A-Za-z]:", member.filename) or ".." in re.split(r"[/\\]", member.filename):
        return "its name points out of the zip"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a symbolic link in a zip: links are not followed"
    if member.filename.lower().endswith(".zip"):
        return "a zip inside a zip is not opened: unpack the outer one, and grade the folder"
    return "an encrypted zip: it needs a password" if member.flag_bits & 1 else ""


def _open_zip(place: Path) -> zipfile.ZipFile:
    facts = place.lstat()
    return _opened(place, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=2)  # a batch in one zip reads it thousands of times
def _opened(place: Path, changed: int, size: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_regular_file(place))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise Unreadable(f"not a zip that can be opened ({error})") from error


# --- reading -----------------------------------------------------------------------------------------------


def read(submission: Submission) -> bytes:
    """Its content. Raises Unreadable, with the reason, and never hangs, follows a link or reads above the limit."""
    if submission.problem:
        raise Unreadable(submission.problem)
    try:
        return _read_file(submission.place) if submission.member is None else _read_member(submission)
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from error


def _regular_file(place: Path):
    """Open for reading; O_NONBLOCK, since opening a pipe that nobody fills would wait for ever."""
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    if place.is_symlink():  # where there is no O_NOFOLLOW
        raise Unreadable("a symbolic link: links are not followed")
    file = os.fdopen(os.open(place, os.O_RDONLY | flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unreadable("not a regular file, but a pipe, a socket or a device")
    return file


def _read_file(place: Path) -> bytes:
    with _regular_file(place) as file:
        return _within_limit(file, os.fstat(file.fileno()).st_size)


def _read_member(submission: Submission) -> bytes:
    try:
        with _open_zip(submission.place).open(submission.member) as file:
            return _within_limit(file, submission.member.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, LookupError) as error:
        raise Unreadable(f"damaged inside its zip ({printable(str(error))})") from error


def _within_limit(file, announced: int) -> bytes:
    """A zip may announce less than comes out: what counts is what is read."""
    content = file.read(MAX_BYTES + 1) if announced <= MAX_BYTES else b""
    if announced > MAX_BYTES or len(content) > MAX_BYTES:
        size = f"{announced / 1e6:.1f} MB" if announced > MAX_BYTES else "more than it says"
        raise Unreadable(
            f"too large ({size}): at most {MAX_BYTES / 1e6:.0f} MB. Clear its outputs and hand it in again"
        )
    return content


# --- which chapter, and which of several -------------------------------------------------------------------


def chapter_of(submission: Submission, content: bytes, chapters: Collection[str]) -> str:
    """The stem of the chapter whose exercises are inside; where nothing marks them, the stem in the name; else ""."""
    inside = Counter(int(marked[1] or marked[2]) for marked in MARKER.finditer(content))
    for number, _ in inside.most_common():
        for stem in chapters:
            if stem.startswith(f"{number:02}_"):
                return stem
    return next((stem for stem in sorted(chapters, key=len)[::-1] if stem in submission.name), "")


def inspect(submission: Submission, chapters: Collection[str]) -> Submission:
    """The same, with its digest and chapter, or with the problem that came up when it was read."""
    try:
        content = read(submission)
    except Unreadable as error:
        return replace(submission, problem=str(error))
    chapter = chapter_of(submission, content, chapters)
    known = ", ".join(chapters)
    problem = "" if chapter else f"no exercise of this course in it. Known by name or by content are: {known}"
    return replace(submission, digest=sha256(content).hexdigest(), chapter=chapter, problem=problem)


def settle(submissions: Iterable[Submission]) -> list[Submission]:
    """Several submissions of one learner for one chapter. Where Canvas numbers them, the latest upload is graded and
    names the others; elsewhere nothing tells which is meant: all are graded, and each says so.
    """
    groups = defaultdict(list)
    for submission in submissions:
        groups[submission.learner, submission.chapter].append(submission)
    return sorted((s for group in groups.values() for s in _settled(group)), key=lambda s: natural(s.name))


def _settled(group: list[Submission]) -> list[Submission]:
    if len(group) == 1 or not group[0].chapter:
        return group
    if all(s.upload for s in group):
        *earlier, latest = sorted(group, key=lambda s: s.upload)
        names = ", ".join(s.name for s in earlier)
        return [replace(latest, notes=(*latest.notes, f"the latest upload; not graded: {names}"))]
    return [
        replace(s, notes=(*s.notes, f"one of {len(group)} submissions by this learner: all are graded")) for s in group
    ]
