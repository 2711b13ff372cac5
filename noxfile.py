"""Tasks of development: `nox -l` lists them, `nox -s quick` runs one, arguments follow `--`.

All sessions but `ci` and `vllm` use the environment that nox runs in (`pip install -e '.[test,docs]'`). The checks are
those of `.ci/run`.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "quick"]


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style and formatting with ruff."""
    session.run(".ci/check", "lint", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Checks types with mypy."""
    session.run(".ci/check", "types", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation into build/site; every warning is an error."""
    session.run(".ci/check", "docs", external=True)


@nox.session
def pages(session: nox.Session) -> None:
    """Regenerates the pages and tables of the documentation, and executes the notebook."""
    session.run("python", "docs/scripts/reference.py", external=True)
    session.run("python", "-m", "benchmarks.pages", external=True)
    session.run("python", "docs/scripts/notebook.py", external=True)


@nox.session
def quick(session: nox.Session) -> None:
    """Runs the tests that start no programs, servers or trainings."""
    session.run("pytest", "-m", "not slow", *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs all tests."""
    session.run("pytest", *session.posargs, external=True)


@nox.session
@nox.parametrize("python_version", ["3.11", "3.12", "3.13"])
def ci(session: nox.Session, python_version: str) -> None:
    """Runs everything that a change has to pass, in a new environment."""
    session.run(".ci/run", env={"PYTHON": python_version}, external=True)


@nox.session
def vllm(session: nox.Session) -> None:
    """Runs the tests on real vLLM, in an environment of their own."""
    with TemporaryDirectory() as place:
        session.run(".ci/vllm/run", f"{place}/venv", external=True)
