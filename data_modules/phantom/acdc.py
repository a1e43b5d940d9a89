"""The phantom in ACDC's layout: stacks of short-axis slices from base to apex at end-diastole and end-systole.

The slices are those of `CardiacMRI`, so a stack looks as the cardiac pictures of the ROCO phantom do; labels and
folders are ACDC's (Bernard et al., IEEE TMI 37(11), 2018).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.anatomy import Facts
from data_modules.phantom.cardiac import CardiacMRI
from data_modules.phantom.layout import Layout, Made
from data_modules.phantom.nifti import encode_nifti
from data_modules.phantom.randomness import SliceStreams, Streams

PARTS = ("training", "testing")
_FIRST_NUMBER = {"training": 1, "testing": 101}  # as in the challenge

GROUPS: dict[str, dict[str, Any]] = {
    "NOR": {"contraction": (0.56, 0.64)},
    "DCM": {"left ventricle": "dilated", "contraction": (0.84, 0.90)},
    "HCM": {"wall": "thick", "contraction": (0.46, 0.56)},
    "MINF": {"wall": "thin", "contraction": (0.78, 0.86)},
    "RV": {"right ventricle": "dilated", "septum": "flattened", "contraction": (0.58, 0.68)},
}
"""The challenge's diagnoses: what sets them apart, and the range of end-systolic over end-diastolic radius."""

_USUAL = {
    "left ventricle": "normal",
    "wall": "normal",
    "right ventricle": "normal",
    "septum": "round",
    "scar": "absent",  # cine contrast does not show one
}
_LABELS = ("right ventricle", "myocardium", "left ventricle")  # the phantom's first three are ACDC's
_APEX = 1.15  # the lowest slice lies a little below the named apical level
_PREVIEW_STEP = 4


@dataclass(frozen=True)
class Patient:
    """One patient folder.

    Args:
        part: Folder that it lies in, "training" or "testing".
        index: Its place there, from 0.
    """

    part: str
    index: int

    @property
    def folder(self) -> str:
        """Path relative to the phantom."""
        return f"{self.part}/{self.name}"

    @property
    def name(self) -> str:
        """`patient001` onwards in training, `patient101` onwards in testing."""
        return f"patient{_FIRST_NUMBER[self.part] + self.index:03d}"


@dataclass(frozen=True)
class AcdcLayout(Layout[Patient, None]):
    """ACDC: two labelled volumes a patient, `Info.cfg`, and the cine loop.

    Directory tree::

        out/{training,testing}/patient001/Info.cfg                       ED, ES, group, frames
        out/{training,testing}/patient001/patient001_frame01.nii.gz      int16, (I, J, K)
        out/{training,testing}/patient001/patient001_frame01_gt.nii.gz   uint8: 1 RV, 2 myocardium, 3 LV
        out/{training,testing}/patient001/patient001_4d.nii.gz           the loop, every 4th voxel in plane

    Args:
        training: Number of training patients, at most 100.
        testing: Number of testing patients.

    Raises:
        ValueError: If a parameter is out of its range.
    """

    name: ClassVar[str] = "acdc"
    version: ClassVar[int] = 1
    own_files: ClassVar[re.Pattern[str]] = re.compile(
        r"(training|testing)/(?P<name>patient\d{3,})/(Info\.cfg|(?P=name)_(4d|frame\d\d(_gt)?)\.nii\.gz)"
    )

    training: int = 20
    testing: int = 10

    def __post_init__(self) -> None:
        """Refuse parameters out of their range."""
        super().__post_init__()
        if self.training > 100:
            raise ValueError(f"training must be at most 100 (patient101 is a testing patient), got {self.training}")

    def folders(self) -> list[str]:
        """See `Layout.folders`."""
        return [*PARTS, *(patient.folder for patient in self.jobs())]

    def jobs(self) -> list[Patient]:
        """All patients."""
        return [Patient(part, index) for part in PARTS for index in range(getattr(self, part))]

    def size_of(self, job: Patient) -> int:
        """One patient."""
        return 1

    def make(self, job: Patient) -> Made[None]:
        """Draw both phases of a patient."""
        return Made(draw_patient(job, self.seed), None)

    def finish(self, records: list[None]) -> tuple[Mapping[str, bytes], dict[str, Any]]:
        """Nothing speaks of all patients."""
        return {}, {"items": {part: getattr(self, part) for part in PARTS}}


