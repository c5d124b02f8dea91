"""What can be downloaded: archives at their addresses, and the folders of images in them."""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Mirror:
    """One address of an archive.

    Attributes:
        url: http or https.
        size: in bytes, None if it is not known.
        digest: `sha256:...` or `md5:...`; empty if it is not known (the images themselves are checked anyway).
    """

    url: str
    size: int | None = None
    digest: str = ""

    @property
    def file(self) -> str:
        """The name of the archive."""
        return PurePosixPath(self.url.partition("?")[0]).name


@dataclass(frozen=True)
class Folder:
    """One folder of images.

    Attributes:
        path: where it belongs, below the root of all data sets.
        images: how many it holds.
        found_as: how its path ends in archives and in others' layouts, the surest first; `.` is the whole source.
    """

    path: str
    images: int
    found_as: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """The same folders at several addresses, tried in turn."""

    mirrors: tuple[Mirror, ...]
    folders: tuple[Folder, ...]
