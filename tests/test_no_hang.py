"""Matrix decompositions in compiled programs end, whoever asks for them.

Two batches that wait for the same threads wait for ever, so the runs are made in a process
that is ended after a while. It says before each run what comes next.
`JAXFLOW_HANG_ROUNDS=100` makes more rounds, of all kinds.
"""

import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from jax.lax import linalg

from jaxflow._decompositions import lower

ROUNDS = int(os.environ.get("JAXFLOW_HANG_ROUNDS", "0"))
SOME = ("LU in a solver", "recorded", "all at once")


def test_runs_that_decompose_batches_end():
    kinds, rounds = ((), ROUNDS) if ROUNDS else (SOME, 2)
    command = [sys.executable, "-m", "tests.decomposing", f"{rounds},1,2,4", *kinds]
    root = pathlib.Path(__file__).parents[1]
    deadline = 300 + 60 * ROUNDS
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    assert said.endswith("done\n"), f"not done after {deadline} s: {said[-2000:]}"


BATCHED = {
    "cholesky": lambda a: linalg.cholesky(a),
    "eig": lambda a: linalg.eig(a),
    "eigh": lambda a: linalg.eigh(a),
    "hessenberg": lambda a: linalg.hessenberg(a),
    "lu": lambda a: linalg.lu(a),
    "qr": lambda a: linalg.qr(a),
    "qr with pivoting": lambda a: linalg.qr(a, pivoting=True),
    "householder product": lambda a: linalg.householder_product(a, a[..., 0]),
    "schur": lambda a: linalg.schur(a),
    "svd": lambda a: linalg.svd(a),
    "triangular solve": lambda a: linalg.triangular_solve(a, a, left_side=True),
    "tridiagonal": lambda a: linalg.tridiagonal(a),
    "tridiagonal solve": lambda a: linalg.tridiagonal_solve(
        a[..., 0], a[..., 1], a[..., 2], a
    ),
    "solve": lambda a: jnp.linalg.solve(a, a),
    "pinv": lambda a: jnp.linalg.pinv(a),
    "its derivative": lambda a: jax.jvp(jnp.linalg.svd, (a,), (a,)),
    "in a loop": lambda a: jax.lax.fori_loop(0, 2, lambda _, b: jnp.linalg.inv(b), a),
    "under jit": lambda a: jax.jit(jnp.linalg.inv)(a),
}
MATRIX = re.compile(r"custom_call @lapack_\w+\(.*?: \(tensor<([\dx]*)x[fc]")


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_is_decomposed_one_matrix_after_another(name):
    """And comes out the same to the last bit."""
    function, noise = BATCHED[name], np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    batch = np.asarray(noise @ noise.swapaxes(-1, -2) + np.eye(4))
    lowered = lower(function, batch)
    shapes = [shape.split("x") for shape in MATRIX.findall(lowered.as_text())]
    assert shapes
    if tuple(map(int, jaxlib.__version__.split(".")[:3])) < (0, 11, 1):
        assert all(len(shape) <= 2 for shape in shapes)
    ours, plain = lowered.compile()(batch), jax.jit(function)(batch)
    jax.tree_util.tree_map(np.testing.assert_array_equal, ours, plain)
