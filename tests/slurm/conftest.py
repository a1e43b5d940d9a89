"""A real Slurm cluster of two nodes on this machine, for the tests marked `slurm`."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOLS = ("slurmctld", "slurmd", "srun", "munged", "ip", "nsenter")
PATIENCE_S = float(os.environ.get("SLURM_TEST_PATIENCE_S", "300"))
"""How long a job may take to get anywhere; more on a machine that is busy with other things."""


class Cluster:
    """Runs commands on the cluster's head node."""

    def __init__(self, script: Path, state: Path) -> None:
        self.script = script
        self.environment = {**os.environ, "LOCAL_SLURM_DIR": str(state), "LOCAL_SLURM_CPUS": "2"}

    def manage(self, *words: str) -> str:
        """`local_slurm.sh ...`: start, stop, crash NODE, boot NODE, exec COMMAND."""
        # not through pipes: the daemons it leaves in the background would keep them open
        with (Path(self.environment["LOCAL_SLURM_DIR"]).with_suffix(".out")).open("w+") as output:
            result = subprocess.run(
                [self.script, *words], env=self.environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
            output.seek(0)
            said = output.read()
        assert result.returncode == 0, f"{words}: {said}"
        return said

    def run(self, *words: str | Path) -> str:
        """Run a command on the head node."""
        return self.manage("exec", *map(str, words)).strip()

    def state(self, job: str) -> str:
        """A job's state, as Slurm calls it."""
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """What Slurm shows of a job under a name."""
        fields = self.run("scontrol", "show", "job", job).split()
        return next(field for field in fields if field.startswith(f"{name}=")).removeprefix(f"{name}=")

    @contextmanager
    def without(self, setting: str) -> Iterator[None]:
        """As at a site whose configuration does not have this line."""
        path = Path(self.environment["LOCAL_SLURM_DIR"]) / "slurm.conf"
        text = path.read_text(encoding="utf-8")
        assert f"\n{setting}\n" in text
        path.write_text(text.replace(f"\n{setting}\n", "\n"), encoding="utf-8")
        self.run("scontrol", "reconfigure")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            self.run("scontrol", "reconfigure")


def wait_until(what: Callable[[], bool], patience_s: float = PATIENCE_S, told: Callable[[], str] = str) -> float:
    """Seconds until something is so."""
    start = time.monotonic()
    while not what():
        if time.monotonic() - start > patience_s:
            pytest.fail(f"not within {patience_s:g} s\n{told()}")
        time.sleep(0.3)  # each look is a process of its own
    return time.monotonic() - start


def processes_of(job: str) -> dict[int, str]:
    """Pids of a job's processes on all nodes, which this machine sees, and their ranks."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = dict(word.partition("=")[::2] for word in (folder / "environ").read_text().split("\0") if word)
            zombie = (folder / "stat").read_text().rpartition(") ")[2].startswith("Z")
        except OSError:  # it has ended
            continue
        if words.get("SLURM_JOB_ID") == job and not zombie:
            found[int(folder.name)] = words.get("SLURM_PROCID", "")
    return found


@pytest.fixture(scope="session")
def cluster(project_root: Path) -> Iterator[Cluster]:
    script = Path(os.environ.get("LOCAL_SLURM", project_root.parent / "shared/tools/local_slurm/local_slurm.sh"))
    if not script.is_file():
        pytest.skip(f"no script that starts a Slurm cluster: {script}")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster on this machine needs root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge iproute2)")
    made = Cluster(script, Path(f"/run/medzeroseg_slurm_{os.getpid()}"))
    try:
        made.manage("start")
    except AssertionError as error:
        pytest.skip(f"the cluster does not start here: {error}")
    try:
        yield made
    finally:
        made.manage("stop")
        shutil.rmtree(made.environment["LOCAL_SLURM_DIR"], ignore_errors=True)
        Path(made.environment["LOCAL_SLURM_DIR"]).with_suffix(".out").unlink(missing_ok=True)
