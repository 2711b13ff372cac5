"""What is trained is what is read, whatever a format joins its units with and wherever it puts its tags."""

from __future__ import annotations

import pytest

from atomthink_plugin.api import AtomThinkError, Format, Path, QuestionError, Step
from atomthink_plugin.formats.arrow import Arrow
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.training.records import Chain, engine_question
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import ChainRows, TrainingRow, closing_id, packable
from tests.other_formats import LLAVA_COT, STAGES, InQuestion, Lines, Numbered, Tagged
from tests.tiny_models import llava, loaded, qwen

QUESTION = engine_question("q", "How many?", ())
LINES = ("a is 1.", "b is 2.", "so 3.")
ARROW = ("a is 1.\n\n1 + 2 = 3. --> 3 END",)
FORMATS = [
    (Lines(), LINES),
    (Tagged(), STAGES),
    (Numbered(), LINES),
    (Stages(), LLAVA_COT),
    (Arrow(), ARROW),
    (InQuestion(), LINES),
]


def builder_of(build: object) -> ChainRows:
    checkpoint = loaded(build)  # type: ignore[arg-type]
    return ChainRows(RowEncoder(checkpoint), closing_id(checkpoint))


def ids_of(row: TrainingRow) -> list[int]:
    ids: list[int] = row.encoding.tokens["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("build", [llava, qwen])
@pytest.mark.parametrize(("form", "steps"), FORMATS[:4])
def test_a_row_is_what_inference_reads_when_the_chain_continues(
    build: object, form: Format, steps: tuple[str, ...]
) -> None:
    encoder, path = Encoder(loaded(build)), Path(QUESTION)  # type: ignore[arg-type]
    for step, row in zip(steps[:-1], builder_of(build).step_rows(form, QUESTION, steps), strict=False):
        path = path.extend(Step(step))
        assert ids_of(row) == encoder.encode(form.render(path)).tokens["input_ids"][0].tolist()


@pytest.mark.parametrize(
    ("form", "steps", "expected"),
    [
        (Lines(), LINES, ["a is 1.\n", "b is 2.\n", "so 3.\n"]),  # a beginning: no line concludes
        (Tagged(), STAGES, [" a is 1. </A>\n<B>", " b is 2.\n\nAs it was. </B>\n<C>", " so 3. </C></s>"]),
        (Numbered(), LINES, ["a is 1.\n(2) ", "b is 2.\n(3) ", "so 3.\n(4) "]),
        (
            Stages(),
            LLAVA_COT,
            [
                " I count. </SUMMARY>\n\n<CAPTION>",
                " a is 1.\n\nb is 2. </CAPTION>\n\n<REASONING>",
                " 1 + 2 = 3. </REASONING>\n\n<CONCLUSION>",
                " 3 </CONCLUSION></s>",
            ],
        ),
        (Arrow(), ARROW, ["a is 1.\n\n1 + 2 = 3. --> 3 END</s>"]),
        (InQuestion(), LINES, ["a is 1.</s>", "b is 2.</s>", "so 3.</s>"]),
    ],
)
def test_what_is_learned_of_a_unit(form: Format, steps: tuple[str, ...], expected: list[str]) -> None:
    """The policy writes a unit up to its own end, not the start tag that its prompt already has."""
    rows = builder_of(llava).step_rows(form, QUESTION, steps)
    assert [loaded(llava).tokenizer.decode(list(row.labels.values())) for row in rows] == expected


@pytest.mark.parametrize(("form", "steps"), FORMATS)
def test_a_chain_is_one_row_where_the_question_stays(form: Format, steps: tuple[str, ...]) -> None:
    assert packable(form) is (not isinstance(form, InQuestion))
    if packable(form):
        rows = list(builder_of(llava).step_rows(form, QUESTION, steps))
        packed = builder_of(llava).chain_row(form, QUESTION, steps)
        assert packed.labels == {at: token for row in rows for at, token in row.labels.items()}
        assert ids_of(packed) == ids_of(rows[-1])


@pytest.mark.parametrize(
    ("form", "steps", "at"),
    [
        (Lines(), ("a is 1.\nb is 2.", LINES[2]), 0),  # the policy stops at the end of the line
        (Tagged(), ("<A> a </A> and </A>", *STAGES[1:]), 0),
        (Tagged(), (STAGES[0], "b is 2. </B>", STAGES[2]), 1),  # no start tag
        (Tagged(), (STAGES[0], "<B> b is 2.", STAGES[2]), 1),  # no end tag
    ],
)
def test_what_a_policy_could_not_write_is_refused(form: Format, steps: tuple[str, ...], at: int) -> None:
    with pytest.raises(QuestionError):
        next(builder_of(llava).step_rows(form, QUESTION, steps, only=at))


@pytest.mark.parametrize("form", [Direct(), Cot()])
@pytest.mark.parametrize("build", [llava, qwen])
def test_a_whole_reply_has_the_tokens_of_its_text(form: Format, build: object) -> None:
    """Cut at blank lines, as steps are, it has others: no model writes them, and no prompt holds them."""
    words = loaded(build).tokenizer  # type: ignore[arg-type]
    reply = "Read the bars.\n\n\n\n\nx is 4.\n\nThe final answer is: 4."
    (row,) = builder_of(build).step_rows(form, QUESTION, (reply,))
    written = list(row.labels.values())[:-1]
    assert written == words.encode(reply, add_special_tokens=False)
    parts = ["Read the bars.\n\n", "\n\n", "\nx is 4.\n\n", "The final answer is: 4."]
    assert written != [token for part in parts for token in words.encode(part, add_special_tokens=False)]


def test_arguments_of_a_format_hold_for_the_records_that_name_it() -> None:
    checkpoint = loaded(llava)
    bare = Stages(instruction="")
    rows = ChainRows(RowEncoder(checkpoint), closing_id(checkpoint), format_arguments={"stages": {"instruction": ""}})
    chain = Chain(id="q", question="How many?", steps=LLAVA_COT, format="stages")
    ((first,), *_) = rows.parts(chain, "stages", QUESTION)
    prompt = Encoder(checkpoint).encode(bare.render(Path(QUESTION))).tokens["input_ids"][0].tolist()
    assert ids_of(first)[: min(first.labels)] == prompt
    assert rows.check_format("continue") == builder_of(llava).check_format("continue")


@pytest.mark.parametrize(
    ("arguments", "named"), [({"stage": {}}, "stage"), ({"stages": {"instructions": ""}}, "instructions")]
)
def test_arguments_that_no_format_has_are_refused(arguments: dict[str, dict[str, str]], named: str) -> None:
    checkpoint = loaded(llava)
    with pytest.raises(AtomThinkError, match=f"`(format: )?{named}`"):
        ChainRows(RowEncoder(checkpoint), closing_id(checkpoint), format_arguments=arguments)
