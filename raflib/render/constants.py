"""The numbers both backends and the reference share: gsplat's rendering rules, and our tile size."""

BLUR = 0.3  # pixels², added to the diagonal of every screen covariance unless the caller says otherwise
NEAR = 0.01  # Gaussians whose centre is nearer than this (camera z) are dropped
MAX_ALPHA = 0.999  # a Gaussian covers a pixel at most this much
MIN_ALPHA = 1.0 / 255.0  # a Gaussian covering a pixel less than this is skipped there
MIN_TRANSMITTANCE = 1e-4  # a Gaussian that would leave this little light or less is dropped, and all behind it
FRUSTUM_MARGIN = 0.3  # the Jacobian's x/z and y/z are clamped this share of half the field of view outside the image
MIN_DETERMINANT = 1e-10  # flatter screen covariances are dropped

# 64 pixels are four 16-lane vectors; the tile's buffers with 32 channels stay inside a core's second-level cache.
TILE_WIDTH = 64
TILE_HEIGHT = 16
