"""JupyterLab as `prefcourse start` starts it. Jupyter runs this file, with `get_config` among its globals.

What the pages look like is in labconfig/. Nobody else's Jupyter reads this folder: only that process is told of it.
"""

import logging
import warnings

import zmq

from prefcourse.widgets.saved import pre_save_hook

c = globals()["get_config"]()
c.FileContentsManager.pre_save_hook = pre_save_hook  # a figure is saved as a figure, not as a widget that is gone
c.ServerApp.answer_yes = True  # Ctrl-C needs no second one
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"  # nothing here asks the network
c.LabApp.extension_manager = "readonly"
c.LanguageServerManager.autodetect = False  # it would run npm, which writes into the home folder
c.KernelManager.transport_encryption = "auto" if zmq.has("curve") else "disabled"  # else each kernel prints a warning

# `prefcourse start` says what there is to say
c.ServerApp.log_level = c.LabApp.log_level = "ERROR"
logging.getLogger("ServerApp").addFilter(lambda record: "received signal" not in record.getMessage())
warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")  # by itself: Jupyter sets it twice
