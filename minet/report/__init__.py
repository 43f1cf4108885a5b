"""A run as a page, for `minet report`: curves, net, what it learned, where it errs, how to repeat it."""
