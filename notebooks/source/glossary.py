# The glossary. `prefcourse build glossary` lays the terms of prefcourse/glossary.toml here.

# %% [markdown] title
# # Glossary
#
# Every term of the course in plain words, with the chapter that introduces it, what it is called elsewhere, and the
# function or class of the package that computes it. In JupyterLab the list on the left (*View > Table of Contents*)
# leads to each term, and Ctrl-F searches. [Back to the map](README.ipynb).

# {{glossary}}
