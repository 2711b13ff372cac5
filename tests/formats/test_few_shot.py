"""Examples as turns around other formats."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Example, Format, Message, Outcome, Path, Prompt, Question, Step
from atomthink_plugin.config import plan
from atomthink_plugin.examples.example_file import _decoded
from atomthink_plugin.examples.few_shot_format import few_shot_format
from atomthink_plugin.examples.fixed import FixedExamples
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION, Continue
from atomthink_plugin.formats.few_shot import FewShot
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.requests import prompt_digest
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy
from tests.examples.example_files import SUMS, asked, record, solved, write_examples
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import settings

STAGED = Example("How long?", tuple(f"<{name}> 7 </{name}>" for name in STAGES), "7")


def prepared(form: Format, *examples: Example) -> Format:
    few = FewShot(form, "digest", len(examples), "fixed", FixedExamples(examples))
    return asyncio.run(few.for_question(asked("What is q?"), ScriptedPolicy({})))


def after(*steps: str) -> Path:
    path = Path(asked("What is q?"))
    for step in steps:
        path = path.extend(Step(step))
    return path


def test_examples_are_turns_and_the_last_one_is_next_to_the_question() -> None:
    image = Image.new("RGB", (2, 2))
    first, last = replace(solved(SUMS[0], "7"), images=(image,)), solved(SUMS[1], "9")
    form = prepared(Continue(), first, last)
    prompt = form.render(after("Step 1: Read red = 1."))
    assert [turn.role for turn in prompt.messages] == ["user", "assistant"] * 2 + ["user"]
    assert prompt.messages[0].parts == (image, SUMS[0], f"\n{CONTINUE_INSTRUCTION}")
    assert prompt.messages[1].parts == ("Step 1: Read red = 4.\n\nStep 2: To sum up, the final answer is: 7.",)
    assert prompt.messages[3].parts == ("Step 1: Read red = 4.\n\nStep 2: To sum up, the final answer is: 9.",)
    alone = Continue().render(after("Step 1: Read red = 1."))
    assert prompt.messages[4:] == alone.messages
    assert (prompt.begun, prompt.stops) == (alone.begun, alone.stops)


def test_the_systems_turns_stay_first() -> None:
    question = Question("q", (Message("system", ("Be short.",)), Message("user", ("What is q?",))))
    turns = prepared(Continue(), solved(SUMS[0])).render(Path(question)).messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]


def test_a_format_with_a_turn_for_each_step_shows_the_step_at_the_same_place() -> None:
    form, example = prepared(Atomic(), solved(SUMS[0])), Path(asked(SUMS[0]))
    read, conclude = solved(SUMS[0]).steps
    for path, shown, reply in [
        (after(), example, read),
        (after("Step 1: a"), example.extend(Step(read)), conclude),
        (after("Step 1: a", "Step 2: b"), example.extend(Step(read)), conclude),
    ]:
        user, assistant, last = form.render(path).messages
        assert (user,) == Atomic().render(shown).messages
        assert assistant.parts == (reply,)
        assert (last,) == Atomic().render(path).messages


def test_stages_are_joined_as_the_format_joins_them() -> None:
    form = prepared(Stages(), STAGED)
    assert form.render(after()).messages[1].parts == ("\n\n".join(STAGED.steps),)
    unit = form.unit(after())
    assert unit is not None
    assert unit.name == "SUMMARY"
    assert form.answer("<CONCLUSION> 7 </CONCLUSION>") == "7"


@pytest.mark.parametrize("form", [Continue(), Atomic(), Stages()])
def test_without_examples_it_is_the_other_format(form: Format) -> None:
    few = FewShot(form, "", 3, "fixed", FixedExamples(()))
    assert few.render(after()) == form.render(after())
    unit, own = few.unit(after()), form.unit(after())
    assert unit is not None
    assert own is not None
    assert (unit.name, unit.joint, unit.tokens) == (own.name, own.joint, own.tokens)


def few_shot(file: FilePath, **typed: Any) -> Any:
    run = {"pretrained": "ORG/MODEL", "format": "few_shot", "format_examples": str(file), **typed}
    return plan("transformers", run)


def examples_file(folder: FilePath, **more: Any) -> FilePath:
    records = [record(solved(text), str(i), **more) for i, text in enumerate(SUMS)]
    return write_examples(folder / "examples.jsonl", records)


def test_every_question_gets_its_own_examples(tmp_path: FilePath) -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: "Step 1: To sum up, the final answer is: 7.")
    chosen = few_shot(examples_file(tmp_path), format_k="1")
    runner = Runner(policy, None, chosen.format, quick(), settings())
    asks = {"a": "Multiply green by blue.", "b": "How long is CD?", "c": "Is AB long?"}
    results = runner.run([asked(text, id=id) for id, text in asks.items()])
    assert all(isinstance(result, Outcome) and result.answer == "7" for result in results)
    nearest = {prompt.session: prompt.messages[0].parts[0] for prompt in policy.asked}
    assert nearest == {"a": SUMS[2], "b": SUMS[3], "c": SUMS[3]}


def test_the_identity_of_a_run_has_the_examples_and_how_they_are_chosen(tmp_path: FilePath) -> None:
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    file = examples_file(tmp_path, images=["a.png"])
    before = few_shot(file).identity["format"]
    assert before["fields"]["form"] == {"name": "Continue", "instruction": CONTINUE_INSTRUCTION}
    assert few_shot(file).identity["format"] == before
    for other in ({"format_nearest": "fixed"}, {"format_k": "2"}, {"format_form": "atomic"}):
        assert few_shot(file, **other).identity["format"] != before
    Image.new("RGB", (2, 2), "blue").save(tmp_path / "a.png")
    with_another_image = few_shot(file).identity["format"]
    assert with_another_image["fields"]["examples"] != before["fields"]["examples"]
    file.write_text(file.read_text().replace("7", "8"))
    assert few_shot(file).identity["format"]["fields"]["examples"] != with_another_image["fields"]["examples"]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({"format_nearest": "cosine"}, "format_nearest=cosine"),
        ({"format_form": "haiku"}, "format_form=haiku"),
        ({"format_form": "few_shot"}, "format_form=few_shot"),
        ({"format_form": "stages"}, "format_form=stages"),
        ({"format_form": "arrow"}, "format_form=arrow"),
        ({"format_k": "0"}, "format_k=0"),
        ({"format_examples": "absent.jsonl"}, "format_examples=absent.jsonl"),
        ({"format_examples": None}, "format_examples"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(typed: dict[str, Any], named: str, tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match=named):
        few_shot(examples_file(tmp_path), **typed)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": []}, "line 1.*steps"),
        ({"answer": ""}, "line 1.*answer"),
        ({"images": ["absent.png"]}, "line 1.*absent.png"),
        ({"images": ["examples.jsonl"]}, "line 1.*examples.jsonl(?!.*0x)"),
        ({"steps": ["Step 1: Read red = 4."]}, "Read red"),
        ({"steps": ["Step 1: Read.\n\nStep 2: Add.", "Step 3: The answer is 7."]}, "Add"),
    ],
)
def test_a_line_that_is_no_example_is_named(change: dict[str, Any], named: str, tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match=named):
        few_shot(examples_file(tmp_path, **change))


def test_it_is_no_format_that_a_prm_can_be_trained_in() -> None:
    assert registry().formats["few_shot"] is few_shot_format
    with pytest.raises(AtomThinkError, match="examples"):
        format_named("few_shot")


def test_an_examples_images_stay_the_same_objects_during_a_question(tmp_path: FilePath) -> None:
    """Models keep what they computed for an image as long as it lives."""
    for i in range(100):  # more than the reader keeps
        Image.new("RGB", (2, 2), (i, 0, 0)).save(tmp_path / f"{i}.png")
    records = [record(solved(f"Add {i}."), str(i), images=[f"{i}.png"]) for i in range(100)]
    few = few_shot(write_examples(tmp_path / "examples.jsonl", records), format_k="99").format
    form = asyncio.run(few.for_question(asked("What is q?"), ScriptedPolicy({})))
    first, second = (form.render(path).images for path in (after(), after("Step 1: a")))
    assert len(first) == 99
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_a_run_that_is_started_again_asks_for_the_same_prompts(tmp_path: FilePath) -> None:
    """Logged answers are found by a digest of the prompt, the same in a process that resumes the run."""
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    file = examples_file(tmp_path, images=["a.png"])

    def digest() -> str:
        form = asyncio.run(few_shot(file).format.for_question(asked("What is q?"), ScriptedPolicy({})))
        return prompt_digest(form.render(after("Step 1: a")), ())

    before = digest()
    _decoded.cache_clear()
    assert digest() == before
    Image.new("RGB", (2, 2), "blue").save(tmp_path / "a.png")
    _decoded.cache_clear()
    assert digest() != before


def test_medprompt_shows_the_same_examples_to_every_order_of_the_options(tmp_path: FilePath) -> None:
    """Examples of the question, one reply in steps each, and a vote over chains that see its options permuted."""
    options = ("4", "7", "28")
    text = "Multiply green by blue.\nA. 4\nB. 7\nC. 28"

    def reply(prompt: Prompt, index: int, seed: int) -> str:
        found = re.search(r"([ABC])\. 28", str(prompt.messages[-1].parts[0]))
        return f"Step 1: To sum up, the final answer is: {found[1] if found else None}."

    policy = ScriptedReplies(reply)
    chosen = few_shot(examples_file(tmp_path), thinking="slow", search="shuffle_vote", n="3", format_k="2")
    runner = Runner(policy, None, chosen.format, chosen.search, chosen.settings)
    (result,) = runner.run([Question("q", (Message("user", (text,)),), options)])
    assert isinstance(result, Outcome)
    assert (result.answer, result.value) == ("C", pytest.approx(1.0))
    examples = {tuple(str(turn.parts[0]) for turn in prompt.messages[:-1]) for prompt in policy.asked}
    assert len(examples) == 1
    assert [turn for turn in next(iter(examples)) if turn in SUMS][-1] == SUMS[2]
    assert len({prompt.messages[-1].parts[0] for prompt in policy.asked}) == 3
