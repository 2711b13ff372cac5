"""What the harness's model entry point gives, in interpreters that have imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

MODELS = {
    "atomthink_emova",
    "atomthink_hf",
    "atomthink_llama_vision",
    "atomthink_llava",
    "atomthink_lmms",
    "atomthink_openai",
    "atomthink_prm",
    "atomthink_qwen_vl",
    "atomthink_tiny",
}


def run(code: str) -> str:
    """Returns what `code` prints in a new interpreter."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_entry_point_is_declared() -> None:
    (entry,) = [e for e in entry_points(group="lmms_eval.models") if e.name == "atomthink"]
    assert entry.value == "atomthink_plugin.model_adapters.register:manifests"


def test_the_harness_lists_the_models_and_imports_nothing_heavy() -> None:
    printed = run(
        "import sys\n"
        "from lmms_eval.models import list_available_models, MODEL_REGISTRY_V2 as registry\n"
        "print(*(m for m in list_available_models() if m.startswith('atomthink')))\n"
        "model = registry.resolve('atomthink_tiny')\n"
        "print(model.class_path, model.model_type)\n"
        "print('heavy:', *({'torch', 'transformers', 'datasets', 'lmms_eval.tasks', 'sympy',"
        " 'latex2sympy2', 'latex2sympy2_extended'} & set(sys.modules)))\n"
    )
    models, resolved, heavy = printed.splitlines()
    assert set(models.split()) >= MODELS
    assert resolved == "atomthink_plugin.model_adapters.lmms_models.AtomThinkTiny chat"
    assert heavy == "heavy:"


def test_each_part_fails_alone_and_is_logged() -> None:
    printed = run(
        "import lmms_eval.models\n"
        "from atomthink_plugin.model_adapters import register\n"
        "from atomthink_plugin.tasks import harness_patches\n"
        "def broken(): raise RuntimeError('on purpose')\n"
        "harness_patches.import_latex2sympy = harness_patches.find_tasks = broken\n"
        "print(sorted(m.model_id for m in register.manifests()))\n"
    )
    assert all(repr(model) in printed for model in MODELS)
    assert printed.count("RuntimeError('on purpose')") == 2


def test_another_harness_gives_a_warning_and_no_models() -> None:
    printed = run(
        "import sys\n"
        "sys.modules['lmms_eval.models.registry_v2'] = None  # as in a release without it\n"
        "from atomthink_plugin.model_adapters.register import manifests\n"
        "print(manifests())\n"
    )
    assert printed.startswith("[]")
    assert "registry_v2" in printed.partition("\n")[2]


def test_latex2sympy2_can_be_imported_together_with_math_verify() -> None:
    printed = run(
        "from atomthink_plugin.tasks import harness_patches\n"
        "harness_patches.import_latex2sympy()\n"
        "harness_patches.import_latex2sympy()\n"
        "import math_verify\n"
        "from latex2sympy2 import latex2sympy\n"
        "print(eval(str(latex2sympy(r'\\frac{1}{2} + 1'))))\n"  # as the built-in scorers use it
    )
    assert printed.strip() == "1.5"


def test_a_latex2sympy2_that_works_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latex2sympy2.py").write_text("latex2sympy = 'the real one'\n")
    printed = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from atomthink_plugin.tasks import harness_patches\n"
        "harness_patches.import_latex2sympy()\n"
        "import latex2sympy2\n"
        "print(latex2sympy2.latex2sympy, latex2sympy2.__file__, 'latex2sympy2_extended' in sys.modules)\n"
    )
    assert printed.strip() == f"the real one {tmp_path / 'latex2sympy2.py'} False"


def test_without_a_stand_in_the_real_error_is_raised(tmp_path: Path) -> None:
    (tmp_path / "latex2sympy2.py").write_text("raise ImportError('cannot be imported')\n")
    printed = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.modules['latex2sympy2_extended'] = None\n"
        "from atomthink_plugin.tasks import harness_patches\n"
        "harness_patches.import_latex2sympy()\n"
        "try:\n"
        "    import latex2sympy2\n"
        "except ImportError as error:\n"
        "    print(error, 'latex2sympy2' in sys.modules)\n"
    )
    assert printed.strip() == "cannot be imported False"


def test_latex2sympy2_is_replaced_where_it_is_not_installed() -> None:
    printed = run(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *args: None if name == 'latex2sympy2' else find(name, *args)\n"
        "from atomthink_plugin.tasks import harness_patches\n"
        "harness_patches.import_latex2sympy()\n"
        "from latex2sympy2 import latex2sympy\n"
        "print(eval(str(latex2sympy(r'\\frac{1}{2} + 1'))))\n"
    )
    assert printed.strip() == "1.5"
