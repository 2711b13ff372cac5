"""What is learned is what a policy writes, and a packed chain learns what its steps learn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from atomthink_plugin.api import Format, QuestionError, Sampling
from atomthink_plugin.api import Path as Steps
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.inference.encoding import MAX_PIXELS, Encoder, Encoding, fitted, fitting
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.training.records import Chain, engine_question
from atomthink_plugin.training.train.collate import IGNORED, Batch, collate
from atomthink_plugin.training.train.row_encoder import RowEncoder, blank_image, load_image
from atomthink_plugin.training.train.tokens import ChainRows, TrainingRow, closing_id, packable
from tests import tiny_models
from tests.inference.test_policy_trial import process_differently
from tests.training.train.demo_data import MODEL, demo_chains

STEPS = ("Step 1: Read red = 4.", "Step 2: 4 + 7 = 11.", "Step 3: To sum up, the final answer is: 11.")


@pytest.fixture(scope="module")
def embedded() -> Checkpoint:
    return load_multimodal(MODEL, device="cpu")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Chain]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo_chains(folder, 3)


def rows_for(checkpoint: Checkpoint) -> ChainRows:
    return ChainRows(RowEncoder(checkpoint), closing_id(checkpoint))


def losses(checkpoint: Checkpoint, batch: Batch) -> torch.Tensor:
    """The loss of each learned token, row after row."""
    with torch.no_grad():
        logits = checkpoint.model(**{name: value for name, value in batch.items() if name != "labels"}).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    return each[labels.flatten() != IGNORED]


def test_a_step_is_learned_as_the_policy_samples_and_continues_it(
    embedded: Checkpoint, demo: tuple[Path, list[Chain]]
) -> None:
    builder = rows_for(embedded)
    policy = TransformersPolicy(embedded, cache_gib=0)
    folder, chains = demo
    chain = chains[0]
    question = engine_question("q", chain.question, [load_image(folder / chain.images[0], None)])
    path, steps = Steps(question), []
    for _ in range(20):
        (step,) = asyncio.run(policy.propose(Continue().render(path), 1, Sampling())).steps
        steps.append(step)
        path = path.extend(step, Continue().answer(step.text))
        if path.final:
            break
    assert path.final
    texts = [step.text for step in steps]
    rows = list(builder.step_rows(Continue(), question, texts))
    for row, step in zip(rows, steps, strict=True):
        assert tuple(row.labels.values()) == step.token_ids
        assert row.encoding.tokens["input_ids"][0, list(row.labels)].tolist() == list(step.token_ids)
        assert list(row.labels)[-1] == row.encoding.length - 1


@pytest.mark.parametrize("build", [None, tiny_models.llava, tiny_models.qwen, tiny_models.mllama])
def test_a_packed_chain_has_the_loss_of_each_of_its_steps(
    build: object, embedded: Checkpoint, demo: tuple[Path, list[Chain]]
) -> None:
    checkpoint = embedded if build is None else tiny_models.loaded(build)  # type: ignore[arg-type]
    builder = rows_for(checkpoint)
    folder, chains = demo
    for chain in chains[:2]:
        question = engine_question("q", chain.question, [load_image(folder / chain.images[0], None)])
        packed = builder.chain_row(Continue(), question, chain.steps)
        single = list(builder.step_rows(Continue(), question, chain.steps))
        assert list(packed.labels.values()) == [token for row in single for token in row.labels.values()]
        lengths = [len(row.labels) for row in single]
        whole = losses(checkpoint, collate([packed], checkpoint.pad_id)).split(lengths)
        by_step = losses(checkpoint, collate(single, checkpoint.pad_id)).split(lengths)
        for at, (one, other) in enumerate(zip(whole, by_step, strict=True)):
            assert one.mean().item() == pytest.approx(other.mean().item(), abs=1e-5), f"step {at + 1}"


@pytest.mark.parametrize(
    ("form", "steps", "ends"),
    [
        (Continue(), STEPS, ["\n\n", "\n\n", "</s>"]),
        (Continue(), STEPS[:2], ["\n\n", "\n\n"]),  # a beginning: the reply is not over
        (Atomic(), STEPS, ["</s>", "</s>", "</s>"]),  # every step is a whole turn
        (Direct(), ("11",), ["</s>"]),
    ],
)
def test_what_ends_a_step(form: Format, steps: tuple[str, ...], ends: list[str], embedded: Checkpoint) -> None:
    builder = rows_for(embedded)
    rows = builder.step_rows(form, engine_question("q", "How many?", ()), steps)
    written = [embedded.tokenizer.decode(list(row.labels.values())) for row in rows]
    assert written == [step + end for step, end in zip(steps, ends, strict=True)]


def test_only_formats_whose_question_stays_are_packable() -> None:
    assert packable(Continue())
    assert not packable(Atomic())
    assert not packable(Direct())


def test_a_step_that_holds_what_ends_a_step_is_refused(embedded: Checkpoint) -> None:
    builder = rows_for(embedded)
    with pytest.raises(QuestionError):
        next(builder.step_rows(Continue(), engine_question("q", "How many?", ()), ("Step 1: a.\n\nb.", STEPS[2])))


def test_the_quick_encoder_gives_what_inference_gives() -> None:
    for build in (tiny_models.llava, tiny_models.llava_next, tiny_models.qwen, tiny_models.mllama, tiny_models.gemma3):
        checkpoint = tiny_models.loaded(build)
        quick = RowEncoder(checkpoint)
        sizes = [(112, 112), (60, 112), (112, 112), (112, 60)]
        for at, size in enumerate(sizes):
            pictures = [tiny_models.picture(at, size)]
            prompt = Continue().render(Steps(engine_question("q", f"How many? {at}", pictures)))
            expected, given = Encoder(checkpoint).encode(prompt), quick.encode(prompt)
            measured = Continue().render(Steps(engine_question("q", f"How many? {at}", [Image.new("RGB", size)])))
            with quick.measuring():
                assert quick.encode(measured).length == expected.length
            for have, want in ((given.tokens, expected.tokens), (given.media, expected.media)):
                assert have.keys() == want.keys()
                assert all(torch.equal(have[name], want[name]) for name in want), build.__name__


@pytest.mark.parametrize(
    "build", [tiny_models.llava, tiny_models.llava_next, tiny_models.qwen, tiny_models.mllama, tiny_models.gemma3]
)
def test_rows_with_and_without_images_share_a_batch(build: object) -> None:
    checkpoint = tiny_models.loaded(build)  # type: ignore[arg-type]
    builder = rows_for(checkpoint)
    pictures = [[tiny_models.picture(1, (112, 56))], [], [tiny_models.picture(2, (56, 56))]]
    rows: list[TrainingRow] = [
        builder.chain_row(Continue(), engine_question("q", "How many?", shown), STEPS) for shown in pictures
    ]
    together = losses(checkpoint, collate(rows, checkpoint.pad_id)).split([len(row.labels) for row in rows])
    for row, learned in zip(rows, together, strict=True):
        alone = losses(checkpoint, collate([row], checkpoint.pad_id))
        assert torch.allclose(learned, alone, atol=2e-5)


def test_lists_with_one_entry_per_image_are_in_the_batch_in_the_order_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_sizes(real: Any, named: dict[str, Any]) -> Any:
        return {**real(**named), "sizes": [image.size for image in (named["images"] or [[]])[0]] or None}

    process_differently(monkeypatch, with_sizes)
    checkpoint = load_multimodal(str(tiny_models.folder(tiny_models.llava)), device="cpu")
    builder = rows_for(checkpoint)
    shown: list[list[tuple[int, int]]] = [[(56, 56), (90, 40)], [], [(30, 100)], [(30, 100)]]  # the last one is cached
    rows = [
        builder.chain_row(
            Continue(),
            engine_question("q", "Which?", [tiny_models.picture(at, size) for at, size in enumerate(sizes)]),
            STEPS,
        )
        for sizes in shown
    ]
    batch = collate(rows, checkpoint.pad_id)
    assert batch["sizes"] == [(56, 56), (90, 40), (30, 100), (30, 100)]
    assert len(batch["pixel_values"]) == 4
    assert "sizes" not in collate(rows[1:2], checkpoint.pad_id)
    spare = collate(rows[1:2], checkpoint.pad_id, spare=rows[0].encoding)
    assert spare["sizes"] == [(56, 56), (90, 40)]


def test_large_pictures_are_scaled_down_with_their_proportion(tmp_path: Path) -> None:
    tiny_models.picture(0, (200, 100)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", 5000).size == blank_image(tmp_path / "a.png", 5000).size == (100, 50)
    assert load_image(tmp_path / "a.png", None).size == (200, 100)
    assert fitting((1, 10**6), 100)[0] == 1


def test_inference_scales_images_down_as_training_did() -> None:
    checkpoint = load_multimodal(str(tiny_models.folder(tiny_models.qwen)), device="cpu")
    large = tiny_models.picture(0, (224, 112))

    def encoded(image: Image.Image) -> Encoding:
        return Encoder(checkpoint).encode(Continue().render(Steps(engine_question("q", "How many?", [image]))))

    whole = encoded(large)
    setattr(checkpoint.model.config, MAX_PIXELS, 112 * 56)
    scaled, expected = encoded(large), encoded(fitted(large, 112 * 56))
    assert scaled.length < whole.length
    assert torch.equal(scaled.tokens["input_ids"], expected.tokens["input_ids"])
    assert all(torch.equal(scaled.media[name], expected.media[name]) for name in expected.media)
    trained = RowEncoder(checkpoint)
    for _ in range(3):  # by the whole processor, then by its image part
        again = trained.encode(Continue().render(Steps(engine_question("q", "How many?", [large.copy()]))))
        assert all(torch.equal(again.media[name], expected.media[name]) for name in expected.media)
