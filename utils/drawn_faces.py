"""Drawn faces with known attributes: what `synthetic.faces` and `synthetic.identities` draw.

A face is drawn with Pillow at four times its size, reduced (anti-aliasing), then lit with NumPy.
Coordinates are the head's own: origin between the ears, y downwards, the chin near y = 1.
No picture of a real person was used: every shape is a curve, every colour a constant.
"""

from dataclasses import dataclass
from math import cos, sin, sqrt

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, ...]  # red, green, blue and, in the drawing functions, alpha


def _palette(codes: str) -> tuple[Colour, ...]:
    return tuple(tuple(bytes.fromhex(code)) for code in codes.split())


HAIR_COLOURS = dict(
    zip(
        ("black", "brown", "blond", "red", "grey"),
        _palette("282226 5c3822 ecc876 b85424 b0b2b8"),
        strict=True,
    )
)
SKIN_TONES = _palette("f2ccb4 e8bc9c d09e78 b27c5a 8c5e46 664638")  # from light to dark
IRISES = _palette("603e24 402c20 54744a 4a76a6 786238")
CLOTHES = _palette("c44854 3e62a0 3c806e e2ac50 785496 464a5a")
BACKDROPS = _palette("bad0e2 e4d0be c2d6bc d8c8de 708296 a08e80")
# Frames of glasses on lighter and on darker skins: they must be seen equally well.
FRAMES = _palette("221e22 703222 343874"), _palette("ece2ce e2b254 b0cee8")
WHITE, INK, GOLD = (248, 246, 242, 255), (26, 20, 22, 255), (250, 226, 140, 255)

# An identity is one number of each row, uniform between the two bounds (head units).
GEOMETRY = {
    "width": (0.68, 0.81),  # half-width of the face
    "jaw": (1.8, 3.2),  # from a pointed to a square jaw
    "chin": (0.92, 1.06),  # height of the chin below the origin
    "eye_x": (0.27, 0.35),  # half-distance between the eyes
    "eye_y": (-0.08, 0.04),
    "eye_w": (0.145, 0.185),
    "eye_h": (0.078, 0.112),
    "eye_tilt": (-0.02, 0.05),  # how much the outer corner is above the inner one
    "brow_y": (0.21, 0.28),  # above the eye
    "brow_arch": (0.01, 0.07),
    "brow": (0.050, 0.085),  # thickness
    "nose_w": (0.09, 0.16),
    "nose_y": (0.28, 0.38),
    "mouth_y": (0.58, 0.67),
    "mouth_w": (0.22, 0.32),
    "lip": (0.045, 0.080),
    "ear": (0.14, 0.20),
    "volume": (0.08, 0.20),  # of the hair
    "part": (-0.45, 0.45),
    "hairline": (-0.66, -0.50),
    "fringe": (0.0, 1.0),  # above 0.65: a fringe on the forehead
    "curl": (0.0, 1.0),  # above 0.6: curly hair
    "iris": (0.0, 5.0),
}
SCALE = 0.325  # of the picture's side, for one head unit
PIVOT = 1.2  # the head leans about the base of the neck
U = np.linspace(-1, 1, 17)  # along an eye, a brow, a mouth
ANGLE = np.arange(24) * np.pi / 12
SIDES = (-1, 1)


@dataclass(frozen=True)
class Face:
    """Everything that decides the pixels of one drawn face.

    `identity` seeds the stable geometry (`GEOMETRY`), `scene` what no attribute names (backdrop,
    clothes, frames, noise). `woman` is a code of drawing, nothing more: when true, tinted lips,
    lashes, thin brows, earrings, a round neckline; when false, thick brows and a collar.
    """

    identity: int
    scene: int
    woman: bool
    hair: str  # a key of HAIR_COLOURS
    long_hair: bool
    glasses: bool
    beard: bool
    skin: int  # index in SKIN_TONES, 0 the lightest
    light: float = 0.0  # where the light comes from: -1 left, 1 right
    exposure: float = 1.0  # 0.7 dark, 1 normal
    yaw: float = 0.0  # radians, > 0 turned towards the right of the picture
    pitch: float = 0.0  # radians, > 0 looking down
    roll: float = 0.0  # radians, > 0 leaning towards the right of the picture
    smile: float = 0.5  # 0 serious, 1 open smile


