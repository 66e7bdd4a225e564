"""A glass-box photo being painted: its colours, its subject, what lies about it, and the camera.

Lengths are in pixels, x to the right and y downwards; colours are shares of white, 0..1.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from rsrl_lib.drawing import shapes

# Distance from a thirds point, in sides of the photo, where placement is 0.
THIRDS_REACH = 0.30
RATIOS = (2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 16 / 9)  # width by height
MOODS = {  # (hue, saturation, value) of sky above, sky at horizon and land; the accent's hue
    "golden": ((0.60, 0.35, 0.62), (0.09, 0.60, 1.00), (0.07, 0.55, 0.26), 0.02),
    "dusk": ((0.70, 0.50, 0.36), (0.96, 0.45, 0.88), (0.72, 0.45, 0.17), 0.08),
    "day": ((0.58, 0.62, 0.80), (0.55, 0.20, 0.97), (0.30, 0.50, 0.34), 0.04),
    "mist": ((0.58, 0.36, 0.66), (0.10, 0.16, 0.95), (0.50, 0.32, 0.34), 0.06),
    "night": ((0.64, 0.75, 0.13), (0.60, 0.60, 0.42), (0.63, 0.55, 0.09), 0.12),
}
SUN = (  # size in short sides, strength and added light of its haze, its halo and its disc
    (0.7, 0.7, 0.2),
    (0.16, 0.7, 0.35),
    (0.05, 30, 0.6),
)
RIDGES = (0.2, 0.5, 0.85)  # how near they are
RINGS = (1.15, 0.95, 0.72)  # size of a flower's petals, in radii of the subject


class Easel:
    """A photo being painted, as premultiplied float32 planes (colours and alpha, rows, columns).

    When it is painted, `mask` is its subject's, `tags` is what it shows, and `distractors` are the
    x and y of what clutters it.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        attributes: dict[str, float],
        scene: str,
    ):
        self.rng = rng
        self.attributes = attributes
        self.distractors = []
        self.focus_blur = 0.0

        ratio = rng.choice(RATIOS)
        long_side = rng.integers(320, 401)
        width = int(long_side * min(1, ratio))
        height = int(long_side * min(1, 1 / ratio))
        short_side = min(width, height)
        self.width = width
        self.height = height
        self.size = (width, height)
        self.short_side = short_side
        self.light = int(rng.choice([-1, 1]))  # it comes from the left or the right
        rows = np.arange(height, dtype=np.float32)
        columns = np.arange(width, dtype=np.float32)
        self.rows = rows[:, None]
        self.columns = columns[None]
        self.pixels = np.zeros((3, height, width), np.float32)

        size = 0.16 + 0.11 * attributes["distinctness"]
        radius = int(short_side * size)
        self.radius = radius
        unsharpness = 1 - attributes["sharpness"]
        self.blur = 0.02 * short_side * unsharpness**1.4
        # x and y of the square patch that a subject is painted on, in its radii.
        side = np.linspace(-1.25, 1.25, int(2.5 * radius))
        grid = np.meshgrid(side, side)
        self.grid = np.float32(grid)
        self.x, self.y = self._subject_place()

        moods = list(MOODS)
        if scene == "sunset":
            moods = ["golden", "dusk"]
        mood = str(rng.choice(moods))
        sky, horizon, land, self.accent = MOODS[mood]
        self.sky = self._colour(*sky)
        self.low_sky = self._colour(*horizon)
        self.land = self._colour(*land)
        self.tags = {scene, mood}
        if mood == "golden":
            self.tags.add("warm_light")

    def _subject_place(self) -> tuple[float, float]:
        """Somewhere off the edges, as far from the nearest thirds point as placement says."""
        rng = self.rng
        misplacement = 1 - self.attributes["placement"]
        distance = misplacement * THIRDS_REACH
        while True:
            angle = rng.uniform(0, 2 * np.pi)
            cosine = np.cos(angle)
            sine = np.sin(angle)
            direction = np.array([cosine, sine])
            thirds_point = rng.choice([1 / 3, 2 / 3], 2)
            centre = thirds_point + distance * direction

            off_middle = abs(centre - 0.5)
            off_thirds = off_middle - 1 / 6
            to_the_nearest = np.hypot(*off_thirds)
            is_off_the_edges = off_middle.max() <= 0.43
            is_the_nearest = to_the_nearest >= distance - 1e-9
            if is_off_the_edges and is_the_nearest:
                x, y = centre * self.size
                return float(x), float(y)

    def paint(self, scene: str) -> None:
        """Paint a scene: its subject, then all about it."""
        off_accent = self.rng.uniform(-0.12, 0.12)
        colour = self._colour(self.accent + off_accent, 0.75, 0.9)
        subject = self._subject(scene, colour)
        foot = self._seat(subject)
        match scene:
            case "lake" | "sunset" | "lighthouse" | "pagoda":
                self._shore(foot)
            case "balloon":
                self._shore(0.93 * self.height)
            case "flower":
                lean = 0.1 * self.short_side * self.light
                self._closeup(self.x, self.y, self.x - lean, self.height)
            case "apple":
                stalk = self.y - 0.6 * self.radius
                corner = self.width * (self.light > 0)
                self._closeup(self.x, stalk, corner, 0)
            case "mushroom":
                root = self.y + 0.9 * self.radius
                self._closeup(self.x, root, self.x, self.height)
            case "lamp" | "still_life":
                self._table(foot)

    def _subject(self, scene: str, colour: np.ndarray) -> np.ndarray:
        """The subject of a scene, alone on a square patch of planes."""
        x, y = self.grid
        solid = scene
        match scene:
            case "sunset":
                return self._boat(colour)
            case "flower":
                return self._flower(colour)
            case "lake":
                solid = "fir"
                tone = self._needles()
            case "lighthouse":
                is_band = (y < -0.85) | (y * 2.6 % 1 < 0.5)
                tone = np.where(is_band, colour, 0.95)
            case "pagoda":
                is_roof = y * 2 % 1 < 0.3
                tone = np.where(is_roof, colour, 0.85 * self.low_sky.max())
            case "balloon":
                is_gore = x / (1.3 - (y + 0.2) ** 2) % 0.3 < 0.15
                tone = np.where(is_gore, colour, 1 - colour)
            case "apple":
                tone = colour * (0.8 + 0.3 * x)
            case "mushroom":
                is_dot = np.sin(9 * x) * np.sin(9 * y) > 0.55
                cap = np.where(is_dot, 0.95, colour)
                tone = np.where(y < -0.04, cap, 0.85)
            case "lamp":
                tone = colour * np.where(y < -0.17, 1.4, 0.4)
            case "still_life":
                is_ring = abs(y - self.rng.uniform(-0.2, 0.6)) < 0.07
                tone = colour * (1 - 0.5 * is_ring)
                solid = str(self.rng.choice(["jug", "bottle"]))
        return self._lathe(solid, tone)

    def _colour(self, hue: float, saturation: float, value: float) -> np.ndarray:
        """Harmony pulls a hue to the accent or its complement, discord scatters it and shouts."""
        harmony = self.attributes["harmony"]
        discord = 1 - harmony

        off_accent = hue - self.accent
        half_turns = round(off_accent * 2)
        nearest = self.accent + 0.5 * half_turns
        pull = nearest - hue
        hue += 0.5 * harmony**2 * pull
        side = self.rng.choice([-1, 1])
        scatter = self.rng.uniform(0.1, 0.4)
        hue += discord**1.5 * side * scatter

        muted = saturation * (1 - 0.1 * harmony)
        shouted = 0.5 * discord**2
        saturation = _limited(muted + shouted)
        rgb = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        colour = np.array(rgb, np.float32)
        return colour.reshape(3, 1, 1)

    def _noise(self, tall: float, wide: float, rows: int | None = None) -> np.ndarray:
        """Smooth noise of about unit spread; its features measure `tall` x `wide` short sides."""
        width = self.width
        height = rows or self.height
        noise = np.zeros((height, width), np.float32)
        short_sides = np.array(noise.shape) / self.short_side
        features = short_sides / (tall, wide)
        for octave in range(3):
            cells = features * 2**octave + 2
            knots = self.rng.standard_normal(cells.astype(int))
            coarse = Image.fromarray(knots.astype(np.float32))
            resized = coarse.resize((width, height), Image.Resampling.BICUBIC)
            smooth = np.asarray(resized)
            strength = np.float32(0.55**octave)
            noise += smooth * strength
        return noise

    def _spot(self, x: float, y: float, wide: float, tall: float) -> np.ndarray:
        """A round fading spot, 1 in its middle."""
        off_x = self.columns - x
        off_y = self.rows - y
        return _bell(off_x / wide) * _bell(off_y / tall)

    def _blend(self, alpha: np.ndarray, colour: np.ndarray, top: int = 0) -> None:
        """Cover the photo from the row `top` on with a colour, as opaque as `alpha`."""
        covered = self.pixels[:, top:]
        change = colour - covered
        covered += _limited(alpha) * change

    def _over(self, layer: Image.Image, blur: float = 0.0) -> None:
        """Lay a picture with alpha, blurred, over the photo."""
        box = layer.getbbox()
        if not box:
            return

        left, top, right, foot = box
        margin = 3 * blur
        left = max(int(left - margin), 0)
        top = max(int(top - margin), 0)
        right = min(right + int(margin), layer.width)
        foot = min(foot + int(margin), layer.height)
        visible = layer.crop((left, top, right, foot))
        blurred = visible.filter(ImageFilter.GaussianBlur(blur))
        planes = _planes(blurred)

        colours = planes[:3]
        alpha = planes[3]
        covered = self.pixels[:, top:foot, left:right]
        covered *= 1 - alpha
        covered += colours

    def _needles(self) -> np.ndarray:
        """Tone of a fir: needles of uneven light over a dark trunk."""
        _, y = self.grid
        hue = self.rng.choice([0.05, 0.12, 0.3])
        green = self._colour(hue, 0.7, 0.7)
        light = self.low_sky.max()
        shades = self.rng.uniform(0.5, 1.1, y.shape)
        needles = green * light * shades
        is_trunk = y > 0.71
        return np.where(is_trunk, 0.1, needles)

    def _lathe(self, solid: str, tone: np.ndarray) -> np.ndarray:
        """A solid of revolution of `shapes.LATHED`, lit from one side."""
        x, y = self.grid
        radius = shapes.radius_at(solid, y[:, :1])

        # How far its surface is turned to the light's side: the sine of the angle.
        sine = x / np.maximum(radius, 1e-3)
        turn = np.clip(sine, -1, 1) * self.light
        to_the_front = np.sqrt(1 - turn**2)
        facing = _limited(0.62 * to_the_front + 0.78 * turn)
        brightness = 0.35 + 0.75 * facing
        off_shine = turn - 0.5
        shine = 0.3 * _bell(off_shine / 0.18)
        lit = tone * brightness + shine

        inside = radius - abs(x)
        return _cut(lit, inside * self.radius)

    def _boat(self, colour: np.ndarray) -> np.ndarray:
        """A boat under sail, drawn at three times the size, so that edges are smooth."""
        _, y = self.grid
        side = 3 * len(y)
        complement = self.accent + 0.5
        hull = self._colour(complement, 0.6, 0.12)
        layer = Image.new("RGBa", (side, side))
        pen = ImageDraw.Draw(layer)
        colours = (hull, hull, colour / 2, colour / 1.5)
        for outline, filling in zip(shapes.BOAT, colours, strict=True):
            corners = shapes.polygon(outline)
            shares = corners / 2.5 + 0.5
            on_layer = shares * side
            pen.polygon(on_layer.tolist(), _ink(filling))
        return _planes(layer.reduce(3))

    def _flower(self, colour: np.ndarray) -> np.ndarray:
        """A head of seeds in one to three rings of petals, the smaller ones in front."""
        rng = self.rng
        x, y = self.grid
        flatness = rng.uniform(0.75, 1)
        rho = np.hypot(x, y / flatness)
        phi = np.arctan2(y, x)
        petals = rng.integers(5, 14)
        slimness = rng.uniform(0.3, 0.7)
        yellow = self._colour(0.12, 0.8, 0.8)
        shades = rng.uniform(0.5, 1.1, rho.shape)
        seeds = yellow * shades
        is_seed = rho < 0.26
        lit_side = 0.2 * x * self.light
        rings = rng.integers(1, 4)

        head = 0
        for number, size in enumerate(RINGS[:rings]):
            phase = petals / 2 * phi + number * np.pi / 2 + 1
            lobe = abs(np.cos(phase))
            reach = 0.3 + 0.7 * lobe**slimness
            edge = size * reach

            outwards = 0.45 + 0.55 * rho / size
            across = 0.6 + 0.4 * lobe
            tone = 0.1 * number + outwards * across
            petal = colour * (tone + lit_side)
            tinted = np.where(is_seed, seeds, petal)

            inside = edge - rho
            ring = _cut(tinted, inside * self.radius)
            ring_alpha = ring[3]
            head = ring + head * (1 - ring_alpha)
        return head

    def _seat(self, patch: np.ndarray) -> float:
        """Put the centroid of the subject on its place; returns the row of its foot."""
        alpha = patch[3]
        rows = alpha.sum(1)
        columns = alpha.sum(0)
        steps = np.arange(len(rows))
        centre_x = columns @ steps / columns.sum()
        centre_y = rows @ steps / rows.sum()
        left = round(self.x - centre_x)
        top = round(self.y - centre_y)

        subject = Image.new("RGBA", self.size)
        subject.paste(_image(patch), (left, top))
        opacity = subject.getchannel("A")
        self.subject = subject
        self.mask = opacity.point(lambda value: 255 * (value > 127))

        lowest = np.flatnonzero(rows > 0.5)[-1]
        return top + float(lowest)

    def _place(self) -> None:
        """Set the subject into the picture; distinctness is its contrast to what lies behind."""
        distinctness = self.attributes["distinctness"]
        subject = self.subject
        box = subject.getbbox()
        left, top, right, foot = box
        planes = _planes(subject.crop(box))
        colours = planes[:3]
        alpha = planes[3]
        area = alpha.sum()

        covered = self.pixels[:, top:foot, left:right] * alpha
        behind = covered.sum((1, 2), keepdims=True) / area
        brightness = colours.sum() / 3 / area
        if brightness > behind.mean():
            halo_colour = behind * 0.4
            gain = 0.4
        else:
            halo_colour = behind * 1.5
            gain = -0.15

        reach = 2 * self.radius
        strength = max(0.7 * distinctness - 0.2, 0)
        halo = self._spot(self.x, self.y, reach, reach)
        self._blend(halo * strength, halo_colour)

        contrast = 0.1 + 0.9 * distinctness**0.8
        brightening = 1 + gain * distinctness
        colours *= contrast * brightening
        colours += (1 - contrast) * behind * alpha
        subject.paste(_image(planes), (left, top))
        self._over(subject, self.focus_blur)

    def _shore(self, foot: float) -> None:
        """Sky, ridges and the subject, then from the row `foot` on the water that mirrors them."""
        horizon = int(np.clip(foot, 1, self.height - 2))
        self._paint_sky(horizon)
        self._paint_sun(horizon)
        self._paint_ridges(horizon)
        self._place()
        self._paint_foreground(horizon)
        self._distract(foot)

    def _paint_sky(self, horizon: int) -> None:
        """A gradient down to the horizon, and clouds."""
        sky = self.sky
        low_sky = self.low_sky
        descent = _limited(self.rows / horizon)
        change = low_sky - sky
        self.pixels[:] = sky + change * descent
        noise = self._noise(0.14, 0.6)
        clouds = noise * 0.3 - 0.06
        brightest = low_sky.max()
        white = low_sky * 0.6 + 0.4 * brightest
        self._blend(clouds, white)

    def _paint_sun(self, horizon: int) -> None:
        """A low sun, in a sunset alone."""
        x = self.rng.uniform(0.1, 0.9) * self.width
        if "sunset" not in self.tags:
            return
        short_side = self.short_side
        y = horizon - 0.24 * short_side
        orange = np.float32((0.3, 0.22, 0.05))
        orange = orange.reshape(3, 1, 1)
        warm = self.low_sky * 0.5 + orange
        for size, strength, glow in SUN:
            radius = size * short_side
            spot = self._spot(x, y, radius, radius)
            self._blend(spot * strength, warm + glow)

    def _paint_ridges(self, horizon: int) -> None:
        """Ridges one before the other, the far ones higher and lost in mist."""
        air = self.low_sky * 0.95
        short_side = self.short_side
        change = self.land - air
        for nearness in RIDGES:
            farness = 1.1 - nearness
            height = 0.12 * short_side * farness
            roughness = self._noise(1, 0.5, 2)[:1]
            profile = abs(1 + 0.5 * roughness)
            crest = horizon - height * profile
            highest = np.clip(crest.min(), 0, horizon)
            top = int(highest)
            rows = self.rows[top:]

            depth = (rows - top) * 4 / short_side
            mist = np.clip(depth, 0, 0.6) * (1 - nearness)
            tint = air + change * nearness * (1 - mist)
            below_crest = rows - crest
            self._blend(below_crest + 0.5, tint, top)

    def _paint_foreground(self, horizon: int) -> None:
        """Water that mirrors what is above the horizon, or a meadow."""
        rng = self.rng
        tags = self.tags
        height = self.height
        below = self.rows[horizon:] - horizon
        depth = below / (height - horizon)
        calm = rng.uniform(0.2, 1)
        wave = self._waves(below)

        is_wet = "sunset" in tags or rng.random() < 0.7
        if is_wet:
            restlessness = 1 - calm
            shift = restlessness * wave * depth * 0.04 * height
            reflection = self._mirrored(horizon, below, shift)
            reflectance = 0.85 - 0.25 * depth
            ground = reflection * reflectance + 0.07 * self.sky
            tags.add("water")
        else:
            land = self.land
            change = self.low_sky - land
            haze = change * 0.3 * (1 - depth) ** 3
            ground = land * 1.4 + haze
        if is_wet and calm > 0.5:
            tags.add("reflection")
        roughness = 0.22 - 0.16 * calm
        relief = 1 + roughness * wave
        self.pixels[:, horizon:] = ground * relief

    def _waves(self, below: np.ndarray) -> np.ndarray:
        """Noise of rows that lie so far `below` the horizon, smaller the farther away they are."""
        distance_down = below[:, 0] * 33 / self.height
        nearness = np.log1p(distance_down)
        rows_of_noise = nearness * 27
        noise = self._noise(0.025, 0.2, 96)
        return noise[rows_of_noise.astype(int)]

    def _mirrored(
        self, horizon: int, below: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        """The pixels that lie as far above the horizon as others `below`, shifted by waves."""
        lowest = horizon - 1
        above = lowest - 0.9 * below + shift
        rows = np.clip(above, 0, lowest)
        columns = np.arange(self.width)
        return self.pixels[:, rows.astype(int), columns]

    def _closeup(self, *stem: float) -> None:
        """A melted background with lights, small and hard where focus missed the subject."""
        bright = self.low_sky * 0.8
        dark = self.land * 0.5
        drawn = int(self.rng.integers(-10, 40))
        count = max(drawn, 0)
        noise = self._noise(0.25, 0.25)
        reach = self.short_side
        corner = self._spot(0, 0, reach, reach)
        brightness = _limited(0.3 + 0.3 * noise + 0.7 * corner)
        pixels = self.pixels
        pixels[:] = dark + (bright - dark) * brightness
        lights = self._lights(count, bright)
        pixels += (1 - pixels) * lights
        if count > 4:
            self.tags.add("bokeh")
        self.focus_blur = self.blur
        self._distract(0, *stem)
        self._place()

    def _lights(self, count: int, colour: np.ndarray) -> np.ndarray:
        """Planes of discs of light, drawn at half the size."""
        rng = self.rng
        width = self.width // 2
        height = self.height // 2
        half = Image.new("RGB", (width, height))
        pen = ImageDraw.Draw(half, "RGBA")
        sharpness = self.attributes["sharpness"]
        openness = 0.25 + 0.75 * sharpness
        least = (0, 0, 0, 0.15)
        most = (width, height, 0.4, 0.6)
        for _ in range(count):
            size = rng.uniform(0.03, 0.075)
            radius = self.short_side * size * openness
            x, y, glow, alpha = rng.uniform(least, most)
            left = x - radius
            top = y - radius
            right = x + radius
            foot = y + radius
            ink = _ink(colour + glow, alpha)
            pen.ellipse((left, top, right, foot), ink)
        smooth = half.filter(ImageFilter.BoxBlur(1))
        full = smooth.resize(self.size)
        return _planes(full)

    def _table(self, foot: float) -> None:
        """A wall with window light, a table, and the subject's soft shadow on it."""
        height = self.height
        radius = self.radius
        light = self.light
        depth = radius * self.rng.uniform(0.3, 0.8)
        edge = int(np.clip(foot - depth, 0, height - 1))
        share_of_width = 0.5 + 0.4 * light
        window_x = self.width * share_of_width
        window_y = 0.2 * height
        window_width = 0.6 * self.short_side
        window = self._spot(window_x, window_y, window_width, height)
        shade = 1.5 - 0.7 * self.rows / height
        self.pixels[:] = self.land * shade
        self._blend(window * 0.7, self.low_sky)

        brown = self._colour(0.08, 0.5, 0.5)
        grain = self._noise(0.02, 0.5, height - edge)
        texture = 1 + 0.06 * grain
        wood = brown * texture
        light_on_table = window[edge:]
        brightness = 0.7 + 0.5 * light_on_table
        self.pixels[:, edge:] = wood * brightness
        self._distract(edge)

        shadow_x = self.x - radius * light / 2
        shadow = self._spot(shadow_x, foot, radius, radius / 8)
        self.pixels *= 1 - 0.7 * shadow
        self._place()

    def _distract(self, far: float, *stem: float) -> None:
        """Scatter twigs (about a stem) or things that stand below the row `far`."""
        rng = self.rng
        width = self.width
        height = self.height
        # Drawn at twice the size, so that edges are smooth.
        layer = Image.new("RGBa", (2 * width, 2 * height))
        pen = ImageDraw.Draw(layer)
        bark = self._colour(0.08, 0.6, 0.25)
        ends = [2 * number for number in stem]
        pen.line(ends, _ink(bark), self.radius // 4)

        far = min(far, 0.85 * height)
        clutter = self.attributes["clutter"]
        count = round(18 * clutter)
        rows = rng.uniform(far, height, count)
        gap = 1.2 * self.radius  # left free on both sides of the subject
        is_twig = bool(stem)
        for y in np.sort(rows):
            off_subject = rng.uniform(gap, width - gap)
            x = (self.x + off_subject) % width
            self.distractors.append((x, y))
            share = rng.uniform(0.2, 0.4)
            nearness = 1 + (y - far) / height
            size = self.short_side * share * nearness
            polygons = shapes.clutter(rng, is_twig)
            self._draw_clutter(pen, polygons, size, (2 * x, 2 * y))
        self._over(layer.reduce(2))

    def _draw_clutter(
        self,
        pen: ImageDraw.ImageDraw,
        polygons: list[list[float]],
        size: float,
        place: tuple[float, float],
    ) -> None:
        """A dark polygon and a bright one, each of any hue."""
        rng = self.rng
        darkest_values = (0.1, 0.7)
        for polygon, darkest in zip(polygons, darkest_values, strict=True):
            hue = rng.random()
            value = darkest + rng.uniform(0, 0.3)
            colour = self._colour(hue, 0.55, value)
            corners = np.reshape(polygon, (-1, 2))
            on_layer = corners * size + place
            numbers = on_layer.ravel().tolist()
            pen.polygon(numbers, _ink(colour))

    def develop(self) -> Image.Image:
        """Lens and shutter: focus or shake, exposure, colour cast, vignette and grain."""
        rng = self.rng
        miss = 1 - self.attributes["exposure"]
        discord = 1 - self.attributes["harmony"]
        is_dark = rng.random() < 0.5
        tint = rng.uniform(-0.25, 0.25, (3, 1, 1))
        cast = 1 + discord**2 * tint
        metered = np.clip(0.5 / self.pixels.mean(), 0.6, 1.7)
        pixels = self.pixels * np.float32(metered * cast)

        if not self.focus_blur:
            shake = (self.blur * rng.uniform(0.6, 1.4, 2)).tolist()
            sharp = _image(pixels, "RGB")
            blurred = sharp.filter(ImageFilter.GaussianBlur(shake))
            pixels = _planes(blurred)

        if is_dark:
            gain = 1 - 0.76 * miss**1.2
            pixels = pixels * gain
        else:
            gain = 1 + 1.2 * miss**1.4
            flare = 0.15 * miss**2
            pixels = pixels * gain + flare

        width = self.width
        height = self.height
        middle = self._spot(width / 2, height / 2, 0.8 * width, 0.8 * height)
        vignette = 0.8 + 0.25 * middle
        pixels *= vignette
        grain = rng.standard_normal((height, width), np.float32)
        strength = 0.012 + 0.03 * miss * is_dark
        return _image(pixels + grain * strength, "RGB")


def _planes(image: Image.Image) -> np.ndarray:
    """Bands of a picture as float32 planes, 0..1."""
    bands = [np.asarray(band) for band in image.split()]
    samples = np.stack(bands)
    return samples * np.float32(1 / 255)


def _image(planes: np.ndarray, mode: str = "RGBA") -> Image.Image:
    """The picture of some planes."""
    shares = _limited(planes)
    samples = (shares * 255).astype(np.uint8)
    bands = [Image.fromarray(plane) for plane in samples]
    return Image.merge(mode, bands)


def _ink(colour: np.ndarray, alpha: float = 1.0) -> tuple[int, ...]:
    """A colour as Pillow draws with it."""
    shares = [*colour.ravel(), alpha]
    samples = _limited(shares) * 255
    return tuple(samples.astype(int).tolist())


def _cut(colour: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Planes of a shape: `inside` says how many pixels a place lies within its edge."""
    alpha = _limited(inside + 0.5)
    alpha = alpha[None]
    premultiplied = colour * alpha
    planes = np.concatenate([premultiplied, alpha])
    return planes.astype(np.float32)


def _limited(shares: np.ndarray) -> np.ndarray:
    return np.clip(shares, 0, 1)


def _bell(off: np.ndarray) -> np.ndarray:
    """1 in the middle, and less the farther off."""
    return np.exp(-(off**2))
