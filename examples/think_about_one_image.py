"""Thinks about one image and one question, with the embedded model: `python examples/think_about_one_image.py`."""

import asyncio

from atomthink_plugin import ask, load, make_question
from atomthink_plugin.api import Node
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out

item = held_out(5)[4]
text, image = item.text, draw(item)  # a PIL image; the name of an image file does as well

# load("atomthink_qwen_vl", pretrained="ORG/MODEL", prm="ORG/PRM", thinking="slow") loads a model of your own.
model = load("atomthink_tiny", thinking="slow", search="beam")
outcome = ask(model, text, image)

print(text)
for step, score in zip(outcome.steps, outcome.scores, strict=True):
    print(f"{score:.2f}  {step}")
print(f"answer: {outcome.answer} after {outcome.usage.policy_calls} candidate steps; right is {item.answer}")


def show(node: Node) -> None:
    """Prints what the search looks at; a node comes twice, the second time with its score."""
    if node.score is not None:
        print(f"  {node.score:.2f}  {node.text}")


async def watch() -> None:
    """Thinks again and shows the search while it runs; in a notebook, `await` the call itself."""
    again = await model.think(make_question(text, image), on_node=show)
    assert again.answer == outcome.answer  # the same question gets the same samples


print("\nThe same search, as it happens:")
asyncio.run(watch())
