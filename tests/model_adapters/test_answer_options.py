"""The options of multiple-choice questions, from the prompts that lmms-eval's own tasks build."""

from __future__ import annotations

from importlib import import_module
from string import ascii_uppercase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.model_adapters.answer_options import answer_options

CATS = ("A cat.", "A dog", "$\\frac{1}{2}$ of a (B) bee", "7.5")
MATHVISTA = {"unit": None, "answer": "7.5", "precision": None, "answer_type": "text", "question_type": "multi_choice"}
MATHVISTA_KWARGS = {"shot_type": "step-by-step", "shot": 0, "use_caption": False, "use_ocr": False}
MMBENCH = {"question": "Which?", "answer": "A", "category": "c", "L2-category": "l", "index": 1, "source": "s"}
MMBENCH |= {"split": "dev", "hint": "Look closely."}
ROW = dict(zip("ABCD", CATS, strict=True))
LINES = "\n".join(f"{letter}. {text}" for letter, text in ROW.items())
INLINE = "Which?\nOptions: " + ", ".join(f"{letter}: {text}" for letter, text in ROW.items())
PLAIN = {"pre_prompt": "", "post_prompt": "\nAnswer with the option's letter from the given choices directly."}
MMMU_KWARGS = {"multiple_choice_prompt": "Answer with the letter.", "open_ended_prompt": "", "prompt_type": "format"}
AI2D = {"question": "What is it?", "options": list(CATS)}
SCIENCE = {"question": "Which?", "choices": list(CATS), "hint": "It flies."}
MMMU = {"question": "See <image 1>.", "question_type": "multiple-choice"}
WEMATH_OPTION = "A. A cat.; B. A dog; C. $\\frac{1}{2}$ of a (B) bee; D. 7.5"
VERSE = {"answer": "A", "query_cot": "", "question_type": "multi-choice", "problem_version": "Text Only"}
VERSE_KWARGS = {"shot_type": "format-prompt", "query_type": "query_wo"}
VERSE_TEXT = "Find it.\nChoices:\n" + "\n".join(f"{letter}:{text}" for letter, text in ROW.items())

