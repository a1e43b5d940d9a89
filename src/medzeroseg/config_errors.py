"""Turns the parser's nested error into: which key, in which file and line, and what is wrong with it."""

import re
from pathlib import Path

import yaml

_NOISE = re.compile(
    r"^\s*(?:- )?(Does not validate against any of the Union subtypes|Subtypes: .*|Errors:"
    r"|Expected a <class 'NoneType'>.*|Given value type: .*|Given value: (\{|Namespace|NestedArg).*|tip: .*)\s*$"
)
_KEY = re.compile(r"(?:Parser key|Key|Option|option|argument|Problem with given class_path) '?\"?([\w.+-]+)'?\"?")
_UNKNOWN_OPTION = re.compile(r"[Uu]nrecognized arguments?: --([\w.+-]+)")


def explain_parser_error(message: str, argv: list[str], folder: Path) -> str:
    """Make a parser's message readable and add the file and line of the key that it is about.

    Args:
        message: What jsonargparse says; nested class errors span many lines.
        argv: The command line; its YAML files are searched for the key.
        folder: Where the command was given: the parser changes the working directory while it reads a file.

    Returns:
        A few lines for a person.
    """
    lines = [line.rstrip() for line in message.splitlines() if line.strip() and not _NOISE.match(line)]
    keys = [match for line in lines for match in _KEY.findall(line)]
    keys += _UNKNOWN_OPTION.findall(message)
    text = ["Configuration error:", *(f"  {line}" for line in lines)]
    place = _locate(keys, argv, folder)
    if place:
        text.append(f"In {place}")
    text.append("`medzeroseg fit --help` lists the options; `--model.help=<class path>` those of a class.")
    return "\n".join(text)


def _locate(keys: list[str], argv: list[str], folder: Path) -> str | None:
    """Where the innermost key that can be found stands: 'file, line n', or the command line."""
    files = [Path(word.partition("=")[2] or word) for word in argv if word.endswith((".yaml", ".yml"))]
    nested = [path.parent / name for path in files if (folder / path).is_file() for name in _yaml_values(folder / path)]
    for path in files:
        mark = _syntax_error(folder / path)
        if mark is not None:
            return f"{path}, line {mark}"
    for key in reversed(keys):
        leaf = key.rsplit(".", 1)[-1]
        for word in argv:
            option = word.partition("=")[0]
            if option.startswith("--") and option.rsplit(".", 1)[-1].lstrip("-").rstrip("+") == leaf:
                return f"the command line: {word}"
        for path in [*files, *nested]:
            line = _line_of(folder / path, leaf, key) if (folder / path).is_file() else None
            if line is not None:
                return f"{path}, line {line}"
    return None


def _yaml_values(path: Path) -> list[str]:
    """Names of YAML files that a YAML file refers to (a `data:` or `model:` kept in a file of its own)."""
    return re.findall(r":\s*([\w./-]+\.ya?ml)\s*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def _syntax_error(path: Path) -> int | None:
    """Line (1-based) where a file stops being YAML."""
    try:
        yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.line + 1 if error.problem_mark else 1
    except OSError:
        return None  # the parser's own message names a missing file
    return None


def _line_of(path: Path, leaf: str, value: str) -> int | None:
    """Line (1-based) of the mapping key `leaf`, or of a scalar equal to `value`, in a YAML file."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    pending = [root] if root is not None else []
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                if key.value == leaf:
                    return int(key.start_mark.line) + 1
                pending.append(child)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif node.value == value:
            return int(node.start_mark.line) + 1
    return None
