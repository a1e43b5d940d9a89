"""What an experiment's configuration resolves to today, as its run would write it, without running it."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from medzeroseg.files import write_atomically

SEED = 987_654_321
"""Stands in a template where the seed will be: one parse, which takes seconds, serves all seeds."""

_VARIABLE = re.compile(rb"\$\{oc\.env:(\w+)")


def resolve(
    experiments: Mapping[str, Path],
    overrides: Sequence[str],
    cache: Path,
    packages: Sequence[str],
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, str]:
    """Resolve experiments: includes, defaults of classes, interpolations, overrides.

    What was resolved before is read from `cache`, unless an experiment file, the code or a variable of the environment
    has changed.

    Args:
        experiments: Name to file.
        overrides: Options that override every experiment's.
        cache: Folder of what was resolved before.
        packages: Packages whose classes the experiments name; their defaults are part of a configuration.
        meanwhile: Called before something is resolved anew, which takes long: begins what can be done beside it.

    Returns:
        Name to template: YAML in which the seed is `SEED`.

    Raises:
        ConfigurationError: An experiment is not valid.
    """
    found, missing = {}, {}
    code = _digest_code(packages)
    for name, file in experiments.items():
        text = cache / f"{name}_{_digest(file, overrides, code)}.yaml"
        if text.is_file():
            found[name] = text.read_text(encoding="utf-8")
        else:
            missing[name] = text
    if missing:
        if meanwhile is not None:
            meanwhile()
        from medzeroseg.paper.parsing import parse_experiment  # torch and Lightning: seconds

        for name, text in missing.items():
            found[name] = parse_experiment(experiments[name], [f"--seed_everything={SEED}", *overrides])
            for old in cache.glob(f"{name}_{'?' * 16}.yaml"):
                old.unlink()
            write_atomically(text, found[name])
    return {name: found[name] for name in experiments}


def with_seed(template: str, seed: int) -> dict[str, Any]:
    """The configuration of one seed."""
    settings: dict[str, Any] = yaml.safe_load(template.replace(str(SEED), str(seed)))
    return settings


def _digest(file: Path, overrides: Sequence[str], code: bytes) -> str:
    # Every YAML beside it counts: which of them it includes is the parser's business.
    texts = [path.read_bytes() for path in sorted({file, *file.parent.rglob("*.yaml")})]
    names = sorted({name.decode() for text in texts for name in _VARIABLE.findall(text)})
    variables = [f"{name}={os.environ.get(name)}" for name in names]
    whole = [file.read_bytes(), code, *texts, *(word.encode() for word in [*variables, *overrides])]
    return hashlib.sha256(b"\0".join(whole)).hexdigest()[:16]


def _digest_code(packages: Sequence[str]) -> bytes:
    digest = hashlib.sha256()
    for file in _sources(packages):
        digest.update(file.read_bytes())
    return digest.digest()


def _sources(packages: Sequence[str]) -> Iterator[Path]:
    for package in packages:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(path for path in Path(folder).rglob("*") if path.suffix in {".py", ".yaml"})
