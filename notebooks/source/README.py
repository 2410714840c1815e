# The map of the course. `prefcourse build README` makes notebooks/README.ipynb; `prefcourse start` opens it.

# %% [markdown] map
# # prefcourse: the map
#
# RLHF, DPO and PPO from scratch, measured, on one CPU core. Nothing here needs a network or a GPU.
#
# **Three rooms.** A chapter is a *lesson* to read and run, *exercises* to write yourself, and *solutions* to compare
# with afterwards: notebooks of the same name in `notebooks/`, `exercises/` and `solutions/`. In a lesson, run the cells
# from the top with Shift-Enter. In an exercise, write the function, run its cell, then the check below it.
#
# **Begin** with chapter 1: it says what a language model is, and why one is not yet an assistant. Chapter 2 walks
# through the whole pipeline once. Whenever you like, try things in [the laboratory](laboratory.ipynb):
# annotators, methods and beta of your choice, training seen live. A word that you do not know is in
# [the glossary](glossary.ipynb).

# %% chapters
from prefcourse.learner.overview import course_map

course_map()

# %% [markdown] stuck
# ## When you are stuck
#
# | | |
# |---|---|
# | `NameError` | a cell above was not run: *Run > Run All Above Selected Cell* |
# | `NotWritten` | that exercise is waiting for you: write the body, run its cell, run the check again |
# | a check says NO | read the first case that fails and do it by hand; then the hints, one at a time |
# | the kernel has died or hangs | *Kernel > Restart Kernel and Run up to Selected Cell* |
# | you want to start an exercise over | `prefcourse reset 2.1` in a terminal (a dated copy of yours is kept) |
# | you lost track | run the cell above again, or `prefcourse status` in a terminal: what is solved, what comes next |
# | something is missing or odd | `prefcourse doctor` in a terminal: what it is, and the command that fixes it |
# | still stuck | the solved notebook in `solutions/` has the same name |
#
# A terminal: *File > New > Terminal*.

# %% [markdown] stop
# ## Stop, and come back tomorrow
#
# - **Stop:** save (Ctrl-S; JupyterLab also saves by itself), then *File > Shut Down*, or Ctrl-C in the terminal where you
#   typed `prefcourse start`. What you wrote, its outputs and your progress are kept.
# - **Come back:** type `prefcourse start` in the same folder (`make start`, if that is how you began). Your notebooks open as you
#   left them; only the variables are gone, so run the cells again from the top: *Run > Run All Cells*.
# - **A newer course:** install the newer prefcourse, then `prefcourse start` as always. It updates what you did not change
#   and puts the new edition of what you did change beside yours.
#
# These are ordinary notebooks: VS Code, plain `jupyter lab` and others can open them where prefcourse is installed. We
# test JupyterLab; elsewhere a widget may be replaced by its still picture.
