"""A package of its own that adds a search and a scorer."""

from collections.abc import Mapping

from atomthink_plugin.api import Choice, Count, Path, Score, Search, SearchKind, SearchTree
from atomthink_plugin.plugins.hookspecs import ScorerFactory, hookimpl


def shortest(n: Count = 4) -> Search:
    """Returns the search that keeps the concluded path with the fewest steps."""

    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        path = min(paths, key=lambda p: (not p.final, p.depth))
        return Choice(path, await tree.value(path, "mean"), tree.why(path))

    return search


class Brevity:
    """Scores a step by how short it is."""

    identity = "brevity"

    def __init__(self, words: int) -> None:
        self.words = words

    async def score(self, path: Path) -> Score:
        """Returns 1.0 for an empty step, 0.5 for one of `words` words."""
        assert path.step is not None
        return Score(self.words / (self.words + len(path.step.text.split())))


def brevity(words: Count = 8) -> Brevity:
    """Returns the scorer."""
    return Brevity(words)


@hookimpl
def atomthink_searches() -> Mapping[str, SearchKind]:
    """Returns one search."""
    return {"shortest": SearchKind(shortest, scored=True)}


@hookimpl
def atomthink_scorers() -> Mapping[str, ScorerFactory]:
    """Returns one scorer."""
    return {"brevity": brevity}
