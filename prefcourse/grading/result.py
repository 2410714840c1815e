"""What grading one submission found. The interface between grading and reports; a schema with a version.

Knows no notebooks, no processes, no formats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum

SCHEMA = 1


class State(StrEnum):
    """How far a submission got. Only `graded` says anything about the learner's work."""

    GRADED = "graded"
    INVALID = "invalid"  # unreadable: no notebook in it
    TIMEOUT = "timeout"  # wall clock of the whole submission
    RESOURCE = "resource"  # memory, output or processes beyond the limit
    CRASHED = "crashed"  # its kernel died
    GRADER_ERROR = "grader-error"  # ours, not theirs


class Status(StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"  # values differ
    NOT_WRITTEN = "not-written"
    ERROR = "error"  # the cell itself raised, or showed no bundle
    TIMEOUT = "timeout"
    MISSING = "missing"  # no answer cell in the submission
    PACKAGE = "package"  # the answer is the package's own function
    NOT_RUN = "not-run"  # the kernel had died, or the submission was stopped, before


@dataclass(frozen=True)
class CheckResult:
    exercise: str  # "2.1"
    function: str
    status: Status
    points: float
    max_points: float
    seconds: float = 0.0
    sentence: str = ""  # safe to show to the learner: never source, expected or actual values
    mutant: str | None = None  # slug of the recognised mistake


@dataclass(frozen=True)
class Result:
    submission: str  # name as found, for people; never used as a path
    student: str
    digest: str  # sha256 of the submitted bytes
    chapter: str  # stem of the reference notebook, "" where unknown
    state: State
    reason: str = ""  # why it is not `graded`, in words
    checks: tuple[CheckResult, ...] = ()
    notes: tuple[str, ...] = ()  # duplicated, reordered, missing, neutralised: what the graft did
    seconds: float = 0.0
    sandbox: str = "none"
    seed: str = "public"  # a short hash of the secret, or "public"
    versions: dict[str, str] = field(default_factory=dict)  # prefcourse, nbval, bundle
    schema: int = SCHEMA

    @property
    def points(self) -> float:
        return sum((check.points for check in self.checks), 0.0)

    @property
    def max_points(self) -> float:
        return sum((check.max_points for check in self.checks), 0.0)

    def as_dict(self) -> dict:
        return asdict(self) | {"points": self.points, "max_points": self.max_points}

    @classmethod
    def from_dict(cls, found: dict) -> Result:
        """Back from JSON; ValueError for another schema."""
        if found.get("schema") != SCHEMA:
            raise ValueError(f"result has schema {found.get('schema')!r}; this version reads {SCHEMA}. Grade again")
        known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        checks = tuple(CheckResult(**check | {"status": Status(check["status"])}) for check in found["checks"])
        return cls(**known | {"state": State(found["state"]), "checks": checks, "notes": tuple(found["notes"])})
