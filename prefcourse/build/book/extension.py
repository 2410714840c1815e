"""What Sphinx learns here: formulas as MathML, and names of types that link to one thing or to nothing.

Browsers draw MathML themselves: no script, no font, no network. Docutils translates LaTeX strictly: a command that it
does not know is a warning, never a formula half right.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

SAME = {  # what authors write -> what docutils knows
    r"\dots": r"\ldots",
    r"\iff": r"\Longleftrightarrow",
    r"\bm": r"\boldsymbol",
    r"\stackrel": r"\overset",
    r"\textbf": r"\mathbf",
    r"\middle|": r"\mid",
    **{rf"\{size}": rf"\{size}l" for size in ("big", "Big", "bigg", "Bigg")},
    **{f"{{{name}*}}": f"{{{name}ed}}" for name in ("align", "gather")},
}
COMMAND = re.compile("|".join(rf"{re.escape(name)}(?![a-zA-Z])" for name in SAME))
SIGNATURE = re.compile(r'<dl>\s*<dd><em class="sig-param.*?</dl>', re.DOTALL)
LIST = re.compile(r"(</?)d[ld]\b")
POINT = re.compile(r"<mo>\.</mo>((?:\s|<m(?:frac|row|sub|sup)>)*<mn>)")
log = logging.getLogger(__name__)


def mathml(latex: str, *, block: bool) -> str:
    """MathError names the command that is not known."""
    formula = latex2mathml.tex2mathml(COMMAND.sub(lambda found: SAME[found[0]], latex), as_block=block)
    # to browsers a <mtext> is a space, so a minus after it would be a sign and lose the space around it
    formula = formula.replace("<mtext", '<mi mathvariant="normal"').replace("</mtext>", "</mi>")
    return POINT.sub(r"\1.", formula)  # .95 is one number


def write(translator, node: nodes.Element, *, block: bool) -> None:
    latex = node.astext().strip()
    try:
        formula = mathml(latex, block=block)
    except MathError as error:
        log.warning("formula %s: %s", latex, error, location=node)
        formula = ""
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def inline(translator, node: nodes.Element) -> None:
    write(translator, node, block=False)


def block(translator, node: nodes.Element) -> None:
    write(translator, node, block=True)


class UnambiguousTypes(SphinxPostTransform):
    """Sphinx looks for a type anywhere. Where several have its name, only the one in the same module will do."""

    default_priority = 5  # before references are resolved

    def run(self, **settings) -> None:
        known = [name.rpartition(".")[2] for name in self.env.domains.python_domain.objects]
        for reference in self.document.findall(pending_xref):
            if reference.get("refdomain") == "py" and known.count(reference["reftarget"]) > 1:
                reference.attributes.pop("refspecific", None)


def plain_signatures(app, page: str, template: str, context: dict, doctree) -> None:
    """A long signature is lines; Sphinx makes it a list of definitions without terms, which is read aloud as one."""
    if body := context.get("body"):
        context["body"] = SIGNATURE.sub(lambda found: LIST.sub(r"\1span", found[0]), body)


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.add_post_transform(UnambiguousTypes)
    app.connect("html-page-context", plain_signatures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
