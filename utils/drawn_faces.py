"""Drawn faces with known attributes: what `synthetic.faces` and `synthetic.identities` draw.

A face is drawn with Pillow at four times its size, reduced (anti-aliasing), then lit with NumPy.
Coordinates are the head's own: origin between the ears, y downwards, the chin near y = 1.
No picture of a real person was used: every shape is a curve, every colour a constant.
"""

from dataclasses import dataclass
from math import cos, sin, sqrt

import numpy as np
from PIL import Image, ImageDraw

HAIR_COLOURS = {
    "black": (40, 34, 38),
    "brown": (92, 56, 34),
    "blond": (236, 200, 118),
    "red": (184, 84, 36),
    "grey": (176, 178, 184),
}
SKIN_TONES = (  # from light to dark
    (242, 204, 180),
    (232, 188, 156),
    (208, 158, 120),
    (178, 124, 90),
    (140, 94, 70),
    (102, 70, 56),
)
IRISES = ((96, 62, 36), (64, 44, 32), (84, 116, 74), (74, 118, 166), (120, 98, 56))
CLOTHES = ((196, 72, 84), (62, 98, 160), (60, 128, 110), (226, 172, 80), (120, 84, 150), (70, 74, 90))
BACKDROPS = ((186, 208, 226), (228, 208, 190), (194, 214, 188), (216, 200, 222), (112, 130, 150), (160, 142, 128))  # fmt: skip

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
# Frames of glasses, on lighter then on darker skins: they must be seen as well on both.
FRAMES = (
    ((34, 30, 34), (112, 50, 34), (52, 56, 116)),
    ((236, 226, 206), (226, 178, 84), (176, 206, 232)),
)
SCALE = 0.325  # of the picture's side, for one head unit
PIVOT = 1.2  # the head leans about the base of the neck


