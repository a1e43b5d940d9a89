"""Colours that any colour vision tells apart."""

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""RGB, 0..255. Source: Okabe and Ito, "Color Universal Design", 2008."""
