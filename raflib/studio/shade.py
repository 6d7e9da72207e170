"""The shading kernel: visible triangles to colour and coverage, one picture at a time.

Light model: a key light with a soft shadow map, a broad fill and a sky-like ambient, all wrapped around skin (red
wraps farther, a cheap stand-in for light scattering under it), times baked ambient visibility; a soft highlight; eyes
with iris, pupil and a window reflection. A pixel's nine samples share one evaluation where they show the same surface.
"""

from __future__ import annotations

import math

import numpy as np

from raflib.render.compiled import njit
from raflib.studio.raster import FAR, JIT, soft_shadow

SAME_SURFACE = 0.012  # metres of depth within which samples of one part share their colour
PUPIL, IRIS_RIM = 0.19, 0.455  # of the eyeball's radius


@njit(**JIT)
def cell(texture, uv, corners, wa, wb, wc, scale):
    """Row and column of the texel up left of barycentric (wa, wb, wc), and the shares of its right and lower ones."""
    x = (wa * uv[corners[0], 0] + wb * uv[corners[1], 0] + wc * uv[corners[2], 0]) * scale - np.float32(0.5)
    y = (wa * uv[corners[0], 1] + wb * uv[corners[1], 1] + wc * uv[corners[2], 1]) * scale - np.float32(0.5)
    column = min(max(int(x), 0), texture.shape[1] - 2)
    row = min(max(int(y), 0), texture.shape[0] - 2)
    fx = min(max(x - column, np.float32(0.0)), np.float32(1.0))
    fy = min(max(y - row, np.float32(0.0)), np.float32(1.0))
    return row, column, fx, fy


@njit(**JIT)
def texel(texture, uv, corners, wa, wb, wc, scale, out):
    """Bilinear texture read at barycentric (wa, wb, wc): linear RGB and specular strength into `out` [4]."""
    row, column, fx, fy = cell(texture, uv, corners, wa, wb, wc, scale)
    for channel in range(4):
        upper = texture[row, column, channel] * (1 - fx) + texture[row, column + 1, channel] * fx
        lower = texture[row + 1, column, channel] * (1 - fx) + texture[row + 1, column + 1, channel] * fx
        value = (upper * (1 - fy) + lower * fy) * np.float32(1 / 255)
        out[channel] = value * value if channel < 3 else value


@njit(**JIT)
def folds(maps, depths, uv, corners, wa, wb, wc, scale):
    """Skin folds at barycentric (wa, wb, wc): the groups' maps [R,C,G] weighted by `depths`, read bilinearly."""
    row, column, fx, fy = cell(maps, uv, corners, wa, wb, wc, scale)
    total = np.float32(0.0)
    for group in range(maps.shape[2]):
        upper = maps[row, column, group] * (1 - fx) + maps[row, column + 1, group] * fx
        lower = maps[row + 1, column, group] * (1 - fx) + maps[row + 1, column + 1, group] * fx
        total += depths[group] * (upper * (1 - fy) + lower * fy)
    return total * np.float32(1 / 127)


@njit(**JIT)
def eye_colour(offset_x, offset_y, radius, iris, out):
    """Colour of the eyeball at an offset (metres, mean head) from its axis: pupil, iris with fibres, limbus, white."""
    ring = math.sqrt(offset_x * offset_x + offset_y * offset_y) / radius
    if ring < PUPIL:
        out[0] = out[1] = out[2] = np.float32(0.008)
    elif ring < IRIS_RIM:
        inside = (ring - PUPIL) / (IRIS_RIM - PUPIL)
        fibre = np.float32(0.85) + np.float32(0.22) * math.sin(26 * math.atan2(offset_y, offset_x) + 5 * inside)
        rim = min(np.float32(1.0), (np.float32(1.0) - inside) * 5 + np.float32(0.25))
        for channel in range(3):
            out[channel] = iris[channel] * fibre * rim * (np.float32(0.75) + np.float32(0.65) * inside)
    else:
        white = min(np.float32(1.0), (ring - np.float32(IRIS_RIM)) * 18)
        vein = min(max((ring - np.float32(0.6)) * 2, np.float32(0.0)), np.float32(1.0))
        out[0] = np.float32(0.22) + white * np.float32(0.60)
        out[1] = np.float32(0.20) + white * (np.float32(0.58) - np.float32(0.10) * vein)
        out[2] = np.float32(0.20) + white * (np.float32(0.57) - np.float32(0.10) * vein)
    out[3] = np.float32(0.5)


@njit(**JIT)
def hair_colour(around, down, colour, strands, out):
    """Colour of hair at its flow coordinates, streaked by the table `strands`; darker at the root, lighter at tips."""
    count = strands.shape[0]
    lock = strands[int(around * 97) % count]
    fine = strands[int(around * 1900 + down * 3) % count]
    broad = strands[int(around * 610 + down * 2 + 200) % count]
    shade = (one_plus(0.16, lock) * one_plus(0.20, fine) * one_plus(0.14, broad)) * (
        np.float32(0.72) + np.float32(0.38) * down
    )
    for channel in range(3):
        out[channel] = colour[channel] * shade
    out[3] = np.float32(0.5) + np.float32(0.35) * fine


