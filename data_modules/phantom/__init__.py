"""Synthetic pictures and volumes with known truth: cardiac MRI, abdominal CT and chest X-ray from a seed.

An anatomy (`anatomy`, `cardiac`, `abdomen`, `chest`) draws a scene and its label map from facts, a language
(`captions`, `*_language`) says them, `items` puts both together for a place in the data set. A layout (`roco`,
`acdc`, `synapse`, `covid_qu_ex`) says which files that makes, and `generation` gets them on disk. Abdominal volumes
have solids of their own (`abdomen_volume` and the modules it uses); the other layouts use the scenes of ROCO.
"""

from data_modules.phantom.anatomy import Anatomy, Factor, Facts, Scene, Structure
from data_modules.phantom.command import add_phantom_arguments, run_phantom
from data_modules.phantom.roco import PhantomReport, generate_roco

__all__ = [
    "Anatomy",
    "Factor",
    "Facts",
    "PhantomReport",
    "Scene",
    "Structure",
    "add_phantom_arguments",
    "generate_roco",
    "run_phantom",
]
