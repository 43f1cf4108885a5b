"""Vector registers in Numba: tiles of products, single vectors, selected elements, and sums of rows."""
