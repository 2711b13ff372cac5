"""The tokenizer: byte-level BPE trained on the language of the demo task; any text round-trips.

Digits and blank lines are single tokens, and so are the instructions of the prompt formats. BPE merges everything else
across spaces, so that a step has about ten tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.formats.arrow import ARROW, PROMPT_END, REPLY_END
from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION
from atomthink_plugin.formats.cot import COT_INSTRUCTION
from atomthink_plugin.formats.stages import STAGES, STAGES_INSTRUCTION
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.formats.thoughts import END as THOUGHTS_END
from atomthink_plugin.formats.thoughts import START, THOUGHTS_INSTRUCTION
from atomthink_plugin.tasks.demo.questions import COLOURS, HINT, training_stream

PAD: Final = "<pad>"
END: Final = "</s>"
IMAGE: Final = "<image>"
SPECIAL: Final = (PAD, END, IMAGE, "<|system|>", "<|user|>", "<|assistant|>")
WHOLE: Final = (SEPARATOR, HINT, COT_INSTRUCTION, CONTINUE_INSTRUCTION)
VOCABULARY: Final = 480

FORMAT_TEXTS: Final = (
    STAGES_INSTRUCTION,
    *(tag for stage in STAGES for tag in (f"<{stage}>", f" </{stage}>")),
    THOUGHTS_INSTRUCTION,
    START,
    f" {THOUGHTS_END}",
    PROMPT_END,
    f" {ARROW} ",
    REPLY_END,
)
"""Texts of further prompt formats, which the shipped tokenizer has in pieces."""

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer(samples: int = 4000) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on the demo task's questions and replies."""
    fast = Tokenizer(models.BPE())
    # An item and its equals sign are one token, so that the value is read from the picture at that token.
    item = rf"(?:{'|'.join(COLOURS)})(?: width| height)?(?: = )?"
    isolated = Regex(rf"\d|{item}| = | \+ | - | x |\(|\)|\n+|Step |: |, |\.")
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(isolated, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(WHOLE),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(_corpus(samples), trainer)
    fast.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    fast.add_tokens([AddedToken(text, normalized=False, special=False) for text in WHOLE])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=fast,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def extend(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Makes each text a single token, after those that the tokenizer has.

    Returns:
        The tokens of each text before.
    """
    before = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts])
    return before


def _corpus(samples: int) -> Iterator[str]:
    for question in islice(training_stream(seed=0), samples):
        yield question.text.removesuffix(HINT)
        yield question.cot
        yield from question.steps
