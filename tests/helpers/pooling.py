"""Windows of every kind, for the pools' tests against naive loops."""

from typing import NamedTuple


class Geometry(NamedTuple):
    window: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]  # above and left
    dilation: tuple[int, int] = (1, 1)
    after: tuple[int, int] | None = None  # below and right; as much if None
    ceil: bool = False

    @property
    def behind(self):
        return self.pad if self.after is None else self.after

    def make(self, cls, **more):
        """A layer with these windows."""
        pad = self.pad if self.after is None else tuple(zip(self.pad, self.after, strict=True))
        return cls(self.window, self.stride, pad, dilation=self.dilation, ceil=self.ceil, **more)

    def outputs(self, *sizes):
        """P and Q, counted one by one."""
        counts = []
        for i, size in enumerate(sizes):
            starts = range(-self.pad[i], size, self.stride[i])  # none begins behind the image
            reach, end = self.dilation[i] * (self.window[i] - 1), size + self.behind[i]
            fits = [start + reach < end for start in starts]
            fitting = sum(fits)
            uncovered = end - (starts[fitting - 1] + reach + 1 if fitting else end - 1)
            counts.append(fitting + (self.ceil and fitting < len(fits) and uncovered > 0))
        return tuple(counts)


GEOMETRIES = [
    Geometry((2, 2), (2, 2), (0, 0)),
    Geometry((3, 3), (2, 2), (1, 1)),
    Geometry((3, 3), (1, 1), (2, 2)),
    Geometry((5, 4), (1, 2), (1, 3)),
    Geometry((1, 7), (3, 1), (0, 5)),
    Geometry((2, 1), (3, 4), (1, 0)),  # gaps: some of x is in no window
    Geometry((18, 17), (2, 1), (6, 5)),  # 306 cells
    Geometry((3, 2), (2, 3), (0, 1), after=(2, 0)),
    Geometry((4, 1), (1, 1), (3, 0), after=(0, 0)),  # causal
    Geometry((2, 3), (2, 2), (0, 0), ceil=True),  # hangs over both ends
    Geometry((2, 2), (5, 4), (1, 1), ceil=True),  # the last would begin behind the image
    Geometry((3, 2), (1, 1), (2, 1), (2, 3)),
    Geometry((3, 3), (2, 4), (1, 0), (3, 2), (2, 1)),  # taps that strides miss
    Geometry((2, 3), (4, 1), (1, 4), (4, 2), ceil=True),
    Geometry((1, 1), (1, 2), (0, 0), (5, 5)),
]
