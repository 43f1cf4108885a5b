"""Measurements for developers of minet: registers, instructions, growth, overhead, start-up, loading."""
