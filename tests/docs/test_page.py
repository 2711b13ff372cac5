"""The runner of pages itself: what it does in order, and that mistakes of a page are found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.fences import arguments, command_lines, fences
from tests.docs.reader import follow

PAGE = """# A page

Text with `code`.

```python
from pathlib import Path

number = 6
```

- In a list:

  ```bash
  mkdir folder
  cd folder
  export WHAT=session \\
      && echo typed > file.txt
  ```

```shell
not run
```

```yaml title="inner/run.yaml"
policy: ORG/MODEL
```

```python
typed = Path("file.txt").read_text().strip()
Path("out.txt").write_text(f"{typed} {number + 1}")
```

```bash
echo "$WHAT $(cat out.txt)"
test -f "$(cut -d ' ' -f 2 inner/run.yaml)/config.json"
```
"""


def test_fences_have_their_titles_and_lines() -> None:
    found = fences(PAGE)
    assert [fence.language for fence in found] == ["python", "bash", "shell", "yaml", "python", "bash"]
    lines = PAGE.splitlines()
    assert all(lines[fence.line - 1].strip() == fence.code.splitlines()[0] for fence in found)
    assert [fence.title for fence in found if fence.title] == ["inner/run.yaml"]
    assert found[1].code.startswith("mkdir folder\ncd folder\n")


def test_commands_are_found_after_others_and_before_redirections() -> None:
    typed = (
        "$ cd a && A=1 atomthink view \\\n   'b c' > d\ntorchrun --n 2 -m lmms_eval --tasks t # why\nls atomthink x\n"
    )
    found = list(command_lines(typed))
    assert [arguments(command, "atomthink") for command in found if "atomthink" in command] == [["view", "b c"], None]
    assert [arguments(command, "lmms_eval") for command in found if "lmms_eval" in command] == [["--tasks", "t"]]


@pytest.mark.slow
def test_a_page_is_followed_in_its_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    done = follow(page, tmp_path, "bash", "python")
    assert done.returncode == 0, done.stdout
    assert "session typed 7" in done.stdout.splitlines()


MISTAKES = {
    "an unknown command": ("bash", "true\nlmms-evil --help\necho after", "lmms-evil"),
    "a failed command in a pipe": ("bash", "true\natomthink dmeo | cat\necho after", "dmeo"),
    "an unset variable": ("bash", "true\necho $OUTT\necho after", "OUTT"),
    "Python": ("python", "one = 1\none.two\nprint('after')", "AttributeError"),
    "an installation": ("bash", "true\npip install torch\necho after", "pip install torch"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_the_page_and_is_shown_with_its_line(name: str, tmp_path: Path) -> None:
    language, code, shown = MISTAKES[name]
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n```{language}\n{code}\n```\n\n```bash\necho next\n```\n")
    done = follow(page, tmp_path, "bash", "python")
    assert done.returncode == 1, done.stdout
    assert f"{page}, line 4" in done.stdout
    printed = done.stdout.partition(code)[2]
    assert shown in printed
    assert re.search(r"page\.md\W+line 5\b", printed)
    assert "after" not in printed
    assert "echo next" not in printed
