"""Runs one stage of `atomthink train tiny` in a process of its own; arguments: KIND RECIPE."""

import logging
import sys
from pathlib import Path

import yaml

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import INTERRUPTED
from atomthink_plugin.training.tiny.stages import KINDS

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
try:
    KINDS[sys.argv[1]](yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")))
except AtomThinkError as error:
    print(f"atomthink: {error}", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)  # the parent process prints the message
