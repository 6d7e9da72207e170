"""Numbers of MediaPipe's 478 face points, by part of the face.

"Left" and "right" are the subject's own. Points 0–467 are the face mesh, 468–472 the right iris
(centre first) and 473–477 the left one. The sets MediaPipe names itself (oval, lips, eyes) are equal to its
`FaceLandmarksConnections`; the others were chosen by the points' places on its canonical face and by how far they move.
"""

from __future__ import annotations

COUNT = 478
MESH_COUNT = 468

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline, clockwise in the image from the middle of the hairline."""

LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
MOUTH = LIPS_OUTER + LIPS_INNER
"""Both lip contours, each from the right corner along the upper lip and back. Their box contains the mouth's inside."""

RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
EYES = RIGHT_EYE + LEFT_EYE
"""Lid contours, each from the outer corner along the upper lid and back."""

IRISES = tuple(range(468, 478))

FOREHEAD = (8, 9, 151, 108, 337, 69, 299)
NOSE_BRIDGE = (168, 6, 197, 195, 5, 193, 417, 122, 351, 188, 412, 196, 419)
NOSE = (4, 1, 45, 275, 198, 420, 236, 456, 3, 248, 174, 399, 217, 437, 126, 355, 47, 277)
EYE_CORNERS = (
    33, 263, 130, 359, 133, 362, 243, 463, 244, 464, 189, 413, 112, 341, 233, 453, 232, 452, 26, 256, 22, 252,
)  # fmt: skip
"""The corners and the orbit's rim below and beside the inner ones."""

RIGID = FOREHEAD + NOSE_BRIDGE + NOSE + EYE_CORNERS
"""Points that hardly move with expression and that a tracker places well: head pose is the rigid motion of these.

Hairline and temples are as rigid, but a tracker guesses them; on studio truth they make rotation worse by a fifth."""

IBUG68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""The mesh points nearest to iBUG's 68: jaw 0–16, brows 17–26, nose 27–35, eyes 36–47, lips 48–67."""

BLEND = (
    0, 1, 4, 9, 10, 13, 14, 17, 21, 33, 34, 35, 47, 50, 54, 58, 61, 63, 65, 67, 68, 69, 70, 71, 73, 78, 93, 97, 101,
    103, 104, 105, 107, 108, 109, 115, 116, 117, 123, 127, 129, 132, 133, 135, 136, 137, 138, 139, 145, 147, 148, 149,
    150, 151, 152, 159, 162, 165, 168, 172, 174, 176, 177, 181, 187, 192, 194, 195, 199, 205, 206, 207, 208, 210, 211,
    213, 214, 215, 227, 229, 234, 245, 251, 263, 264, 265, 277, 280, 284, 288, 291, 293, 295, 297, 298, 299, 300, 301,
    303, 308, 323, 326, 330, 332, 333, 334, 336, 337, 338, 344, 345, 346, 352, 356, 358, 361, 362, 364, 365, 366, 367,
    368, 374, 376, 377, 378, 379, 386, 389, 391, 397, 399, 400, 401, 405, 411, 416, 418, 425, 426, 427, 428, 430, 431,
    433, 434, 435, 447, 449, 454, 465,
)  # fmt: skip
"""151 points spread evenly over the face (farthest-point order on the canonical mesh, mirrored in pairs) with the whole
oval and the corners of eyes, brows and lips: the landmarks an avatar measures its blending distance to."""

GROUPS = {"rigid": RIGID, "blend": BLEND, "lips": MOUTH}
"""The landmark groups a `Capture` of these landmarks names."""
