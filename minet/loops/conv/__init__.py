"""The loops of Conv: matrix products that read windows in place, Winograd's form, and im2col."""
