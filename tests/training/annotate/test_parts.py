"""The meter, the ledger and the lenient reader, each by itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.annotate.filters import FaultError, require_format, well_formed
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.meter import Cost, LimitError, Meter, Price, read_price
from atomthink_plugin.training.annotate.questions import Item
from atomthink_plugin.training.annotate.teacher import Reply, read


class Said(Reply):
    step: str
    number: int


def test_a_call_waits_for_those_in_flight_and_is_refused_only_where_they_cannot_help() -> None:
    async def run() -> list[str]:
        meter, told = Meter(max_tokens=100), []
        await meter.reserve(meter.cost(50, 20))

        async def second() -> None:
            await meter.reserve(meter.cost(30, 20))
            told.append("granted")

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert not told
        meter.settle(meter.cost(50, 20), meter.cost(40, 5))
        await waiting
        meter.settle(meter.cost(30, 20), meter.cost(30, 20))
        assert meter.spent.tokens == 95
        with pytest.raises(LimitError, match="95 tokens are spent"):
            await meter.reserve(meter.cost(5, 1))
        with pytest.raises(LimitError):  # whatever it costs: nothing is asked from then on
            await meter.reserve(meter.cost(1, 0))
        return told

    assert asyncio.run(run()) == ["granted"]


def test_prices_count_cached_tokens_apart(tmp_path: Path) -> None:
    assert Price(prompt=2, completion=10, cached=0.5).usd(1_000_000, 100_000, 400_000) == pytest.approx(1.2 + 0.2 + 1)
    assert Price(prompt=2, completion=10).usd(1_000_000, 0, 400_000) == pytest.approx(2)
    file = tmp_path / "prices.yaml"
    file.write_text("a: {prompt: 1, completion: 2}\n")
    assert read_price(file, "a") == Price(prompt=1, completion=2)
    with pytest.raises(AtomThinkError, match="no price for 'b', only for a"):
        read_price(file, "b")
    file.write_text("a: {prompt: -1, completion: 2}\n")
    with pytest.raises(AtomThinkError, match=r"a\.prompt"):
        read_price(file, "a")


def test_a_ledger_counts_what_was_in_flight_and_survives_a_torn_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    worst = Cost(calls=1, prompt=50, completion=10, usd=0.5)
    calls = [ledger.asked(worst) for _ in range(3)]
    ledger.answered(calls[0], Cost(calls=1, prompt=40, completion=5, usd=0.1))
    ledger.replied("q", "r1", "said")
    ledger.answered(calls[1], Cost(calls=1))
    ledger.finish("other", {"steps": ["x"]})
    with pytest.raises(AtomThinkError, match="another run is writing there"):
        Ledger(tmp_path)
    ledger.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"asked": 4, "wor')
    for _ in range(2):  # what was in flight is counted once, however often it is read
        again = Ledger(tmp_path)
        assert again.reply("q", "r1") == "said"
        assert again.reply("q", "r2") is None
        assert again.finished == {"other": {"steps": ["x"]}}
        assert again.spent == Cost(calls=3, prompt=40, completion=5, unknown=60, usd=0.6)
        again.close()
    again = Ledger(tmp_path)
    assert again.asked(worst) not in calls
    again.close()


def test_a_direct_answer_is_well_formed_but_no_atomic_chain() -> None:
    steps = ["Step 1: To sum up, the final answer is: 0."]
    assert well_formed(steps)
    with pytest.raises(FaultError) as fault:
        require_format(steps)
    assert (fault.value.stage, fault.value.reason) == ("format", "concludes without a step before")
    assert require_format(["Step 1: Read none.", "Step 2: To sum up, the final answer is: 0."]) == "0"


def test_a_journal_without_numbers_of_calls_keeps_what_was_spent(tmp_path: Path) -> None:
    records = [
        *({"asked": request, "worst": {"calls": 1, "prompt": 50, "completion": 10}} for request in ("a1", "b2")),
        {"answered": "a1", "question": "q", "text": "said", "cost": {"calls": 1, "prompt": 40, "completion": 5}},
    ]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    ledger = Ledger(tmp_path)
    assert ledger.spent == Cost(calls=2, prompt=40, completion=5, unknown=60)
    ledger.close()


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ('{"step": "a", "number": 1}', "a"),
        ('Here:\n```json\n{"step": "a", "number": "1"}\n```\nDone.', "a"),
        ('<think>{"step": "no", "number": 0}</think>{"step": "a", "number": 1}', "a"),
        ('{"x": 1} {"step": "a", "number": 1, "more": 2}', "a"),
        (r'{"step": "\frac{1}{2} \times \sqrt{4}\nso", "number": 1}', "\\frac{1}{2} \\times \\sqrt{4}\nso"),
        (r'{"step": "so\ne = 5, and a \ne b", "number": 1}', "so\ne = 5, and a \\ne b"),
        (r'{"step": "\\frac{1}{2} \u00e9 \underline{x}", "number": 1}', "\\frac{1}{2} é \\underline{x}"),
        ('{"step": "two\nlines", "number": 1}', "two\nlines"),
    ],
)
def test_replies_are_read_whatever_stands_around_them(text: str, step: str) -> None:
    assert read(text, Said).step == step


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"step": "a"}', '{"step": "a", "number": "x"}', '{"a":' * 50_000])
def test_replies_that_are_something_else_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"object|number|nested"):
        read(text, Said)


def test_the_right_option_counts_by_its_letter_and_by_its_text() -> None:
    item = Item(id="1", question="?", answer="D", options=("16", "51", "54", "55"))
    assert item.right("D")
    assert item.right("(D) 55")
    assert item.right("55")
    assert not item.right("54")
    assert not item.right("C")
    assert not Item(id="1", question="?", answer="A", options=("5", "5")).right("5")
