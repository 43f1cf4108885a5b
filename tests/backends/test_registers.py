"""Every CUDA kernel, in every geometry of the examples and models, fits a GPU's registers, going by nvcc."""

from pathlib import Path

import pytest

from benchmarks import instructions, registers
from benchmarks.registers import ARCHITECTURES, Build, parsed
from minet.backends import cuda_source, nvidia
from minet.core.files import run_file, shipped
from minet.layers import Elementwise, PReLU, ReLU

ROOT = Path(__file__).parents[2]
REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'relu_fprop' for 'sm_75'
ptxas info    : Function properties for relu_fprop
    {} bytes stack frame, {} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 21 registers, used 1 barriers, 132 bytes smem, 384 bytes cmem[0]
ptxas info    : Compiling entry function 'relu_fprop' for 'sm_100'
ptxas info    : Function properties for relu_fprop
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 0 barriers
"""
needs_nvdisasm = pytest.mark.skipif(
    not instructions.nvdisasm(), reason="needs nvdisasm: pip install nvidia-cuda-nvdisasm"
)
needs_nvcc = pytest.mark.skipif(not nvidia.nvcc(), reason="needs nvcc, from the CUDA toolkit")


def test_the_report_of_ptxas_is_parsed():
    (row,) = parsed(Build(shipped("kernels") / "relu.cu", ()), REPORT.format(0, 0))
    assert (row.kernel, row.registers, row.shared, row.fits) == ("relu_fprop", {75: 21, 100: 24}, 132, True)


@pytest.mark.parametrize(
    "report",
    [
        REPORT.format(8, 0),
        REPORT.format(0, 4),
        REPORT.format(0, 0) + "ptxas warning : Registers are spilled in function 'relu_fprop'\n",
        "kernels/relu.cu(9): warning #177-D: variable was declared but never referenced\n"
        + REPORT.format(0, 0),
    ],
)
def test_what_does_not_fit_is_found(report):
    (row,) = parsed(Build(shipped("kernels") / "relu.cu", ()), report)
    assert not row.fits


def test_geometries_are_collected_from_the_layers_themselves():
    builds = registers.collected()
    own = set(shipped("kernels").glob("*.cu"))
    beside = set(shipped("models").glob("*.cu"))  # of layers in model files
    written = {build.path for build in builds} - own - beside  # for expressions
    assert own | beside <= {build.path for build in builds}
    assert written and all(path.name.startswith("elementwise_") for path in written)
    windows = {
        tuple(dict(build.constants)[name] for name in ("R", "S", "SY", "KERNELS"))
        for build in builds
        if build.path.name == "gaussian_pool.cu"
    }
    assert windows >= {(r, r, s, j) for r in (3, 5, 7, 11, 15) for s in (1, 2) for j in (1, 3)}
    assert (4, 4, 2, 2) in windows  # only in models/mnist.py
    tiles = {tuple(dict(build.constants).get(name) for name in ("BM", "BN", "FLAT")) for build in builds}
    assert {(128, 128, 0), (64, 128, 1)} <= tiles  # which only large batches take


LISTING = """
.text.relu_fprop:
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_1:
        /*0010*/              @!P0 LDG.E R2, desc[UR4][R2.64] ;
        /*0020*/               @P1 BRA `(.L_x_2) ;
.L_x_0:
        /*0030*/                   LDG.E.64 R4, desc[UR4][R2.64] ;
        /*0040*/                   FMNMX R4, RZ, R4, !PT ;
        /*0050*/                   STG.E.64 desc[UR4][R2.64], R4 ;
        /*0060*/               @P0 BRA `(.L_x_0) ;
.L_x_2:
        /*0070*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0080*/                   LDG.E R5, desc[UR4][R2.64] ;
        /*0090*/              @!P0 BRA `(.L_x_2) ;
        /*00a0*/               @P2 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
.L_x_3:
        /*00c0*/                   BRA `(.L_x_3);
"""


def test_instructions_are_those_of_the_innermost_loop_that_reads_and_writes():
    ((name, lines, labels),) = instructions.kernels(LISTING)
    assert (name, len(lines), labels[".L_x_0"]) == ("relu_fprop", 13, 3)
    assert instructions.loop(lines, labels) == 4


@needs_nvcc
@needs_nvdisasm
def test_instructions_of_a_layer_s_own_kernels():
    each = instructions.counted(instructions.LAYERS["max_pool 3x3 s2"])
    assert 1 < each["fprop"] < 52 and 1 < each["bprop"] < 52  # what a copy of these bytes leaves time for


@needs_nvcc
@needs_nvdisasm
@pytest.mark.parametrize(
    ("by_hand", "expression", "param"),
    [
        (ReLU, "relu(x)", {}),
        (PReLU, "where(x > 0, x, a * x)", {"a": 0.25}),
        (run_file(ROOT / "examples" / "swish.py").Swish, "x * sigmoid(b * x)", {"b": 1.0}),
    ],
    ids=["relu", "prelu", "swish"],
)
def test_an_expression_takes_hardly_more_instructions_than_a_kernel_by_hand(by_hand, expression, param):
    own, written = instructions.counted(by_hand()), instructions.counted(Elementwise(expression, **param))
    assert all(written[phase] <= 1.1 * own[phase] for phase in ("fprop", "bprop")), (written, own)


@pytest.mark.slow
@needs_nvcc
def test_no_kernel_spills():
    rows = registers.measured(registers.collected())
    print("\n" + registers.table(rows))
    for path in shipped("kernels").glob("*.cu"):
        wanted = [kernel for kernel in cuda_source.read(path).kernels]
        whole = [r.kernel for r in rows if r.build.path == path and set(r.registers) == set(ARCHITECTURES)]
        assert sorted(whole) == sorted(wanted)
    bad = [row for row in rows if not row.fits]
    assert not bad, registers.table(bad)


@needs_nvcc
@pytest.mark.parametrize(
    "body",
    [
        "float all[99]; for (int i = 0; i < 99; i++) all[i] = x[i]; x[0] = all[n];",  # in local memory
        "int unused; x[0] = n;",
    ],
)
def test_a_planted_fault_is_found(tmp_path, body):
    path = tmp_path / "planted.cu"
    path.write_text(f'extern "C" __global__ void planted(float *x, int n) {{ {body} }}\n')
    (row,) = registers.compiled_rows(Build(path, ()), (90,), cuda_source.read(path))
    assert not row.fits and row.kernel == "planted"


def test_the_command_shows_what_is_asked_for(capsys, monkeypatch):
    rows = [
        registers.Row(Build(shipped("kernels") / f"{stem}.cu", ()), stem, {90: 30})
        for stem in ("relu", "sgd")
    ]
    monkeypatch.setattr(registers, "measured", lambda builds: rows)
    monkeypatch.setattr(registers, "nvcc", lambda: "nvcc")
    assert registers.main(["sgd"]) == 0
    shown = capsys.readouterr().out
    assert "sgd.cu" in shown and "relu" not in shown and "1 kernels" in shown
    rows[1].local = 16
    assert registers.main([]) == 1
    assert "16 bytes of local memory" in capsys.readouterr().out
    monkeypatch.setattr(registers, "nvcc", lambda: "")
    assert registers.main([]) == 2
    assert "no nvcc" in capsys.readouterr().err
