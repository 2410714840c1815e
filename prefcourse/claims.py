"""What the text says of a run, computed: each sentence with its verdict, and a stop where one is false."""

from __future__ import annotations

from collections.abc import Mapping


def claims(verdicts: Mapping[str, bool]) -> None:
    """Print every sentence that holds; AssertionError naming those that do not.

    claims({"PPO is half a point of gold above SFT": ppo.gold.mean > sft.gold.mean + 0.5})
    """
    for sentence, holds in verdicts.items():
        print(f"{'✓' if holds else '✗ false:'} {sentence}")
    if false := [sentence for sentence, holds in verdicts.items() if not holds]:
        raise AssertionError(f"the text says what this run does not show: {'; '.join(false)}")
