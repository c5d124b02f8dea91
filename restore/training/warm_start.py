"""Starting from the weights of another run or project: the same network, or the same at another scale."""

import logging
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from restore.errors import UserError
from restore.foreign_checkpoints import load_any
from restore.models import RestorationNetwork

LOG = logging.getLogger(__name__)

ENLARGING = ("upsample.", "tail.", "skip.")  # what may be new


def start_from(network: RestorationNetwork, path: Path) -> None:
    """Load all tensors of a weights file that fit; what enlarges to another scale stays as it is.

    Raises:
        UserError: no known weights file, another network, other arguments than the scale, or tensors that do not fit.
    """
    weights = load_any(path)
    if type(weights.network) is not type(network):
        raise UserError(
            f"{path}: contains a {type(weights.network).__name__}, but the model is a {type(network).__name__}"
        )
    open_to = {"scale", "scales", "bn_momentum", "recompute", "init", *({"bn_eps"} if network.norm != "batch" else ())}
    open_to |= weights.training.get("imported", {}).get("assumed", {}).keys()
    ours, theirs = network.spec.arguments, weights.network.spec.arguments
    for name in ours.keys() - open_to:
        if ours[name] != theirs[name]:
            raise UserError(f"{path}: its {name} is {theirs[name]}, the model's {ours[name]}")

    own, given = network.state_dict(), weights.network.state_dict()
    fitting = {name: t for name, t in given.items() if name in own and own[name].shape == t.shape}
    new = [name for name in own if name not in fitting]
    left = [name for name in given if name not in fitting]
    if strays := [name for name in (*new, *left) if not name.startswith(ENLARGING)]:
        raise UserError(f"{path}: does not match the model in {', '.join(strays)}")
    network.load_state_dict(own | fitting)
    words = ", ".join(new) or "none"
    rank_zero_only(LOG.info)(f"Starting from {path} (x{weights.network.scale}): {len(fitting)} tensors; new: {words}")
