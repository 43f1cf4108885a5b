"""Vector registers in Numba: tiles of products, single vectors, picked elements, and sums of rows."""
