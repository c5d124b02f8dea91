"""Which image of one folder belongs to which of another: the only home of that rule.

Both folders have the same sub-folders, and partners the same name but for the suffix. A name may end in `x2`, as
low-resolution images of scale 2 are published.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from restore.errors import UserError, listed

MAX_IMAGES_NAMED = 5  # images in a message


def by_name(folder: Path, images: Iterable[Path]) -> dict[str, Path]:
    """The images of a folder by their paths in it, without suffix.

    Raises:
        UserError: two differ by their suffix only.
    """
    found: dict[str, Path] = {}
    for image in images:
        name = image.relative_to(folder).with_suffix("").as_posix()
        if (other := found.setdefault(name, image)) != image:
            raise UserError(f"{folder}: {other.name} and {image.name} cannot be told apart; remove one of them")
    return found


def pair(images: Mapping[str, Path], others: Mapping[str, Path], scale: int, folder: Path) -> tuple[Path, ...]:
    """The partner of each image.

    Args:
        images: by name, as from `by_name`.
        others: their partners, by name.
        scale: of the partners' names.
        folder: where the partners are, for messages.

    Returns:
        The partners, in the order of `images`.

    Raises:
        UserError: an image has no partner or two, or a partner no image.
    """
    endings = ("", f"x{scale}")
    found = {name: [others[name + end] for end in endings if name + end in others] for name in images}
    if missing := [images[name].name for name, partners in found.items() if not partners]:
        raise UserError(f"{folder}: no counterpart for {listed(missing, MAX_IMAGES_NAMED)}")
    for name, partners in found.items():
        if len(partners) > 1:
            both = ", ".join(partner.name for partner in partners)
            raise UserError(f"{folder}: two counterparts for {images[name].name}: {both}")
    paired = [partners[0] for partners in found.values()]
    if strangers := [path.name for path in others.values() if path not in set(paired)]:
        raise UserError(f"{folder}: {listed(strangers, MAX_IMAGES_NAMED)} have no counterpart in the other folder")
    return tuple(paired)


def check_sizes(clean: tuple[int, ...], degraded: tuple[int, ...], scale: int, image: Path) -> None:
    """Raise UserError unless a degraded image is `scale` times smaller than a clean one, rounded down.

    Args:
        clean, degraded: (height, width, ...).
        scale: 1 for images of equal sizes.
        image: the clean one, for the message.
    """
    if not _is_cut(clean, [scale * size for size in degraded[:2]], scale):
        raise UserError(
            f"{image}: is {clean[1]}x{clean[0]}, but its degraded image of scale {scale} is {degraded[1]}x{degraded[0]}"
        )


def check_restored_sizes(clean: tuple[int, ...], restored: tuple[int, ...], scale: int, image: Path) -> None:
    """Raise UserError unless a restored image is as large as a clean one, or less than `scale` smaller ("modcrop").

    Args:
        clean, restored: (height, width, ...).
        scale: 1 for images of equal sizes.
        image: the restored one, for the message.
    """
    if not _is_cut(clean, restored, scale):
        raise UserError(
            f"{image}: is {restored[1]}x{restored[0]}, but its clean image {clean[1]}x{clean[0]}; it may be smaller by "
            f"less than the scale, {scale}"
        )


def _is_cut(whole: Sequence[int], part: Sequence[int], scale: int) -> bool:
    """Whether height and width of a part lack less than `scale` of those of the whole."""
    return all(0 <= size - kept < scale for size, kept in zip(whole[:2], part[:2], strict=True))
