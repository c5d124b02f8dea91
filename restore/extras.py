"""How a package of an extra is imported that would do more than is asked of it."""

import importlib
import sys
from typing import Any


def import_openvino() -> Any:
    """OpenVINO; it and NNCF report their use to their makers, but not if the package that does it is missing.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")
