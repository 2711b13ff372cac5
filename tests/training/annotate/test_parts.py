"""The spending budget, the ledger and the reader of replies, each on its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.annotate.budget import LimitError, Price, SpendingBudget, read_price
from atomthink_plugin.training.annotate.filters import AttemptError, require_format, well_formed
from atomthink_plugin.training.annotate.ledger import Cost, Ledger
from atomthink_plugin.training.annotate.teacher import TeacherReply, parse_reply
from atomthink_plugin.training.records import AnsweredQuestion


class NumberedStep(TeacherReply):
    step: str
    number: int


def test_a_call_waits_for_those_in_flight_and_is_refused_only_where_they_cannot_help() -> None:
    async def run() -> None:
        budget, first_ends, granted = SpendingBudget(max_tokens=100), asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with budget.call(budget.cost(50, 20)) as call:
                await first_ends.wait()
                call.cost = budget.cost(40, 5)

        async def second() -> None:
            async with budget.call(budget.cost(30, 20)) as call:
                granted.set()
                call.cost = budget.cost(30, 20)

        tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not granted.is_set()
        first_ends.set()
        await asyncio.gather(*tasks)
        assert granted.is_set()
        assert budget.spent.tokens == 95
        for cost in (budget.cost(5, 1), budget.cost(1, 0)):  # after the first refusal nothing is asked, however cheap
            with pytest.raises(LimitError):
                async with budget.call(cost):
                    pytest.fail("a call beyond the limit was granted")
        assert budget.spent.tokens == 95

    asyncio.run(run())


def test_a_call_that_cannot_be_recorded_gives_back_its_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(ledger: Ledger) -> None:
        budget, first_ends = SpendingBudget(max_tokens=100, ledger=ledger), asyncio.Event()
        record = ledger.add_call

        def full(_: Cost) -> int:
            monkeypatch.setattr(ledger, "add_call", record)
            raise AtomThinkError("no space left")

        async def first() -> None:
            async with budget.call(budget.cost(10, 0)) as call:
                monkeypatch.setattr(ledger, "add_call", full)
                await first_ends.wait()
                call.cost = budget.cost(10, 0)

        async def unrecorded() -> None:
            with pytest.raises(AtomThinkError):
                async with budget.call(budget.cost(80, 0)):
                    pytest.fail("a call without a record was granted")

        async def third() -> None:
            async with budget.call(budget.cost(60, 0)) as call:
                call.cost = budget.cost(60, 0)

        tasks = [asyncio.create_task(work()) for work in (first, unrecorded, third)]
        for _ in range(5):
            await asyncio.sleep(0)
        first_ends.set()
        _, waiting = await asyncio.wait(tasks, timeout=20)
        for task in waiting:
            task.cancel()
        assert not waiting  # the reservation would block the third call for ever
        assert budget.spent.tokens == 70

    ledger = Ledger(tmp_path)
    asyncio.run(run(ledger))
    ledger.close()
    assert Ledger(tmp_path).spent.tokens == 70


def test_prices_count_cached_tokens_separately(tmp_path: Path) -> None:
    assert Price(prompt=2, completion=10, cached=0.5).usd(1_000_000, 100_000, 400_000) == pytest.approx(1.2 + 0.2 + 1)
    assert Price(prompt=2, completion=10).usd(1_000_000, 0, 400_000) == pytest.approx(2)
    file = tmp_path / "prices.yaml"
    file.write_text("a: {prompt: 1, completion: 2}\n")
    assert read_price(file, "a") == Price(prompt=1, completion=2)
    with pytest.raises(AtomThinkError):
        read_price(file, "b")
    file.write_text("a: {prompt: -1, completion: 2}\n")
    with pytest.raises(AtomThinkError, match=r"a\.prompt"):
        read_price(file, "a")


def test_a_ledger_counts_what_was_in_flight_and_survives_a_torn_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    worst = Cost(calls=1, prompt=50, completion=10, usd=0.5)
    calls = [ledger.add_call(worst) for _ in range(3)]
    ledger.add_cost(calls[0], Cost(calls=1, prompt=40, completion=5, usd=0.1), hold=True)
    ledger.add_reply("q", "r1", "said")
    ledger.add_cost(calls[1], Cost(calls=1))
    ledger.finish("other", {"steps": ["x"]})
    with pytest.raises(AtomThinkError):
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
    assert again.add_call(worst) not in calls
    again.close()


def test_a_direct_answer_is_well_formed_but_no_atomic_chain() -> None:
    steps = ["Step 1: To sum up, the final answer is: 0."]
    assert well_formed(steps)
    with pytest.raises(AttemptError) as fault:
        require_format(steps)
    assert (fault.value.stage, fault.value.reason) == ("format", "concludes in the first step")
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


def test_a_ledger_of_the_last_version_is_read(tmp_path: Path) -> None:
    worst, cost = {"calls": 1, "prompt": 50, "completion": 10}, {"calls": 1, "prompt": 40, "completion": 5}
    records = [
        {"asked": 1, "worst": worst},
        {"answered": 1, "cost": cost},
        {"replied": "r1", "question": "q", "text": "said"},
        {"asked": 2, "worst": worst},
        {"answered": 2, "cost": cost},
        {"replied": "r2", "question": "p", "text": "said"},
        {"finished": "p", "result": {"steps": ["x"]}},
        {"asked": 3, "worst": worst},
    ]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    ledger = Ledger(tmp_path)
    assert ledger.finished == {"p": {"steps": ["x"]}}
    assert [ledger.reply("q", "r1"), ledger.reply("p", "r2")] == ["said", None]
    assert ledger.spent == Cost(calls=3, prompt=80, completion=10, unknown=60)
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
def test_replies_are_read_with_any_text_around_them(text: str, step: str) -> None:
    assert parse_reply(text, NumberedStep).step == step


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"step": "a"}', '{"step": "a", "number": "x"}', '{"a":' * 50_000])
def test_replies_that_are_something_else_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"object|number|nested"):
        parse_reply(text, NumberedStep)


def test_the_right_option_counts_by_its_letter_and_by_its_text() -> None:
    item = AnsweredQuestion(id="1", question="?", answer="D", options=("16", "51", "54", "55"))
    assert item.is_right("D")
    assert item.is_right("(D) 55")
    assert item.is_right("55")
    assert not item.is_right("54")
    assert not item.is_right("C")
    assert not AnsweredQuestion(id="1", question="?", answer="A", options=("5", "5")).is_right("5")
