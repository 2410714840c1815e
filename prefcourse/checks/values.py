"""What a function returned, as facts in plain JSON, and when two of them are equal.

Knows the values of Python, numpy and torch by their types, and imports neither library. Refuses to run code of
classes that it does not know: such a value is recorded by the name of its type.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from prefcourse.checks.exercise import Tolerance

Facts = dict[str, Any]
DIGITS = 8  # significant, of every number recorded
ROUNDING = 2e-7  # relative: what two values that differ by nothing may differ by once rounded
DEPTH = 8  # lists in lists in lists
LARGEST = 10_000  # numbers in one value; beyond it only the shape is kept, and nothing equals it
LONGEST = 2_000  # characters of a text
DEFAULT = Tolerance()


class _TooMuch(Exception):
    pass


def encode(value: Any, zero: float = 0.0) -> Facts:
    """The facts of a value. Numbers not farther from 0 than `zero` are 0: they are what cancellation leaves."""
    try:
        return _Encoder(zero).facts(value)
    except _TooMuch as reason:
        return {"object": f"{type(value).__name__} {reason}"}


class _Encoder:
    def __init__(self, zero: float):
        self.zero, self.left = zero, 2 * LARGEST

    def facts(self, value: Any, depth: int = 0) -> Facts:
        kind = type(value)
        self.left -= 1
        if self.left < 0 or depth > DEPTH:
            raise _TooMuch("with too many values in it" if self.left < 0 else f"nested more than {DEPTH} deep")
        if value is None:
            return {"nothing": True}
        for base, encoder in _BUILTIN.items():
            if issubclass(kind, base):
                return encoder(self, value, depth)
        if _is_of("numpy", kind, "generic", "ndarray"):
            return self._numpy(value, depth)
        if _is_of("torch", kind, "Tensor"):
            return self._torch(value)
        return {"object": kind.__name__}

    def number(self, value: float) -> float | int | str:
        if value != value:
            return "nan"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return 0.0 if abs(value) <= self.zero else float(f"{value:.{DIGITS}g}")

    def _truth(self, value, depth) -> Facts:
        return {"truth": value}

    def _whole(self, value, depth) -> Facts:
        value = int.__index__(value)
        if value.bit_length() > 1000:
            return {"object": f"int of {value.bit_length()} bits"}
        return {"number": value if abs(value) < 2**53 else self.number(float(value)), "type": "int"}

    def _real(self, value, depth) -> Facts:
        return {"number": self.number(float.__float__(value)), "type": type(value).__name__}

    def _text(self, value, depth) -> Facts:
        facts = {"text": str.__str__(value)[:LONGEST].encode(errors="replace").decode()}
        return facts if str.__len__(value) <= LONGEST else facts | {"length": str.__len__(value)}

    def _list(self, value, depth) -> Facts:
        base = next(base for base in (list, tuple, range) if issubclass(type(value), base))
        if base.__len__(value) > LARGEST:
            return {"large": base.__len__(value), "shape": [base.__len__(value)]}
        return _joined([self.facts(item, depth + 1) for item in base.__iter__(value)])

    def _mapping(self, value, depth) -> Facts:
        items = list(dict.items(value))[: LARGEST + 1]
        return {"entries": {self._key(key): self.facts(item, depth + 1) for key, item in items}}

    def _key(self, key) -> str:
        return next(iter(map(str, self.facts(key, DEPTH).values())))[:LONGEST]

    def _numpy(self, value, depth) -> Facts:
        shape, kind = list(value.shape), value.dtype.kind
        if value.size > LARGEST:
            return {"large": value.size, "shape": shape, "dtype": str(value.dtype)}
        if kind in "OUS":
            return self.facts(value.tolist(), depth)
        return self._numbers(value.ravel().tolist(), shape, str(value.dtype), kind in "biuf")

    def _torch(self, value) -> Facts:
        value = value.detach()
        shape, dtype = list(value.shape), str(value.dtype).removeprefix("torch.")
        if value.numel() > LARGEST or value.device.type == "meta":
            return {"large": value.numel(), "shape": shape, "dtype": dtype}
        known = not value.is_complex() and not value.is_quantized
        dense = value if str(value.layout) == "torch.strided" else value.to_dense()
        return self._numbers(dense.cpu().flatten().tolist(), shape, dtype, known)

    def _numbers(self, flat: list, shape: list[int], dtype: str, known: bool) -> Facts:
        if not known:
            return {"object": f"array of {dtype}"}
        if not shape:
            return self.facts(flat[0]) | ({} if dtype == "bool" else {"type": dtype})
        return {"array": [self.number(number) for number in flat], "shape": shape, "dtype": dtype}


_BUILTIN = {
    bool: _Encoder._truth,
    int: _Encoder._whole,
    float: _Encoder._real,
    str: _Encoder._text,
    list: _Encoder._list,
    tuple: _Encoder._list,
    range: _Encoder._list,
    dict: _Encoder._mapping,
}


def _is_of(library: str, kind: type, *names: str) -> bool:
    """Is it the library's own class? Only if the library is loaded; a learner's subclass may run anything."""
    own = [getattr(sys.modules.get(library), name, None) for name in names]
    if not str(kind.__module__).startswith(library):
        return False
    return any(issubclass(kind, known) for known in own if known is not None)


def _joined(children: list[Facts]) -> Facts:
    """A list of numbers is an array, a list of arrays of one shape is one; any other list keeps its items."""
    if all("number" in child or "truth" in child for child in children):
        flat = [float(child["truth"]) if "truth" in child else child["number"] for child in children]
        return {"array": flat, "shape": [len(children)], "dtype": "list"}
    shapes = [child.get("shape") for child in children if "array" in child]
    if len(shapes) == len(children) and all(shape == shapes[0] for shape in shapes):
        flat = [number for child in children for number in child["array"]]
        return {"array": flat, "shape": [len(children), *shapes[0]], "dtype": children[0]["dtype"]}
    return {"items": children}


# --- equal or not -------------------------------------------------------------------------------------------


def equal(given: Facts, expected: Facts, tolerance: Tolerance = DEFAULT) -> bool:
    """Same shape and same numbers within the tolerance; types and dtypes do not matter. Anything malformed is
    unequal: `given` may come from a stranger's kernel."""
    try:
        return _equal(given, expected, tolerance)
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return False


