"""A run as a page, for `minet view`: what its Gaussian kernels learned and what its pooling layers pick."""
