"""Measurements for minet's developers: registers, instructions, growth, overhead, start-up, loading."""
