"""A stand-in for `latex2sympy2` where it is installed but cannot be imported.

lmms-eval's built-in `mathvision`, `emma` and `stare` scorers import `latex2sympy2`, its `_reasoning` scorers
import math-verify, and no pair of releases of the two agrees on an antlr runtime. math-verify brings
`latex2sympy2_extended`, which offers the same function. Can go when lmms-eval needs only one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

NAME: Final = "latex2sympy2"
STAND_IN: Final = "latex2sympy2_extended.latex2sympy2"


def install() -> None:
    """Makes `import latex2sympy2` fall back on its stand-in; imports neither now."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        spec = PathFinder.find_spec(fullname, path) or ModuleSpec(fullname, None)
        spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs the real module and, if that fails, fills the module from the stand-in."""

    def __init__(self, real: Loader | None) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves making the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            if self._real is None:
                raise ModuleNotFoundError(f"No module named {NAME!r}", name=NAME)
            self._real.exec_module(module)
        except Exception as error:
            try:
                stand_in = import_module(STAND_IN)
            except ImportError:
                raise error from None
            public = {key: value for key, value in vars(stand_in).items() if not key.startswith("__")}
            vars(module).update(public)