def draw_patient(patient: Patient, seed: int) -> dict[str, bytes]:
    """Return the files of a patient by path.

    Args:
        patient: Which one.
        seed: Seed of the data set.
    """
    words = (seed, PARTS.index(patient.part), patient.index)
    streams = Streams(words)
    rng = streams("patient")
    group = list(GROUPS)[patient.index % len(GROUPS)]
    traits = GROUPS[group]
    anatomy = CardiacMRI()
    facts = anatomy.sample_facts(rng) | _USUAL | {key: value for key, value in traits.items() if key in _USUAL}
    facts["artefact"] = "none" if rng.random() < 0.8 else str(rng.choice(["ghosting", "noise"]))
    stack = _Stack(
        facts=facts,
        contraction=float(rng.uniform(*traits["contraction"])),
        slices=int(rng.integers(6, 13)),
        field_of_view_mm=float(rng.uniform(290, 340)),
        pixel_mm=round(float(rng.uniform(1.2, 1.9)), 3),
        length_mm=float(rng.uniform(62, 84)),
        gain=float(rng.uniform(150, 900)),
        trim=float(rng.choice([0.0, 0.06])),
    )
    affine = _affine(rng, stack)
    frames = int(rng.integers(12, 17))
    systole = int(rng.integers(5, 10))
    images, masks = {}, {}
    for frame, phase in ((1, "end-diastole"), (systole, "end-systole")):
        images[frame], masks[frame] = _draw_stack(anatomy, stack, phase, (*words, frame), streams)
    prefix = f"{patient.folder}/{patient.name}"
    info = {
        "ED": 1,
        "ES": systole,
        "Group": group,
        "Height": f"{rng.uniform(150, 195):.1f}",
        "NbFrame": frames,
        "Weight": f"{rng.uniform(50, 110):.1f}",
    }
    files = {f"{patient.folder}/Info.cfg": "".join(f"{key}: {value}\n" for key, value in info.items()).encode()}
    for frame in images:
        files[f"{prefix}_frame{frame:02d}.nii.gz"] = encode_nifti(images[frame], affine)
        files[f"{prefix}_frame{frame:02d}_gt.nii.gz"] = encode_nifti(masks[frame], affine)
    coarse = affine @ np.diag([_PREVIEW_STEP, _PREVIEW_STEP, 1, 1])
    files[f"{prefix}_4d.nii.gz"] = encode_nifti(_preview(images[1], images[systole], systole, frames), coarse)
    return files


@dataclass(frozen=True)
class _Stack:
    """What both phases of a patient share.

    Args:
        facts: What is true of the patient; level and phase come later.
        contraction: End-systolic over end-diastolic radius.
        slices: How many from base to apex.
        field_of_view_mm: Width of the drawn square.
        pixel_mm: In-plane spacing.
        length_mm: From the first slice to the last.
        gain: Stored value of a signal of 1.
        trim: Share of the columns cut off at either side; background, as the trunk is narrower.
    """

    facts: Facts
    contraction: float
    slices: int
    field_of_view_mm: float
    pixel_mm: float
    length_mm: float
    gain: float
    trim: float

    @property
    def size_px(self) -> int:
        """Width and height of the drawn square."""
        return round(self.field_of_view_mm / self.pixel_mm)

    @property
    def step_mm(self) -> float:
        """Distance of neighbouring slices, 5 to 10 mm in halves."""
        return min(max(round(2 * self.length_mm / self.slices) / 2, 5.0), 10.0)

    @property
    def columns(self) -> slice:
        """The columns that are kept."""
        cut = round(self.trim * self.size_px)
        return slice(cut, self.size_px - cut)


def _draw_stack(
    anatomy: CardiacMRI, stack: _Stack, phase: str, words: tuple[int, ...], streams: Streams
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return the voxels `(I, J, K)` of one phase and their labels: i along rows, j down, k from base to apex."""
    images, masks = [], []
    kept = np.array([0, *(anatomy.index_of(name) for name in _LABELS)], np.uint8)
    for place, height in enumerate(np.linspace(0, _APEX, stack.slices).tolist()):
        level = "basal" if height < 0.1 else "mid-ventricular" if height < 0.75 else "apical"
        scene = anatomy.draw(
            stack.facts | {"phase": phase, "level": level}, streams, stack.size_px, height, stack.contraction
        )
        signal = anatomy.receive(scene, SliceStreams((*words, 1), place=place))
        images.append(np.rint(signal[:, stack.columns] * np.float32(stack.gain)).astype(np.int16))
        labels = scene.labels[:, stack.columns]
        masks.append(np.where(np.isin(labels, kept), labels, 0).astype(np.uint8))
    return np.stack(images).transpose(2, 1, 0), np.stack(masks).transpose(2, 1, 0)


def _affine(rng: np.random.Generator, stack: _Stack) -> NDArray[np.float64]:
    """An oblique affine: the short axis of a heart that points to the left, forwards and down.

    The picture is seen from the apex, so its columns, rows and slices form a left-handed system.
    """
    apex = np.array([-0.62, 0.55, -0.56]) + rng.uniform(-0.08, 0.08, 3)
    down = np.array([-0.1, -0.55, -0.83]) + rng.uniform(-0.05, 0.05, 3)
    apex /= np.linalg.norm(apex)
    down -= apex * (apex @ down)
    down /= np.linalg.norm(down)
    across = np.cross(apex, down)
    across *= -np.sign(across[0])  # the lateral wall, at the right of the picture, lies at the patient's left
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * stack.pixel_mm, down * stack.pixel_mm, apex * stack.step_mm], 1)
    centre = (np.array([stack.columns.stop - stack.columns.start, stack.size_px, stack.slices]) - 1) / 2
    affine[:3, 3] = np.array([-20.0, 15.0, 30.0]) - affine[:3, :3] @ centre
    return affine


def _preview(
    diastole: NDArray[np.int16], systole: NDArray[np.int16], systolic_frame: int, frames: int
) -> NDArray[np.int16]:
    """A cine loop of every 4th voxel in plane, `(I, J, K, T)`: blended from both phases, for its place in the tree."""
    first, last = (array[::_PREVIEW_STEP, ::_PREVIEW_STEP].astype(np.float64) for array in (diastole, systole))
    number = np.arange(1, frames + 1)
    rise = (number - 1) / (systolic_frame - 1)
    fall = (frames + 1 - number) / (frames + 1 - systolic_frame)
    weight = np.minimum(np.minimum(rise, fall), 1)
    return np.rint(first[..., None] + (last - first)[..., None] * weight).astype(np.int16)
