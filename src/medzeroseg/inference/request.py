"""What is asked of an image: the options of `medzeroseg segment`, checked before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import WINDOWS_HU
from medzeroseg.imaging.geometry import PLANES

MAX_LABELS = 254
"""A label map holds ids 1..254."""
SHOWN_PLANES = ("auto", *PLANES, "stored")


@dataclass(frozen=True)
class ReadingOptions:
    """How files that leave a choice are read; see `medzeroseg.imaging.read_volume`.

    Attributes:
        volume_index: Which volume of a 4-D file, from 0.
        series: Which series of a DICOM folder, from 1.
        uneven_steps: "error" or "accept".
        duplicate_positions: "error" or "first".
    """

    volume_index: int | None = None
    series: int | None = None
    uneven_steps: str = "error"
    duplicate_positions: str = "error"

    def __post_init__(self) -> None:
        """Refuse words that mean nothing.

        Raises:
            ConfigurationError: Names the option.
        """
        _require_one_of("uneven_steps", self.uneven_steps, ("error", "accept"))
        _require_one_of("duplicate_positions", self.duplicate_positions, ("error", "first"))


@dataclass(frozen=True)
class SegmentationRequest:
    """What to look for, and how to look.

    Attributes:
        text: Names of the structures, one label each, in the order of their ids 1, 2, ...
        modality: A key of the prompts' templates, such as "chest X-ray"; None: by the DICOM header, else `any`.
        window: See `medzeroseg.inference.viewing.choose_window`; None: by the modality.
        plane: In which plane volumes are cut into slices: one of `SHOWN_PLANES`.
        min_score: A label whose score is lower counts as not found; None: only an empty mask does.
        batch_size: Slices that pass the model together; changes nothing but time and memory.
        longest_px: Slices that are longer are segmented at this size, and their masks enlarged.
        identity: "remove", or "keep" to file DICOM segmentations under their source's patient and study.
        reading: How files are read.
    """

    text: tuple[str, ...]
    modality: str | None = None
    window: str | None = None
    plane: str = "auto"
    min_score: float | None = None
    batch_size: int = 16
    longest_px: int = 1024
    identity: str = "remove"
    reading: ReadingOptions = field(default_factory=ReadingOptions)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigurationError: Names the option and says what it may be.
        """
        object.__setattr__(self, "text", clean_texts(self.text))
        _require_one_of("plane", self.plane, SHOWN_PLANES)
        _require_one_of("identity", self.identity, ("remove", "keep"))
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise ConfigurationError(f"min_score: a score is a cosine or a probability, in -1..1, got {self.min_score}")
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size: at least 1, got {self.batch_size}")
        if self.longest_px < 64:
            raise ConfigurationError(f"longest_px: at least 64 pixels, got {self.longest_px}")
        if self.window is not None:
            parse_bounds(self.window)


def clean_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts without superfluous blanks.

    Raises:
        ConfigurationError: There is none, too many, one is empty, or two are alike.
    """
    cleaned = tuple(" ".join(text.split()) for text in ([texts] if isinstance(texts, str) else texts))
    if not cleaned:
        raise ConfigurationError('text: say what to look for, for example --text "left ventricle"')
    if not all(cleaned):
        raise ConfigurationError('text: one is empty; say what to look for, for example --text "left ventricle"')
    if len(cleaned) > MAX_LABELS:
        raise ConfigurationError(f"text: at most {MAX_LABELS} labels fit in a label map, got {len(cleaned)}")
    seen: set[str] = set()
    for text in cleaned:
        if text.casefold() in seen:
            raise ConfigurationError(f"text: {text!r} is given twice; each label needs words of its own")
        seen.add(text.casefold())
    return cleaned


def parse_bounds(window: str) -> tuple[float, float] | None:
    """The two numbers of "LOW,HIGH" and of "percentiles:LOW,HIGH"; None for the other forms.

    Raises:
        ConfigurationError: It has no form that `choose_window` knows.
    """
    if window in ("file", "percentiles", *WINDOWS_HU):
        return None
    percentiles = window.startswith("percentiles:")
    try:
        low, high = (float(part) for part in window.removeprefix("percentiles:").split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high or (percentiles and not 0 <= low < high <= 100):
        names = ", ".join(WINDOWS_HU)
        raise ConfigurationError(
            f"window: {window!r} is none; give LOW,HIGH (as --window=-160,240), percentiles, percentiles:LOW,HIGH, "
            f"file (what the file's header asks for), or a CT window by name: {names}"
        )
    return low, high


def _require_one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{option}: expected {', '.join(allowed[:-1])} or {allowed[-1]}, got {value!r}")
