"""From chains to records: clusters, labels, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.capability.behaviours import Behaviour, cluster_steps, masked
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller, LanguageModelLabeller
from atomthink_plugin.tasks.capability.record_set import demo_chains, step_records
from atomthink_plugin.tasks.capability.records import read_reference_chains, read_step_records
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.demo.questions import held_out
from tests.openai_server import Body, ChatServer, serve

CHAIN = {"id": "a", "question": "2 + 3?", "steps": ["Step 1: Compute 2 + 3 = 5.", "The answer is 5."], "answer": 5}
ABILITY_OF = {"read": "Data Extraction", "compute": "Calculation", "conclude": "Decision Making"}


def lines(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def test_the_taxonomy_has_the_abilities_and_groups_of_the_figures() -> None:
    taxonomy = load_taxonomy()
    assert set(taxonomy.by_name) == {
        *("Image Description", "Data Extraction", "Variable Definition", "Knowledge Introduction"),
        *("Equation Formulation", "Calculation", "Logical Deduction", "Fact Verification"),
        *("Process Analysis", "Decision Making"),
    }
    shown = {"Image Description": "Question Understanding", "Calculation": "Mathematical Operations and Reasoning"}
    shown |= {"Decision Making": "Interpretation and Conclusion", "Process Analysis": "Verification and Synthesis"}
    assert {name: taxonomy.group_of(name) for name in shown} == shown
    assert len({ability.group for ability in taxonomy.abilities}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: {}", ": groups: "),
        ("groups: {A: {B: {keywords: [x]}}}", ": groups.A.B.description: "),
        ("groups: {A: {B: {description: b}}, C: {B: {description: b}}}", ": B "),
        ("groups: [unclosed", "line 1"),
        ("- a list", ": the file: "),
    ],
)
def test_the_error_of_an_unusable_taxonomy_names_the_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "abilities.yaml").write_text(text)
    with pytest.raises(AtomThinkError, match=r"abilities\.yaml") as error:
        load_taxonomy(tmp_path / "abilities.yaml")
    assert message in str(error.value)


def test_steps_that_differ_in_numbers_and_labels_are_one_behaviour() -> None:
    assert masked("Step 4: Compute 12 x 7 = 84.") == masked("Step 9: compute 1,000 x 2.5 = 2,500.")
    assert masked(r"So $x = \frac{1}{2}$ holds.") == "so # holds."
    behaviours, index_of = cluster_steps(
        ["Step 1: Compute 1 + 2 = 3.", "Step 2: Compute 4 + 5 = 9.", "The answer is 9."]
    )
    assert [(behaviour.size, behaviour.examples) for behaviour in behaviours] == [
        (2, ("compute # + # = #.",)),
        (1, ("the answer is #.",)),
    ]
    assert index_of == {"compute # + # = #.": 0, "the answer is #.": 1}


def test_clusters_do_not_depend_on_the_order_of_the_steps() -> None:
    steps = [step for question in held_out(10) for step in question.steps]
    assert cluster_steps(steps) == cluster_steps(steps[::-1])


def test_every_step_of_the_demo_gets_the_ability_it_takes(tmp_path: Path) -> None:
    demo = held_out(30)
    chains = demo_chains(demo, tmp_path)
    made, behaviours, labels = step_records(chains, KeywordLabeller(), load_taxonomy())
    expected = [ABILITY_OF[action.verb] for question in demo for action in question.plan()]
    assert [record.ability for record in made] == expected
    assert [record.history for record in made[:6]] == [demo[0].steps[:n] for n in range(1, 7)]
    assert len(labels) == len(behaviours)
    assert all((tmp_path / image).is_file() for record in made for image in record.images)


def test_steps_without_any_keyword_have_no_record(tmp_path: Path) -> None:
    file = lines(tmp_path / "chains.jsonl", {**CHAIN, "steps": ["Hm.", *CHAIN["steps"]]})  # type: ignore[misc]
    made, _, _ = step_records(read_reference_chains(file).records, KeywordLabeller(), load_taxonomy())
    assert [(record.id, record.ability) for record in made] == [("a/2", "Calculation"), ("a/3", "Decision Making")]
    with pytest.raises(AtomThinkError, match="--taxonomy"):
        step_records(
            read_reference_chains(lines(tmp_path / "hm.jsonl", {**CHAIN, "steps": ["Hm."]})).records,
            KeywordLabeller(),
            load_taxonomy(),
        )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**CHAIN, "steps": []}, "chains.jsonl:1: steps: "),
        ({**CHAIN, "steps": ["Look.", "  "]}, "chains.jsonl:1: steps.1: "),
        ({**CHAIN, "images": ["none.png"]}, "none.png"),
        ({**CHAIN, "steps": ["The answer is 6."]}, "'6'"),
        ({key: CHAIN[key] for key in ("id", "question", "steps")}, "chains.jsonl:1: answer: "),
        ("{torn", "chains.jsonl:1: "),
        ("", "chains.jsonl"),
    ],
)
def test_a_chain_that_cannot_be_used_is_named(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match=r"chains\.jsonl") as error:
        read_reference_chains(lines(tmp_path / "chains.jsonl", row))
    assert message in str(error.value)


def test_a_chain_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match=r"chains\.jsonl:2: .*'a'"):
        read_reference_chains(lines(tmp_path / "chains.jsonl", CHAIN, CHAIN))


def test_a_record_needs_its_picture(tmp_path: Path) -> None:
    record = {"id": "a/1", "chain": "a", "question": "?", "answer": "5", "history": ["Look."], "ability": "Calculation"}
    file = lines(tmp_path / "set.jsonl", {**record, "images": ["pictures/a.png"]})
    with pytest.raises(AtomThinkError, match=r"pictures/a\.png"):
        read_step_records(file)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "pictures" / "a.png")
    assert read_step_records(file).records[0].images == ("pictures/a.png",)


class Talking(ChatServer):
    """Says what it is given, one reply after the other."""

    def __init__(self, *says: str) -> None:
        super().__init__()
        self.says = list(says)

    def refusal(self, body: Body) -> None:
        return None

    def reply(self, body: Body) -> Body:
        message = {"role": "assistant", "content": self.says.pop(0)}
        return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


BEHAVIOUR = Behaviour(("ponder",), ("ponder the picture.",), 3)


def test_a_language_model_names_behaviours_and_may_correct_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    says = [
        "I think it is a description.",
        '{"name": "pondering", "ability": "Telepathy"}',
        '{"name": "pondering pictures", "ability": "Image Description"}',
        '{"name": "muttering", "ability": "none"}',
    ]
    with serve(Talking(*says)) as server:
        labels = LanguageModelLabeller("scripted", server.url).label([BEHAVIOUR, BEHAVIOUR], load_taxonomy())
    assert [(label.name, label.ability) for label in labels] == [
        ("pondering pictures", "Image Description"),
        ("muttering", None),
    ]
    assert server.keys[0] == "Bearer secret"
    first, *_, last = server.asked
    assert "ponder the picture." in first["messages"][0]["content"]
    enum = first["response_format"]["json_schema"]["schema"]["properties"]["ability"]["enum"]
    assert enum == [*load_taxonomy().by_name, "none"]
    assert "'Telepathy'" in server.asked[2]["messages"][-1]["content"]
    assert len(last["messages"]) == 1  # the second behaviour is asked about afresh


@pytest.mark.parametrize("fault", ["text", "empty", "null", "filtered", 400, None])
def test_a_language_model_without_a_usable_word_stops_the_build(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = Talking(*["no idea"] * 9)
    server.always = fault
    with serve(server), pytest.raises(AtomThinkError, match="`--labeller-model scripted`"):
        LanguageModelLabeller("scripted", server.url).label([BEHAVIOUR], load_taxonomy())


def test_a_language_model_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AtomThinkError, match="set OPENAI_API_KEY"):
        LanguageModelLabeller("scripted", "http://127.0.0.1:9/v1")
