"""What the `segment` command shows: a progress bar on a terminal, and a line for each label."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medzeroseg.inference.drawing import measured
from medzeroseg.inference.running import Outcome


class Screen:
    """Progress goes to the error output, and only to a terminal; answers go to the standard output.

    Args:
        inputs: How many there are.
    """

    def __init__(self, inputs: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            disable=not sys.stderr.isatty(),
        )
        self._inputs = self._progress.add_task("inputs", total=inputs)
        self._slices = self._progress.add_task("slices", total=None)

    def __enter__(self) -> Self:
        """Start the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._progress.stop()

    def slices(self, done: int, total: int) -> None:
        """Show how far the image at hand is."""
        self._progress.update(self._slices, completed=done, total=total)

    def show(self, outcome: Outcome) -> None:
        """Say what became of an input."""
        name = outcome.found.path.name
        if outcome.fault is not None:
            self.say(f"{name}: not segmented (see the end)")
        elif outcome.result is None:
            self.say(f"{name}: done before")
        else:
            result = outcome.result
            self.say(f"{name} -> {result.folder} ({sum(result.seconds.values()):.1f} s)")
            for label in result.labels:
                what = f"{measured(label)}, score {label.score:.3f}" if label.found else f"not found: {label.why_not}"
                self.say(f"  {label.label} {label.text}: {what}")
            if result.overlap_voxels:
                self.say(
                    f"  {result.overlap_voxels:,} voxels were claimed by several labels; the most confident has them"
                )
            for note in result.notes:
                self.say(f"  note: {note}")
        self._progress.advance(self._inputs)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        print(line, flush=True)  # noqa: T201 - the command's answer