def _equal(given: Facts, expected: Facts, tolerance: Tolerance) -> bool:
    if "number" in expected:
        return _near(given["number"], expected["number"], tolerance)
    if "array" in expected:
        pairs = zip(given["array"], expected["array"], strict=True)
        return given["shape"] == expected["shape"] and all(_near(a, b, tolerance) for a, b in pairs)
    if "items" in expected:
        return all(_equal(a, b, tolerance) for a, b in zip(given["items"], expected["items"], strict=True))
    if "entries" in expected:
        found, wanted = given["entries"], expected["entries"]
        return found.keys() == wanted.keys() and all(_equal(found[key], wanted[key], tolerance) for key in wanted)
    return given == expected and not {"object", "large"} & expected.keys()


def _near(a: float | str, b: float | str, tolerance: Tolerance) -> bool:
    if isinstance(a, str) or isinstance(b, str):  # nan and the infinities
        return a == b
    return abs(a - b) <= tolerance.absolute + max(tolerance.relative, ROUNDING) * abs(b)


# --- in words -----------------------------------------------------------------------------------------------


def in_words(facts: Facts, digits: int = 4) -> str:
    """A value as a learner would write it, cut where it is long."""
    if "number" in facts:
        return _digits(facts["number"], digits)
    if "truth" in facts:
        return str(facts["truth"])
    if "text" in facts:
        return repr(facts["text"] if len(facts["text"]) < 80 else facts["text"][:77] + "...")
    if "nothing" in facts:
        return "None"
    if "array" in facts:
        return _array_in_words(facts, digits)
    if "items" in facts:
        return f"[{_cut([in_words(item, digits) for item in facts['items']])}]"
    if "entries" in facts:
        return f"{{{_cut([f'{key}: {in_words(item, digits)}' for key, item in facts['entries'].items()], 12)}}}"
    if "large" in facts:
        return f"{facts['large']} numbers, shape {_shape(facts)}"
    return f"an object of type {facts['object']}"


