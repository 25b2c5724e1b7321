"""Figure: a grid of decoded samples from the prior."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.plots.sheet import GAP, Sheet, checked_images, pixel_scale, style

TITLE = r"Samples from the prior: $p(x\,|\,z)$, $z \sim \mathcal{N}(0, I)$"


@style()
def draw_prior_samples(probabilities: ArrayLike, image_shape: tuple[int, ...], data_name: str = "") -> Figure:
    """Draw a near-square grid of decoded samples from the prior, not binarised.

    Parameters
    ----------
    probabilities
        Activation probabilities p(x | z) of the pixels, (n, X) in [0, 1], n at least 1; they fill the grid row by row.
    image_shape
        Height and width of an image, H * W = X; and channels, H * W * C = X.
    data_name
        What the images are, such as "digits 8x8", for the heading.

    Returns
    -------
    Figure
        One axes per sample, in the order of `probabilities`.

    Raises
    ------
    ValueError
        An array has another shape or a value outside [0, 1].
    """
    images = checked_images("probabilities", probabilities, ("n",), image_shape)  # (n, H, W)
    count, height, width = images.shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    scale = pixel_scale(image_shape, columns)
    step_x, step_y = width * scale + GAP, height * scale + GAP
    sheet = Sheet(columns * step_x - GAP, rows * step_y - GAP, TITLE, data_name)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.panel(image, column * step_x, row * step_y, scale, f"sample {index}")
    return sheet.figure
