"""Models of lmms-eval are asked as the harness asks them, in calls of one kind, and cut where a step ends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import yaml
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.models.model_utils.gen_metrics import get_logged_metrics_history

from atomthink_plugin.api import (
    AtomThinkError,
    Format,
    Message,
    Path,
    Proposal,
    Question,
    QuestionError,
    Sampling,
)
from atomthink_plugin.config import plan
from atomthink_plugin.formats.atomic import ATOMIC_INSTRUCTION, Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.model_adapters.lmms_models import AtomThinkLmms, AtomThinkModel
from atomthink_plugin.model_adapters.registered_policy import RegisteredPolicy, registered_policy
from atomthink_plugin.runtime.build import build
from tests.policy_prompts import ask_each, prompt_at
from tests.scripted_base import ScriptedSimple, register
from tests.tiny_models import chain, folder, mllama, picture, question, qwen

KINDS = pytest.mark.parametrize("kind", ["simple", "chat"])
ATOMIC = Atomic()
WARM = Sampling(temperature=1.0, max_tokens=40, seed=3)


@pytest.fixture(autouse=True)
def registered() -> None:
    register()
    ScriptedSimple.made.clear()


def policy(kind: str = "chat", **arguments: Any) -> tuple[RegisteredPolicy, Any]:
    """A policy on a scripted base, and the base."""
    batch_size = arguments.pop("batch_size", 1)
    made = registered_policy(f"scripted_{kind}", base_args=arguments, batch_size=batch_size)
    return made, made.base.model


def ask(asked: RegisteredPolicy, paths: list[Path], sampling: Sampling, n: int = 1, form: Format = ATOMIC) -> list[Any]:
    """All paths at once, as a run asks them; errors in their places."""
    return ask_each(asked, form, paths, sampling, n)


def texts(proposal: Proposal) -> list[str]:
    return [step.text for step in proposal.steps]


# --- what the base is asked ----------------------------------------------------------------------


def test_a_chat_model_gets_the_turns_with_images_in_their_places() -> None:
    made, base = policy("chat", reply="Step 2: b.")
    images = picture(0), picture(1)
    parts = (images[0], "Left.", images[1], "Right ", "or left?")
    asked = Question("q", (Message("system", ("Be brief.",)), Message("user", parts)))
    ask(made, [chain(asked, "Step 1: a.")], Sampling(max_tokens=33))
    (call,) = base.calls
    tail = f"Right or left?\n\nHISTORICAL REASONING STEPS:\nStep 1: a.\n\n{ATOMIC_INSTRUCTION}"
    user = [None, "THE GIVEN QUESTION:\nLeft.", None, tail]
    assert call.prompts == [[("system", ["Be brief."]), ("user", user)]]
    assert [id(image) for image in call.images[0]] == [id(image) for image in images]
    assert call.arguments == {"max_new_tokens": 33, "temperature": 0.0, "do_sample": False}


def test_a_simple_model_gets_one_text_and_the_images() -> None:
    made, base = policy("simple", reply="7")
    images = [picture(0), picture(1)]
    asked = Question("q", (Message("system", ("Be brief.",)), Message("user", (*images, "How ", "many?"))))
    ask(made, [Path(asked), Path(question("Text alone."))], Sampling(max_tokens=5), form=Direct())
    assert [call.prompts for call in base.calls] == [["Be brief.\n\nHow many?"], ["Text alone."]]
    assert [id(image) for image in base.calls[0].images[0]] == [id(image) for image in images]
    assert base.calls[1].images == [[]]


def test_a_simple_model_gets_no_assistant_turns() -> None:
    turns = (Message("user", ("1 + 1?",)), Message("assistant", ("2",)), Message("user", ("2 + 2?",)))
    (simple,) = ask(policy("simple")[0], [Path(Question("q", turns))], WARM)
    assert isinstance(simple, QuestionError)
    assert "turns of the assistant" in str(simple)
    (chat,) = ask(policy("chat")[0], [Path(Question("q", turns))], WARM)
    assert isinstance(chat, Proposal)


@KINDS
def test_a_call_has_one_kind_of_request_and_greedy_siblings_are_one(kind: str) -> None:
    made, base = policy(kind, batch_size=4)
    paths = [Path(question(f"How many {i}?", picture(i), name=str(i))) for i in range(6)]
    proposals = ask(made, paths, Sampling(rise=0.5, max_tokens=9, top_p=0.9, top_k=7), 4)
    sizes = [(call.arguments["temperature"], len(call.prompts)) for call in base.calls]
    assert sorted(sizes) == [(0.0, 2), (0.0, 4), (0.5, 2), (0.5, 4), (1.0, 4), (1.0, 4), (1.0, 4)]
    sampled = {"max_new_tokens": 9, "do_sample": True, "top_p": 0.9, "top_k": 7}
    for call in base.calls:
        heat = call.arguments["temperature"]
        greedy = {"max_new_tokens": 9, "temperature": 0.0, "do_sample": False}
        assert call.arguments == ({**sampled, "temperature": heat} if heat else greedy)
    assert all(len(set(texts(proposal))) == 4 for proposal in proposals)

    made, base = policy(kind)
    (proposal,) = ask(made, paths[:1], Sampling(max_tokens=9), 5)
    assert len(set(texts(proposal))) == 1
    assert len(base.calls) == 1
    assert (proposal.usage.policy_calls, proposal.usage.images) == (5, 1)


@KINDS
def test_nothing_is_asked_for_twice_under_one_name(kind: str) -> None:
    places = []
    for _ in range(2):
        made, base = policy(kind, batch_size=2)
        for _ in range(3):
            ask(made, [Path(question("How many?"))], Sampling(temperature=1.0, max_tokens=9), 3)
        places += [place for call in base.calls for place in call.places]
    assert len(set(places)) == len(places) == 18
    assert all(isinstance(doc_id, int) for doc_id, _, _ in places)


# --- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "form", "expected"),
    [
        ("\n\n Step 1: a\nstill a\n\nStep 2: b", Atomic(), "\n\n Step 1: a\nstill a"),
        ("Step 1: a\nStep 2: b", Atomic(), "Step 1: a"),
        ("Step 1: a\nStep 1: a", Atomic(), "Step 1: a\nStep 1: a"),
        ("One.\n\nTwo.\nStep 2: three", Cot(), "One.\n\nTwo.\nStep 2: three"),
        (" \n\n ", Atomic(), " \n\n "),
    ],
)
def test_replies_are_cut_after_their_first_visible_character(reply: str, form: Format, expected: str) -> None:
    ((proposal),) = ask(policy(reply=reply)[0], [Path(question())], WARM, form=form)
    assert texts(proposal) == [expected]


def test_tokens_are_counted_by_the_base_or_else_by_the_bytes() -> None:
    reply = "Step 1: abcd"
    cases = ((None, "stop", 3, 0), (5, "stop", 5, 7), (40, "length", 40, 7))
    for counts, finish, tokens, prefilled in cases:
        (proposal,) = ask(policy(reply=reply, counts=counts)[0], [Path(question())], WARM)
        (step,) = proposal.steps
        assert (step.finish, len(step.token_ids)) == (finish, tokens)
        assert (proposal.usage.generated, proposal.usage.prefilled) == (tokens, prefilled)
    (proposal,) = ask(policy(reply=f"{reply}\n\n{'x' * 10}", counts=40)[0], [Path(question())], WARM)
    (step,) = proposal.steps
    assert (step.finish, len(step.token_ids), proposal.usage.generated) == ("stop", 20, 40)


@KINDS
def test_a_request_that_fails_takes_no_other_with_it(kind: str) -> None:
    made, base = policy(kind, batch_size=8)
    names = ["a", "b", "poison", "c", "d", "e", "f"]
    found = ask(made, [Path(question(f"What is {name}?", name=name)) for name in names], WARM)
    assert [isinstance(each, QuestionError) for each in found] == [name == "poison" for name in names]
    assert str(found[2]) == f"`base=scripted_{kind}` failed: RuntimeError: a prompt is poisoned"
    asked = [str(prompt) for call in base.calls for prompt in call.prompts]
    assert sum("poison" in prompt for prompt in asked) == 4
    assert sum("What is f?" in prompt for prompt in asked) == 2


def test_a_failed_call_costs_concurrent_calls_nothing() -> None:
    made, base = policy(batch_size=2)
    names = ["a", "b", "poison", "c", "d"]
    ask(made, [Path(question(f"What is {name}?", name=name)) for name in names], Sampling(max_tokens=9))
    asked = [str(prompt) for call in base.calls for prompt in call.prompts]
    assert [sum(f"What is {name}?" in prompt for prompt in asked) for name in ("a", "b", "d")] == [1, 1, 1]


def test_a_failure_that_an_api_model_writes_as_its_reply_is_a_failure() -> None:
    (found,) = ask(policy(reply="[LMMS_EVAL_REQUEST_FAILED after 5 retries] no route")[0], [Path(question())], WARM)
    assert isinstance(found, QuestionError)
    assert "no route" in str(found)


# --- sampling -------------------------------------------------------------------------------------


def test_one_request_a_call_draws_by_its_own_seed_alone() -> None:
    paths = [Path(question(f"What is {name}?", name=name)) for name in "abc"]

    def drawn(order: list[Path], n: int, sampling: Sampling = WARM) -> dict[str, list[str]]:
        proposals = ask(policy()[0], order, sampling, n)
        return {path.question.id: texts(each) for path, each in zip(order, proposals, strict=True)}

    together = drawn(paths, 3)
    assert drawn(paths[::-1], 3) == together
    assert drawn([paths[1]], 2) == {"b": together["b"][:2]}
    for at in range(3):  # each of torch, numpy and Python on its own
        numbers = {text.split()[at] for siblings in together.values() for text in siblings}
        assert len(numbers) == 9
    assert drawn(paths, 3, replace(WARM, seed=4)) != together


def test_a_full_call_draws_by_its_members() -> None:
    paths = [Path(question(f"What is {name}?", name=name)) for name in "abcd"]
    first, again = (ask(policy(batch_size=4)[0], paths, WARM) for _ in range(2))
    assert [texts(each) for each in first] == [texts(each) for each in again]
    assert len({text for each in first for text in texts(each)}) == 4


# --- what cannot be used --------------------------------------------------------------------------


def test_prompts_that_begin_the_reply_are_refused() -> None:
    made, base = policy()
    path = chain(question(), "Step 1: a.")
    for form in (Atomic(), Direct()):
        made.check_prompts([prompt_at(form, path)], WARM)
    with pytest.raises(AtomThinkError, match="format=atomic"):
        made.check_prompts([prompt_at(Continue(), Path(question())), prompt_at(Continue(), path)], WARM)
    (error,) = ask(made, [path], WARM, form=Continue())
    assert isinstance(error, AtomThinkError)
    assert not base.calls


def test_log_probabilities_of_tokens_are_refused() -> None:
    made, base = policy()
    wanted = replace(WARM, tops=2)
    with pytest.raises(AtomThinkError, match="log-probabilities"):
        made.check_prompts([prompt_at(Atomic(), Path(question()))], wanted)
    (error,) = ask(made, [Path(question())], wanted)
    assert isinstance(error, AtomThinkError)
    assert not base.calls


def test_a_tree_search_without_a_prm_is_refused_before_the_run() -> None:
    arguments = {"base": "scripted_chat", "format": "atomic", "thinking": "slow", "search": "mcts"}
    with pytest.raises(AtomThinkError, match=r"log-probabilities.*`prm=`"):
        build(plan("lmms", arguments))
    assert build(plan("lmms", {**arguments, "scorer": "confidence"})).scorer is not None


@pytest.mark.parametrize(
    ("base", "arguments", "message"),
    [
        ("qwen2_5_v", {}, r"`base=qwen2_5_v` is unknown \(did you mean `qwen2_5_vl`\?\); valid: .*scripted_chat"),
        ("atomthink_hf", {}, "`base=atomthink_hf` thinks already: use --model atomthink_hf"),
        ("scripted_chat", {"colour": "red"}, r"`base=scripted_chat` cannot be made with .*colour=red \(TypeError: .*"),
        ("scripted_chat", {"colour": "red"}, r"'colour'\): its own arguments go into the file that `config=FILE.yaml`"),
    ],
)
def test_a_base_that_cannot_be_used_is_named(base: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AtomThinkError, match=message):
        registered_policy(base, base_args=arguments)


def test_no_base_is_suggested_that_thinks_itself() -> None:
    with pytest.raises(AtomThinkError) as caught:
        registered_policy("nothing")
    assert "atomthink_" not in str(caught.value)


def test_a_checkpoint_named_twice_is_refused() -> None:
    with pytest.raises(AtomThinkError, match=r"`pretrained=a`.*base_args.*'b'"):
        registered_policy("scripted_chat", pretrained="a", base_args={"pretrained": "b"})


@pytest.mark.parametrize("missing", ["no-such-organisation/no-such-model", "/no/such/folder"])
def test_the_error_of_a_missing_checkpoint_names_the_argument_for_a_folder(missing: str) -> None:
    way_out = rf"pretrained={missing}.*name a folder that has all its files, with `pretrained=FOLDER` or .*base_args: "
    with pytest.raises(AtomThinkError, match=way_out):
        registered_policy("huggingface", pretrained=missing, device="cpu")


# --- as the harness makes it ----------------------------------------------------------------------


def model(tmp_path: FilePath, **config: Any) -> AtomThinkLmms:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"base": "scripted_chat", "thinking": "quick", "journal": "off", **config}))
    return AtomThinkLmms(config=str(file), batch_size="3", device="cpu")


def test_a_config_file_gives_the_base_its_own_arguments(tmp_path: FilePath) -> None:
    made = model(tmp_path, base_args={"settings": {"depth": [1, 2]}, "device": "meta"}, pretrained="~/weights")
    (base,) = ScriptedSimple.made
    home = str(FilePath("~/weights").expanduser())
    assert base.given == {"batch_size": 3, "device": "meta", "pretrained": home, "settings": {"depth": [1, 2]}}
    assert made._plan.identity["policy"]["base_args"] == {"settings": {"depth": [1, 2]}, "device": "meta"}
    made.clean()
    assert base.cleaned


def test_the_base_prints_no_reports_and_sees_its_own_documents_only(
    tmp_path: FilePath, capfd: pytest.CaptureFixture[str]
) -> None:
    made = model(tmp_path, base_args={"reply": "Step 1: To sum up, the final answer is: 7."})
    made.task_dict = documents = {"sums": {"test": [{"text": "How many?"}]}}

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "text", "text": doc["text"]}]}]

    metadata = {"task": "sums", "doc_id": 0, "repeats": 1}
    request = Instance("generate_until", ("", messages, {"until": ["\n\n"]}, 0, "sums", "test"), 0, metadata)
    before = len(get_logged_metrics_history())
    (reply,) = made.generate_until([request])
    assert reply.text.endswith("the final answer is: 7.")
    (logged,) = get_logged_metrics_history()[before:]
    assert logged["questions"] == 1
    assert "Model Responding" not in "".join(capfd.readouterr())
    assert made.task_dict == documents == {"sums": {"test": [{"text": "How many?"}]}}
    assert "sums" not in ScriptedSimple.made[0].task_dict


def test_the_base_knows_its_place_among_the_processes(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    model(tmp_path)
    (base,) = ScriptedSimple.made
    assert (base.rank, base.world_size) == (2, 4)


def test_confidence_is_refused_since_there_are_no_log_probabilities(tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match=r"`scorer=confidence`.*`prm=`"):
        model(tmp_path, thinking="slow", scorer="confidence")


def test_other_models_that_name_this_policy_get_an_error_about_the_format() -> None:
    with pytest.raises(AtomThinkError, match="`format=atomic`"):
        AtomThinkModel(policy="lmms", base="scripted_chat")
    AtomThinkModel(policy="lmms", base="scripted_chat", format="atomic")


def test_another_checkpoint_in_the_same_folder_is_another_model(tmp_path: FilePath) -> None:
    identities = []
    for content in ("one", "two", "two"):
        (tmp_path / "weights").write_text(content)
        made = registered_policy("scripted_chat", pretrained=str(tmp_path))
        identities.append(made.identity)
    assert identities[0] != identities[1] == identities[2]
    assert re.match(r"lmms-eval [\d.]+: scripted_chat ", identities[0])


# --- a real one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "build"), [("qwen2_5_vl", qwen), ("llama_vision", mllama)])
def test_direct_gives_what_a_real_base_gives_the_harness(base: str, build: Any) -> None:
    pytest.importorskip("decord", reason="the harness's own models import it")
    made = registered_policy(base, pretrained=str(folder(build)), base_args={"device_map": "cpu"}, device="cpu")
    asked = [question("How many?", picture(0), name="a"), question("What is this?", picture(1, (90, 40)), name="b")]
    proposals = ask(made, [Path(each) for each in asked], Sampling(max_tokens=8), form=Direct())
    model = made.base.model
    model.task_dict = {"t": {"s": asked}}

    def messages(doc: Question) -> list[dict[str, Any]]:
        content = [{"type": "image", "url": doc.images[0]}, {"type": "text", "text": doc.text}]
        return [{"role": "user", "content": content}]

    for at, (doc, proposal) in enumerate(zip(asked, proposals, strict=True)):
        arguments = {"max_new_tokens": 8, "temperature": 0, "do_sample": False}
        request = (arguments, lambda doc: list(doc.images)) if made.base.simple else (messages, arguments)
        metadata = {"task": "t", "doc_id": at, "repeats": 1}
        (reply,) = model.generate_until([Instance("generate_until", (doc.text, *request, at, "t", "s"), 0, metadata)])
        assert texts(proposal) == [unwrap_generation_output(reply)[0].strip()]
    assert made.base.simple == (base == "llama_vision")
    assert len({text for proposal in proposals for text in texts(proposal)}) == 2
