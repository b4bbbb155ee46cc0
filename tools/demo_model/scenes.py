"""Draws scenes with captions, from which the demo model learns.

A scene is one object, or two in relation to each other, on a landscape or a plain background. Everything is flat shapes, drawn three times as
large as needed and scaled down. The same random generator gives the same scenes.
"""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

SIDE = 128
"""Pixels of a picture's side."""
SUPERSAMPLING = 3
CANVAS = SIDE * SUPERSAMPLING

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (220, 50, 47),
    "orange": (245, 140, 30),
    "yellow": (250, 210, 50),
    "green": (60, 160, 75),
    "blue": (45, 105, 215),
    "purple": (140, 70, 185),
    "pink": (245, 130, 175),
    "brown": (130, 85, 50),
    "black": (35, 35, 40),
    "white": (245, 245, 245),
    "gray": (145, 150, 155),
    "teal": (30, 160, 160),
}
DARK: Colour = (50, 45, 50)
GLASS: Colour = (200, 230, 245)


def darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, int(value * factor))) for value in colour)
    return red, green, blue


def lighter(colour: Colour, amount: int) -> Colour:
    red, green, blue = (min(255, value + amount) for value in colour)
    return red, green, blue


class Pen:
    """Draws in an object's own coordinates: (0, 0) is its centre, and 1 is half its size; y points down."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, radius: float):
        self.draw, self.x, self.y, self.radius = draw, x, y, radius

    def place(self, x: float, y: float) -> Point:
        return self.x + x * self.radius, self.y + y * self.radius

    def box(self, x: float, y: float, half_width: float, half_height: float) -> list[Point]:
        return [self.place(x - half_width, y - half_height), self.place(x + half_width, y + half_height)]

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([self.place(*point) for point in points], fill=colour)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.rectangle([self.place(left, top), self.place(right, bottom)], fill=colour)

    def ellipse(self, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
        self.draw.ellipse(self.box(x, y, half_width, half_height), fill=colour)

    def upper_half(self, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
        """The part of an ellipse above its centre."""
        self.draw.pieslice(self.box(x, y, half_width, half_height), 180, 360, fill=colour)

    def line(self, points: list[Point], colour: Colour, width: float) -> None:
        pixels = max(1, int(width * self.radius))
        self.draw.line([self.place(*point) for point in points], fill=colour, width=pixels, joint="curve")


def draw_ball(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0, 0, 0.9, 0.9, colour)
    pen.ellipse(-0.3, -0.35, 0.2, 0.2, lighter(colour, 60))


def draw_box(pen: Pen, colour: Colour) -> None:
    pen.rectangle(-0.8, -0.8, 0.8, 0.8, colour)
    pen.rectangle(-0.8, -0.8, 0.8, -0.5, darker(colour, 0.75))


def draw_triangle(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0, -0.9), (0.95, 0.8), (-0.95, 0.8)], colour)


def draw_star(pen: Pen, colour: Colour) -> None:
    reach = [0.95 if corner % 2 == 0 else 0.4 for corner in range(10)]
    turn = [corner * math.pi / 5 for corner in range(10)]
    pen.polygon([(r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(reach, turn)], colour)


def draw_heart(pen: Pen, colour: Colour) -> None:
    pen.ellipse(-0.42, -0.3, 0.48, 0.48, colour)
    pen.ellipse(0.42, -0.3, 0.48, 0.48, colour)
    pen.polygon([(-0.86, -0.1), (0.86, -0.1), (0, 0.95)], colour)


def draw_house(pen: Pen, colour: Colour) -> None:
    window = (250, 235, 160)
    pen.rectangle(-0.7, -0.1, 0.7, 0.9, colour)
    pen.polygon([(-0.95, -0.1), (0, -0.95), (0.95, -0.1)], darker(colour, 0.6))
    pen.rectangle(-0.15, 0.35, 0.2, 0.9, DARK)
    pen.rectangle(-0.55, 0.1, -0.25, 0.4, window)
    pen.rectangle(0.32, 0.1, 0.6, 0.4, window)


def draw_tree(pen: Pen, colour: Colour) -> None:
    pen.rectangle(-0.13, 0.2, 0.13, 0.95, (120, 80, 50))
    pen.ellipse(0, -0.3, 0.68, 0.62, colour)
    pen.ellipse(-0.4, 0.02, 0.4, 0.35, colour)
    pen.ellipse(0.4, 0.02, 0.4, 0.35, colour)


def draw_car(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.5, -0.1), (-0.3, -0.5), (0.35, -0.5), (0.6, -0.1)], darker(colour, 0.8))
    pen.rectangle(-0.95, -0.12, 0.95, 0.35, colour)
    pen.polygon([(-0.4, -0.12), (-0.24, -0.42), (0, -0.42), (0, -0.12)], GLASS)
    pen.polygon([(0.08, -0.12), (0.08, -0.42), (0.3, -0.42), (0.48, -0.12)], GLASS)
    for x in (-0.5, 0.5):
        pen.ellipse(x, 0.38, 0.25, 0.25, DARK)
        pen.ellipse(x, 0.38, 0.1, 0.1, (200, 200, 200))


def draw_boat(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.9, 0.3), (0.9, 0.3), (0.6, 0.8), (-0.6, 0.8)], colour)
    pen.rectangle(-0.05, -0.9, 0.05, 0.3, (110, 75, 45))
    pen.polygon([(0.1, -0.85), (0.75, 0.15), (0.1, 0.15)], (248, 248, 240))
    pen.polygon([(-0.1, -0.6), (-0.55, 0.15), (-0.1, 0.15)], (235, 235, 225))


def draw_fish(pen: Pen, colour: Colour) -> None:
    fin = darker(colour, 0.8)
    pen.polygon([(0.45, 0), (0.95, -0.45), (0.95, 0.45)], fin)
    pen.ellipse(-0.1, 0, 0.75, 0.48, colour)
    pen.ellipse(-0.5, -0.1, 0.11, 0.11, (250, 250, 250))
    pen.ellipse(-0.52, -0.1, 0.05, 0.05, DARK)
    pen.polygon([(-0.1, -0.42), (0.25, -0.7), (0.3, -0.3)], fin)


def draw_flower(pen: Pen, colour: Colour) -> None:
    stem = (60, 140, 60)
    pen.rectangle(-0.06, 0, 0.06, 0.95, stem)
    pen.ellipse(0.25, 0.6, 0.22, 0.1, stem)
    for angle in (petal * math.pi / 3 for petal in range(6)):
        pen.ellipse(0.42 * math.cos(angle), -0.35 + 0.42 * math.sin(angle), 0.27, 0.27, colour)
    pen.ellipse(0, -0.35, 0.23, 0.23, (150, 90, 40) if colour == COLOURS["yellow"] else (250, 210, 60))


def draw_balloon(pen: Pen, colour: Colour) -> None:
    pen.line([(0, 0.45), (0.1, 0.7), (-0.05, 0.95)], (90, 90, 90), 0.06)
    pen.ellipse(0, -0.25, 0.58, 0.68, colour)
    pen.polygon([(-0.12, 0.52), (0.12, 0.52), (0, 0.38)], darker(colour, 0.8))
    pen.ellipse(-0.2, -0.5, 0.13, 0.17, lighter(colour, 55))


def draw_mushroom(pen: Pen, colour: Colour) -> None:
    dots = (220, 80, 80) if colour == COLOURS["white"] else (250, 250, 245)
    pen.rectangle(-0.22, 0, 0.22, 0.9, (240, 228, 205))
    pen.upper_half(0, 0.1, 0.88, 0.95, colour)
    for x, y in ((-0.45, -0.2), (0.05, -0.5), (0.45, -0.15)):
        pen.ellipse(x, y, 0.13, 0.13, dots)


def draw_cat(pen: Pen, colour: Colour) -> None:
    eyes = (250, 250, 250) if sum(colour) < 300 else DARK
    nose = DARK if colour == COLOURS["pink"] else (235, 120, 140)
    pen.polygon([(-0.72, -0.1), (-0.62, -0.9), (-0.1, -0.5)], colour)
    pen.polygon([(0.72, -0.1), (0.62, -0.9), (0.1, -0.5)], colour)
    pen.ellipse(0, 0.1, 0.78, 0.7, colour)
    pen.ellipse(-0.28, 0, 0.1, 0.14, eyes)
    pen.ellipse(0.28, 0, 0.1, 0.14, eyes)
    pen.polygon([(-0.09, 0.22), (0.09, 0.22), (0, 0.34)], nose)
    pen.line([(-0.9, 0.2), (-0.35, 0.28)], eyes, 0.05)
    pen.line([(0.9, 0.2), (0.35, 0.28)], eyes, 0.05)


def draw_rocket(pen: Pen, colour: Colour) -> None:
    fin = darker(colour, 0.65)
    pen.polygon([(-0.35, 0.5), (-0.7, 0.9), (-0.3, 0.8)], fin)
    pen.polygon([(0.35, 0.5), (0.7, 0.9), (0.3, 0.8)], fin)
    pen.ellipse(0, -0.05, 0.38, 0.9, colour)
    pen.ellipse(0, -0.25, 0.16, 0.16, GLASS)
    pen.polygon([(-0.2, 0.75), (0.2, 0.75), (0, 1.0)], (250, 170, 40))


def draw_umbrella(pen: Pen, colour: Colour) -> None:
    handle = (90, 70, 60)
    pen.rectangle(-0.045, -0.2, 0.045, 0.75, handle)
    pen.line([(0, 0.75), (0.08, 0.88), (0.22, 0.82)], handle, 0.09)
    pen.upper_half(0, 0.05, 0.92, 0.9, colour)
    for x in (-0.61, 0, 0.61):
        pen.upper_half(x, 0.05, 0.31, 0.2, darker(colour, 0.75))


OBJECTS: dict[str, Callable[[Pen, Colour], None]] = {
    "ball": draw_ball,
    "box": draw_box,
    "triangle": draw_triangle,
    "star": draw_star,
    "heart": draw_heart,
    "house": draw_house,
    "tree": draw_tree,
    "car": draw_car,
    "boat": draw_boat,
    "fish": draw_fish,
    "flower": draw_flower,
    "balloon": draw_balloon,
    "mushroom": draw_mushroom,
    "cat": draw_cat,
    "rocket": draw_rocket,
    "umbrella": draw_umbrella,
}


class Backdrop:
    """Draws in shares of the picture's side: (0, 0) is the upper left corner, (1, 1) the lower right."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw = draw

    def gradient(self, top: Colour, bottom: Colour, begin: float, end: float) -> None:
        first, last = CANVAS * begin, CANVAS * end
        for row in range(int(first), int(last)):
            share = (row - first) / max(1, last - first)
            colour = tuple(int(upper + (lower - upper) * share) for upper, lower in zip(top, bottom))
            self.draw.line([(0, row), (CANVAS, row)], fill=colour)

    def ground(self, top: float, colour: Colour) -> None:
        self.draw.rectangle([0, CANVAS * top, CANVAS, CANVAS], fill=colour)

    def ellipse(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.ellipse([CANVAS * side for side in (left, top, right, bottom)], fill=colour)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([(CANVAS * x, CANVAS * y) for x, y in points], fill=colour)

    def wave(self, x: float, y: float) -> None:
        box = [CANVAS * (x - 0.1), CANVAS * y - CANVAS * 0.03, CANVAS * (x + 0.1), CANVAS * y + CANVAS * 0.03]
        self.draw.arc(box, 200, 340, fill=(150, 205, 235), width=SUPERSAMPLING)


def draw_meadow(backdrop: Backdrop) -> None:
    backdrop.gradient((130, 195, 240), (205, 232, 250), 0, 0.66)
    backdrop.ellipse(0.74, 0.06, 0.92, 0.24, (252, 215, 70))
    backdrop.ground(0.66, (120, 190, 90))
    backdrop.ellipse(-0.3, 0.58, 0.6, 1.3, (105, 178, 80))


def draw_night(backdrop: Backdrop) -> None:
    backdrop.gradient((18, 22, 60), (50, 50, 110), 0, 1)
    backdrop.ellipse(0.74, 0.07, 0.92, 0.25, (245, 240, 205))
    backdrop.ellipse(0.68, 0.04, 0.86, 0.22, (24, 28, 68))
    for x, y in ((0.1, 0.12), (0.28, 0.3), (0.45, 0.1), (0.58, 0.25), (0.15, 0.45), (0.9, 0.4), (0.35, 0.5)):
        backdrop.ellipse(x - 0.008, y - 0.008, x + 0.008, y + 0.008, (255, 255, 230))
    backdrop.ground(0.8, (28, 42, 50))


def draw_sunset(backdrop: Backdrop) -> None:
    backdrop.gradient((95, 60, 130), (250, 150, 80), 0, 0.7)
    backdrop.ellipse(0.36, 0.5, 0.64, 0.78, (255, 215, 110))
    backdrop.ground(0.7, (95, 55, 75))


def draw_sea(backdrop: Backdrop) -> None:
    backdrop.gradient((150, 205, 240), (225, 240, 250), 0, 0.55)
    backdrop.gradient((50, 130, 190), (20, 80, 150), 0.55, 1)
    for y in (0.64, 0.76, 0.9):
        for column in range(5):
            backdrop.wave(column * 0.25, y)


def draw_snow(backdrop: Backdrop) -> None:
    backdrop.gradient((175, 200, 220), (225, 235, 245), 0, 0.68)
    backdrop.polygon([(0, 0.68), (0.28, 0.3), (0.5, 0.68)], (150, 170, 195))
    backdrop.polygon([(0.45, 0.68), (0.75, 0.22), (1.05, 0.68)], (135, 158, 188))
    backdrop.ground(0.68, (245, 248, 252))


def draw_desert(backdrop: Backdrop) -> None:
    backdrop.gradient((140, 205, 235), (245, 225, 180), 0, 0.64)
    backdrop.ground(0.64, (228, 185, 115))
    backdrop.ellipse(0.4, 0.58, 1.3, 1.2, (216, 170, 100))


LANDSCAPES: dict[str, tuple[Callable[[Backdrop], None], list[str]]] = {
    "meadow": (draw_meadow, ["in a meadow", "on the grass", "in a green field"]),
    "night": (draw_night, ["at night", "under the moon", "in the dark night"]),
    "sunset": (draw_sunset, ["at sunset", "in the evening sun"]),
    "sea": (draw_sea, ["on the sea", "on the water", "in the ocean"]),
    "snow": (draw_snow, ["in the snow", "in winter", "in the mountains"]),
    "desert": (draw_desert, ["in the desert", "on the sand"]),
}

RADII = {"small": 0.17, "big": 0.4, None: 0.28}
COLUMNS = {None: 0.5, "left": 0.28, "right": 0.72}
RELATIONS = {"and": "a {} {} and a {} {} {}", "above": "a {} {} above a {} {} {}", "left": "a {} {} left of a {} {} {}"}


def draw_scene(rng: random.Random) -> tuple[Image.Image, str]:
    """A picture and its caption. Every choice is one draw from `rng`, so their order must stay as it is."""
    image = Image.new("RGB", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    is_plain = rng.random() < 0.3
    where, colours = _draw_background(draw, rng, is_plain)
    if rng.random() < 0.4:
        caption = _draw_two(draw, rng, colours, where)
    else:
        caption = _draw_one(draw, rng, colours, where, horizon=0.5 if is_plain else 0.56)
    return image.resize((SIDE, SIDE), Image.LANCZOS), caption


def _draw_background(draw: ImageDraw.ImageDraw, rng: random.Random, is_plain: bool) -> tuple[str, list[str]]:
    """Returns the words for the background and the colours that stand out from it."""
    names = list(COLOURS)
    if is_plain:
        background = rng.choice(names)
        draw.rectangle([0, 0, CANVAS, CANVAS], fill=COLOURS[background])
        where = rng.choice([f"on a {background} background", f"on {background}", f"with a {background} background"])
        return where, [name for name in names if name != background]
    draw_landscape, words = LANDSCAPES[rng.choice(list(LANDSCAPES))]
    draw_landscape(Backdrop(draw))
    return rng.choice(words), names


def _choose_thing(rng: random.Random, colours: list[str]) -> tuple[str, str]:
    thing = rng.choice(list(OBJECTS))
    return thing, rng.choice(colours)


def _draw_thing(draw: ImageDraw.ImageDraw, thing: str, colour: str, x: float, y: float, radius: float) -> None:
    OBJECTS[thing](Pen(draw, x * CANVAS, y * CANVAS, radius * CANVAS), COLOURS[colour])


def _draw_one(draw: ImageDraw.ImageDraw, rng: random.Random, colours: list[str], where: str, horizon: float) -> str:
    thing, colour = _choose_thing(rng, colours)
    size = rng.choice(["small", "big", None, None])
    radius = RADII[size]
    side = rng.choice([None, None, "left", "right"])
    x = min(max(COLUMNS[side], radius + 0.02), 1 - radius - 0.02)
    _draw_thing(draw, thing, colour, x, min(horizon, 1 - radius - 0.03), radius)
    noun = " ".join(word for word in (size, colour, thing) if word)
    caption = rng.choice(["a {} {}", "{} {}", "a picture of a {} {}", "one {} {}"]).format(noun, where)
    return caption if side is None else caption + rng.choice([f", on the {side}", f" on the {side} side"])


def _draw_two(draw: ImageDraw.ImageDraw, rng: random.Random, colours: list[str], where: str) -> str:
    first, second = _choose_thing(rng, colours), _choose_thing(rng, colours)
    relation = rng.choice(list(RELATIONS))
    places = ((0.5, 0.27), (0.5, 0.74)) if relation == "above" else ((0.27, 0.56), (0.73, 0.56))
    for (thing, colour), place in zip((first, second), places):
        _draw_thing(draw, thing, colour, *place, 0.22)
    return RELATIONS[relation].format(first[1], first[0], second[1], second[0], where)
