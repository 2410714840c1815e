"""The package's reference, read from its source: signatures as they were written, docstrings, code. Imports nothing.

Docstrings are Markdown. The directives are those of Sphinx's Python domain, so names are found by the search.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from prefcourse.checks.exercise import all_exercises

# the rooms of those who run the course; all others are for whoever takes it, and a new one is listed by itself
OFFSTAGE = {
    *("__main__", "cli", "build", "learner", "grading", "checks", "exercises", "experiments"),
    *("bench", "cache", "progress", "published", "report", "agreement_report"),
}
PROPERTIES = {"property", "functools.cached_property", "cached_property"}
SENTENCE_ENDS = re.compile(r"(?<=[.:;])\n(?=\S)")
ANSWER = "This answers exercise {number}: its code is not shown here."


def texts() -> dict[str, str]:
    """`{"reference/losses.md": ...}`: a page per room, and an index of them."""
    rooms = {name: files for name, files in all_rooms().items() if name not in OFFSTAGE}
    pages = {f"reference/{name}.md": page(name, files) for name, files in rooms.items()}
    return {"reference/index.md": index(rooms), **pages}


def all_rooms() -> dict[str, list[Path]]:
    """The modules of prefcourse, or the files of its subpackages, the one that opens a subpackage first."""
    package = Path(importlib.util.find_spec("prefcourse").origin).parent
    rooms = {path.stem: [path] for path in package.glob("*.py") if path.stem != "__init__"}
    rooms |= {path.parent.name: sorted(path.parent.glob("*.py")) for path in package.glob("*/__init__.py")}
    return dict(sorted(rooms.items()))


def index(rooms: dict[str, list[Path]]) -> str:
    rows = [f"| [`{name}`]({name}.md) | {first_sentence(files[0])} |" for name, files in rooms.items()]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *rooms, "```"])
    table = ["| module | what it is about |", "|---|---|", *rows]
    return "\n".join(["# Reference", "", OPENING, "", *table, "", tree, ""])


OPENING = """\
What the modules of `prefcourse` know, and what each function takes and returns. In the shapes, `B` is the batch, `T`
a token, `V` the vocabulary, `D` a width and `N` all responses: `Float[Tensor, "B T"]` is a table of numbers with a row
per response and a column per token."""


def first_sentence(file: Path) -> str:
    about = docstring(ast.parse(file.read_text(encoding="utf-8")))
    return re.split(r"(?<=\w[.)]) |\n", about.replace("|", r"\|"))[0]


def page(name: str, files: list[Path]) -> str:
    """A room. The part of a subpackage that has nothing to show is left out."""
    parts = [f"# {name}"]
    for file in files:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        module = f"prefcourse.{name}" if file == files[0] else f"prefcourse.{name}.{file.stem}"
        contents = [*names(tree, source), *definitions(tree, source, module)]
        if file == files[0] or contents:
            heading = [] if file == files[0] else [f"## {name}.{file.stem}"]
            parts += [*heading, fenced("py:module", module), docstring(tree), *offered(tree), *contents]
    return "\n\n".join(part for part in parts if part) + "\n"


def fenced(directive: str, argument: str, content: str = "") -> str:
    """Colons outside, more than any fence within has: a definition may hold definitions, and these code."""
    fence = ":" * (3 + max((len(found) - 2 for found in re.findall(r"^:{3,}", content, re.MULTILINE)), default=0))
    return "\n".join([f"{fence}{{{directive}}} {argument}", "", content, fence])


def docstring(node: ast.AST) -> str:
    """A sentence that ends its line ends it on the page, too: our docstrings list cases that way."""
    return SENTENCE_ENDS.sub("\\\\\n", ast.get_docstring(node) or "")


def offered(tree: ast.Module) -> list[str]:
    """What a subpackage gathers from its parts under its own name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            found = [item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)]
            return [f"**Offers** {', '.join(f'`{name}`' for name in found)}."] if found else []
    return []


def names(tree: ast.Module, source: str) -> Iterator[str]:
    """The public constants and types of a module as they were written, with the comments beside them."""
    lines = source.splitlines()
    found = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and is_short(node)]
    if found:
        code = [line for node in found for line in lines[node.lineno - 1 : node.end_lineno]]
        yield "\n".join(["```python", *code, "```"])


def is_short(node: ast.Assign | ast.AnnAssign) -> bool:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return is_public(getattr(target, "id", "_")) and node.end_lineno - node.lineno < 4


def is_public(name: str) -> bool:
    return not name.startswith("_")


def definitions(tree: ast.Module, source: str, module: str) -> Iterator[str]:
    for node in public(tree):
        yield class_(node, source) if isinstance(node, ast.ClassDef) else function(node, source, module)


def public(tree: ast.Module | ast.ClassDef) -> list[ast.FunctionDef | ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and is_public(node.name)]


def function(node: ast.FunctionDef, source: str, module: str) -> str:
    signature = f"{node.name}({arguments(node)}){returned(node)}"
    return fenced("py:function", signature, f"{docstring(node)}\n\n{code_of(node, source, module)}")


def method(node: ast.FunctionDef) -> str:
    if PROPERTIES & {ast.unparse(decorator) for decorator in node.decorator_list}:
        return fenced("py:property", node.name, docstring(node))
    return fenced("py:method", f"{node.name}({without_self(arguments(node))}){returned(node)}", docstring(node))


def arguments(node: ast.FunctionDef) -> str:
    return ast.unparse(node.args)


def without_self(written: str) -> str:
    return re.sub(r"^(self|cls)(, |$)", "", written)


def returned(node: ast.FunctionDef) -> str:
    return f" -> {ast.unparse(node.returns)}" if node.returns else ""


def class_(node: ast.ClassDef, source: str) -> str:
    """A class with its fields as they were written, or what it is made from, and its public methods."""
    lines, fields = source.splitlines(), [item for item in node.body if isinstance(item, ast.AnnAssign)]
    code = [line.strip() for field in fields for line in lines[field.lineno - 1 : field.end_lineno]]
    made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    given = f"({without_self(arguments(made[0]))})" if made else ""
    written = ["\n".join(["```python", *code, "```"])] if code else []
    methods = [method(item) for item in public(node) if isinstance(item, ast.FunctionDef)]
    return fenced("py:class", f"{node.name}{given}", "\n\n".join([docstring(node), *written, *methods]))


def code_of(node: ast.FunctionDef, source: str, module: str) -> str:
    """Folded away; and not at all where it is the answer to an exercise."""
    if number := answered().get(f"{module}:{node.name}"):
        return ANSWER.format(number=number)
    first, lines = min([node.lineno, *(d.lineno for d in node.decorator_list)]), source.splitlines()
    code = lines[first - 1 : node.end_lineno]
    if ast.get_docstring(node) and len(node.body) > 1:
        about = node.body[0]
        del code[about.lineno - first : about.end_lineno - first + 1]
    return "\n".join(["<details><summary>Code</summary>", "", "```python", *code, "```", "", "</details>"])


@functools.cache
def answered() -> dict[str, str]:
    """Which function of the package answers which exercise."""
    return {where: exercise.number for exercise in all_exercises() for where in exercise.package}
