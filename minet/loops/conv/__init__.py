"""The loops of Conv: matrix products that read windows in place, and Winograd's form."""
