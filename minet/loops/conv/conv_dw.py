"""The gradient of a convolution's weights, as a product of ``gemm.py`` with a table of what each tap sees.

    conv_dw   dw[k, c, r, s]  <- beta*dw + sum over p, q, n of dy[k, p, q, n] * x[c, h, w, n]
    where h = p*stride - pad + r*dilation, and w likewise from q and s; nothing where h or w is in the padding

Order: x (C, H, W, N), dy (K, P, Q, N), dw (K, C, R, S). Parallel, bytes, source: see ``gemm.py``. Twin of
kernels/conv_dw.cu.
"""

import numpy as np

import minet.loops.conv.winograd as winograd
import minet.loops.conv.winograd_dw as winograd_dw
from minet.core.layer import update
from minet.loops.conv.conv import image, seen
from minet.loops.conv.gemm import multiply_dots
from minet.loops.conv.pack import inputs


def conv_dw(x, dy, dw, geometry, beta):
    see = seen(inputs, x, dy, geometry)

    def multiply_directly(dy, dw):
        (a, row), (out, pitch), (M, C) = image(dy), image(dw), dw.shape[:2]
        multiply_dots(a, row, image(x), see, out, pitch, M, C, dw.dtype.type(beta))

    if not winograd.pays_in_pairs(dw, dy, geometry):
        return multiply_directly(dy, dw)
    sums = winograd_dw.multiply_pair_dots(image(dy), image(x), see, dw)
    # As in `conv.multiply`, but here the sums themselves tell, map by map.
    sound = (
        np.isfinite(sums).all((1, 2, 3)) & winograd.alike(sums) & winograd.alike(sums.swapaxes(0, 1)).all()
    )
    if sound.all():
        return update(dw, sums, beta)
    for k in np.flatnonzero(sound):
        update(dw[k], sums[k], beta)
    again = dw[~sound]
    multiply_directly(dy[~sound], again)
    dw[~sound] = again
