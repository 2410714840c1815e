# The laboratory, open to everybody. `prefcourse build laboratory` makes notebooks/laboratory.ipynb.

# %% [markdown] laboratory
# # The laboratory
#
# Here nothing is taught and everything can be tried: who labels, how many pairs, which method, how strong the pull to
# the reference. Runs stay on the plane of gold against KL, so that you can compare them. The chapters explain why they
# end where they do; begin with chapter 2.
#
# **Time.** A minute or two for the first run, seconds for those after it.

# %% setup
import torch

from prefcourse import evaluate, models, train
from prefcourse.lab import lab
from prefcourse.widgets import Laboratory, live, samples

torch.set_num_threads(1)
here = lab(seed=0)  # the SFT model: trained once, then kept

# %% [markdown] panel-text
# Choose, press *Train*, watch score, gold, KL, length and five answers. beta can be moved while it trains; *Stop* keeps
# what was learned. Three things to try:
#
# 1. PPO with beta 0 and many steps: when does gold turn down while the score goes on rising?
# 2. The same with people who love flattery: what do the answers say?
# 3. Best-of-n: how far does it get without any training, and at what KL?

# %% panel
# NBVAL_IGNORE_OUTPUT
Laboratory(here)

# %% [markdown] live-text
# ## Your own loop, seen live
#
# `live` shows any training loop of the course while it runs: its metrics, the time left, and answers that change. The
# square button in the toolbar stops it; the model keeps what it has learned, and the cell goes on. Change what you like:
# the score below is the true reward, which no real project has.

# %% live
# NBVAL_IGNORE_OUTPUT
policy, gold = models.trainable_copy(here.sft), evaluate.gold_score(here.world)
loop = train.ppo(policy, here.sft, here.tokenizer, here.prompts, gold, beta=0.1, iterations=20, seed=0)
log = live(loop, answers=samples(policy, here.tokenizer, here.prompts[:3], here.world))

# %% [markdown] live-after
# With the truth as the score nothing can be hacked, and gold has no peak to fall from. Chapter 12 shows what changes
# when a reward model takes its place.
