"""The warm process: it has imported what the commands need, and forks for each command that a client passes on.

A fork has the client's arguments, working directory, environment and standard streams. It calls the function that the
console script calls, and ends with its status. Another fork supervises it: it passes signals on, kills it if the client
is gone, and reports its exit status.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
from importlib import import_module, invalidate_caches
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

MODULES = (
    "scipy.stats", "sklearn.metrics", "sympy", "pyarrow.parquet", "latex2sympy2_extended", "math_verify", "nltk",
    "torch", "torch._dynamo", "torchvision", "transformers", "transformers.modeling_utils", "transformers.pipelines",
    "transformers.trainer", "accelerate", "datasets", "evaluate", "openai", "peft", "trl", "altair", "jinja2",
    "lmms_eval.tasks",
)  # fmt: skip
"""Imported before the forks. None of them loads entry points or depends on the working directory."""

READ_ON_IMPORT = (
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH", "PYTORCH_", "OMP_", "TOKENIZERS_", "CUDA_", "LOGURU_",
    "ACCELERATE_LOG", "OPENAI_LOG", "OPENAI_API_TYPE", "NLTK_DATA", "LM_HARNESS", "LANG", "LC_",
)  # fmt: skip
"""Variables that these modules read when they are imported, by their beginnings. They read XDG_CACHE_HOME only where
HF_HOME is not set; the tests always set it."""


STARTED_WITH = dict(os.environ)


class Command(NamedTuple):
    arguments: list[str]
    folder: str
    environment: dict[str, str]


def imported_alike(environment: dict[str, str]) -> bool:
    """Says whether the modules would be the same if they were imported in an environment."""
    names = [name for name in {*environment, *STARTED_WITH} if name.startswith(READ_ON_IMPORT)]
    # The environment of a fork, and of all it starts, has what the imports themselves have set.
    return all(environment.get(name) in (STARTED_WITH.get(name), os.environ.get(name)) for name in names)


def parse_task_files_faster() -> None:
    """Makes YAML use libyaml: lmms-eval parses 3,000 task files at each start."""
    import yaml
    from yaml.cyaml import CParser

    class Loader(CParser, yaml.FullLoader):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            CParser.__init__(self, stream)
            self.name = getattr(stream, "name", "<string>")  # which functions a file names depends on its folder
            yaml.constructor.FullConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    yaml.FullLoader = Loader  # type: ignore[misc]


def serve(listener: socket.socket) -> Command | None:
    """Answers clients until standard input ends. Returns None then, and the command in the fork that runs it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for supervisors
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return supervise(client)
        client.close()
    return None


def supervise(client: socket.socket) -> Command:
    """Forks for a command and stays until it has ended; returns only in the fork."""
    size, streams, _, _ = socket.recv_fds(client, 4, 3)
    command = Command(*json.loads(received(client, int.from_bytes(size, "big"))))
    if not can_run(command):
        client.sendall(b"cold")
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        return command
    end = os.pidfd_open(pid)
    while end not in select.select([client, end], [], [])[0]:
        number = client.recv(1)
        if not number:
            os.killpg(pid, signal.SIGKILL)
            break
        os.kill(pid, number[0])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.sendall(str(status).encode())
    os._exit(0)


def received(client: socket.socket, size: int) -> bytes:
    with client.makefile("rb") as stream:
        return stream.read(size)


def can_run(command: Command) -> bool:
    """Says whether a fork would do the same as a new process."""
    program, first = [*command.arguments, "-i"][:2]
    options = Path(program).name == "python" and first.startswith("-") and first not in ("-", "-c", "-m")
    return not options and imported_alike(command.environment)


def become(command: Command) -> None:
    """Takes on the command's working directory, environment and arguments."""
    set_by_imports = {name: value for name, value in os.environ.items() if STARTED_WITH.get(name) != value}
    inherited = search_path(STARTED_WITH)
    os.chdir(command.folder)
    os.environ.clear()
    os.environ.update({**set_by_imports, **command.environment})
    sys.path[:] = [*search_path(command.environment), *(path for path in sys.path if path not in inherited)]
    sys.argv = command.arguments
    invalidate_caches()


def search_path(environment: dict[str, str]) -> list[str]:
    return [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]


def run() -> None:
    """Does what the interpreter does with `sys.argv`."""
    program = Path(sys.argv[0])
    if program.name != "python":
        sys.path.insert(0, str(program.parent))
        (script,) = entry_points(group="console_scripts", name=program.name)
        sys.exit(script.load()())
    sys.argv = sys.argv[1:]
    match sys.argv:
        case "-m", module, *_:
            sys.argv = sys.argv[1:]
            sys.path.insert(0, os.getcwd())
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c", code, *_:
            sys.argv = ["-c", *sys.argv[2:]]
            execute(code, "<string>")
        case "-", *_:
            execute(sys.stdin.read(), "<stdin>")
        case file, *_:
            sys.path.insert(0, str(Path(file).resolve().parent))
            runpy.run_path(file, run_name="__main__")


def execute(code: str, name: str) -> None:
    sys.path.insert(0, "")
    sys.modules["__main__"] = main = ModuleType("__main__")
    exec(compile(code, name, "exec"), vars(main))


def status_of_run() -> int:
    """Runs the command. Returns its exit status, and prints what the interpreter would print."""
    try:
        run()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def end(status: int) -> NoReturn:
    """Ends as forks of `multiprocessing` do: tearing down all that was imported would take seconds."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    folder, number = sys.argv[1:]
    listener = socket.socket(fileno=int(number))
    parse_task_files_faster()
    for name in MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()  # what is imported is not collected again in each fork
    command = serve(listener)
    if command is None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    become(command)
    end(status_of_run())
