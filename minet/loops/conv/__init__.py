"""The loops of Conv: matrix products that read windows where they lie, Winograd's form, and im2col."""
