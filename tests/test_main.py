"""The table of commands: complete, and nothing is imported for help but the command that was asked for."""

import argparse
import json
import subprocess
import sys

import pytest

from medzeroseg.main import COMMANDS, LIGHTNING, build_parser


def test_every_command_resolves_and_has_help() -> None:
    parser = build_parser()
    listed = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    assert set(listed) == {command.name for command in COMMANDS} | set(LIGHTNING)
    for command in COMMANDS:
        assert command.help
        assert len(listed[command.name]._actions) > 1, f"{command.name} has no arguments beside --help"


def test_only_the_named_command_gets_its_arguments() -> None:
    listed = next(
        action for action in build_parser(["tables"])._actions if isinstance(action, argparse._SubParsersAction)
    ).choices
    assert "--runs" in listed["tables"].format_help()
    assert "--seeds" not in listed["train"].format_help()


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in ("train", "segment", "export", "serve"))])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from medzeroseg.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert "usage: medzeroseg" in result.stdout
    loaded = set(json.loads(result.stderr.splitlines()[-1]))
    assert not loaded & {"torch", "numpy", "scipy", "lightning", "transformers", "gradio", "onnx", "rich"}
