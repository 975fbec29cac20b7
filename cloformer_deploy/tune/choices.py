"""Change a tuning by an alternative, and list the alternatives that concern an artifact."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.quantization.alternatives import FLOAT_LAYERS, INTEGERS, REWRITES, Alternative


def changed(tuning: Tuning, alternative: Alternative, order: Collection[str]) -> Tuning:
    """Return a tuning with one alternative applied.

    Args:
        tuning: what is changed.
        alternative: the change.
        order: names of all rewrites of the network, in the order that they are applied in.
    """
    match alternative.what:
        case "rewrite":
            left = tuple(name for name in tuning.rewrites if name not in alternative.group)
            names = (*left, *alternative.names) if alternative.group else _toggled(left, alternative.names)
            places = {name: place for place, name in enumerate(order)}
            return tuning.model_copy(
                update={"rewrites": tuple(sorted(names, key=lambda name: places.get(name, len(places))))}
            )
        case "kind":
            return tuning.model_copy(update={"kinds": tuple(sorted(_toggled(tuning.kinds, alternative.names)))})
        case "float_layers":
            patterns = tuple(FLOAT_LAYERS[name] for name in alternative.names)
            return tuning.model_copy(update={"float_layers": tuple(sorted(_toggled(tuning.float_layers, patterns)))})


def _toggled(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    left = tuple(name for name in names if name not in wanted)
    return (*left, *(name for name in wanted if name not in names))


def alternatives(tuning: Tuning, rewrites: Collection[str]) -> Iterator[Alternative]:
    """Yield the alternatives that change a tuning; their names say what becomes of it.

    Args:
        tuning: the target's own.
        rewrites: names of all rewrites of the network, in the order that they are applied in; others change nothing.
    """
    for item in (*REWRITES, *(INTEGERS if tuning.kinds else ())):
        known = item.what != "rewrite" or all(name in rewrites for name in item.names)
        if known and changed(tuning, item, rewrites) != tuning:
            yield replace(item, name=_told(tuning, item))


def _told(tuning: Tuning, item: Alternative) -> str:
    """Return what an alternative makes of a tuning: what toggles ends up in integers or float, with or without."""
    match item.what:
        case "kind":
            return f"{item.name} in {'float' if set(item.names) <= set(tuning.kinds) else 'integers'}"
        case "float_layers":
            is_float = {FLOAT_LAYERS[name] for name in item.names} <= set(tuning.float_layers)
            return f"{item.name} in {'integers' if is_float else 'float'}"
        case "rewrite":
            return f"no {item.name}" if not item.group and item.names[0] in tuning.rewrites else item.name


def adds_integers(before: Tuning, after: Tuning) -> bool:
    """Tell whether a change computes more in integers, which may cost accuracy."""
    return not set(after.kinds) <= set(before.kinds) or not set(after.float_layers) >= set(before.float_layers)
