"""Solved examples before the question, around any other format.

Each example is a question, asked as the other format asks, and its reply in that format's layout. The most similar
example is the last one, next to the question. The question itself is never an example.

Sources: few-shot chain of thought (Wei et al., arXiv 2201.11903), and the nearest examples with chains that the model
wrote itself in Medprompt (Nori et al., arXiv 2311.16452).

Different from the published code: the letters of the examples' answers are left as they are. Medprompt's code swaps
them to balance the options, in chains whose text still says "Option A".
"""

from __future__ import annotations

from pathlib import Path as FilePath

from atomthink_plugin.api import AtomThinkError, Count, Example, Format, Message, Path, Question, Step
from atomthink_plugin.examples.example_file import read_examples
from atomthink_plugin.formats.few_shot import FewShot
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.plugins.hookspecs import ExamplesFactory
from atomthink_plugin.plugins.registry import registry


def few_shot_format(examples: str, form: str = "continue", k: Count = 5, nearest: str = "tfidf") -> FewShot:
    """Shows solved examples before each question.

    Args:
        examples: File of solved questions, as `atomthink examples build` writes it.
        form: The format that is asked in, and that the examples' replies are in.
        k: Examples before a question.
        nearest: How they are chosen. `tfidf`: those that share the most words with the question, rare words counting
            more. `policy`: those whose texts are closest to the question's in the policy's own hidden states, for
            models that run in transformers. `fixed`: the first ones of the file. Plugins may add others.

    Raises:
        AtomThinkError: The file cannot be used.
    """
    offers = registry()
    others = {name: factory for name, factory in offers.formats.items() if factory is not few_shot_format}
    inner: Format = pick("format_form", form, others)()
    choose: ExamplesFactory = pick("format_nearest", nearest, offers.examples)
    read = read_examples(FilePath(examples).expanduser(), f"format_examples={examples}")
    for example in read.examples:
        if (fault := _fault(example, inner)) is not None:
            raise AtomThinkError(
                f"`format_form={form}`: in the example {example.question!r:.80}, {fault}. Make the examples in this "
                "format, or name theirs"
            )
    return FewShot(inner, read.digest, k, nearest, choose(read.examples))


def _fault(example: Example, inner: Format) -> str | None:
    """Says why an example's reply is not one in this format, None if it is."""
    path = Path(Question("example", (Message("user", (example.question,)),), example.options))
    for text in example.steps:
        unit = inner.unit(path)
        # A unit without a joint is a piece of a reply, which an example has as a whole.
        if unit is not None and unit.joint and (fault := unit.check(text, [step.text for step in path.steps])):
            return f"{text!r:.120} {fault}"
        path = path.extend(Step(text))
    return None if inner.answer(example.steps[-1]) else f"{example.steps[-1]!r:.120} states no final answer"
