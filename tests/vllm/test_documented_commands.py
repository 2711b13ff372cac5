"""The options of `vllm serve` in the documentation and the examples are ones that vLLM has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.fences import PAGES, ROOT, arguments, command_lines, fences

SCRIPTS = sorted(path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.sh"))


def typed(text: str) -> Iterator[list[str]]:
    """Yields the arguments of `vllm serve` in the fences and the table cells of a page, or in a script."""
    text = re.sub(r"\$\(\(.*?\)\)", "8000", text)  # sums of a script
    codes = [fence.code for fence in fences(text) if fence.language != "text"] or [text]
    for command in command_lines("\n".join([*codes, *re.findall(r"`(vllm serve [^`]+)`", text)])):
        words = arguments(command, "vllm")
        if words is not None and words[:1] == ["serve"] and "--help" not in words:
            yield words[1:]


@pytest.fixture(scope="module")
def parser() -> Any:
    """The parser of the command `vllm`, with `serve` alone."""
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    subparsers = parser.add_subparsers()
    for command in cmd_init():
        command.subparser_init(subparsers)
    return parser


@pytest.mark.parametrize("file", [*PAGES, *SCRIPTS], ids=str)
def test_options_of_vllm_serve_exist(parser: Any, file: Path) -> None:
    for words in typed((ROOT / file).read_text(encoding="utf-8")):
        parser.parse_args(["serve", *words])


def test_engine_arguments_of_ray_serve_exist(parser: Any) -> None:
    """Ray passes them to vLLM under the names of the options of `vllm serve`."""
    config = yaml.safe_load((ROOT / "examples" / "cluster" / "ray_serve.yaml").read_text(encoding="utf-8"))
    (model,) = config["applications"][0]["args"]["llm_configs"]
    for name, value in model["engine_kwargs"].items():
        option = f"--{name.replace('_', '-')}"
        parser.parse_args(["serve", "MODEL", *([option] if value is True else [option, str(value)])])


def test_an_option_that_vllm_does_not_have_is_refused(parser: Any) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["serve", "MODEL", "--enable-prompt-token-details"])
