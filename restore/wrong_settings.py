"""What jsonargparse says of a wrong setting, in one sentence, with the classes and settings that there are."""

import inspect
import re

from restore import extensions
from restore.errors import nearest

NOISE = (
    "Does not validate", "Subtypes:", "Errors:", "Expected a <class 'NoneType'>", "Expected a path but", "Given value",
)  # fmt: skip
WORDS = {
    r'Parser key "([\w.]+)":.*(?:either not accessible or invalid|Union subtypes)': r"\1:",
    r'Parser key "([\w.]+)":\s*': r"\1: ",
    r"Expected a dot import path string: (\S+)": r"unknown class \1",
    r"Expected a typing\.Literal\[": "Expected one of [",
    r"^Unexpected config:\s*$": "the configuration is empty",
    r'in "<unicode string>", ': "in ",
}


def in_words(message: str) -> str:
    """The lines of jsonargparse's message that say what is wrong, as one, with what was perhaps meant."""
    if found := re.search(r"Importing '([\w.]+)' is not allowed", message):
        return extensions.not_allowed(found[1])
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    essence = " ".join(line for line in lines if not line.startswith(NOISE))
    for pattern, words in WORDS.items():
        essence = re.sub(pattern, words, essence)
    return essence + _meant(message)


def _meant(message: str) -> str:
    """For the end of a message about an unknown class, or an unknown setting of one: which there are."""
    from restore.data.degradation import DEGRADATIONS
    from restore.models import NETWORKS

    kinds = {"model": ("networks", NETWORKS), "degradation": ("degradations", DEGRADATIONS)}
    if found := re.search(r"class_path '[\w.]*\.(\w+)':\s+(?:- )?Option '(\w+)' is not accepted", message):
        name, setting = found.groups()
        if name in NETWORKS:
            return nearest(setting, NETWORKS[name]().spec.arguments)
        return nearest(setting, inspect.signature(DEGRADATIONS[name]).parameters) if name in DEGRADATIONS else ""
    key = re.search(r'key "(?:data\.)?(model|degradation)"', message)
    if key and ("Expected a dot import path" in message or "has no attribute" in message):
        kind, known = kinds[key[1]]
        given = re.search(r"import path string: (\w+)", message)
        return f"{nearest(given[1], known) if given else ''}; known {kind}: {', '.join(known)}"
    return ""
