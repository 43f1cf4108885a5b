"""PyTorch as a contender: either memory format, separable Gaussians, or compiled; on the cpu or a card."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from minet.bench.cases import Case, inputs
from minet.bench.contender_minet import DRAWS, net_of
from minet.bench.timers import Built, HostWatch, torch_watch
from minet.bench.torch_modules import StochasticPool
from minet.bench.torch_twins import Translation


def build(case: Case, variant: str, backend: str) -> Built:
    """Build the case in a variant: any of nchw, channels_last, separable and compiled, joined by "+"."""
    kinds = set(variant.split("+"))
    device = "cuda" if backend == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no GPU")
    torch.backends.cudnn.allow_tf32 = False  # minet computes in float32
    torch.backends.cudnn.benchmark = True  # the fastest of cuDNN's algorithms
    torch.compiler.reset()  # forgets earlier cases, of which it would derive one code for many shapes
    if device == "cuda":
        torch.cuda.init()
        torch.cuda.empty_cache()  # of earlier cases
    if "compiled" in kinds:
        importlib.import_module("torch._inductor.compile_fx")  # before memory is measured
    watch: Any = torch_watch(torch) if device == "cuda" else HostWatch()
    net, _ = net_of(case)
    twin = Translation(net.graph, case.shape[0], "separable" in kinds)
    memory = torch.contiguous_format if "nchw" in kinds else torch.channels_last
    module: Any = twin.module
    module = module.to(device).to(memory_format=memory)
    # On a card a model's step is mostly launches: CUDA graphs spare them.
    graphs = "reduce-overhead" if case.is_model and device == "cuda" else "default"
    run = torch.compile(module, mode=graphs) if "compiled" in kinds else module
    back = np.argsort(twin.order)
    x_np, target_np = inputs(case, net.output_shape)
    del net

    def tensor(chwn: np.ndarray) -> torch.Tensor:
        nchw = torch.from_numpy(np.ascontiguousarray(chwn.transpose(3, 0, 1, 2)))
        return nchw.contiguous(memory_format=memory).to(device)

    def chwn(t: torch.Tensor) -> np.ndarray:
        return t.detach().cpu().numpy().transpose(1, 2, 3, 0)

    x = tensor(x_np)
    if case.is_model:
        labels = torch.from_numpy(target_np).to(device)
        solver = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        random = any(isinstance(part, StochasticPool) for part in module.modules())
        module.train(not case.infer)

        def step() -> None:
            solver.zero_grad()
            F.cross_entropy(run(x), labels).backward()
            solver.step()

        def inference() -> Any:
            with torch.inference_mode():
                return run(x)

        def results() -> dict[str, np.ndarray]:
            """Compute in evaluation if training draws random numbers."""
            module.train(not case.infer and not random)
            if case.infer:
                return {"y": inference().cpu().numpy().T[:, None, None, :]}
            solver.zero_grad()
            y = run(x)
            F.cross_entropy(y, labels).backward()
            module.train()
            return {"y": y.detach().cpu().numpy().T[:, None, None, :], **twin.gradients()}

        return Built({"step": step, "inference": inference}, results, watch)

    module.train()
    x.requires_grad_(True)
    target = tensor(target_np[twin.order])
    held: list[torch.Tensor] = []

    def clear() -> None:
        x.grad = None
        module.zero_grad()

    def both() -> torch.Tensor:
        clear()
        y = run(x)
        y.backward(target)
        return y

    def bprop() -> None:
        clear()
        if not held:
            held.append(run(x))
        held[0].backward(target, retain_graph=True)

    def results_of_layer() -> dict[str, np.ndarray]:
        module.train(case.layer not in DRAWS)
        y = both()
        assert x.grad is not None
        arrays = {"y": chwn(y)[back], "dx": chwn(x.grad), **twin.gradients()}
        module.train()
        if case.layer in DRAWS:
            arrays["drawn"] = chwn(both())[back]
        return arrays

    phases = {"fprop": lambda: run(x), "fprop+bprop": both}
    if "compiled" not in kinds:  # a compiled graph cannot run backward twice
        phases["bprop"] = bprop
    return Built(phases, results_of_layer, watch)
