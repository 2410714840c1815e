"""Tests run offline, quiet and on one thread; the shapes in the signatures of the pure maths are checked."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("PREFCOURSE_CACHE", str(Path(__file__).parent.parent / ".pytest_cache" / "prefcourse"))
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
import torch  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

torch.set_num_threads(1)
# before the first import of these modules; the "tower" lets an int stand for a float, as Python does
install_import_hook(
    ["prefcourse.losses", "prefcourse.advantages", "prefcourse.logprobs"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
