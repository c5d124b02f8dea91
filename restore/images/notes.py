"""What a file says about its picture besides pixels: EXIF, XMP and color profiles, as blocks of bytes."""

import re
import struct
from contextlib import suppress

from PIL.ExifTags import IFD, Base
from PIL.Image import Exif

ORIENTATION = int(Base.Orientation)
DESCRIBING: set[int] = {
    *(Base.ImageDescription, Base.Make, Base.Model),
    *(Base.Software, Base.DateTime, Base.Artist, Base.HostComputer, Base.Copyright, Base.Rating),
    *(Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject, IFD.Exif, IFD.GPSInfo),
}  # of a TIFF file's tags, those that are not about how its pixels are stored
PREFIX = b"Exif\0\0"  # of the block in a JPEG


def describing(tags: Exif) -> bytes | None:
    """Of a TIFF file's tags, what EXIF has in other files, as a block; None if there is nothing."""
    exif = Exif()
    for tag in DESCRIBING & set(tags):
        exif[tag] = tags.get_ifd(tag) if tag in (IFD.Exif, IFD.GPSInfo) else tags[tag]
    return exif.tobytes().removeprefix(PREFIX) if exif else None


def without_orientation(block: bytes) -> bytes | None:
    """An EXIF block (without prefix) that no longer says how to turn the image, all else as it was.

    The entry is taken out of its directory, nothing is moved, so that makers' notes keep their offsets; None if
    nothing is left.
    """
    with suppress(struct.error):
        order = "<" if block[:2] == b"II" else ">"
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        places = range(start + 2, start + 2 + 12 * count, 12)
        entries = [block[place : place + 12] for place in places if place + 12 <= len(block)]  # it may state too many
        kept = [entry for entry in entries if struct.unpack(f"{order}H", entry[:2])[0] != ORIENTATION]
        if not kept:
            return None
        end = start + 2 + 12 * len(entries)
        following = block[end : end + 4] if len(entries) == count else bytes(4)
        removed = bytes(12 * (len(entries) - len(kept)))
        return (
            block[:start]
            + struct.pack(f"{order}H", len(kept))
            + b"".join(kept)
            + following
            + removed
            + block[end + 4 :]
        )
    return block


def upright(xmp: bytes) -> bytes:
    """An XMP packet that no longer says how to turn the image."""
    xmp = re.sub(rb"""tiff:Orientation\s*=\s*["'][0-9]["']""", b"", xmp)
    return re.sub(rb"<tiff:Orientation>\s*[0-9]\s*</tiff:Orientation>", b"", xmp)


def color_space(profile: bytes) -> str:
    """Of an ICC profile, e.g. `GRAY`, `RGB` or `CMYK`; empty if it is not a profile."""
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("ascii", "replace").strip()
