"""A pytest plugin for the grader's child, loaded before nbval: keeps out what nbval's requirements load for nothing."""

import sys

# jsonschema, when it finds this, builds a grammar of internationalised addresses: a CPU-second for each submission
sys.modules.setdefault("rfc3987_syntax", None)
