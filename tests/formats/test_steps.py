"""Splitting replies into steps, and the check of every candidate step."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.formats.steps import MAX_WORDS, SEPARATOR, body, check, first_step, split_steps

relaxed = settings(deadline=None, max_examples=100)
BODIES = st.sampled_from(
    [
        "Read red = 4.",
        "Compute 4 x 7 = 28.",
        "The step function is 0.5 here; go back to Step 2: nothing changed.",
        "So x = 3.5.\nHence y = 7",
        "读出红色为 4。",
        "To sum up, the final answer is: 24.5 square units.",
    ]
)
LABELS = st.sampled_from(
    ["Step {}: ", "**Step {}:** ", "### Step {}\n", "Step {}. ", "step {}) ", "步骤{}：", "第{}步：", ""]
)
NOISE = st.text("Step 1:.\n*#-步骤。： a", max_size=40) | st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (" \n\n ", []),
        ("Step 1: a.\n\nStep 2: b.", ["Step 1: a.", "Step 2: b."]),
        ("Step 1: a.\nStep 2: b.", ["Step 1: a.", "Step 2: b."]),
        ("Step 1: a. Step 2: b.", ["Step 1: a.", "Step 2: b."]),
        ("Step 1:4x7=28.\nStep 2:5", ["Step 1:4x7=28.", "Step 2:5"]),
        ("**Step 1: Read**\na\n**Step 2: Add**\nb", ["**Step 1: Read**\na", "**Step 2: Add**\nb"]),
        ("### Step 1\n\na\n\n### Step 2\n\nb", ["### Step 1\n\na", "### Step 2\n\nb"]),
        ("步骤1：读红色。步骤2：读蓝色。", ["步骤1：读红色。", "步骤2：读蓝色。"]),
        ("第一步：甲\n第二步：乙", ["第一步：甲", "第二步：乙"]),
        ("First.\r\n\r\nSecond.\n \t\nThird.", ["First.", "Second.", "Third."]),
        ("Sure!\n\nStep 1: a.", ["Sure!", "Step 1: a."]),
        ("a\n\n---\n\nb\n\n---", ["a", "---\n\nb\n\n---"]),
        ("Step 3:", ["Step 3:"]),
    ],
)
def test_split_steps(text: str, steps: list[str]) -> None:
    assert split_steps(text) == steps


@pytest.mark.parametrize(
    "text",
    [
        "Step 3: We go back to Step 2: red = 4.",
        "Step 2 of the stairs is broken.",
        "Each step is 0.5 m. Step up twice.",
        "Step 1: x = 3.5\ny = 2",
    ],
)
def test_a_label_inside_a_sentence_is_prose(text: str) -> None:
    assert split_steps(text) == [text]


@relaxed
@given(st.lists(st.tuples(LABELS, BODIES), max_size=6))
def test_joined_steps_split_into_the_same_steps(parts: list[tuple[str, str]]) -> None:
    steps = [label.format(k) + text for k, (label, text) in enumerate(parts, 1)]
    assert split_steps(SEPARATOR.join(steps)) == steps
    assert [body(step) for step in steps] == [text for _, text in parts]
    assert first_step(SEPARATOR.join(steps)) == (steps[0] if steps else "")


@relaxed
@given(NOISE)
def test_splitting_loses_no_visible_text(text: str) -> None:
    steps = split_steps(text)
    assert re.sub(r"\s", "", "".join(steps)) == re.sub(r"\s", "", text)
    assert all(step.strip() == step != "" for step in steps)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("Step 12: a", "a"),
        ("**Step 2:** a", "a"),
        ("**Step 2: Add.** a", "Add. a"),
        ("Step by step we add.", "Step by step we add."),
        ("3.5 m", "3.5 m"),
        ("Step 4:", ""),
    ],
)
def test_body(step: str, text: str) -> None:
    assert body(step) == text


@pytest.mark.parametrize("step", ["", " \n", "Step 3:", "**Step 3:**", "---", "..."])
def test_a_step_without_content_is_empty(step: str) -> None:
    assert check(step, []) == "empty"


@pytest.mark.parametrize(
    "step",
    [
        "Step 1: a.\nStep 2: b.",
        "Step 1: a. Step 2: b.",
        "a\n\nb",
        "步骤1：甲。步骤2：乙。",
        "**Step 1:** a\n**Step 2:** b",
    ],
)
def test_several_steps_in_one_reply_are_rejected_and_the_first_is_fine(step: str) -> None:
    assert check(step, []) == "several steps"
    assert check(first_step(step), []) is None


@pytest.mark.parametrize(
    "step",
    [
        "Step 2: The step function takes one step per step, so step 3 is a step up.",
        "Step 2: Check 4 = 4. Check 4 = 4.",
        "Step 2: 0.5 + 0.5 + 0.5 + 0.5 + 0.5 + 0.5 = 3.",
        "Step 2: 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 = 10",
        "Step 2: " + " ".join(f"w{k}" for k in range(MAX_WORDS)),
    ],
)
def test_legitimate_steps_pass(step: str) -> None:
    assert check(step, ["Step 1: Read red = 4."]) is None


@pytest.mark.parametrize(
    "step",
    [
        "Read red = 4. " * 10,
        "Read red = 4.\n" * 3,
        "红色是 4。" * 3,
        "and then " * 50,
        "字词句" * 40,
        "0.5 + 0.5. 0.5 + 0.5. 0.5 + 0.5.",
    ],
)
def test_repeated_sentences_and_loops_are_rejected(step: str) -> None:
    assert check(step, []) == "repeats itself"


@pytest.mark.parametrize("length", [MAX_WORDS + 1, 10**6])
def test_the_length_limit_needs_no_spaces(length: int) -> None:
    distinct = "".join(chr(0x4E00 + k % 20000) for k in range(length))
    assert check(distinct, []) == "too long"
    assert check(distinct[:MAX_WORDS], []) is None
    assert check("a" * 16 * length, []) == "too long"
    assert check(" ".join(f"w{k}" for k in range(length)), []) == "too long"


@pytest.mark.parametrize(
    ("step", "earlier"),
    [
        ("x = 12 - 21 + 3", "x = 23 + 1 - 2"),
        ("Read red = 4.", "Read blue = 4."),
        ("Compute 4 x 7 = 28.", "Compute 4 x 7 = 27."),
        ("x = a + b", "x = a - b"),
        ("x = 3.5", "x = 35"),
        ("The final answer is: 28.", "Compute 4 x 7 = 28."),
        ("读出红色为 4。", "读出蓝色为 4。"),
        ("f'(x) = 2", "f(x) = 2"),
        ("On the left axis we read that the bar of red has 4.", "On the left axis we read that the bar of blue has 4."),
    ],
)
def test_different_steps_are_different(step: str, earlier: str) -> None:
    assert check(f"Step 2: {step}", [f"Step 1: {earlier}"]) is None


def test_long_steps_that_differ_in_one_number_are_different() -> None:
    words = " ".join(f"word{chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(200))
    assert check(f"{words} gives 28", [f"{words} gives 27"]) is None
    assert check(f"{words} gives 28", [f"{words} makes 28"]) == "repeats an earlier step"


@pytest.mark.parametrize(
    "step",
    ["Step 4: Read red = 4.", "**Step 4:** read  RED = 4", "Read red = 4", "Step 4: Read\nred = $4$."],
)
def test_any_earlier_step_may_not_be_repeated(step: str) -> None:
    history = ["Step 1: Read red = 4.", "Step 2: Read blue = 7.", "Step 3: 4 + 7 = 11."]
    assert check(step, history) == "repeats an earlier step"
    assert check(step, history[1:]) is None


@relaxed
@given(NOISE, st.lists(NOISE, max_size=3))
def test_check_never_raises_and_agrees_with_its_parts(step: str, history: list[str]) -> None:
    reason = check(step, history)
    assert (reason == "several steps") == (len(split_steps(step)) > 1)
    assert check(step, [*history, step]) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["\n", " ", "#", "Step ", "Step 1", "Step 1: a\n", "*", "\n \n", "。", ". ", "-\n", "第"]
)
def test_a_megabyte_takes_linear_time(unit: str) -> None:
    text = unit * (10**6 // len(unit))
    assert "".join("".join(split_steps(text)).split()) == "".join(text.split())
    assert check(text, [text]) in {"empty", "too long"}