@njit(**JIT)
def one_plus(amount, value):
    """1 + amount · value in single precision."""
    return np.float32(1.0) + np.float32(amount) * value


@njit(**JIT)
def shade(
    face, depth, samples, x, y, nearness, points, normals, tangents, visible, local,
    triangles, part, uv, uv_corners, texture, texture_scale, fold_maps, fold_depths, palette, eyes, eye_radius, strands,
    lights, colours, eye, shadow, shadow_frame, shadow_centre, shadow_scale, image, alpha,
):  # fmt: skip
    """Write `image` [H,W,3] uint8 on white and `alpha` [H,W] uint8.

    `face`, `depth` [sH,sW] from `raster.fill` with `samples` a side of a pixel; `x`, `y`, `nearness` [N] its inputs;
    `points`, `normals`, `visible` [N]; `tangents` [H,3] of the last H points (hair); `local` [N,3] mean-head positions
    (flow for hair); `fold_maps` [R,C,G] and `fold_depths` [G] of `wrinkles`; `palette` [6,3] plain colours a part;
    `lights` [2,3] unit directions to key and fill; `colours` [4,3] key, fill, sky, ground; `eye` the optical centre.
    """
    height, width = image.shape[0], image.shape[1]
    one, zero = np.float32(1.0), np.float32(0.0)
    bust = points.shape[0] - tangents.shape[0]
    albedo, corners = np.empty(4, np.float32), np.empty(3, np.int64)
    most = samples * samples
    shown = np.empty((most, 3), np.float32)
    shown_part, shown_z = np.empty(most, np.int64), np.empty(most, np.float32)
    gain = np.float32(255.0)
    for row in range(height):
        for column in range(width):
            red, green, blue, covered, known = zero, zero, zero, 0, 0
            for number in range(most):
                sample = (number + most // 2) % most  # the middle first: what is shaded once is shaded there
                sy, sx = row * samples + sample // samples, column * samples + sample % samples
                triangle = face[sy, sx]
                if triangle < 0:
                    red, green, blue = red + one, green + one, blue + one
                    continue
                covered += 1
                z, kind = one / depth[sy, sx], part[triangle]
                reuse = -1
                for earlier in range(known):  # one shading a surface and pixel; iris and lid lines want every sample
                    if kind != 1 and shown_part[earlier] == kind and abs(shown_z[earlier] - z) < SAME_SURFACE:
                        reuse = earlier
                        break
                if reuse >= 0:
                    red, green, blue = red + shown[reuse, 0], green + shown[reuse, 1], blue + shown[reuse, 2]
                    continue
                a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
                cx, cy = sx + np.float32(0.5), sy + np.float32(0.5)
                area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
                wa = ((x[b] - cx) * (y[c] - cy) - (x[c] - cx) * (y[b] - cy)) / area * nearness[a] * z
                wb = ((x[c] - cx) * (y[a] - cy) - (x[a] - cx) * (y[c] - cy)) / area * nearness[b] * z
                wc = one - wa - wb
                px = wa * points[a, 0] + wb * points[b, 0] + wc * points[c, 0]
                py = wa * points[a, 1] + wb * points[b, 1] + wc * points[c, 1]
                pz = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                scale = one / math.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-20))
                nx, ny, nz = nx * scale, ny * scale, nz * scale
                vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
                scale = one / math.sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx * scale, vy * scale, vz * scale
                facing = nx * vx + ny * vy + nz * vz
                if kind >= 4 and facing < 0:  # thin parts are lit from whichever side is seen
                    nx, ny, nz, facing = -nx, -ny, -nz, -facing
                facing = max(facing, zero)
                ambient = wa * visible[a] + wb * visible[b] + wc * visible[c]
                power = 3
                if kind == 0:
                    for corner in range(3):
                        corners[corner] = uv_corners[triangle, corner]
                    texel(texture, uv, corners, wa, wb, wc, texture_scale, albedo)
                    crease = one + np.float32(0.55) * folds(
                        fold_maps, fold_depths, uv, corners, wa, wb, wc, texture_scale
                    )
                    albedo[0] *= np.float32(0.2) + np.float32(0.8) * crease  # light in a groove comes out redder
                    albedo[1] *= crease
                    albedo[2] *= crease
                elif kind == 1:
                    side = 0 if local[a, 0] < 0 else 1
                    lx = wa * local[a, 0] + wb * local[b, 0] + wc * local[c, 0] - eyes[side, 0]
                    ly = wa * local[a, 1] + wb * local[b, 1] + wc * local[c, 1] - eyes[side, 1]
                    eye_colour(lx, ly, eye_radius, palette[1], albedo)
                    ambient = np.float32(0.30) + np.float32(0.62) * ambient
                elif kind == 5:
                    around = wa * local[a, 0] + wb * local[b, 0] + wc * local[c, 0]
                    down = wa * local[a, 1] + wb * local[b, 1] + wc * local[c, 1]
                    hair_colour(around, down, palette[5], strands, albedo)
                else:
                    for channel in range(3):
                        albedo[channel] = palette[kind, channel]
                    albedo[3] = np.float32(0.35) if kind < 4 else zero
                # Soft shadow of the key light; looked up a little off the surface so that it does not shade itself.
                kx, ky, kz = lights[0, 0], lights[0, 1], lights[0, 2]
                slope = nx * kx + ny * ky + nz * kz
                lift = np.float32(0.004)
                ox = px + nx * lift - shadow_centre[0]
                oy = py + ny * lift - shadow_centre[1]
                oz = pz + nz * lift - shadow_centre[2]
                middle = np.float32(shadow.shape[0] * 0.5)
                su = shadow_frame[0, 0] * ox + shadow_frame[0, 1] * oy + shadow_frame[0, 2] * oz
                sv = shadow_frame[1, 0] * ox + shadow_frame[1, 1] * oy + shadow_frame[1, 2] * oz
                su, sv = su * shadow_scale + middle, sv * shadow_scale + middle
                sn = shadow_frame[2, 0] * ox + shadow_frame[2, 1] * oy + shadow_frame[2, 2] * oz
                lit = zero
                if slope > np.float32(-0.35):
                    lit = soft_shadow(shadow, su, sv, sn + np.float32(FAR + 0.003), np.float32(0.010))
                fill = nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2]
                up = np.float32(0.5) - np.float32(0.5) * ny
                # Highlight of the key, Blinn-Phong with a power of 2^power.
                hx, hy, hz = kx + vx, ky + vy, kz + vz
                scale = one / math.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-12))
                half = max(zero, (nx * hx + ny * hy + nz * hz) * scale)
                if kind == 1 or kind == 3:
                    power = 6
                for _ in range(power + 1):
                    half *= half
                edge = one - facing
                edge = edge * edge * edge
                if kind == 2 or kind == 3:  # lamps reach into the mouth from more places than one
                    lit = np.float32(0.55) + np.float32(0.45) * lit
                if kind == 5:  # light glints off a strand where it lies across the half vector (Kajiya and Kay 1989)
                    tx = wa * tangents[a - bust, 0] + wb * tangents[b - bust, 0] + wc * tangents[c - bust, 0]
                    ty = wa * tangents[a - bust, 1] + wb * tangents[b - bust, 1] + wc * tangents[c - bust, 1]
                    tz = wa * tangents[a - bust, 2] + wb * tangents[b - bust, 2] + wc * tangents[c - bust, 2]
                    across = (tx * hx + ty * hy + tz * hz) * scale + np.float32(0.10) * (albedo[3] - np.float32(0.5))
                    half = max(zero, one - across * across)
                    for _ in range(5):
                        half *= half
                    lit = np.float32(0.45) + np.float32(0.55) * lit
                    gleam = half * lit * ambient * (np.float32(0.05) + np.float32(0.30) * albedo[1]) * albedo[3]
                else:
                    gleam = albedo[3] * half * lit * min(one, max(zero, slope * 4)) * np.float32(0.30)
                if kind == 1:
                    gleam *= np.float32(3.0)
                sheen = edge * ambient * np.float32(0.05) * (np.float32(0.4) + up)
                for channel in range(3):
                    wrap = np.float32(0.38) - np.float32(0.09) * channel if kind == 0 else np.float32(0.30)
                    key = max(zero, (slope + wrap) / (one + wrap))
                    side_light = max(zero, (fill + np.float32(0.5)) / np.float32(1.5))
                    # Occluded skin glows redder than grey: light that enters nearby comes out reddened.
                    shut = (
                        ambient
                        if kind != 0
                        else ambient + (one - ambient) * ambient * (np.float32(0.34) - np.float32(0.14) * channel)
                    )
                    sky = colours[2, channel] * up + colours[3, channel] * (one - up)
                    light = (
                        colours[0, channel]
                        * key
                        * (np.float32(0.10) * shut + np.float32(0.90) * lit)
                        * (np.float32(0.35) + np.float32(0.65) * min(one, shut * np.float32(1.6)))
                    )
                    light += (sky + colours[1, channel] * side_light) * shut
                    value = albedo[channel] * light + gleam * colours[0, channel] + sheen
                    # A soft shoulder keeps bright skin from clipping; the display curve is sRGB's power.
                    value = value / (one + np.float32(0.28) * value) * np.float32(1.12)
                    shown[known, channel] = min(one, value) ** np.float32(1 / 2.2)
                shown_part[known], shown_z[known] = kind, z
                red, green, blue = red + shown[known, 0], green + shown[known, 1], blue + shown[known, 2]
                known += 1
            share = one / most
            image[row, column, 0] = int(red * share * gain + np.float32(0.5))
            image[row, column, 1] = int(green * share * gain + np.float32(0.5))
            image[row, column, 2] = int(blue * share * gain + np.float32(0.5))
            alpha[row, column] = int(covered * share * gain + np.float32(0.5))
