"""How short-axis cardiac MRI is described."""

from data_modules.phantom.captions import Finding, Language, Qualifier

_SCAR = {
    "anterior": ("anterior", "in the anterior wall"),
    "lateral": ("lateral", "in the lateral wall"),
    "inferior": ("inferior", "in the inferior wall"),
    "septal": ("septal", "in the interventricular septum"),
}


def _scar(adjective: str, place: str) -> Finding:
    return Finding(
        (
            f"a bright scar {place}",
            f"a {adjective} myocardial scar" if adjective[0] not in "aeiou" else f"an {adjective} myocardial scar",
            f"hyperenhancement {place}",
            f"{adjective} wall infarction",
        ),
        shows=("myocardial scar",),
        concepts=("myocardium", "scar"),
    )


CARDIAC_LANGUAGE = Language(
    views=(
        "short-axis cardiac MRI",
        "short-axis MR image of the heart",
        "cardiac magnetic resonance image in short-axis view",
        "short axis cine MRI slice",
        "bright-blood MRI of the heart in the short axis",
        "cardiac MR short-axis slice",
    ),
    qualifiers={
        "level": {
            "basal": Qualifier(("basal ",), (" at the base of the heart", " at the basal level", " through the base")),
            "mid-ventricular": Qualifier(
                ("mid-ventricular ",), (" at the mid-ventricular level", " through the mid ventricle")
            ),
            "apical": Qualifier(("apical ",), (" at the apical level", " near the apex", " through the apex")),
        },
        "phase": {
            "end-diastole": Qualifier(("end-diastolic ",), (" at end-diastole", " in diastole", " (ED frame)")),
            "end-systole": Qualifier(("end-systolic ",), (" at end-systole", " in systole", " (ES frame)")),
        },
    },
    findings={
        "left ventricle": {
            "normal": Finding(
                (
                    "a left ventricle of normal size",
                    "a normal-sized left ventricle",
                    "no left ventricular dilatation",
                ),
                shows=("left ventricle",),
                concepts=("left ventricle",),
            ),
            "dilated": Finding(
                (
                    "a dilated left ventricle",
                    "marked left ventricular dilatation",
                    "an enlarged LV cavity",
                    "LV dilatation",
                ),
                shows=("left ventricle",),
                concepts=("left ventricle",),
            ),
        },
        "wall": {
            "normal": Finding(
                (
                    "normal wall thickness",
                    "a myocardium of normal thickness",
                    "no wall thickening or thinning",
                ),
                shows=("myocardium",),
                concepts=("myocardium",),
            ),
            "thin": Finding(
                ("a thin myocardium", "thinning of the left ventricular wall", "a thinned LV wall"),
                shows=("myocardium",),
                concepts=("myocardium",),
            ),
            "thick": Finding(
                (
                    "a thick myocardium",
                    "left ventricular hypertrophy",
                    "concentric LV wall thickening",
                    "a hypertrophied LV wall",
                ),
                shows=("myocardium",),
                concepts=("myocardium", "hypertrophy"),
            ),
        },
        "right ventricle": {
            "normal": Finding(
                (
                    "a normal right ventricle",
                    "a right ventricle of normal size",
                    "no right ventricular dilatation",
                ),
                shows=("right ventricle",),
                concepts=("right ventricle",),
            ),
            "dilated": Finding(
                (
                    "a dilated right ventricle",
                    "right ventricular enlargement",
                    "an enlarged RV cavity",
                    "RV dilatation",
                ),
                shows=("right ventricle",),
                concepts=("right ventricle",),
            ),
        },
        "septum": {
            "round": Finding(
                ("a normally curved septum", "no septal flattening"),
                shows=("myocardium",),
                concepts=("septum",),
            ),
            "flattened": Finding(
                (
                    "flattening of the interventricular septum",
                    "a flattened septum",
                    "a D-shaped left ventricle",
                    "septal flattening",
                ),
                shows=("myocardium",),
                concepts=("septum",),
            ),
        },
        "scar": {
            "absent": Finding(
                ("no myocardial scar", "no evidence of scar", "a homogeneous myocardium"),
                lacks=("myocardial scar",),
            ),
            **{value: _scar(*words) for value, words in _SCAR.items()},
        },
        "pericardial effusion": {
            "absent": Finding(
                ("no pericardial effusion", "no fluid around the heart"), lacks=("pericardial effusion",)
            ),
            "present": Finding(
                (
                    "a pericardial effusion",
                    "a circumferential pericardial effusion",
                    "bright fluid in the pericardial sac",
                    "fluid surrounding the heart",
                ),
                shows=("pericardial effusion",),
                concepts=("pericardial effusion",),
            ),
        },
        "liver": {
            "absent": Finding(("no liver in the slice", "the liver out of view"), lacks=("liver",)),
            "present": Finding(
                ("the liver below the right lung", "the liver in the field of view", "part of the liver"),
                shows=("liver",),
                concepts=("liver",),
            ),
        },
        "stomach": {
            "absent": Finding(("no stomach in the slice", "the stomach out of view"), lacks=("stomach",)),
            "present": Finding(
                ("a fluid-filled stomach", "the stomach below the left lung", "fluid in the stomach"),
                shows=("stomach",),
                concepts=("stomach",),
            ),
        },
        "subcutaneous fat": {
            "normal": Finding(("a thin chest wall", "little subcutaneous fat"), shows=("subcutaneous fat",)),
            "thick": Finding(
                ("a thick layer of subcutaneous fat", "abundant subcutaneous fat", "a thick chest wall"),
                shows=("subcutaneous fat",),
                concepts=("subcutaneous fat",),
            ),
        },
        "artefact": {
            "none": Finding(("no artefacts", "good image quality")),
            "ghosting": Finding(("motion artefacts", "ghosting from respiratory motion", "ghosting artefacts")),
            "noise": Finding(("marked image noise", "a low signal-to-noise ratio", "a noisy image")),
        },
    },
    words={},
    concepts=("magnetic resonance imaging", "heart"),
)
