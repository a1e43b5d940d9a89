"""Image-text pairs from the small labelled real sets: real pixels, captions worded from the labels."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.base import ImageTextDataModule, Split, SplitIndex
from data_modules.pairs import ImageTextRecord
from data_modules.real_sets import NO_STRUCTURE, SETS
from data_modules.screening import select_by_hash
from data_modules.seeding import stable_hash
from medzeroseg.imaging import InputError

HOW_TO_GET = (
    "Set the environment variable REAL_SAMPLES (or root) to the folder that holds acdc_h5, sunnybrook, "
    "covid_qu_ex and totalsegmentator_ct. Each is obtained from its owners, under these terms: "
    "ACDC CC BY-NC-SA 4.0 (research only, cite), Sunnybrook public domain, COVID-QU-Ex CC BY-SA 4.0 (cite), "
    "TotalSegmentator's test files Apache-2.0. "
    "To try the project without them, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


class RealSamplesDataModule(ImageTextDataModule):
    """Cardiac MR, chest X-ray and abdominal CT slices with captions derived from their label maps.

    Features: the captions name what is outlined and add measured facts (sizes, positions, level, phase,
    extent and side of an infection), true by construction of the labels and in several phrasings, one a case.

    Format:

        root/
        ├── acdc_h5/               SSL4MIS's form of ACDC: train_slices.list, test.list, data/*.h5
        ├── sunnybrook/            images, i_labels, o_labels: PNG
        ├── covid_qu_ex/           Infection Segmentation Data/.../{Train,Val}/<class>/{images,lung masks,...}
        └── totalsegmentator_ct/   ct.nii.gz, organs/*.nii.gz

    Splits: by patient. ACDC's test list tests, a fifth of its training patients validates. Sunnybrook: a
    fifth of the patients tests, 15 % of the others validates. COVID-QU-Ex: `Val` tests, 15 % of `Train`
    validates; it names no patients, each file counts as one. The one CT trains only: a single patient cannot
    be in two splits.

    The text is templated: say so wherever a result on these pairs is shown.

    Source: Bernard et al., TMI 2018 (ACDC); Radau et al., 2009 (Sunnybrook); Tahir et al., Comput. Biol. Med.
    2021 (COVID-QU-Ex); Wasserthal et al., Radiol. AI 2023 (TotalSegmentator).
    """

    def __init__(
        self,
        root: Path | str,
        *,
        datasets: Sequence[str] = tuple(SETS),
        max_pairs_per_set: Mapping[str, int] | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ImageTextDataModule` for the arguments not listed.

        Args:
            root: The folder that holds the sets.
            datasets: Which sets to use, by folder name.
            max_pairs_per_set: Set to the most pairs used of it in each split, chosen by `selection_seed`.
            **options: Passed on.

        Raises:
            ValueError: A set is unknown or listed twice, or none is listed.
        """
        super().__init__(root, **options)
        caps = dict(max_pairs_per_set or {})
        unknown = [name for name in (*datasets, *caps) if name not in SETS]
        if unknown:
            raise ValueError(f"datasets: '{unknown[0]}' is unknown; known are {', '.join(SETS)}")
        if not datasets or len(set(datasets)) < len(datasets):
            raise ValueError(f"datasets: name each set once and at least one, got {list(datasets)}")
        self.names = tuple(datasets)
        self.caps = caps
        self.patients: dict[Split, set[str]] = {}

    def index_split(self, split: Split) -> SplitIndex:
        """List the labelled images of a split and word their captions.

        Raises:
            InputError: A set is missing or incomplete, or a label cannot be read and `corrupt` is "error".
        """
        absent = [name for name in self.names if not (self.root / name).is_dir()]
        if absent:
            raise InputError(f"{self.title}: no folder {', '.join(absent)} in {self.root}. {HOW_TO_GET}")
        skipped: Counter[str] = Counter()
        records: list[ImageTextRecord] = []
        self.patients[split] = set()
        for name in self.names:
            found = SETS[name](self.root / name, split, skipped)
            of_set = []
            for image in found:
                try:
                    # Seeded by the case, so a caption depends neither on the other cases nor on their order.
                    caption = image.caption(random.Random(stable_hash(image.case_id)))
                except InputError as error:
                    if self.corrupt == "error":
                        raise InputError(f"case {image.case_id}: {error}") from error
                    skipped["images with an unreadable label"] += 1
                    continue
                if caption is None:
                    skipped[NO_STRUCTURE] += 1
                    continue
                of_set.append(ImageTextRecord(image.case_id, caption, image.source, image.structures))
                self.patients[split].add(image.patient)
            records += select_by_hash(of_set, self.caps.get(name), self.selection_seed)
        return SplitIndex(records, dict(skipped))
