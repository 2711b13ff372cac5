"""Executes the notebooks of `examples/` in place, so that their outputs are those of the current code.

    python docs/scripts/notebook.py

The outputs keep nothing of the machine: no progress bars, no timings of cells, no paths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Replaces the outputs of a notebook by new ones.

    Args:
        notebook: The notebook.
        folder: Where its cells run.
    """
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=place).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]  # progress bars


def main() -> None:
    """Executes and writes the notebooks."""
    parser = argparse.ArgumentParser(description="Executes notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted((ROOT / "examples").glob("*.ipynb")))
    for file in parser.parse_args().notebooks:
        notebook = nbformat.read(file, as_version=4)
        execute(notebook, file.parent)
        text = nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"
        for path in {str(ROOT), str(Path.home())}:
            if path in text:
                raise SystemExit(f"{file} has a path of this machine in its outputs: {path}")
        file.write_text(text, encoding="utf-8")
        print(f"{file}: {len(notebook.cells)} cells, {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