def _digits(number: float | str, digits: int) -> str:
    return number if isinstance(number, str) else f"{number:.{digits}g}"


def _shape(facts: Facts) -> str:
    return " x ".join(map(str, facts["shape"]))


def _cut(words: list[str], most: int = 8) -> str:
    return ", ".join(words[:most] + ([f"... {len(words)} in all"] if len(words) > most else []))


def _array_in_words(facts: Facts, digits: int) -> str:
    flat = f"[{_cut([_digits(number, digits) for number in facts['array']])}]"
    return flat if len(facts["shape"]) == 1 else f"{flat}, shape {_shape(facts)}"


def kind_in_words(facts: Facts) -> str:
    """What sort of value it is."""
    if "array" in facts or "large" in facts:
        length = facts["shape"][0]
        flat = f"a list of {length} number{'' if length == 1 else 's'}"
        return flat if len(facts["shape"]) == 1 else f"an array of shape {_shape(facts)}"
    if "items" in facts:
        return f"a list of {len(facts['items'])} things"
    kinds = {"nothing": "None", "number": "a number", "truth": "True or False", "text": "a string", "entries": "a dict"}
    return next((words for key, words in kinds.items() if key in facts), f"an object of type {facts.get('object')}")


def rounded(value: Any) -> Any:
    """The value with its floats, in lists, tuples and dicts, as they are shown: 4 digits, or tenths above 1000."""
    if type(value) is float:
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value] if isinstance(value, list) else tuple(map(rounded, value))
    return {key: rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def undefined(facts: Facts) -> bool:
    """Is it nan, or nothing but nan?"""
    if "array" in facts:
        return bool(facts["array"]) and set(map(str, facts["array"])) == {"nan"}
    parts = facts.get("items") or list(facts.get("entries", {}).values())
    return all(map(undefined, parts)) if parts else facts.get("number") == "nan"


def _kinds_differ(given: Facts, expected: Facts) -> str:
    kinds = kind_in_words(given), kind_in_words(expected)
    return "" if kinds[0] == kinds[1] else f"yours is {kinds[0]}; expected {kinds[1]}"


def _entry_in_words(key: str, given: Facts, expected: Facts) -> str:
    """Its name; of an entry that is there and has another shape, both shapes."""
    kinds = _kinds_differ(given, expected) if given and "nothing" not in given else ""
    return f"{key} ({kinds})" if kinds else key


def difference(given: Facts, expected: Facts, tolerance: Tolerance = DEFAULT) -> str:
    """Where two unequal values part, when that says more than the values: their kind, shape, entry or place."""
    if "nothing" in given:
        return "yours returns nothing: is a `return` missing?"
    if "entries" in given and "entries" in expected:
        found, wanted = given["entries"], expected["entries"]
        wrong = [key for key in wanted if key not in found or not equal(found[key], wanted[key], tolerance)]
        named = [_entry_in_words(key, found.get(key, {}), wanted[key]) for key in wrong]
        return f"what differs: {', '.join(named)}" if len(wanted) > 1 else ""
    if kinds := _kinds_differ(given, expected):
        return kinds
    if "array" in expected and len(expected["array"]) > 3:
        pairs = zip(given["array"], expected["array"], strict=True)
        wrong = [place for place, (a, b) in enumerate(pairs) if not _near(a, b, tolerance)]
        return f"{len(wrong)} of {len(expected['array'])} numbers differ, the first at position {wrong[0]}"
    return ""
