"""Avatars taken out of the notebook: a page that plays in a browser, splat files, and films."""

from raflib.export.cameras import frontal_camera
from raflib.export.films import comparison_film, turntable
from raflib.export.page import export_html
from raflib.export.splats import export_ply_sequence

__all__ = ["comparison_film", "export_html", "export_ply_sequence", "frontal_camera", "turntable"]
