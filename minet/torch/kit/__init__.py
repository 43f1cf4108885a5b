"""The conformance kit for PyTorch code: modules, autograd Functions and custom ops of others."""
