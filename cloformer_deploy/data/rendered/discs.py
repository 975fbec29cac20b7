"""Painters of classes that fill a disc: they differ in the parts on the disc and in their layout."""

import numpy as np

from cloformer_deploy.data.rendered.figure import Figure
from cloformer_deploy.data.rendered.plane import Plane, union
from cloformer_deploy.data.rendered.randomness import Field, Stream, direction

_RADIUS = 0.95


def _disc(plane: Plane) -> Field:
    return plane.cover(plane.radius - _RADIUS)


def beach_ball(plane: Plane, random: Stream) -> Figure:
    """Wedges of two colors that meet at a pole beside the center, and a cap on the pole."""
    x, y = direction(random.uniform(0, 1))
    aside = random.uniform(0.1, 0.4)
    pole = Plane(plane.u - x * aside, plane.v - y * aside, plane.pixel)
    wedges = pole.spokes(random.whole(3, 4), 0.5, random.uniform(0, 1))
    cap = plane.cover(pole.radius - random.uniform(0.1, 0.18))
    return Figure(_disc(plane), np.maximum(wedges, cap))


def button(plane: Plane, random: Stream) -> Figure:
    """A raised rim, and two or four holes through which the background shows."""
    rim = plane.cover(plane.ring(0, 0, random.uniform(0.68, 0.78), random.uniform(0.03, 0.07)))
    size, aside = random.uniform(0.1, 0.15), random.uniform(0.2, 0.28)
    holes = [plane.disc(aside, 0, size), plane.disc(-aside, 0, size)]
    if random.chance(0.6):
        holes += [plane.disc(0, aside, size), plane.disc(0, -aside, size)]
    return Figure(_disc(plane) * (1 - plane.cover(union(*holes))), rim)


def clock(plane: Plane, random: Stream) -> Figure:
    """A rim, twelve ticks, and two hands."""
    rim = _RADIUS - random.uniform(0.06, 0.14) - plane.radius
    ray = plane.beam(12, random.uniform(0.025, 0.04), 0.5)
    ticks = np.maximum(ray, plane.ring(0, 0, 0.7, random.uniform(0.05, 0.09)))
    hour, minute = direction(random.uniform(0, 1)), direction(random.uniform(0, 1))
    width = random.uniform(0.04, 0.06)
    short = plane.segment((0, 0), (0.35 * hour[0], 0.35 * hour[1]), width * 1.3)
    long = plane.segment((0, 0), (0.58 * minute[0], 0.58 * minute[1]), width)
    return Figure(_disc(plane), plane.cover(union(rim, ticks, short, long)))


def dartboard(plane: Plane, random: Stream) -> Figure:
    """Closed rings around the center."""
    period = _RADIUS / (random.whole(4, 7) / 2)
    return Figure(_disc(plane), plane.waves(plane.radius + random.uniform(0, period), period))


def spiral(plane: Plane, random: Stream) -> Figure:
    """An arm that winds outwards in two to four turns; the background shows between them."""
    period = _RADIUS / random.uniform(2.2, 3.6)
    wound = plane.radius + plane.turns * (random.choice((-1, 1)) * period)
    arm = plane.waves(wound, period, random.uniform(0.4, 0.55))
    return Figure(_disc(plane) * arm, np.zeros_like(plane.u))


def gear(plane: Plane, random: Stream) -> Figure:
    """Teeth all around, and a hole in the middle."""
    count, root = random.whole(7, 12), random.uniform(0.68, 0.76)
    teeth = np.maximum(plane.radius - _RADIUS, plane.beam(count, random.uniform(0.28, 0.34) * 2 * root / count * 2.2))
    body = np.minimum(plane.radius - root, teeth)
    hole = plane.radius - random.uniform(0.18, 0.42)
    inset = plane.cover(plane.ring(0, 0, random.uniform(0.5, 0.58), 0.03)) * float(random.chance(0.5))
    return Figure(plane.cover(np.maximum(body, -hole)), inset.astype(np.float32))


def wheel(plane: Plane, random: Stream) -> Figure:
    """A tire, a hub and spokes; the background shows between them."""
    tire = plane.ring(0, 0, 0.82, random.uniform(0.09, 0.14))
    hub = plane.radius - random.uniform(0.13, 0.22)
    spokes = np.maximum(plane.beam(random.whole(5, 10), random.uniform(0.03, 0.055)), plane.radius - 0.8)
    inner = np.minimum(hub, spokes)
    return Figure(plane.cover(np.minimum(tire, inner)), plane.cover(inner))
