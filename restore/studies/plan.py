"""How many seeds each comparison needs, from the spread between seeds and between images that is on record."""

import math
import statistics
from collections.abc import Mapping

from restore.studies.claim import CLAIMS
from restore.studies.effects import MOST_SEEDS, seeds_needed
from restore.studies.judgement import Finding
from restore.studies.stages import StudyState


def plan(states: Mapping[str, StudyState[Finding]]) -> list[dict[str, str]]:
    """For each stochastic comparison: the spread between seeds, and how many seeds detect an effect of the size of its
    margin (or, without one, a deviation of a tenth of its threshold) with a power of 80 %, two-sided at 5 %
    before Holm's correction. Where images vary too much, no number of seeds does."""
    rows = []
    for name in sorted(states, key=lambda it: CLAIMS[it].number):
        finding = states[name].outcome
        for part in finding.parts if finding else ():
            effect = part.effect
            if not effect.stochastic or len(effect.values) < 2 or part.void:
                continue
            values = list(map(math.log, effect.values)) if effect.unit == "x" else list(effect.values)
            deviation = statistics.stdev(values)
            tenth = 0.1 if effect.unit == "x" else 0.1 * abs(part.criterion.threshold)
            distance = part.criterion.margin or tenth
            needed = seeds_needed(
                deviation, math.log1p(distance) if effect.unit == "x" else distance, effect.image_error
            )
            rows.append(
                {
                    "claim": f"{CLAIMS[name].number}. {name}",
                    "part": part.name,
                    "spread between seeds": f"{deviation:.3g}{' (log)' if effect.unit == 'x' else ''}",
                    "images' error": f"{effect.image_error:.3g}" if effect.images else "",
                    "to detect": f"{1 + distance:g}x" if effect.unit == "x" else f"{distance:g} {effect.unit}",
                    "seeds on record": str(len(values)),
                    "seeds needed": str(needed or f"more than {MOST_SEEDS}"),
                }
            )
    return rows
