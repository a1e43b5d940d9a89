"""Errors of the saliency methods."""

from medzeroseg.errors import MedZeroSegError


class SaliencyError(MedZeroSegError):
    """No saliency map can be made with this model, layer or image."""

    exit_code = 1


class ZeroGradientError(SaliencyError):
    """The similarity does not depend on the layer's patches, so a map would show nothing but noise.

    Towers that pool the class token never read the patch tokens after the last attention; there the gradient
    at the patches is exactly zero.
    """
