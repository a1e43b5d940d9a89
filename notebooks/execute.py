"""Runs the notebooks: `python -m notebooks.execute [--small] [--sync] [NAME ...]`; `make notebooks` runs them all.

What is reviewed and kept in git is each notebook's `.py` (jupytext, percent format) and, made from it, the `.ipynb`
without outputs. Executed ones, with their plots, go to `runs/notebooks/`.
"""

import argparse
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))


def read_notebook(name: str) -> nbformat.NotebookNode:
    """A notebook as its `.py` has it, without outputs."""
    notebook: nbformat.NotebookNode = jupytext.read(FOLDER / f"{name}.py")
    # ids are random otherwise, and the .ipynb would change whenever it is made
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def write_pair(name: str) -> None:
    """Make the `.ipynb` beside the `.py`."""
    (FOLDER / f"{name}.ipynb").write_text(as_text(read_notebook(name)), encoding="utf-8")


def as_text(notebook: nbformat.NotebookNode) -> str:
    """The notebook's file as JSON."""
    return str(jupytext.writes(notebook, fmt="ipynb")).rstrip("\n") + "\n"


def execute(name: str, output: Path, *, small: bool = False, timeout_s: int = 1800) -> nbformat.NotebookNode:
    """Run a notebook where a user would open it, and keep it with its outputs.

    Args:
        name: Of the file, without its ending.
        output: Folder for the executed notebook.
        small: Set the parameter `SMALL`: sizes with which it runs in seconds and shows little.
        timeout_s: Of a cell, in seconds.

    Raises:
        CellExecutionError: A cell failed; the notebook is written up to it.
    """
    notebook = read_notebook(name)
    if small:
        [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        assert "SMALL = False" in cell.source, f"{name}: the cell tagged as parameters sets SMALL = False"
        cell.source = cell.source.replace("SMALL = False", "SMALL = True")
    at = {"metadata": {"path": FOLDER}}
    # a kernel's start, too, can take minutes on a busy machine
    client = NotebookClient(notebook, timeout=timeout_s, startup_timeout=timeout_s, kernel_name="python3", resources=at)
    try:
        client.execute()
    finally:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{name}.ipynb").write_text(as_text(notebook), encoding="utf-8")
    return notebook


def main() -> int:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.execute", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(NAMES)})")
    parser.add_argument("--small", action="store_true", help="with the tests' sizes")
    parser.add_argument("--sync", action="store_true", help="only make each .ipynb from its .py")
    parser.add_argument("--output", type=Path, default=Path("runs/notebooks"), help="for the executed notebooks")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no notebook {unknown[0]}; there are {', '.join(NAMES)}")
    for name in args.names or NAMES:
        if args.sync:
            write_pair(name)
        else:
            print(f"{name} ...", flush=True)
            execute(name, args.output, small=args.small)
            print(f"{name} is in {args.output}/{name}.ipynb", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
