"""No secret is kept or shown, in any letter case; no text of others commands the terminal."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from atomthink_plugin import redaction
from atomthink_plugin.api import AtomThinkError, Failure, Message, Outcome, Prompt, Question, QuestionError
from atomthink_plugin.cli import main
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.lmms_base import show_logs
from atomthink_plugin.redaction import MASK, PrintableFormatter, printable, redact, remember
from atomthink_plugin.report.packed_data import packed
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.testing import ScriptedPolicy

KEY = "sk-Echoed-0123456789abcdef"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize(
    "shown",
    [KEY, KEY.upper(), KEY.lower(), KEY[:12], KEY[:15].upper(), KEY[:-1], f"{KEY} {KEY}", f"{KEY[:13]}...{KEY[-4:]}"],
)
def test_a_secret_and_its_prefixes_are_cut_out(shown: str) -> None:
    text = redact(f"The key is {shown}, as you know.")
    assert KEY[:12].lower() not in text.lower()
    assert text.startswith(f"The key is {MASK}")
    assert text.endswith(", as you know.")


def test_a_shorter_prefix_and_what_only_begins_alike_stay() -> None:
    assert redact(f"{KEY[:11]} and sk-Echo") == f"{KEY[:11]} and sk-Echo"
    assert redact(f"{KEY[:12]}x{KEY[13:]}") == f"{MASK}x{KEY[13:]}"


@pytest.mark.parametrize("local", ["none", "NONE", "test", "EMPTY", "secret", "x", "", "anything", "1234567"])
def test_the_key_of_a_server_of_ones_own_cuts_nothing_out_of_replies(
    monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", local)
    text = f"There is none; the test is empty: {local} x 1234567 anything."
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AZURE_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "db_password"],
)
def test_whatever_is_named_like_a_secret_is_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f" {name}-4711-4712\n")
    assert redact(f"<{name.lower()}-4711-4712>") == f"<{MASK}>"


def test_other_variables_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "certainly-not")
    monkeypatch.setenv("MONKEY", "a long-tailed animal")
    text = "certainly-not a long-tailed animal"
    assert redact(text) == text


def test_passwords_of_proxies_and_typed_keys_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:pass-4711-word@proxy:3128")
    remember({"api_key": "typed-4711-key", "model": "gpt-4711-model", "token": "short"})
    text = "http://user:pass-4711-word@proxy typed-4711-key gpt-4711-model short"
    assert redact(text) == f"http://user:{MASK}@proxy {MASK} gpt-4711-model short"


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "UV_DEFAULT_INDEX", "ALL_PROXY"])
def test_passwords_of_all_addresses_are_secrets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "https://user:pass-4711-word@mirror.example/hub")
    assert redact("to https://user:pass-4711-word@mirror.example") == f"to https://user:{MASK}@mirror.example"


def test_an_address_that_cannot_be_read_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://[bad")
    assert redact("to http://[bad") == "to http://[bad"


def test_a_token_file_that_cannot_be_read_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "file" / "token"))
    redaction._hub_token.cache_clear()
    try:
        assert redaction._hub_token() == ""
    finally:
        redaction._hub_token.cache_clear()


@given(st.text(), st.integers(12, len(KEY)), st.text())
def test_no_text_around_it_saves_a_secret(before: str, length: int, after: str) -> None:
    assert KEY[:12].lower() not in redact(before + KEY[:length] + after).lower()


# --- the terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jclean", "clean"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("a\x1b(0b\x1bcc\x1b", "abc"),
        ("one\rtwo\x08\x7f\x00\x07", "onetwo"),
        ("\u202eturned\u202c \u2066round\u2069", "turned round"),
        ("line\n\tnext", "line\n\tnext"),
        ("數 שלום café \\frac{1}{2}", "數 שלום café \\frac{1}{2}"),
    ],
)
def test_terminal_commands_are_cut_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.sampled_from("\x1b\x9b[]0;1mJ\x07\\\x9d ab\n")))
def test_nothing_printable_has_control_characters(text: str) -> None:
    assert not set(printable(text)) - set("[]0;1mJ\\ ab\n")


FOREIGN = f"\x1b]0;owned\x07\x1b[2J{KEY.upper()} said"


def test_errors_and_logs_are_printable(capsys: pytest.CaptureFixture[str], tmp_path: FilePath) -> None:
    for error in (AtomThinkError(FOREIGN), QuestionError(FOREIGN)):
        assert str(error) == f"{MASK} said"
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "plugin: %s", (ValueError(FOREIGN),), None)
    assert PrintableFormatter("%(message)s").format(record) == f"plugin: {MASK} said"
    assert main(["view", str(tmp_path / FOREIGN.replace("/", ""))]) == 2
    printed = capsys.readouterr().err
    assert "said" in printed
    assert not {"\x1b", "\x07"} & set(printed)
    assert KEY.lower() not in printed.lower()


@pytest.mark.slow
def test_warnings_of_commands_are_printable(tmp_path: FilePath) -> None:
    info = tmp_path / "rude-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rude\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[atomthink_plugin]\nrude = rude_module\n")
    (tmp_path / "rude_module.py").write_text(f"raise RuntimeError({FOREIGN!r})")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from atomthink_plugin.cli import main\n"
        "main(['demo', '--limit', '1', '--modes', 'direct'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if "rude_module" in line]
    assert line.endswith(f"RuntimeError: {MASK} said")


def test_lines_of_the_harness_log_are_printable() -> None:
    show_logs()
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    try:
        logging.getLogger("atomthink_plugin.anything").warning("the server says: %s", FOREIGN)
    finally:
        logger.remove(sink)
    assert lines == [f"the server says: {MASK} said\n"]


def test_tables_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    print_grid(Grid(FOREIGN, ("name",), [(FOREIGN,)], caption=FOREIGN))
    assert [line.rstrip() for line in capsys.readouterr().out.split("\n") if "said" in line] == [f"{MASK} said"] * 3


@pytest.mark.parametrize("value", ["12345678", "123456789012345"])
def test_numbers_and_files_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath, value: str) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", value)
    monkeypatch.setenv("SSH_KEY", str(tmp_path))
    text = f"Step 1: The sum is {value}. The journal {tmp_path}/run cannot be written."
    assert redact(text) == text


@pytest.mark.parametrize("secret", ["sk-a\"b<c&d'e\\f/0123456789", "ababababababab-SECRET-99", "aaaaaaaaaaaaaaaaaaaab"])
def test_a_secret_of_any_characters_is_cut_out_whole(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    assert redact(f"It is {secret[:2]}{secret}.").endswith(f"{MASK}.")
    for written in (json.dumps({"it is": secret}), repr(secret), repr({"it is": secret})):
        assert secret[-6:] not in redact(written)
    assert json.loads(redact(json.dumps({"it is": secret}))) == {"it is": MASK}


def test_markers_of_a_tokenizer_are_no_secrets() -> None:
    remember({"image_token": "<|image_pad|>", "api_key": "sk-typed-0123456789"})
    assert redact("<|image_pad|> sk-typed-0123456789") == f"<|image_pad|> {MASK}"


@given(st.text(alphabet="\x1b\x9d\x90\x07\x9c[]\\ab", max_size=200))
def test_no_control_character_is_left(text: str) -> None:
    assert set(printable(text)) <= set("[]\\ab")


def test_a_server_is_quoted_in_a_time_that_is_linear_in_its_words() -> None:
    # Each opens a command for the terminal; looked for up to the end of the text, they would take hours.
    assert printable("\x9d" * 2_000_000) == ""


def test_a_typed_key_is_neither_in_the_journals_settings_nor_part_of_its_name() -> None:
    def identity(key: str) -> object:
        typed = {"base": "openai", "base_args": {"api_key": key, "headers": [{"token": key}], "model": "m"}}
        return plan("lmms", {**typed, "format": "atomic"}).identity

    assert identity("sk-typed-0123456789") == identity("sk-other-0123456789")
    assert "'model': 'm'" in str(identity("sk-typed-0123456789"))


# --- what is kept --------------------------------------------------------------------------------


def test_a_reply_that_echoes_the_key_is_kept_and_returned_without_it(tmp_path: FilePath) -> None:
    def fails(prompt: Prompt) -> None:
        if "fail" in prompt.session and prompt.depth:
            raise RuntimeError(f"HTTP 500: {FOREIGN}")

    step, last = f"Step 1: My key is {KEY}.", f"Step 2: The final answer is: {KEY.lower()}."
    tree = {"": {step: 1.0}, step.replace(KEY, MASK): {last: 1.0}}
    chosen = plan("transformers", {"pretrained": "any", "thinking": "quick"})
    journal = Journal(tmp_path, "run", {})
    runner = Runner(ScriptedPolicy(tree, fails=fails), None, Continue(), chosen.search, chosen.settings, journal)
    done, failed = runner.run([Question(name, (Message("user", ("Say it.",)),)) for name in ("do", "fail")])
    assert isinstance(done, Outcome)
    assert isinstance(failed, Failure)
    assert done.steps == (f"Step 1: My key is {MASK}.", f"Step 2: The final answer is: {MASK}.")
    assert failed.reason == f"RuntimeError: HTTP 500: {MASK} said"
    journal.close()
    (answers,) = tmp_path.rglob("partial_rank0.jsonl")  # of the question that failed
    assert "My key is" in answers.read_text()
    kept = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "My key is" in kept
    assert KEY.lower() not in kept.lower()


def test_pages_of_runs_that_kept_a_key_do_not_show_it() -> None:
    assert packed({"reply": f"It is {KEY}."}) == packed({"reply": f"It is {MASK}."})
    assert json.loads(redact(json.dumps({"reply": KEY}))) == {"reply": MASK}
