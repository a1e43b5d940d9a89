"""UMLS concepts of what the captions name, for ROCO's `cuis.txt` and `semtypes.txt`.

They give these files plausible content in their real format. They have not been checked against a release of the
UMLS Metathesaurus: use them to test readers, not as a terminology.
"""

_PROCEDURE = ("T060", "Diagnostic Procedure")
_PART = ("T023", "Body Part, Organ, or Organ Component")
_REGION = ("T029", "Body Location or Region")
_DISEASE = ("T047", "Disease or Syndrome")
_FINDING = ("T033", "Finding")
_DEVICE = ("T074", "Medical Device")
_TISSUE = ("T024", "Tissue")
_ACQUIRED = ("T020", "Acquired Abnormality")

CONCEPTS: dict[str, tuple[str, tuple[str, str]]] = {
    "magnetic resonance imaging": ("C0024485", _PROCEDURE),
    "computed tomography": ("C0040405", _PROCEDURE),
    "radiography": ("C1306645", _PROCEDURE),
    "heart": ("C0018787", _PART),
    "abdomen": ("C0000726", _REGION),
    "chest": ("C0817096", _REGION),
    "left ventricle": ("C0225897", _PART),
    "right ventricle": ("C0225883", _PART),
    "myocardium": ("C0027061", _TISSUE),
    "septum": ("C0225870", _PART),
    "scar": ("C0008767", _ACQUIRED),
    "hypertrophy": ("C0149721", _DISEASE),
    "pericardial effusion": ("C0031039", _DISEASE),
    "liver": ("C0023884", _PART),
    "hepatomegaly": ("C0019209", _FINDING),
    "fatty liver": ("C0015695", _DISEASE),
    "lesion": ("C0221198", _FINDING),
    "spleen": ("C0037993", _PART),
    "splenomegaly": ("C0038002", _FINDING),
    "kidney": ("C0022646", _PART),
    "renal cyst": ("C3887499", _DISEASE),
    "gallbladder": ("C0016976", _PART),
    "gallstone": ("C0242216", _DISEASE),
    "stomach": ("C0038351", _PART),
    "pancreas": ("C0030274", _PART),
    "aorta": ("C0003483", _PART),
    "aortic aneurysm": ("C0162871", _DISEASE),
    "ascites": ("C0003962", _DISEASE),
    "subcutaneous fat": ("C0222331", _TISSUE),
    "lung": ("C0024109", _PART),
    "opacity": ("C0029053", _FINDING),
    "pleural effusion": ("C0032227", _DISEASE),
    "cardiomegaly": ("C0018800", _FINDING),
    "pacemaker": ("C0030163", _DEVICE),
    "endotracheal tube": ("C0336630", _DEVICE),
    "central venous catheter": ("C1145640", _DEVICE),
    "diaphragm": ("C0011980", _PART),
    "scoliosis": ("C0036439", _DISEASE),
}
"""Concept name: its UMLS identifier (CUI) and semantic type (identifier and name)."""