ASKED: dict[str, tuple[str, str, dict[str, Any], Any, tuple[str, ...]]] = {
    "ai2d": ("ai2d.utils", "ai2d_doc_to_text", AI2D, {**PLAIN, "prompt_format": "mcq"}, CATS),
    "ai2d in one line": ("ai2d.utils", "ai2d_doc_to_text", AI2D, {**PLAIN, "prompt_format": "mcq_xcomposer"}, CATS),
    "ai2d without letters": ("ai2d.utils", "ai2d_doc_to_text", AI2D, {**PLAIN, "prompt_format": "qa"}, CATS),
    "scienceqa": ("scienceqa.utils", "sqa_doc_to_text", SCIENCE, {**PLAIN, "format": "default"}, CATS),
    "scienceqa, inline": ("scienceqa.utils", "sqa_doc_to_text", SCIENCE, {"format": "qwen_vl"}, CATS),
    "mmstar": ("mmstar.utils", "mmstar_doc_to_text", {"question": INLINE}, PLAIN, CATS),
    "mmstar, columns": ("mmstar.utils", "mmstar_oc_doc_to_text", {"question": "Which?", **ROW}, PLAIN, CATS),
    "realworldqa": ("realworldqa.utils", "realworldqa_doc_to_text", {"question": f"Which?\n{LINES}"}, PLAIN, CATS),
    "seedbench": (
        "seedbench.utils",
        "seed_doc_to_text",
        {"question": "Which?", **{f"choice_{letter.lower()}": text for letter, text in ROW.items()}},
        ...,
        CATS,
    ),
    "mmbench": ("mmbench.en_utils", "mmbench_doc_to_text", MMBENCH | ROW, {"post_prompt": "Answer."}, CATS),
    "mmbench, two": (
        "mmbench.en_utils",
        "mmbench_doc_to_text",
        MMBENCH | {"A": "yes", "B": "no", "C": float("nan"), "D": "nan"},
        {"post_prompt": "Answer."},
        ("yes", "no"),
    ),
    "mmmu": ("mmmu.utils", "mmmu_doc_to_text", {**MMMU, "options": repr(list(CATS))}, MMMU_KWARGS, CATS),
    "mmmu, open": (
        "mmmu.utils",
        "mmmu_doc_to_text",
        {**MMMU, "question_type": "open", "options": "[]"},
        MMMU_KWARGS,
        (),
    ),
    "mmmu, pictures": (
        "mmmu.utils",
        "mmmu_doc_to_text",
        {**MMMU, "options": "['<image 1>', '<image 2>']"},
        MMMU_KWARGS,
        (),
    ),
    "mathvision": (
        "mathvision.utils",
        "mathvision_doc_to_text",
        {"question": "Which?\n<image1>", "options": list(CATS)},
        {"mc_prompt": "Answer with the letter."},
        CATS,
    ),
    "mathvision, pictures": (
        "mathvision.utils",
        "mathvision_doc_to_text",
        {"question": "Which?\n<image1>", "options": list("ABCDE")},
        {"mc_prompt": "Answer with the letter."},
        (),
    ),
    "mathvista": (
        "mathvista.utils",
        "mathvista_doc_to_text",
        {**MATHVISTA, "question": "Which?", "choices": list(CATS)},
        MATHVISTA_KWARGS,
        CATS,
    ),
    "mathvista, free": (
        "mathvista.utils",
        "mathvista_doc_to_text",
        {**MATHVISTA, "question": "How many?", "choices": None, "question_type": "free_form", "answer_type": "integer"},
        MATHVISTA_KWARGS,
        (),
    ),
    "mathverse": (
        "mathverse.utils",
        "mathverse_doc_to_text",
        {**VERSE, "question": VERSE_TEXT, "query_wo": f"Please directly answer.\nQuestion: {VERSE_TEXT}"},
        VERSE_KWARGS,
        CATS,
    ),
    "wemath": (
        "wemath.reasoning.utils",
        "wemath_doc_to_text_cot",
        {"question": "Which?", "option": WEMATH_OPTION},
        PLAIN,
        CATS,
    ),
    "mme_realworld": (
        "mme_realworld.utils",
        "mme_realworld_doc_to_text",
        {"question": "Which?", "multi-choice options": [f"({letter}) {text}" for letter, text in ROW.items()]},
        PLAIN,
        CATS,
    ),
    "ii_bench": (
        "ii_bench.utils",
        "ii_bench_doc_to_text",
        {"question": "Which?", **{f"option{i}": text for i, text in enumerate((*CATS, "x", "y"), 1)}},
        PLAIN,
        (*CATS, "x", "y"),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def judge_key() -> Any:
    """Some of the tasks build their judge while they are imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "EMPTY")
        yield


@pytest.mark.parametrize("name", ASKED)
def test_options_of_a_task_of_lmms_eval(name: str) -> None:
    module, function, document, kwargs, expected = ASKED[name]
    build = getattr(import_module(f"lmms_eval.tasks.{module}"), function)
    prompt = build(document) if kwargs is ... else build(document, kwargs)
    assert answer_options(document, prompt) == expected


@pytest.mark.parametrize(
    ("document", "prompt", "expected"),
    [
        ({"options": '{"A": "x", "B": "y"}'}, "A) x\nB) y", ("x", "y")),
        ({"choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "A. x\nB. y", ("x", "y")),
        ({"options": [3, 4.5]}, "(A) 3\n(B) 4.5", ("3", "4.5")),
        ({"options": ["two\n\nlines", "one"]}, "A. two\n\nlines\nB. one", ("two\n\nlines", "one")),
        ({"options": ["one", "two\nlines"]}, "A. one\nB. two\nlines\nAnswer.", ("one", "two\nlines")),
        # The prompt was built from something else: what is asked counts.
        ({"options": ["cat", "dog"]}, "Which?\nA. un chat\nB. un chien", ("un chat", "un chien")),
        ({"options": ["1", "2"]}, "There are 1, 2 or more marbles. How many are red?", ()),
        ({"options": ["cat", "dog"]}, "Is the cat bigger than the dog?", ()),
        ({"options": [Image.new("RGB", (2, 2))] * 2}, "Which picture?", ()),
        ({"A": Image.new("RGB", (2, 2)), "B": Image.new("RGB", (2, 2))}, "Which picture?", ()),
        ({"options": ["<image 1>", "5"]}, "A. <image 1>\nB. 5", ()),
        ({}, "Take the first.\nA. \nB. ", ()),  # pictures stand between the texts
        # Lines of the prompt.
        (
            {},
            "Compare.\nA. x > 1\nB. x < 1\nWhich holds?\nA. the first\nB. both\nC. none",
            ("the first", "both", "none"),
        ),
        ({}, "Choice:\nA: x\nB: y", ("x", "y")),
        ({}, "A. one\nI. a part of it\nB. two", ("one\nI. a part of it", "two")),
        ({}, "A. only one", ()),
        ({}, "B. two\nC. three", ()),
        ({}, "A. one\nB) two", ()),
        ({}, "A. Smith met B. Jones", ()),
        ({}, "Is A. better than B?", ()),
        ({"options": []}, "Angles:\nA. 40 degrees\nB. 50 degrees\nWhat is C?", ()),  # free-form, as the document says
        (None, "A. x\nB. y", ("x", "y")),
    ],
)
def test_rules(document: Any, prompt: str, expected: tuple[str, ...]) -> None:
    assert answer_options(document, prompt) == expected


MARKS = ("{}. ", "({}) ", "{}) ", "{}: ", "{}:")
words = st.sampled_from(["cat", "A", "(B)", "3.5", "-2", "$x^2$", "\\frac{1}{2}", "C. elegans", "50%", "B, C", "角"])
one_line = st.lists(words, min_size=1, max_size=4).map(" ".join)
some_lines = st.lists(one_line, min_size=1, max_size=3).map("\n1) ".join)


def _named(texts: list[str]) -> bool:
    """Whether they are but their own letters: pictures."""
    return all(text == letter for text, letter in zip(texts, ascii_uppercase, strict=False))


@given(st.lists(some_lines, min_size=2, max_size=10), st.sampled_from(MARKS), st.booleans())
def test_a_documents_options_come_back_from_any_layout(texts: list[str], mark: str, after: bool) -> None:
    lines = "\n".join(mark.format(letter) + text for letter, text in zip(ascii_uppercase, texts, strict=False))
    prompt = f"Which one?\n{lines}" + "\nAnswer with a letter." * after
    assert answer_options({"options": texts}, prompt) == (() if _named(texts) else tuple(texts))


@given(st.lists(some_lines, min_size=2, max_size=10), one_line, st.sampled_from(MARKS), st.sampled_from(MARKS))
def test_the_last_run_of_a_prompts_lines_is_the_options(texts: list[str], last: str, mark: str, other: str) -> None:
    texts = [*texts[:-1], last]  # where the last one ends is only known if it is one line
    earlier = "\n".join(other.format(letter) + "a statement" for letter in "ABC")
    lines = "\n".join(mark.format(letter) + text for letter, text in zip(ascii_uppercase, texts, strict=False))
    prompt = f"Compare:\n{earlier}\nWhich holds?\n{lines}\nAnswer with a letter."
    assert answer_options({}, prompt) == (() if _named(texts) else tuple(texts))
