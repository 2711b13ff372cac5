"""Runs one stage of `atomthink train tiny` that is no command of its own: KIND RECIPE."""

import logging
import sys
from pathlib import Path

import yaml

from atomthink_plugin.cli import INTERRUPTED
from atomthink_plugin.training.tiny.stages import KINDS

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
try:
    KINDS[sys.argv[1]](yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")))
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)  # the command that started the stage says so
