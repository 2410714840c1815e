"""What Sphinx learns here about the reference: types that link to one thing or to nothing, signatures for all ears."""

from __future__ import annotations

import re

from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

SIGNATURE = re.compile(r'<dl>\s*<dd><em class="sig-param.*?</dl>', re.DOTALL)
LIST = re.compile(r"(</?)d[ld]\b")


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
    app.add_post_transform(UnambiguousTypes)
    app.connect("html-page-context", plain_signatures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