def draw(face: Face, size: int = 80) -> np.ndarray:
    """The picture of `face`: uint8 (size, size, 3). The same face gives the same pixels."""
    pen = _Pen(face, size)
    _hair_behind(pen)
    _shoulders(pen)
    _head(pen)
    if face.beard:
        _beard(pen)
    _mouth(pen)
    _nose(pen)
    for side in SIDES:
        _eye(pen, side)
    _hair_in_front(pen)
    if face.glasses:
        _glasses(pen)
    return _lit(np.asarray(pen.image.reduce(4), dtype="float32"), pen)


class _Pen:
    """A canvas that takes head coordinates: it turns the head, then places it."""

    def __init__(self, face: Face, size: int):
        low, high = np.array(list(GEOMETRY.values())).T
        numbers = np.random.default_rng([1, face.identity]).uniform(low, high)
        self.g = dict(zip(GEOMETRY, numbers.tolist(), strict=True))
        self.rng = np.random.default_rng([2, face.scene])
        self.face, self.side = face, 4 * size
        self.skin, self.hair = SKIN_TONES[face.skin], HAIR_COLOURS[face.hair]
        self.curly = self.g["curl"] > 0.6
        backdrop = BACKDROPS[self.rng.integers(len(BACKDROPS))]
        self.image = Image.new("RGB", (self.side, self.side), backdrop)
        self.canvas = ImageDraw.Draw(self.image, "RGBA")
        for x, y, r in (
            self.rng.uniform((0, 0, 0.08), (1, 0.9, 0.24), (3, 3)) * self.side
        ):
            self.canvas.ellipse(
                (x - r, y - r, x + r, y + r), fill=_tone(backdrop, 1.12, 110)
            )

    def place(
        self, points: np.ndarray, depth: np.ndarray | float | None = None
    ) -> np.ndarray:
        """Picture coordinates (0 to 1) of head points; `depth` None: on the front of the head."""
        face, (x, y) = self.face, np.asarray(points).T
        if depth is None:
            inside = 1 - (x / self.g["width"]) ** 2 - (y / 1.4) ** 2
            depth = 0.7 * np.sqrt(np.maximum(inside, 0))
            x = x * cos(face.yaw)
        x, y = x + sin(face.yaw) * depth, y + sin(face.pitch) * depth - PIVOT
        c, s = cos(face.roll) * SCALE, sin(face.roll) * SCALE
        return _points(c * x - s * y + 0.5, s * x + c * y + 0.5 + PIVOT * SCALE)

    def fill(self, points, colour: Colour, depth=None) -> None:
        self.canvas.polygon(
            (self.place(points, depth) * self.side).ravel().tolist(), fill=colour
        )

    def line(self, points, colour: Colour, width: float, depth=None) -> None:
        flat = (self.place(points, depth) * self.side).ravel().tolist()
        self.canvas.line(
            flat, fill=colour, width=max(1, round(width * SCALE * self.side))
        )


def _tone(colour: Colour, factor: float, alpha: int = 255) -> Colour:
    return (*(min(255, int(c * factor)) for c in colour[:3]), alpha)


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (*(int((1 - t) * x + t * y) for x, y in zip(a, b, strict=True)), 255)


