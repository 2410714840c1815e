"""Does an answer lean on the package's own version of the function asked for? From source alone; runs nothing.

The package is the solution of some exercises. Names are followed through imports, aliases, `getattr`, `importlib` and
`sys.modules`. What this misses is seen by its code, where it runs (checks.origin), or meets a function without a body
(strip). Source that was copied out of the package is an answer like any other: it cannot be told from one's own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping


def package_use(
    answers: Mapping[str, str],
    helpers: Iterable[str],
    functions: Mapping[str, str],
    package: Mapping[str, tuple[str, ...]],
) -> dict[str, str]:
    """Exercise -> the package's function that its answer uses. `package`: exercise -> "module:name", what solves it."""
    trees = {number: _parsed(source) for number, source in answers.items()}
    others = [_parsed(source) for source in helpers]
    aliases = _aliases([*others, *trees.values()], {name for names in package.values() for name in names})
    found = {}
    for number, tree in trees.items():
        own, name = {name.replace(":", ".") for name in package.get(number, ())}, functions[number]
        used = own & {*_mentioned(tree, aliases), *([] if _defines(tree, name) else [aliases.get(name)])}
        if used:
            found[number] = min(used)
    return found


def road_to_package(
    number: str,
    answers: Mapping[str, str],
    helpers: Iterable[str],
    functions: Mapping[str, str],
    used: Iterable[str],
) -> list[str]:
    """From an exercise over the functions of others that its answer calls to the first of `used`; [] without one.
    What a helper cell defines is part of the answer that calls it."""
    roads, lent = [[number]], _lent(helpers)
    for road in roads:  # grows while it is walked: the shortest road first
        if len(road) > 1 and road[-1] in used:
            return road
        names = list(_names(_parsed(answers.get(road[-1], ""))))
        for name in names:  # grows while it is walked
            names += lent.get(name, set()) - set(names)
        met = {other for known in roads for other in known}
        roads += [[*road, other] for other, name in functions.items() if name in names and other not in met]
    return []


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _lent(helpers: Iterable[str]) -> dict[str, set[str]]:
    """What a helper cell binds, with the names in it."""
    lent: dict[str, set[str]] = {}
    for node in (node for source in helpers for node in _parsed(source).body):
        bound = {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else _names(node)
        lent |= {name: lent.get(name, set()) | _names(node) for name in bound}
    return lent


def _parsed(source: str) -> ast.Module:
    """Without magics; an empty module where Python cannot read it."""
    lines = ["pass" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return ast.Module([], [])


def _aliases(trees: list[ast.Module], package: set[str]) -> dict[str, str]:
    """Name -> the dotted path of the module or function that it stands for. Twice, for aliases of aliases."""
    aliases: dict[str, str] = {}
    for node in [node for tree in trees for node in ast.walk(tree)] * 2:
        aliases |= dict(_bound(node, aliases, package))
    return aliases


def _bound(node: ast.AST, aliases: dict[str, str], package: set[str]) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            if alias.name == "*":
                yield from ((n, f"{m}.{n}") for m, n in (name.split(":") for name in package) if m == node.module)
            else:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and (path := _path(node.value, aliases)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((target.id, path) for target in targets if isinstance(target, ast.Name))


def _path(node: ast.AST | None, aliases: dict[str, str]) -> str | None:
    """The dotted path that an expression stands for, if it can be read off."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _path(node.value, aliases)
        return f"{base}.{node.attr}" if base else None
    if isinstance(node, ast.Subscript) and _path(node.value, aliases) == "sys.modules":
        return _constant(node.slice)
    if isinstance(node, ast.Call) and node.args:
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called in ("import_module", "__import__"):
            return _constant(node.args[0])
        if called == "getattr" and len(node.args) > 1 and (base := _path(node.args[0], aliases)):
            return f"{base}.{_constant(node.args[1])}"
    return None


def _constant(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _mentioned(tree: ast.Module, aliases: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        loaded = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        if loaded and isinstance(node, ast.expr) and (path := _path(node, aliases)):
            yield path


def _defines(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))