@dataclass(frozen=True)
class Face:
    """Everything that decides the pixels of one drawn face.

    `identity` seeds the stable geometry (`GEOMETRY`), `scene` what no attribute names (backdrop,
    clothes, noise). `woman` is a code of drawing, nothing more: when true, tinted lips, lashes,
    thin brows, earrings and a round neckline; when false, thick brows, plain lips and a collar.
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
    exposure: float = 1.0  # 0.7 dark, 1 normal, 1.2 bright
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
    for side in (-1, 1):
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
        self.face = face
        self.skin = SKIN_TONES[face.skin]
        self.hair = HAIR_COLOURS[face.hair]
        self.side = 4 * size
        backdrop = BACKDROPS[self.rng.integers(len(BACKDROPS))]
        self.image = Image.new("RGB", (self.side, self.side), backdrop)
        self.canvas = ImageDraw.Draw(self.image, "RGBA")
        for x, y, r in self.rng.uniform((0, 0, 0.08), (1, 0.9, 0.24), (3, 3)) * self.side:
            self.canvas.ellipse((x - r, y - r, x + r, y + r), fill=_tone(backdrop, 1.12, 110))

    def place(self, points: np.ndarray, depth: np.ndarray | float | None = None) -> np.ndarray:
        """Picture coordinates (0 to 1) of head points; `depth` None: on the front of the head."""
        face = self.face
        x, y = points[:, 0], points[:, 1]
        if depth is None:
            inside = 1 - (x / self.g["width"]) ** 2 - (y / 1.4) ** 2
            depth = 0.7 * np.sqrt(np.maximum(inside, 0))
            x = x * cos(face.yaw)
        x, y = x + sin(face.yaw) * depth, y + sin(face.pitch) * depth - PIVOT
        c, s = cos(face.roll) * SCALE, sin(face.roll) * SCALE
        return _points(c * x - s * y + 0.5, s * x + c * y + 0.5 + PIVOT * SCALE)

    def fill(self, points: np.ndarray, colour: tuple[int, ...], depth=None) -> None:
        self.canvas.polygon((self.place(points, depth) * self.side).ravel().tolist(), fill=colour)

    def line(self, points: np.ndarray, colour: tuple[int, ...], width: float, depth=None) -> None:
        flat = (self.place(points, depth) * self.side).ravel().tolist()
        pixels = max(1, round(width * SCALE * self.side))
        self.canvas.line(flat, fill=colour, width=pixels)


def _tone(colour, factor: float, alpha: int = 255) -> tuple[int, ...]:
    return (*(min(255, int(c * factor)) for c in colour[:3]), alpha)


def _mix(a, b, t: float, alpha: int = 255) -> tuple[int, ...]:
    return (*(int((1 - t) * x + t * y) for x, y in zip(a, b, strict=True)), alpha)


def _points(x, y) -> np.ndarray:
    points = np.empty((max(np.size(x), np.size(y)), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _ellipse(x: float, y: float, rx: float, ry: float, n: int = 28) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return _points(x + rx * np.cos(t), y + ry * np.sin(t))


def _skull(pen: _Pen, grow: float, drop: float) -> np.ndarray:
    """The top of the head from its left side to its right side, hair of thickness `grow`."""
    t = np.linspace(np.pi - drop, 2 * np.pi + drop, 48)
    if pen.g["curl"] > 0.6:
        grow = grow + 0.05 + 0.04 * np.sin(13 * t + 9 * pen.g["part"]) + 0.02 * np.sin(29 * t)
    return _points((pen.g["width"] + 0.6 * grow) * np.cos(t), (0.98 + grow) * np.sin(t))


def _half_width(pen: _Pen, y: np.ndarray) -> np.ndarray:
    """Half-width of the lower face at height y, from the ears (0) to the chin."""
    return pen.g["width"] * np.sqrt(np.clip(1 - (y / pen.g["chin"]) ** pen.g["jaw"], 0, 1))


def _hair_behind(pen: _Pen) -> None:
    top = _skull(pen, pen.g["volume"], 0.1)
    if pen.face.long_hair:
        y = np.linspace(0.1, 1.35, 14)
        wave = (0.05 if pen.g["curl"] > 0.6 else 0.015) * np.sin(9 * y)
        x = pen.g["width"] + 0.10 + 0.14 * np.sin(2.2 * y) + wave
        top = np.concatenate([top, _points(x, y), _points(-x, y)[::-1]])
    pen.fill(top, _tone(pen.hair, 0.72), depth=-0.15)


def _shoulders(pen: _Pen) -> None:
    cloth = CLOTHES[pen.rng.integers(len(CLOTHES))]
    neck = 0.36 if pen.face.woman else 0.44
    shadow = _tone(pen.skin, 0.78)
    x = np.linspace(-1.6, 1.6, 30)
    body = _points(x, 1.16 + 0.28 * np.abs(x / 1.2) ** 2.2)
    body = np.concatenate([body, [[1.6, 2.2], [-1.6, 2.2]]])
    column = np.array([[-neck, 0.5], [neck, 0.5], [neck + 0.06, 1.25], [-neck - 0.06, 1.25]])
    pen.fill(body, _tone(cloth, 1), depth=0)
    pen.fill(column, shadow, depth=0)
    if pen.face.woman:
        pen.fill(_ellipse(0, 1.2, neck + 0.16, 0.26), _tone(pen.skin, 0.92), depth=0)
        pen.fill(column[:2].tolist() and _ellipse(0, 1.0, neck, 0.26), shadow, depth=0)
    else:
        pen.fill(np.array([[-neck, 1.2], [neck, 1.2], [0, 1.5]]), shadow, depth=0)
        for s in (-1, 1):
            collar = [[s * (neck + 0.1), 1.06], [s * 0.02, 1.52], [s * 0.36, 1.62], [s * 0.66, 1.2]]
            pen.fill(np.array(collar), _mix(cloth, (255, 255, 255), 0.75), depth=0)


def _head(pen: _Pen) -> None:
    g, skin = pen.g, pen.skin
    for s in (-1, 1):
        ear = s * (g["width"] + 0.02)
        pen.fill(_ellipse(ear, 0.08, 0.09, g["ear"]), _tone(skin, 0.94), depth=-0.1)
        pen.fill(_ellipse(ear, 0.08, 0.045, 0.6 * g["ear"]), _tone(skin, 0.8), depth=-0.1)
        if pen.face.woman:
            pen.fill(_ellipse(ear, 0.13 + g["ear"], 0.05, 0.06), (250, 226, 140, 255), depth=-0.1)
    y = np.linspace(0, g["chin"], 24)
    x = _half_width(pen, y)
    t = np.linspace(np.pi, 2 * np.pi, 30)
    outline = np.concatenate(
        [_points(g["width"] * np.cos(t), 0.98 * np.sin(t)), _points(x, y), _points(-x, y)[::-1]]
    )
    pen.fill(outline, _tone(skin, 1), depth=0.25 * np.clip(outline[:, 1], 0, 1))


def _beard(pen: _Pen) -> None:
    g = pen.g
    colour = _mix(pen.hair, (70, 46, 30), 0.3)
    y = np.linspace(0.0, g["chin"] + 0.06, 24)
    x = _half_width(pen, y * g["chin"] / (g["chin"] + 0.06)) + 0.015
    mouth = g["mouth_y"]
    for soft, alpha in ((0.05, 110), (0.0, 255)):  # a soft edge, then the beard
        top = [0.0, 0.25, 0.45, mouth + 0.02, mouth - 0.13, g["nose_y"] + 0.11 - soft]
        wide = g["width"] * np.array([0.90, 0.84, 0.76, 0.0, 0.0, 0.0])
        wide[3:] = g["mouth_w"] + 0.10, g["mouth_w"] - 0.02, 0.0
        half = np.concatenate([_points(x, y)[::-1], _points(wide - soft * (wide > 0), top)])
        outline = np.concatenate([half, (half * [-1, 1])[::-1]])
        depth = np.where(outline[:, 1] > 0, 0.25 * outline[:, 1], 0)
        pen.fill(outline, (*colour[:3], alpha), depth=depth + 0.3 * (np.abs(outline[:, 0]) < 0.45))


def _mouth(pen: _Pen) -> None:
    g, smile = pen.g, pen.face.smile
    natural = _mix(pen.skin, (150, 60, 60), 0.42)
    lips = _mix(pen.skin, (190, 30, 60), 0.78) if pen.face.woman else natural
    full = g["lip"] * (1.2 if pen.face.woman else 0.9)
    u = np.linspace(-1, 1, 17)
    wide = g["mouth_w"] * (0.9 + 0.25 * smile)
    middle = g["mouth_y"] + (0.02 + 0.10 * smile) * (0.4 - u**2)
    upper = middle - full * (1 - u**2) * (1 - 0.35 * np.exp(-((u / 0.18) ** 2)))
    gap = 0.22 * max(0, smile - 0.45) * (1 - u**2)
    lower = middle + gap + 1.35 * full * (1 - u**2)

    def between(a, b):
        return np.concatenate([_points(wide * u, a), _points(wide * u, b)[::-1]])

    pen.fill(between(upper, lower), lips)
    if smile > 0.5:
        pen.fill(between(middle, middle + gap), (250, 246, 240, 255))
    pen.line(_points(wide * u, middle), _tone(lips, 0.6), 0.018)
    under = _ellipse(0, g["mouth_y"] + 0.05 + 1.9 * full, 0.6 * wide, 0.025, 16)
    pen.fill(under, _tone(pen.skin, 0.7, 0 if pen.face.beard else 70))


def _nose(pen: _Pen) -> None:
    w, y = pen.g["nose_w"], pen.g["nose_y"]
    t = np.linspace(0, np.pi, 13)
    pen.line(_points(w * np.cos(t), y + 0.06 * np.sin(t)), _tone(pen.skin, 0.66, 190), 0.03)
    for s in (-1, 1):
        pen.fill(_ellipse(s * 0.5 * w, y + 0.035, 0.3 * w, 0.022, 12), _tone(pen.skin, 0.5))


def _eye(pen: _Pen, side: int) -> None:
    g, face = pen.g, pen.face
    x0, y0 = side * g["eye_x"], g["eye_y"]
    w, h = g["eye_w"], g["eye_h"] * (1.1 - 0.2 * face.smile) * (1.1 if face.woman else 1.0)
    u = np.linspace(-1, 1, 15)
    tilt = -g["eye_tilt"] * u * side
    upper = y0 + tilt - h * (1 - u**2) ** 0.7
    lower = y0 + tilt + 0.8 * h * (1 - u**2)
    lid = _points(x0 + w * u, upper)
    pen.fill(np.concatenate([lid, _points(x0 + w * u, lower)[::-1]]), (246, 244, 240, 255))
    for radius, colour in ((1.0 * h, IRISES[int(g["iris"])]), (0.5 * h, (14, 12, 14))):
        disc = _ellipse(x0, y0 - 0.1 * h, radius, radius)
        at = (disc[:, 0] - x0) / w
        disc[:, 1] = np.clip(disc[:, 1], np.interp(at, u, upper), np.interp(at, u, lower))
        pen.fill(disc, (*colour, 255))
    pen.fill(_ellipse(x0 - 0.35 * h, y0 - 0.45 * h, 0.3 * h, 0.3 * h, 12), (255, 255, 255, 255))
    dark = (30, 22, 24, 255)
    pen.line(lid, dark, 0.038 if face.woman else 0.022)
    pen.line(_points(x0 + w * u, upper - 0.05), _tone(pen.skin, 0.7, 140), 0.016)
    if face.woman:
        for k in (0.75, 0.95, 1.1):
            foot = [x0 + side * w * min(k, 1), y0 - g["eye_tilt"] * k - h * max(0, 1 - k * k) ** 0.7]
            pen.line(np.array([foot, [foot[0] + side * 0.055 * k, foot[1] - 0.055]]), dark, 0.018)
    v = np.linspace(-1, 1, 11) * side  # the brow, from the nose outwards
    thick = g["brow"] * (0.55 if face.woman else 1.1) * (1.1 - 0.4 * np.linspace(-1, 1, 11) ** 2)
    arch = y0 - g["brow_y"] - g["brow_arch"] * (1 - (v * side - 0.1) ** 2) + 0.02 * v * side
    x = x0 + 1.2 * w * v
    brow = [_points(x, arch - thick / 2), _points(x, arch + thick / 2)[::-1]]
    pen.fill(np.concatenate(brow), _mix(pen.hair, (60, 42, 32), 0.5))


def _hair_in_front(pen: _Pen) -> None:
    g = pen.g
    side = 0.05 if pen.face.long_hair else -0.08
    outer = _skull(pen, g["volume"], 0.12)
    u = np.linspace(1, -1, 25)
    if g["fringe"] > 0.65:
        line = -0.42 - 0.05 * np.cos(9 * u)
    else:
        line = g["hairline"] - 0.10 * np.exp(-(((u - g["part"]) / 0.25) ** 2))
    line = line + (side - line) * np.abs(u) ** 7
    inner = _points(g["width"] * 0.99 * u, line)
    cap = np.concatenate([outer, inner])
    depth = np.concatenate([np.full(len(outer), -0.05), 0.35 * (1 - u**2) + 0.05])
    pen.line(inner, _tone(pen.skin, 0.55, 150), 0.07, depth=depth[len(outer) :])
    pen.fill(cap, _tone(pen.hair, 1), depth=depth)
    top = 0.98 + 0.8 * g["volume"]
    root = np.array([g["part"], -top * sqrt(1 - (g["part"] / g["width"]) ** 2)])
    t = np.linspace(0, 1, 7)[:, None]
    for k in range(1, 24, 2):  # strands, from the parting to the hairline
        end = inner[k]
        bend = (outer[len(outer) - 4 - round(1.35 * k)] + end) / 2
        strand = (1 - t) ** 2 * root + 2 * t * (1 - t) * bend + t**2 * end
        pen.line(strand, _tone(pen.hair, 1.4 if k % 4 == 1 else 0.62, 80), 0.03, depth=0.0)
    if g["curl"] > 0.6:
        rows = np.concatenate([outer[2:-2:3] * 0.97, outer[3:-3:3] * 0.84])
        for k, (x, y) in enumerate(pen.place(rows, depth=0.0) * pen.side):
            r, shade = 0.07 * SCALE * pen.side, _tone(pen.hair, 1.35 if k % 2 else 0.6, 110)
            pen.canvas.ellipse((x - r, y - r, x + r, y + r), outline=shade, width=round(0.4 * r))
    if pen.face.long_hair:
        y = np.linspace(-0.25, 1.25, 16)
        wave = (0.045 if g["curl"] > 0.6 else 0.012) * np.sin(9 * y)
        for s in (-1, 1):
            out = g["width"] + 0.10 + 0.13 * np.sin(2.2 * y) + wave
            inn = g["width"] - 0.10 + 0.10 * np.clip(y, 0, 1) ** 2 + wave
            lock = np.concatenate([_points(s * out, y), _points(s * inn, y)[::-1]])
            pen.fill(lock, _tone(pen.hair, 0.95), depth=-0.02)
            for k in (0.35, 0.7):
                path = _points(s * (k * out + (1 - k) * inn), y)
                pen.line(path, _tone(pen.hair, 1.3 if k < 0.5 else 0.7, 100), 0.03, depth=-0.02)


def _glasses(pen: _Pen) -> None:
    g = pen.g
    frame = (*FRAMES[pen.face.skin > 3][pen.face.scene % 3], 255)
    y = g["eye_y"] + 0.02
    t = np.linspace(0, 2 * np.pi, 33)
    rx, ry = g["eye_x"] - 0.055, 0.20
    for s in (-1, 1):
        x = s * g["eye_x"]
        rim = _points(
            x + rx * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.7,
            y + ry * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 0.7,
        )
        pen.fill(rim, (225, 240, 255, 44))
        glint = [[-0.5, -0.2], [-0.15, -0.75], [0.05, -0.75], [-0.5, 0.1]]
        pen.fill(np.array(glint) * [rx, ry] + [x, y], (255, 255, 255, 70))
        pen.line(rim, frame, 0.045)
        arm = np.array([[x + s * rx, y - 0.05], [s * g["width"] * 0.98, y - 0.08]])
        pen.line(arm, frame, 0.045)
    pen.line(np.array([[-0.06, y - 0.04], [0, y - 0.07], [0.06, y - 0.04]]), frame, 0.045)


def _lit(pixels: np.ndarray, pen: _Pen) -> np.ndarray:
    """Soft shadows and blush on the face, then the light, as on an ellipsoid; then noise."""
    face, g, size = pen.face, pen.g, len(pixels)
    spots = np.array(  # x, y, half-width, half-height, then what is taken off red, green, blue
        [
            [-0.42, 0.34, 0.17, 0.14, -0.02, 0.10, 0.08],
            [0.42, 0.34, 0.17, 0.14, -0.02, 0.10, 0.08],
            [-0.3, g["eye_y"] - 0.08, 0.20, 0.12, 0.10, 0.13, 0.13],
            [0.3, g["eye_y"] - 0.08, 0.20, 0.12, 0.10, 0.13, 0.13],
            [-0.1 * np.sign(face.light), 0.15, 0.09, 0.25, 0.10, 0.12, 0.12],
            [0.03 * np.sign(face.light), 0.12, 0.05, 0.22, -0.08, -0.08, -0.08],
            [0.0, -0.42, 0.30, 0.16, -0.06, -0.06, -0.06],
        ],
        dtype="float32",
    )
    centre = pen.place(spots[:, :2]).astype("float32")
    grid = (np.arange(size, dtype="float32") + 0.5) / size
    gx = np.exp(-(((grid - centre[:, :1]) / (SCALE * spots[:, 2:3])) ** 2))
    gy = np.exp(-(((grid - centre[:, 1:]) / (SCALE * spots[:, 3:4])) ** 2))
    taken = (gy.T * spots[:, 4:].T[:, None]) @ gx  # (3, size, size)
    pixels = pixels * (1 - np.moveaxis(taken, 0, 2))
    middle = pen.place(np.zeros((1, 2)), depth=0.0)[0].astype("float32")
    x = (grid - middle[0])[None, :] / SCALE
    y = (grid - middle[1])[:, None] / SCALE
    inside = 1 - (x / (g["width"] + 0.12)) ** 2 - (y / 1.15) ** 2
    facing = face.light * 0.50 * x / g["width"] - 0.10 * y + 0.26 * np.sqrt(np.clip(inside, 0, 1))
    facing = facing - 0.12 * np.abs(face.light)
    head = 1 / (1 + np.exp(-12 * inside))
    light = head * (0.82 + np.minimum(facing, 0.26)) + (1 - head) * (1 + 0.16 * face.light * x - 0.10 * y)
    pixels = pixels * (light * face.exposure)[..., None]
    bright = np.maximum(pixels - 190, 0)
    pixels = np.minimum(pixels, 190) + 65 * (1 - np.exp(-bright / 65))
    noise = pen.rng.standard_normal(size=pixels.shape, dtype="float32")
    return np.clip(pixels + 2.5 * noise, 0, 255).astype("uint8")