def _points(x, y) -> np.ndarray:
    points = np.empty((max(np.size(x), np.size(y)), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _between(x, upper, lower) -> np.ndarray:
    """The outline of what lies between two curves of the same abscissas."""
    return np.concatenate([_points(x, upper), _points(x, lower)[::-1]])


def _ellipse(
    x: float, y: float, rx: float, ry: float, squareness: float = 1.0
) -> np.ndarray:
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    if squareness != 1.0:
        c, s = (
            np.sign(c) * np.abs(c) ** squareness,
            np.sign(s) * np.abs(s) ** squareness,
        )
    return _points(x + rx * c, y + ry * s)


def _skull(pen: _Pen, grow: float, drop: float) -> np.ndarray:
    """The top of the head from its left side to its right side, hair of thickness `grow`."""
    t = np.linspace(np.pi - drop, 2 * np.pi + drop, 48)
    if pen.curly:
        grow = (
            grow
            + 0.05
            + 0.04 * np.sin(13 * t + 9 * pen.g["part"])
            + 0.02 * np.sin(29 * t)
        )
    return _points((pen.g["width"] + 0.6 * grow) * np.cos(t), (0.98 + grow) * np.sin(t))


def _half_width(pen: _Pen, y: np.ndarray) -> np.ndarray:
    """Half-width of the lower face at height y, from the ears (0) to the chin."""
    return pen.g["width"] * np.sqrt(
        np.clip(1 - (y / pen.g["chin"]) ** pen.g["jaw"], 0, 1)
    )


def _long_hair(pen: _Pen, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outer and inner distance to the middle of hair that falls on the shoulders."""
    wave = pen.g["width"] + (0.045 if pen.curly else 0.012) * np.sin(9 * y)
    return wave + 0.10 + 0.13 * np.sin(2.2 * y), wave - 0.10 + 0.10 * np.clip(
        y, 0, 1
    ) ** 2


def _hair_behind(pen: _Pen) -> None:
    shape = _skull(pen, pen.g["volume"], 0.1)
    if pen.face.long_hair:
        y = np.linspace(0.1, 1.35, 14)
        x = _long_hair(pen, y)[0]
        shape = np.concatenate([shape, _points(x, y), _points(-x, y)[::-1]])
    pen.fill(shape, _tone(pen.hair, 0.72), depth=-0.15)


def _shoulders(pen: _Pen) -> None:
    cloth = CLOTHES[pen.rng.integers(len(CLOTHES))]
    neck = 0.36 if pen.face.woman else 0.44
    shadow = _tone(pen.skin, 0.78)
    x = np.linspace(-1.6, 1.6, 30)
    pen.fill(
        _between(x, 1.16 + 0.28 * np.abs(x / 1.2) ** 2.2, 2.2 + 0 * x), cloth, depth=0
    )
    if pen.face.woman:
        pen.fill(_ellipse(0, 1.2, neck + 0.16, 0.26), _tone(pen.skin, 0.92), depth=0)
    else:
        pen.fill([[-neck, 1.2], [neck, 1.2], [0, 1.5]], shadow, depth=0)
        for s in SIDES:
            collar = [
                [s * (neck + 0.1), 1.06],
                [s * 0.02, 1.52],
                [s * 0.36, 1.62],
                [s * 0.66, 1.2],
            ]
            pen.fill(collar, _mix(cloth, (255, 255, 255), 0.75), depth=0)
    pen.fill(_ellipse(0, 0.85, neck, 0.40, squareness=0.5), shadow, depth=0)


def _head(pen: _Pen) -> None:
    g = pen.g
    for s in SIDES:
        ear = s * (g["width"] + 0.02)
        pen.fill(_ellipse(ear, 0.08, 0.09, g["ear"]), _tone(pen.skin, 0.94), depth=-0.1)
        pen.fill(
            _ellipse(ear, 0.08, 0.045, 0.6 * g["ear"]), _tone(pen.skin, 0.8), depth=-0.1
        )
        if pen.face.woman:
            pen.fill(_ellipse(ear, 0.13 + g["ear"], 0.05, 0.06), GOLD, depth=-0.1)
    t, y = np.linspace(np.pi, 2 * np.pi, 30), np.linspace(0, g["chin"], 24)
    x = _half_width(pen, y)
    top = _points(g["width"] * np.cos(t), 0.98 * np.sin(t))
    outline = np.concatenate([top, _points(x, y), _points(-x, y)[::-1]])
    pen.fill(outline, pen.skin, depth=0.25 * np.clip(outline[:, 1], 0, 1))


def _beard(pen: _Pen) -> None:
    g = pen.g
    y = np.linspace(0.0, 1.0, 24)
    jaw = _points(_half_width(pen, g["chin"] * y) + 0.015, (g["chin"] + 0.06) * y)[::-1]
    for soft, alpha in ((0.05, 110), (0.0, 255)):  # a soft edge, then the beard
        cheek = np.array(
            [
                [0.90 * g["width"] - soft, 0.0],
                [0.84 * g["width"] - soft, 0.25],
                [0.76 * g["width"] - soft, 0.45],
                [g["mouth_w"] + 0.10 - soft, g["mouth_y"] + 0.02],
                [g["mouth_w"] - 0.02 - soft, g["mouth_y"] - 0.13],
                [0.0, g["nose_y"] + 0.11 - soft],
            ]
        )
        half = np.concatenate([jaw, cheek])
        outline = np.concatenate([half, (half * [-1, 1])[::-1]])
        depth = 0.25 * outline[:, 1] + 0.3 * (np.abs(outline[:, 0]) < 0.45)
        pen.fill(
            outline, _tone(_mix(pen.hair, (70, 46, 30), 0.3), 1, alpha), depth=depth
        )


def _mouth(pen: _Pen) -> None:
    g, smile, bow = pen.g, pen.face.smile, 1 - U**2
    lips = _mix(pen.skin, (150, 60, 60), 0.42)
    if pen.face.woman:
        lips = _mix(pen.skin, (190, 30, 60), 0.78)
    full = g["lip"] * (1.2 if pen.face.woman else 0.9)
    x = g["mouth_w"] * (0.9 + 0.25 * smile) * U
    middle = g["mouth_y"] + (0.02 + 0.10 * smile) * (0.4 - U**2)
    gap = 0.22 * max(0, smile - 0.45) * bow
    upper = middle - full * bow * (1 - 0.35 * np.exp(-((U / 0.18) ** 2)))
    pen.fill(_between(x, upper, middle + gap + 1.35 * full * bow), lips)
    if smile > 0.5:
        pen.fill(_between(x, middle, middle + gap), WHITE)
    pen.line(_points(x, middle), _tone(lips, 0.6), 0.018)
    if not pen.face.beard:
        under = _ellipse(0, g["mouth_y"] + 0.05 + 1.9 * full, 0.6 * x[-1], 0.025)
        pen.fill(under, _tone(pen.skin, 0.7, 70))


def _nose(pen: _Pen) -> None:
    w, y = pen.g["nose_w"], pen.g["nose_y"]
    pen.line(
        _points(w * U, y + 0.06 * np.sqrt(1 - U**2)), _tone(pen.skin, 0.66, 190), 0.03
    )
    for s in SIDES:
        pen.fill(_ellipse(s * 0.5 * w, y + 0.035, 0.3 * w, 0.022), _tone(pen.skin, 0.5))


def _eye(pen: _Pen, side: int) -> None:
    g, face, out = pen.g, pen.face, U * side  # out: -1 near the nose, 1 near the temple
    x0, y0, w = side * g["eye_x"], g["eye_y"], g["eye_w"]
    h = g["eye_h"] * (1.1 - 0.2 * face.smile) * (1.1 if face.woman else 1.0)
    x, axis = x0 + w * U, y0 - g["eye_tilt"] * out
    upper, lower = axis - h * (1 - U**2) ** 0.7, axis + 0.8 * h * (1 - U**2)
    pen.fill(_between(x, upper, lower), WHITE)
    for radius, colour in ((h, IRISES[int(g["iris"])]), (0.5 * h, INK)):
        disc = _ellipse(x0, y0 - 0.1 * h, radius, radius)
        top, bottom = np.interp(disc[:, 0], x, upper), np.interp(disc[:, 0], x, lower)
        disc[:, 1] = np.clip(disc[:, 1], top, bottom)
        pen.fill(disc, colour)
    pen.fill(_ellipse(x0 - 0.35 * h, y0 - 0.45 * h, 0.3 * h, 0.3 * h), WHITE)
    pen.line(_points(x, upper), INK, 0.038 if face.woman else 0.022)
    pen.line(_points(x, upper - 0.05), _tone(pen.skin, 0.7, 140), 0.016)
    if face.woman:
        for k in np.argsort(out)[[-1, -2, -4]]:  # lashes, at the outer end
            tip = [x[k] + side * 0.055, upper[k] - 0.055]
            pen.line([[x[k], upper[k]], tip], INK, 0.018)
    thick = g["brow"] * (0.55 if face.woman else 1.1) * (0.55 - 0.2 * U**2)
    brow = y0 - g["brow_y"] - g["brow_arch"] * (1 - (out - 0.1) ** 2) + 0.02 * out
    shade = _mix(pen.hair, (60, 42, 32), 0.5)
    pen.fill(_between(x0 + 1.2 * w * U, brow - thick, brow + thick), shade)


def _hair_in_front(pen: _Pen) -> None:
    g, u = pen.g, np.linspace(1, -1, 25)
    outer = _skull(pen, g["volume"], 0.12)
    line = g["hairline"] - 0.10 * np.exp(-(((u - g["part"]) / 0.25) ** 2))
    if g["fringe"] > 0.65:
        line = -0.42 - 0.05 * np.cos(9 * u)
    line = line + ((0.05 if pen.face.long_hair else -0.08) - line) * np.abs(u) ** 7
    inner, front = _points(0.99 * g["width"] * u, line), 0.05 + 0.35 * (1 - u**2)
    pen.line(inner, _tone(pen.skin, 0.55, 150), 0.07, depth=front)
    depth = np.concatenate([np.full(len(outer), -0.05), front])
    pen.fill(np.concatenate([outer, inner]), pen.hair, depth=depth)

    height = (0.98 + 0.8 * g["volume"]) * sqrt(1 - (g["part"] / g["width"]) ** 2)
    root, t = np.array([g["part"], -height]), np.linspace(0, 1, 7)[:, None]
    for k in range(3, 22, 2):  # strands, from the parting to the hairline
        bend = (outer[44 - round(1.35 * k)] + inner[k]) / 2
        strand = (1 - t) ** 2 * root + 2 * t * (1 - t) * bend + t**2 * inner[k]
        shade = _tone(pen.hair, 1.4 if k % 4 == 1 else 0.62, 80)
        pen.line(strand, shade, 0.03, depth=t[:, 0] * front[k])
    if pen.curly:
        r = 0.07 * SCALE * pen.side
        curls = np.concatenate([outer[2:-2:3] * 0.97, outer[3:-3:3] * 0.84])
        for k, (x, y) in enumerate(pen.place(curls, depth=0) * pen.side):
            shade = _tone(pen.hair, 1.35 if k % 2 else 0.6, 110)
            pen.canvas.ellipse(
                (x - r, y - r, x + r, y + r), outline=shade, width=round(0.4 * r)
            )
    if pen.face.long_hair:
        y = np.linspace(-0.25, 1.25, 16)
        far, near = _long_hair(pen, y)
        for s in SIDES:
            lock = np.concatenate([_points(s * far, y), _points(s * near, y)[::-1]])
            pen.fill(lock, _tone(pen.hair, 0.95), depth=-0.02)
            for k, factor in ((0.35, 1.3), (0.7, 0.7)):
                strand = _points(s * (k * far + (1 - k) * near), y)
                pen.line(strand, _tone(pen.hair, factor, 100), 0.03, depth=-0.02)


def _glasses(pen: _Pen) -> None:
    g, width = pen.g, 0.045
    frame = FRAMES[pen.face.skin > 3][pen.face.scene % 3]
    y, rx, ry = g["eye_y"] + 0.02, g["eye_x"] - 0.055, 0.20
    glint = np.array([[-0.5, -0.2], [-0.15, -0.75], [0.05, -0.75], [-0.5, 0.1]]) * [
        rx,
        ry,
    ]
    for s in SIDES:
        x = s * g["eye_x"]
        rim = _ellipse(x, y, rx, ry, squareness=0.7)
        pen.fill(rim, (225, 240, 255, 44))
        pen.fill(glint + np.array([x, y]), (255, 255, 255, 70))
        pen.line(np.concatenate([rim, rim[:2]]), frame, width)
        pen.line(
            [[x + s * rx, y - 0.05], [s * g["width"] * 0.98, y - 0.08]], frame, width
        )
    pen.line([[-0.06, y - 0.04], [0, y - 0.07], [0.06, y - 0.04]], frame, width)


def _lit(pixels: np.ndarray, pen: _Pen) -> np.ndarray:
    """Soft shadows and blush on the face, then the light, as on an ellipsoid; then noise."""
    face, g, light = pen.face, pen.g, pen.face.light
    dark_side = -max(-1.0, min(1.0, 4 * light))
    spots = np.array(  # x, y, half-width, half-height, then what is taken off red, green, blue
        [
            *([s * 0.42, 0.34, 0.17, 0.14, -0.02, 0.10, 0.08] for s in SIDES),  # cheeks
            *(
                [s * 0.30, g["eye_y"] - 0.08, 0.20, 0.12, 0.10, 0.13, 0.13]
                for s in SIDES
            ),
            [0.10 * dark_side, 0.15, 0.09, 0.25, 0.10, 0.12, 0.12],  # side of the nose
            [-0.03 * dark_side, 0.12, 0.05, 0.22, -0.08, -0.08, -0.08],
            [0.0, -0.42, 0.30, 0.16, -0.06, -0.06, -0.06],  # forehead
        ],
        dtype="float32",
    )
    centre = pen.place(spots[:, :2]).astype("float32")
    grid = (np.arange(len(pixels), dtype="float32") + 0.5) / len(pixels)
    gx = np.exp(-(((grid - centre[:, :1]) / (SCALE * spots[:, 2:3])) ** 2))
    gy = np.exp(-(((grid - centre[:, 1:]) / (SCALE * spots[:, 3:4])) ** 2))
    taken = (gy.T * spots[:, 4:].T[:, None]) @ gx  # (3, size, size)

    middle = pen.place([[0.0, 0.0]], depth=0)[0].astype("float32")
    x, y = (grid - middle[0])[None, :] / SCALE, (grid - middle[1])[:, None] / SCALE
    inside = 1 - (x / (g["width"] + 0.12)) ** 2 - (y / 1.15) ** 2
    facing = (
        0.5 * light * x / g["width"] - 0.1 * y + 0.26 * np.sqrt(np.maximum(inside, 0))
    )
    on_head = 0.82 + np.minimum(facing - 0.12 * abs(light), 0.26)
    behind = 1 + 0.16 * light * x - 0.10 * y
    head = 1 / (1 + np.exp(-12 * inside))  # 1 on the head, 0 away from it

    planes = pixels.transpose(2, 0, 1) * (1 - taken)
    planes *= face.exposure * (head * on_head + (1 - head) * behind)
    bright = np.maximum(planes - 190, 0)  # highlights are compressed, not cut
    planes = np.minimum(planes, 190) + 65 * (1 - np.exp(-bright / 65))
    planes += 2.5 * pen.rng.standard_normal(size=planes.shape, dtype="float32")
    return np.ascontiguousarray(
        np.clip(planes, 0, 255).astype("uint8").transpose(1, 2, 0)
    )
