"""How frontal chest X-rays are described."""

from data_modules.phantom.captions import Finding, Language

_ZONES = {
    "upper": ("upper zone", "upper lobe region", "apical region"),
    "middle": ("mid zone", "middle zone", "perihilar region"),
    "lower": ("lower zone", "lower lobe region", "basal region"),
}


def _opacity(side: str) -> dict[str, Finding]:
    findings = {
        "absent": Finding(
            (f"no focal opacity in the {side} lung", f"no consolidation or mass of the {side} lung"),
            shows=(f"{side} lung",),
            lacks=(f"{side} lung opacity",),
            concepts=("lung",),
        )
    }
    for zone, names in _ZONES.items():
        findings[zone] = Finding(
            (
                *(f"{{opacity kind}} in the {side} {name}" for name in names),
                f"{{opacity kind}} in the {zone} part of the {side} lung",
            ),
            shows=(f"{side} lung opacity", f"{side} lung"),
            concepts=("lung", "opacity"),
        )
    return findings


CHEST_LANGUAGE = Language(
    views=(
        "frontal chest X-ray",
        "chest radiograph",
        "posteroanterior chest radiograph",
        "frontal radiograph of the chest",
        "plain chest X-ray",
        "PA view of the chest",
    ),
    qualifiers={},
    findings={
        "right opacity": _opacity("right"),
        "left opacity": _opacity("left"),
        "pleural effusion": {
            "absent": Finding(
                ("no pleural effusion", "clear costophrenic angles"),
                lacks=("right pleural effusion", "left pleural effusion"),
            ),
            "right": Finding(
                (
                    "a right pleural effusion",
                    "right-sided pleural fluid",
                    "blunting of the right costophrenic angle",
                ),
                shows=("right pleural effusion",),
                lacks=("left pleural effusion",),
                concepts=("pleural effusion",),
            ),
            "left": Finding(
                (
                    "a left pleural effusion",
                    "left-sided pleural fluid",
                    "blunting of the left costophrenic angle",
                ),
                shows=("left pleural effusion",),
                lacks=("right pleural effusion",),
                concepts=("pleural effusion",),
            ),
            "bilateral": Finding(
                (
                    "bilateral pleural effusions",
                    "pleural fluid on both sides",
                    "effusions at both lung bases",
                ),
                shows=("right pleural effusion", "left pleural effusion"),
                concepts=("pleural effusion",),
            ),
        },
        "heart": {
            "normal": Finding(
                ("a heart of normal size", "a normal cardiac silhouette", "no cardiomegaly"),
                shows=("heart",),
                concepts=("heart",),
            ),
            "enlarged": Finding(
                ("cardiomegaly", "an enlarged heart", "an enlarged cardiac silhouette"),
                shows=("heart",),
                concepts=("heart", "cardiomegaly"),
            ),
        },
        "device": {
            "none": Finding(
                ("no lines or devices", "no implanted device"),
                lacks=("pacemaker", "endotracheal tube", "central venous catheter"),
            ),
            "pacemaker": Finding(
                (
                    "a left-sided pacemaker",
                    "a cardiac pacemaker with its lead",
                    "a pacemaker over the left chest",
                ),
                shows=("pacemaker",),
                concepts=("pacemaker",),
            ),
            "endotracheal tube": Finding(
                ("an endotracheal tube", "an endotracheal tube in the trachea", "a tube in the trachea"),
                shows=("endotracheal tube",),
                concepts=("endotracheal tube",),
            ),
            "central venous catheter": Finding(
                (
                    "a central venous catheter",
                    "a right jugular central venous line",
                    "a central line in the superior vena cava",
                ),
                shows=("central venous catheter",),
                concepts=("central venous catheter",),
            ),
        },
        "lung volume": {
            "low": Finding(
                ("low lung volumes", "poor inspiration", "small lungs with high diaphragms"),
                shows=("right lung", "left lung"),
                concepts=("lung",),
            ),
            "hyperinflated": Finding(
                ("hyperinflated lungs", "flattened diaphragms", "hyperinflation with low, flat diaphragms"),
                shows=("right lung", "left lung"),
                concepts=("lung",),
            ),
        },
        "diaphragm": {
            "normal": Finding(("a normal position of the diaphragm", "no raised hemidiaphragm")),
            "right raised": Finding(
                (
                    "a raised right hemidiaphragm",
                    "elevation of the right hemidiaphragm",
                    "a high right diaphragm",
                ),
                concepts=("diaphragm",),
            ),
            "left raised": Finding(
                (
                    "a raised left hemidiaphragm",
                    "elevation of the left hemidiaphragm",
                    "a high left diaphragm",
                ),
                concepts=("diaphragm",),
            ),
        },
        "spine": {
            "straight": Finding(("a straight spine", "no scoliosis"), shows=("spine",)),
            "scoliosis": Finding(
                ("scoliosis", "a curved thoracic spine", "scoliosis of the thoracic spine"),
                shows=("spine",),
                concepts=("scoliosis",),
            ),
        },
        "artefact": {
            "none": Finding(("good image quality",)),
            "noise": Finding(("a grainy underexposed image", "marked image noise", "a noisy image")),
        },
    },
    words={
        "opacity kind": {
            "consolidation": ("a consolidation", "a dense consolidation", "an airspace consolidation"),
            "ground-glass": (
                "a ground-glass opacity",
                "a patchy ground-glass infiltrate",
                "a hazy patchy opacity",
            ),
            "mass": ("a round mass", "a well-defined nodule", "a rounded mass lesion"),
        },
    },
    concepts=("radiography", "chest"),
)
