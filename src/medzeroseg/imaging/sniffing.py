"""Tells file formats by their first bytes."""

_FIRST_ELEMENTS = (0x00, 0x01, 0x05, 0x06, 0x08, 0x12, 0x14, 0x16, 0x18)
"""With which elements of group 0008 a data set can begin, up to the SOP instance UID that every image has."""


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are DICOM's: the preamble, or a data set that starts without one."""
    if head[128:132] == b"DICM":
        return True
    bare = len(head) >= 8 and head[1] == head[3] == 0
    return bare and ((head[0] == 0x02 and head[2] == 0) or (head[0] == 0x08 and head[2] in _FIRST_ELEMENTS))


def looks_like_itk(head: bytes) -> bool:
    """Whether a file's first bytes are those of NRRD or MetaImage."""
    return head.startswith((b"NRRD000", b"ObjectType", b"NDims"))
