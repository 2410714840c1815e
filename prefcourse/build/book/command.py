"""`prefcourse book [-o OUT]`: the executed chapters, questions, syllabus and reference as a site. Runs no notebook.

Knows folders and Sphinx's settings. What stands on the pages is made by `pages`, `syllabus` and `reference`. The site
needs no network: MathJax, which draws the formulas as in JupyterLab, and the search are scripts beside the pages.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import prefcourse
from prefcourse.build.book import pages
from prefcourse.learner.course import CourseError, add_course, find, shown

NEEDED = {"sphinx": "Sphinx", "myst_nb": "myst-nb", "furo": "furo", "mathjax": "django-static-mathjax"}
MEND = "This line fixes it, in the course's folder:\n  pip install -c constraints.txt -e '.[book]'"
COLOURS = re.compile(r"\x1b\[[\d;]*m")
MATHJAX = "tex-svg-full.js"  # one file with all that it needs; the others load fonts and extensions later
HERE = Path(__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 done, 1 Sphinx warned or is missing, 2 no course, or no place for the book"
    where = "a folder that is new, empty, or an earlier book (default out/book)"
    parser.add_argument("-o", "--out", metavar="OUT", default="out/book", help=where)
    parser.add_argument("--no-exercises", action="store_true", help="leave the exercises' questions out")
    add_course(parser)


def main(args: argparse.Namespace) -> int:
    """Nothing is written unless all of it could be made without a warning."""
    if lacking := [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]:
        print(f"prefcourse book: not installed: {', '.join(lacking)}. {MEND}", file=sys.stderr)
        return 1
    try:
        course, out = find(args.course), place(Path(args.out))
        return build(course, out, exercises=not args.no_exercises)
    except (CourseError, OSError) as error:
        print(f"prefcourse book: {error}", file=sys.stderr)
        return 2


def place(out: Path) -> Path:
    """Where the book may be written: an earlier book is replaced, anything else stays."""
    if out.is_dir():
        if any(out.iterdir()) and not (out / "_static/book.css").is_file():
            raise CourseError(f"{out} is neither empty nor an earlier book; choose another place with -o")
    elif out.exists():
        raise CourseError(f"{out} is a file; give the name of a folder with -o")
    return out


def build(course: Path, out: Path, *, exercises: bool = True) -> int:
    """Made aside and moved when it is whole, so a failed build leaves an earlier book as it was."""
    with tempfile.TemporaryDirectory() as name:
        source, site = Path(name, "source"), Path(name, "site")
        pages.write(course, source, exercises=exercises)
        complaints = render(source, site)
        if complaints:
            print(complaints.replace(f"{source}/", ""), file=sys.stderr)
            print("prefcourse book: nothing was written, because of the above", file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(site, out, ignore=shutil.ignore_patterns(".buildinfo", ".doctrees", "_sources"))
    files = [path for path in out.rglob("*") if path.is_file()]
    count, size = sum(path.suffix == ".html" for path in files), sum(path.stat().st_size for path in files)
    print(f"{count} pages, {size / 1e6:.1f} MB. Open {shown(out / 'index.html')} in a browser.")
    return 0


def render(source: Path, site: Path) -> str:
    """Sphinx in this process, without a conf.py; what it warned about, in words."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    warnings = io.StringIO()
    work = {"srcdir": source, "confdir": None, "outdir": site, "doctreedir": site / ".doctrees"}
    with patch_docutils(), docutils_namespace():
        Sphinx(**work, buildername="html", confoverrides=settings(), status=None, warning=warnings).build()
    return COLOURS.sub("", warnings.getvalue()).strip()


def settings() -> dict:
    return {
        "project": "prefcourse",
        "release": prefcourse.__version__,
        "language": "en",
        "extensions": ["myst_nb", "sphinx.ext.mathjax", "prefcourse.build.book.extension"],
        "mathjax_path": MATHJAX,
        "mathjax3_config": {"options": {"enableMenu": False}},  # which makes each formula a stop of the Tab key
        "html_theme": "furo",
        "html_title": f"prefcourse {prefcourse.__version__}",
        "html_static_path": [str(HERE / "static"), str(files("mathjax") / "static/mathjax/es5" / MATHJAX)],
        "html_css_files": ["book.css"],
        "html_js_files": ["book.js"],
        "html_copy_source": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_show_copyright": False,
        "nb_execution_mode": "off",
        "nb_render_markdown_format": "myst",
        "smartquotes": False,
        "myst_enable_extensions": ["colon_fence", "dollarmath", "html_image"],
        "myst_heading_anchors": 4,
        "myst_heading_slug_func": "prefcourse.build.book.pages.anchor",
        "pygments_style": "a11y-high-contrast-light",
        "maximum_signature_line_length": 100,
        "toc_object_entries_show_parents": "hide",
        "add_module_names": False,
    }
