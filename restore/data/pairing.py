"""Which image of one folder belongs to which of another: the only home of that rule.

Both folders have the same sub-folders, and partners the same name but for the suffix. A name may end in `x2`, as
low-resolution images of scale 2 are published.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from restore.errors import UserError

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
        raise UserError(f"{folder}: no counterpart for {_listed(missing)}")
    for name, partners in found.items():
        if len(partners) > 1:
            raise UserError(f"{folder}: two counterparts for {images[name].name}: {_listed(p.name for p in partners)}")
    paired = [partners[0] for partners in found.values()]
    if strangers := [path.name for path in others.values() if path not in set(paired)]:
        raise UserError(f"{folder}: {_listed(strangers)} have no counterpart in the other folder")
    return tuple(paired)


def check_sizes(clean: tuple[int, ...], degraded: tuple[int, ...], scale: int, image: Path) -> None:
    """Raise UserError unless a degraded image is `scale` times smaller than a clean one, rounded down.

    Args:
        clean, degraded: (height, width, ...).
        scale: 1 for images of equal sizes.
        image: the clean one, for the message.
    """
    if not all(0 <= size - low * scale < scale for size, low in zip(clean[:2], degraded[:2], strict=True)):
        raise UserError(
            f"{image}: is {clean[1]}x{clean[0]}, but its degraded image of scale {scale} is {degraded[1]}x{degraded[0]}"
        )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:MAX_IMAGES_NAMED]) + (
        f" and {len(found) - MAX_IMAGES_NAMED} more" if len(found) > MAX_IMAGES_NAMED else ""
    )
