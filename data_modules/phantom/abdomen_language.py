"""How axial abdominal CT is described."""

from data_modules.phantom.captions import Finding, Language, Qualifier

ABDOMEN_LANGUAGE = Language(
    views=(
        "axial abdominal CT",
        "axial CT of the upper abdomen",
        "transverse computed tomography image of the abdomen",
        "CT slice of the abdomen at the level of the kidneys",
        "abdominal computed tomography, axial section",
        "axial CT section through the upper abdomen",
    ),
    qualifiers={
        "contrast": {
            "non-contrast": Qualifier(
                ("non-contrast ", "unenhanced "), (" without contrast", " without intravenous contrast")
            ),
            "arterial": Qualifier(("arterial-phase ",), (" in the arterial phase", " with arterial enhancement")),
            "portal venous": Qualifier(
                ("portal venous phase ",), (" in the portal venous phase", " with venous phase contrast")
            ),
        },
    },
    findings={
        "liver": {
            "normal": Finding(
                ("a liver of normal size", "a normal-sized liver", "no hepatomegaly"),
                shows=("liver",),
                concepts=("liver",),
            ),
            "enlarged": Finding(
                ("an enlarged liver", "hepatomegaly", "a large liver that extends to the left"),
                shows=("liver",),
                concepts=("liver", "hepatomegaly"),
            ),
        },
        "liver texture": {
            "normal": Finding(("normal liver attenuation", "no hepatic steatosis"), shows=("liver",)),
            "fatty": Finding(
                ("a fatty liver", "hepatic steatosis", "diffusely low attenuation of the liver"),
                shows=("liver",),
                concepts=("liver", "fatty liver"),
            ),
        },
        "liver lesion": {
            "absent": Finding(("no focal liver lesion", "no hepatic mass"), lacks=("liver lesion",)),
            "right lobe": Finding(
                (
                    "a hypodense lesion in the right hepatic lobe",
                    "a low-attenuation mass in the right lobe of the liver",
                    "a right lobe liver lesion",
                ),
                shows=("liver", "liver lesion"),
                concepts=("liver", "lesion"),
            ),
            "left lobe": Finding(
                (
                    "a hypodense lesion in the left hepatic lobe",
                    "a low-attenuation mass in the left lobe of the liver",
                    "a left lobe liver lesion",
                ),
                shows=("liver", "liver lesion"),
                concepts=("liver", "lesion"),
            ),
        },
        "spleen": {
            "normal": Finding(("a normal spleen", "a spleen of normal size"), shows=("spleen",), concepts=("spleen",)),
            "enlarged": Finding(
                ("an enlarged spleen", "splenomegaly", "marked enlargement of the spleen"),
                shows=("spleen",),
                concepts=("spleen", "splenomegaly"),
            ),
            "absent": Finding(("no spleen", "an absent spleen", "status post splenectomy"), lacks=("spleen",)),
        },
        "kidneys": {
            "both": Finding(
                ("both kidneys", "the right and left kidneys"),
                shows=("right kidney", "left kidney"),
                concepts=("kidney",),
            ),
            "right absent": Finding(
                ("an absent right kidney", "only the left kidney", "an empty right renal fossa"),
                shows=("left kidney",),
                lacks=("right kidney",),
                concepts=("kidney",),
            ),
            "left absent": Finding(
                ("an absent left kidney", "only the right kidney", "an empty left renal fossa"),
                shows=("right kidney",),
                lacks=("left kidney",),
                concepts=("kidney",),
            ),
        },
        "renal cyst": {
            "absent": Finding(
                ("no renal cyst", "no cyst of the kidneys"), lacks=("right renal cyst", "left renal cyst")
            ),
            "right": Finding(
                (
                    "a cyst of the right kidney",
                    "a right renal cyst",
                    "a fluid-density cyst in the right kidney",
                ),
                shows=("right renal cyst", "right kidney"),
                concepts=("kidney", "renal cyst"),
            ),
            "left": Finding(
                ("a cyst of the left kidney", "a left renal cyst", "a fluid-density cyst in the left kidney"),
                shows=("left renal cyst", "left kidney"),
                concepts=("kidney", "renal cyst"),
            ),
        },
        "gallbladder": {
            "normal": Finding(
                ("a normal gallbladder", "the gallbladder without stones", "an unremarkable gallbladder"),
                shows=("gallbladder",),
                lacks=("gallstone",),
                concepts=("gallbladder",),
            ),
            "absent": Finding(
                ("no gallbladder", "an absent gallbladder", "status post cholecystectomy"),
                lacks=("gallbladder",),
            ),
            "gallstone": Finding(
                ("a gallstone", "a calcified stone in the gallbladder", "cholelithiasis"),
                shows=("gallbladder", "gallstone"),
                concepts=("gallbladder", "gallstone"),
            ),
        },
        "stomach": {
            "absent": Finding(("no stomach in the slice", "no visible stomach"), lacks=("stomach",)),
            "fluid-filled": Finding(
                ("a fluid-filled stomach", "a stomach distended with fluid", "fluid in the stomach"),
                shows=("stomach",),
                concepts=("stomach",),
            ),
            "gas-filled": Finding(
                ("a gas-filled stomach", "a stomach distended with air", "a large gastric air bubble"),
                shows=("stomach",),
                concepts=("stomach",),
            ),
        },
        "pancreas": {
            "present": Finding(
                ("the pancreas", "a visible pancreas", "the head and body of the pancreas"),
                shows=("pancreas",),
                concepts=("pancreas",),
            ),
            "absent": Finding(("no visible pancreas", "no pancreas in the slice"), lacks=("pancreas",)),
        },
        "aorta": {
            "normal": Finding(("a normal aorta", "an aorta of normal calibre"), shows=("aorta",), concepts=("aorta",)),
            "aneurysm": Finding(
                (
                    "an abdominal aortic aneurysm",
                    "a dilated abdominal aorta",
                    "aneurysmal dilatation of the aorta",
                ),
                shows=("aorta",),
                concepts=("aorta", "aortic aneurysm"),
            ),
        },
        "ascites": {
            "absent": Finding(("no ascites", "no free fluid"), lacks=("ascites",)),
            "present": Finding(
                ("ascites", "free abdominal fluid", "peritoneal fluid"),
                shows=("ascites",),
                concepts=("ascites",),
            ),
        },
        "subcutaneous fat": {
            "normal": Finding(("a moderate amount of subcutaneous fat",), shows=("subcutaneous fat",)),
            "thin": Finding(
                ("a slim patient", "little subcutaneous fat", "a thin abdominal wall"),
                shows=("subcutaneous fat",),
            ),
            "thick": Finding(
                ("an obese patient", "abundant subcutaneous fat", "a thick layer of subcutaneous fat"),
                shows=("subcutaneous fat",),
                concepts=("subcutaneous fat",),
            ),
        },
        "artefact": {
            "none": Finding(("good image quality", "little image noise")),
            "noise": Finding(("marked image noise", "a noisy low-dose image", "graininess from a low dose")),
        },
    },
    words={},
    concepts=("computed tomography", "abdomen"),
)
