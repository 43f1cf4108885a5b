"""The weights of a window along one axis, and their slopes: weights.cuh in NumPy and float64."""

import numpy as np


def weigh(taps, mean, sigma, first=0, size=None):
    """Weigh a window that begins at pixel `first` of an image of `size`; by default it lies inside.

    Parameters
    ----------
    taps : int
    mean, sigma : float
        In pixels, the mean from the window's centre.
    first, size : int, optional

    Returns
    -------
    w, dw_dmean, dw_dlog_sigma : ndarray (taps,)
        Zero outside the image; w sums to 1.
    """
    i = np.arange(taps)
    inside = (first + i >= 0) & (first + i < (first + taps if size is None else size))
    d = i - (taps - 1) / 2 - mean
    w = np.where(inside, np.exp(-(d**2) / (2 * sigma**2)), 0.0)
    w /= w.sum()
    return w, w * (d - w @ d) / sigma**2, w * (d**2 - w @ d**2) / sigma**2
