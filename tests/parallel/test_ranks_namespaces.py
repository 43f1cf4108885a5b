"""Two ranks on what they take for two machines: network namespaces, joined by a pair of virtual cards.

Open MPI reaches the second by a script in the place of ssh. It takes root, and a system that has namespaces.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'minet-layers[mpi]'")

ROOT = Path(__file__).parents[2]
MINET = [sys.executable, "-c", "from minet.cli.main import main; main()"]
LIMIT = 300
MODEL = """
import json
from pathlib import Path
from minet import Sequential, SGD, SoftmaxCrossEntropy, data
from minet.layers import Conv, Dropout, Linear, PReLU, StochasticPool
from minet.train.callbacks import Callback

input_shape, batch, epochs, loss = (1, 8, 8), 32, 1, SoftmaxCrossEntropy()

def net():
    return Sequential(Conv(8, 3, pad=1), PReLU(), StochasticPool(3, stride=2), Dropout(0.2), Linear(10))

def solver(): return SGD(0.05, momentum=0.9)
def datasets(): return data.digits("train", limit=320), data.digits("test", limit=100)

class Losses(Callback):
    def on_start(self, trainer): self.losses = []
    def on_batch(self, trainer, loss): self.losses.append(loss)
    def on_end(self, trainer, result): Path(trainer.folder, "losses.json").write_text(json.dumps(self.losses))

def callbacks(): return [Losses()]
"""


def call(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def machines():
    """Two namespaces and their addresses; gone afterwards, with all that runs in them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    if lacking := [name for name in ("ip", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"there is no command {lacking[0]}")
    number = os.getpid()
    names = f"minet-{number}-a", f"minet-{number}-b"
    cards = f"mn{number}a", f"mn{number}b"
    addresses = "10.213.7.1", "10.213.7.2"  # seen within the namespaces alone
    setup = [
        *(["netns", "add", name] for name in names),
        f"link add {cards[0]} netns {names[0]} type veth peer name {cards[1]} netns {names[1]}".split(),
    ]
    for name, card, address in zip(names, cards, addresses, strict=True):
        setup += [
            ["-n", name, "addr", "add", f"{address}/24", "dev", card],
            ["-n", name, "link", "set", "lo", "up"],
            ["-n", name, "link", "set", card, "up"],
        ]
    try:
        for words in setup:
            done = call("ip", *words)
            if done.returncode and "Operation not permitted" in done.stderr:
                pytest.skip(f"this machine does not allow network namespaces: ip {' '.join(words)}")
            assert not done.returncode, f"ip {' '.join(words)}: {done.stderr}"
        yield dict(zip(names, addresses, strict=True))
    finally:
        for name in names:
            for pid in call("ip", "netns", "pids", name).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            call("ip", "netns", "del", name)


@pytest.mark.slow
def test_two_machines_follow_one_process(machines, tmp_path):
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists() or "Open MPI" not in call(str(mpiexec), "--version").stdout:
        pytest.skip("the second machine is reached by Open MPI's ssh agent, and its mpiexec is not here")
    (tmp_path / "small.py").write_text(MODEL)
    remote = tmp_path / "agent"  # called ssh, it would be given options of ssh
    remote.write_text(agent(machines))
    remote.chmod(0o755)
    hosts = ",".join(f"{address}:1" for address in machines.values())
    launched = [str(mpiexec), "--host", hosts, "--prtemca", "plm_ssh_agent", str(remote), "-n", "2"]
    launched += ["-x", "PYTHONPATH", "-x", "NUMBA_NUM_THREADS"]
    train = [*MINET, "train", "small.py"]
    first = next(iter(machines.values()))

    alone = run([*train, "--out", "alone"], tmp_path)
    both = run(
        [str(remote), first, *map(quoted, [*launched, *train, "--out", "both", "--reduce", "ordered"])],
        tmp_path,
    )

    assert "2 ranks on 2 machines, 16 images each" in both
    assert "ranks" not in alone
    losses = [json.loads((tmp_path / out / "losses.json").read_text()) for out in ("alone", "both")]
    assert len(losses[0]) == 10
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    tested = [
        json.loads((tmp_path / out / "log.jsonl").read_text())["test_loss"] for out in ("alone", "both")
    ]
    assert tested[1] == pytest.approx(tested[0], rel=1e-5)


def agent(machines):
    """A script that is called as ssh is, with an address and a command."""
    lines = ["#!/bin/sh", "address=$1", "shift", "case $address in"]
    for name, address in machines.items():
        named = f"echo {name} > /proc/sys/kernel/hostname"
        inside = f'sh -c \'{named}; exec sh -c "$*"\' sh "$@"'
        lines.append(f"{address}) exec ip netns exec {name} unshare --uts {inside} ;;")
    return "\n".join([*lines, "esac", 'echo "no machine $address" >&2', "exit 9", ""])


def quoted(word):
    return "'" + word.replace("'", "'\\''") + "'"


def run(command, folder):
    """The output of a command that succeeds; one that hangs is ended."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=env, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"not done in {LIMIT} s: {process.communicate()[0]}")
    assert process.returncode == 0, output
    return output
