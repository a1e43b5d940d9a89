"""The reference of the command line, written from the parsers themselves."""

import argparse
import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

from medzeroseg.main import LIGHTNING, build_parser

PAGE = "reference/command-line.md"
_WIDTH = "84"  # characters a line of argparse's usage


def on_files(files: Any, config: Any, **_: Any) -> Any:  # noqa: ANN401 - mkdocs' own objects
    """Add the page to the site; a hook of mkdocs."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=command_line_page()))
    return files


def command_line_page() -> str:
    """Markdown of the whole reference: each command's usage and options as its parser has them."""
    os.environ["COLUMNS"] = _WIDTH
    parts = [
        "# Command line\n",
        "Written from the parsers when this site was built. Exit codes: 0 done, 1 a run failed or an input of several "
        "could not be used, 2 wrong options, configuration or paths, 130 interrupted.\n",
        "`medzeroseg` is `.venv/bin/medzeroseg` in a checkout; `make help` lists the shorter forms.\n",
    ]
    for name, parser, text in _commands(build_parser()):
        if name.split()[-1] not in LIGHTNING:
            parts.append(_section(name, parser, text))
    known = [f"| `medzeroseg {name}` | {_cell(_sentence(text))} |" for name, text in LIGHTNING.items()]
    parts += [
        "## Lightning's commands\n",
        "\n".join(["| command | |", "|---|---|", *known]) + "\n",
        "They take an experiment file and every option of trainer, task and data module, by dotted name. What a class "
        "takes is shown by `medzeroseg fit --model.help=ContrastiveTask` (and `--data.help=...`), what a whole "
        "experiment resolves to by `medzeroseg fit --print_config --config experiments/phantom_cehnc.yaml`. "
        "The options of `fit`; the others have the same but for what only concerns training:\n",
        f"```text\n{lightning_options('fit')}\n```\n",
    ]
    return "\n".join(parts)


def lightning_options(command: str) -> str:
    """The options that `medzeroseg COMMAND --help` prints, without the usage before them."""
    from medzeroseg.cli import ExperimentCLI

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        ExperimentCLI([command, "--help"])
    return "options:" + printed.getvalue().partition("\noptions:")[2].rstrip()


def _commands(
    parser: argparse.ArgumentParser, name: str = "medzeroseg"
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:  # argparse has no public way to list subcommands
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, inner in action.choices.items():
                below = list(_commands(inner, f"{name} {word}"))
                yield from below or [(f"{name} {word}", inner, texts.get(word, ""))]


def _section(name: str, parser: argparse.ArgumentParser, text: str) -> str:
    usage = parser.format_usage().strip().removeprefix("usage: ")
    lines = [f"## {name}\n", f"{_sentence(parser.description or text)}\n", f"```text\n{usage}\n```\n"]
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS and action.dest != "help"]
    if shown:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| {_spelling(action)} | {_cell(_help(parser, action))} |" for action in shown]
    if parser.epilog:
        lines.append(f"\n```text\n{parser.epilog.strip()}\n```")
    return "\n".join(lines) + "\n"


def _spelling(action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return f"`{formatter._metavar_formatter(action, action.dest)(1)[0]}`"
    value = "" if action.nargs == 0 else f" {formatter._format_args(action, action.dest.upper())}"
    return "<br>".join(f"`{_cell(option + value)}`" for option in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", ":", "`")) else f"{text[:1].upper()}{text[1:]}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
