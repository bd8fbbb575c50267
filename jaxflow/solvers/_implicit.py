"""Implicit steps of gradient flow, whose Jacobian `-∇²𝓛` is symmetric."""

import diffrax
import lineax as lx


class SymmetricCholesky(lx.AbstractLinearSolver):
    """Solves with the symmetric part of a matrix, which is taken to be positive definite.

    `I + h γ ∇²𝓛` is, unless a step is so long that weights would leave a saddle within it;
    then the solve fails, and the step is tried again, shorter. Half the work of an LU
    decomposition.
    """

    def init(self, operator, options):
        matrix = operator.as_matrix()
        symmetric = (matrix + matrix.T) / 2
        tagged = lx.MatrixLinearOperator(symmetric, lx.positive_semidefinite_tag)
        return lx.Cholesky().init(tagged, options)

    def compute(self, state, vector, options):
        return lx.Cholesky().compute(state, vector, options)

    def transpose(self, state, options):
        return state, options

    def conj(self, state, options):
        return state, options

    def assume_full_rank(self):
        return True


def kvaerno5() -> diffrax.Kvaerno5:
    """Kvaerno's method of order five for gradient flow in Cartesian coordinates.

    Newton's method in it uses that the Jacobian is symmetric: one Cholesky decomposition of
    `I + h γ ∇²𝓛` serves all stages of a step. For networks of at most a few hundred
    parameters, since the matrix takes as many Hessian-vector products. For others,
    `solver="auto"` takes implicit steps by conjugate residuals where they pay.

    Returns:
        A `diffrax.Kvaerno5`.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 2, 2), jf.LeakyReLU(1.0), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.diag(jax.numpy.array([3.0, 1.0])))
        >>> flow = jf.gradient_flow(
        ...     network,
        ...     task,
        ...     stop=[jf.LossBelow(1e-2)],
        ...     solver=jf.solvers.kvaerno5(),
        ...     coordinates="cartesian",
        ... )
        >>> str(flow.status)
        'LossBelow'
    """
    finder = diffrax.with_stepsize_controller_tols(diffrax.VeryChord)(
        linear_solver=SymmetricCholesky()
    )
    return diffrax.Kvaerno5(root_finder=finder)
