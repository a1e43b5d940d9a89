"""What the screen shows while a paper is made."""

import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from medzeroseg.paper.plan import Run
from medzeroseg.paper.scheduler import End, Outcome, Schedule


class Progress:
    """Shows what runs, what has ended, and how long the rest may take: live in a terminal, as lines elsewhere.

    Args:
        schedule: What is shown.
        jobs: How many run side by side.
        console: Where.
    """

    def __init__(self, schedule: Schedule, jobs: int, console: Console) -> None:
        self.schedule = schedule
        self.jobs = jobs
        self.console = console
        self.begun = time.monotonic()
        self._told: set[Run] = set(schedule.outcomes)
        self._started: set[Run] = set()
        self._live = Live(console=console, get_renderable=self._render, auto_refresh=False, transient=True)

    def __enter__(self) -> "Progress":
        """Take the screen."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, and say what has ended meanwhile."""
        self._live.stop()
        self.tell()

    def tell(self) -> None:
        """Print a line for each run that has started or ended since the last call, and draw the rest anew."""
        for run in self.schedule.running.keys() - self._started:
            self._started.add(run)
            if not self.console.is_terminal:
                self.console.print(f"started  {run}", highlight=False)
        for run, outcome in list(self.schedule.outcomes.items()):
            if run not in self._told:
                self._told.add(run)
                self.console.print(ending(run, outcome), highlight=False)
        if self._live.is_started:
            self._live.refresh()

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for run, (_, start) in list(self.schedule.running.items()):
            known = self.schedule.known.get(run)
            table.add_row("running", str(run), clock(now - start) + (f" of about {clock(60 * known)}" if known else ""))
        ended = len(self.schedule.outcomes)
        total = ended + len(self.schedule.waiting) + len(self.schedule.running)
        left = self.schedule.minutes_left(self.jobs)
        told = "" if left is None else f", about {clock(60 * left)} left"
        line = f"{ended} of {total} runs; {clock(now - self.begun)} so far{told}"
        return Group(table, Text(line))


def ending(run: Run, outcome: Outcome) -> Text:
    """One line on how a run ended."""
    styles: Mapping[End, str] = {
        End.DONE: "green",
        End.FAILED: "bold red",
        End.STOPPED: "yellow",
        End.BLOCKED: "yellow",
    }
    text = Text(f"{outcome.end.value:<8} ", style=styles[outcome.end])
    text.append(str(run), style="default")
    text.append(f", {clock(outcome.seconds)}" if outcome.seconds else "", style="default")
    return text.append(f": {outcome.reason}" if outcome.reason else "", style="default")


def clock(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
