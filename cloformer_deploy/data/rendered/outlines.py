"""Painters of classes that differ in their outline; the filling carries no information about the class."""

import math

import numpy as np

from cloformer_deploy.data.rendered.figure import Figure
from cloformer_deploy.data.rendered.plane import Plane, union
from cloformer_deploy.data.rendered.randomness import Stream, direction, on_grid
from cloformer_deploy.data.rendered.textures import filling


def arrow(plane: Plane, random: Stream) -> Figure:
    """A shaft and a triangular head."""
    neck, half = random.uniform(0.1, 0.35), random.uniform(0.1, 0.18)
    head = plane.polygon([(neck, -0.65), (0.95, 0), (neck, 0.65)])
    shaft = plane.box((neck - 0.9) / 2, 0, (neck + 0.95) / 2, half)
    return Figure(plane.cover(union(head, shaft)), filling(plane, random))


def crescent(plane: Plane, random: Stream) -> Figure:
    """A disc minus a disc beside it."""
    bite = plane.disc(random.uniform(0.35, 0.5), 0, random.uniform(0.66, 0.76))
    return Figure(plane.cover(np.maximum(plane.disc(-0.05, 0, 0.92), -bite)), filling(plane, random))


def fish(plane: Plane, random: Stream) -> Figure:
    """A body pointed at both ends, a tail, and an eye."""
    aside = random.uniform(0.4, 0.7)
    reach = on_grid(math.sqrt(0.65 * 0.65 + aside * aside))
    body = np.maximum(plane.disc(-0.25, aside, reach), plane.disc(-0.25, -aside, reach))
    tail = plane.polygon([(0.25, 0), (0.95, -0.5), (random.uniform(0.7, 0.85), 0), (0.95, 0.5)])
    fin = plane.polygon([(-0.4, 0), (-0.05, -random.uniform(0.5, 0.62)), (0.1, 0)])
    eye = plane.cover(plane.disc(-0.6, -0.07, 0.1))
    pattern = filling(plane, random)
    return Figure(plane.cover(union(body, tail, fin)), pattern + eye * (1 - 2 * pattern))


def heart(plane: Plane, random: Stream) -> Figure:
    """A square that stands on a corner, with a disc on each upper side."""
    half = random.uniform(0.5, 0.56)
    aside = half * 0.70710678
    moved = Plane(np.abs(plane.u), plane.v - 0.1, plane.pixel)
    square = (moved.u + np.abs(moved.v) - half * 1.41421356) * 0.70710678
    return Figure(plane.cover(np.minimum(square, moved.disc(aside, -aside, half))), filling(plane, random))


def house(plane: Plane, random: Stream) -> Figure:
    """Walls, a gabled roof, a door and a window."""
    eaves, half = random.uniform(-0.25, -0.05), random.uniform(0.5, 0.65)
    walls = plane.box(0, (eaves + 0.85) / 2, half, (0.85 - eaves) / 2)
    roof = plane.polygon([(-half - 0.2, eaves), (0, -0.9), (half + 0.2, eaves)])
    side = random.choice((-1, 1)) * half * 0.45
    door = plane.box(side, 0.6, 0.13, 0.27)
    window = plane.box(-side, 0.35, 0.15, 0.15)
    openings = plane.cover(np.minimum(door, window))
    pattern = filling(plane, random) * plane.cover(roof)
    return Figure(plane.cover(np.minimum(walls, roof)), np.maximum(pattern, openings))


def key(plane: Plane, random: Stream) -> Figure:
    """A bow with a hole, a shaft, and teeth on one side."""
    bow = random.uniform(0.3, 0.36)
    ring = plane.ring(-0.58, 0, bow - 0.09, random.uniform(0.09, 0.12))
    shaft = plane.box(0.3, 0, 0.63, random.uniform(0.06, 0.1))
    teeth = [
        plane.box(place, 0.15, random.uniform(0.05, 0.07), random.uniform(0.14, 0.24))
        for place in (0.85, 0.65, 0.45)[: random.whole(2, 3)]
    ]
    return Figure(plane.cover(union(ring, shaft, *teeth)), filling(plane, random))


def mushroom(plane: Plane, random: Stream) -> Figure:
    """A cap with spots on a stem."""
    low = random.uniform(0.0, 0.2)
    width = random.uniform(0.8, 0.95)
    squeezed = Plane(plane.u / width, (plane.v - low) / (low + 0.9), plane.pixel)
    cap = np.maximum((squeezed.radius - 1) * width, plane.v - low)
    stem = plane.box(0, (low + 0.85) / 2, random.uniform(0.16, 0.26), (0.9 - low) / 2)
    spots = union(
        *(
            plane.disc(x * width, low - y, random.uniform(0.08, 0.14))
            for x, y in ((-0.55, 0.25), (0.0, 0.3), (0.5, 0.2), (-0.2, 0.68), (0.3, 0.62))
        )
    )
    return Figure(plane.cover(np.minimum(cap, stem)), np.maximum(plane.cover(spots), plane.cover(stem) * 0.5))


def star(plane: Plane, random: Stream) -> Figure:
    """A star of five points."""
    inner = random.uniform(0.36, 0.5)
    points = []
    for corner in range(10):
        x, y = direction(corner / 10 - 0.25)
        length = inner if corner % 2 else 0.95
        points.append((x * length, y * length))
    return Figure(plane.cover(plane.polygon(points)), filling(plane, random))


def umbrella(plane: Plane, random: Stream) -> Figure:
    """A canopy of panels with a scalloped edge, a stick and a hooked handle."""
    panels = random.whole(4, 6)
    width = 1.8 / panels
    scallops = union(*(plane.disc(-0.9 + width * (i + 0.5), 0.08, width * 0.52) for i in range(panels)))
    canopy = np.maximum(np.maximum(plane.radius - 0.9, plane.v), -scallops)
    stick = plane.box(0, 0.2, random.uniform(0.035, 0.05), 0.5)
    hook = np.maximum(plane.ring(0.14, 0.7, 0.14, 0.045), 0.7 - plane.v)
    tip = plane.box(0, -0.92, 0.035, 0.06)
    # The seams of the panels meet at the top.
    seam = plane.u / np.sqrt(np.maximum(0.82 - plane.v * plane.v, 0.01))
    tone = plane.waves(seam, 4 / panels) * plane.cover(canopy)
    return Figure(plane.cover(union(canopy, stick, hook, tip)), tone)
