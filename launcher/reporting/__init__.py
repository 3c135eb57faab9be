"""Reports of runs: one page that needs nothing else, and the same as Markdown."""

import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where it keeps its fonts; the screen is not its own
