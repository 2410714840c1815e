# The map of the course. `prefcourse build README` makes notebooks/README.ipynb.

# %% [markdown] map
# # prefcourse: the map
#
# RLHF, DPO and PPO from scratch, measured, on one CPU core. A chapter is a walk-through in `notebooks/`, with exercises
# of the same name in `exercises/` and their solutions in `solutions/`.
#
# | chapters | |
# |---|---|
# | **2 [Preference Optimization Overview](02_preference_optimization_overview.ipynb)** | **here** |
# | *Part I, the pipeline:* 1 Why Alignment? · 3 DPO Theory · 4 DPO Implementation | planned |
# | 5 DPO Hyperparameters · 6 Reward Model Training · 7 Label Noise · 8 KL Control | planned |
# | 9 PPO Theory · 10 PPO Implementation · 11 PPO against DPO · 12 Reward Hacking | planned |
# | *Part II, how it fails:* 13 Length Bias · 14 Mode Collapse · 15 Reward Collapse | planned |
# | 16 Catastrophic Forgetting · 17 Best-of-n · 18 SFT as Policy Improvement | planned |
# | *Part III, beyond:* 19 The DPO Family · 20 Critic-free RL · 21 Verifiable Rewards | planned |
# | 22 Constitutional AI and RLAIF · 23 Evaluation · 24 Capstone | planned |
#
# **Begin** with chapter 2: it walks the whole pipeline once and needs no other chapter.
#
# **Then** open `exercises/02_preference_optimization_overview.ipynb`.
#
# **Nothing here needs a network or a GPU.** Run cells with Shift-Enter, from the top.

# %% [markdown] stuck
# ## When you are stuck
#
# | | |
# |---|---|
# | `NameError` | a cell above was not run: *Run > Run All Above Selected Cell* |
# | `NotWritten` | that exercise waits for you: write the body, run its cell, run the check again |
# | a check says NO | read the first case that fails and do it by hand; then the hints, one at a time |
# | the kernel died or hangs | *Kernel > Restart Kernel and Run up to Selected Cell* |
# | you want an exercise afresh | `prefcourse reset 2.1` in a terminal (a dated copy of yours is kept) |
# | you lost track | `prefcourse status` in a terminal: what is solved, and what comes next |
# | still stuck | the solved notebook in `solutions/` has the same name |
