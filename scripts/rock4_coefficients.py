"""The coefficients of the fourth-order Chebyshev methods, `solvers/staged/rock4.npz`.

    python scripts/rock4_coefficients.py

derives them from first principles, prints what each member is worth and writes the table.
It takes less than a minute. The construction and its notation are those of

    A. Abdulle, "Fourth order Chebyshev methods with recurrence relation",
    SIAM J. Sci. Comput. 23 (2002) 2041-2054.

**Stability polynomial.** R_s(z) = w(x) P_{s-4}(x) / (w(a) P_{s-4}(a)) with x = a + z/d. The
quartic w has two pairs of complex roots, P_{s-4} is orthogonal on [-1, 1] with respect to
w(x)²/√(1-x²), and a, d and the four parameters of w solve six equations: the four order
conditions R_s^(k)(0) = 1, and |R_s| = 0.95 at both ends of the ripple (the first maximum
behind the origin, and x = -1). The interval of stability is [-d(1+a), 0], about 0.353 s².

**Recurrence.** P_0, P_1, ... have a three-term recurrence, so the first stages are

    g_j = mut_j h f(g_{j-1}) + mu_j g_{j-1} + (1 - mu_j) g_{j-2},   g_0 = y,  mu_1 = 1.

**Finishing.** Four stages k_i = f(g_n + h Σ_j a_ij k_j) and y1 = g_n + h Σ_i b_i k_i. What
they must do for the whole to be of order four, nonlinear terms included, follows from the
composition of Butcher series over the eight rooted trees with up to four vertices.

**Two arrangements.** In the paper the finishing method carries the whole quartic w. At the
stiff end w(-l) ~ 0.01 l⁴ while P(-l) ~ 1/w(-l), hence every rounding error in g_n is
multiplied by 0.01 l⁴: a factor of 1e12 for a hundred stages. So this arrangement is kept
only for short methods. In long ones the two quadratic factors of w are set apart,

    y -> two stages with one factor -> P -> finishing stages with the other -> y1,

and the factor is 0.13 l². R is the same polynomial. The two leading stages are two steps of
the recurrence above, the finishing method may have four stages with Σ b_i a_ij c_j = 0, and
its coefficients are explicit. The price is two evaluations per step.

**Error estimate.** h Σ_i error_i k_i + error_5 (g_n - y) + error_6 (g_m - y) is of third
order: it vanishes on all trees with up to three vertices. The paper has h f(y1) in place of
the differences, whose weight in the stiff part grows like l; that of a difference does not.

**What the order hides.** In the finishing stages a stiff component answers to the
nonlinear remainder h² y'' of the slow ones with a factor of l³ in the paper's arrangement,
and of l in the divided one. Where stiff directions turn along the trajectory, as in a
curved valley, this decides the error, and not the order; the estimate of the divided
methods sees only part of it. On parabolic problems with smooth forcing it is small.

The table in the repository was computed where `numpy.longdouble` has 64 bits of mantissa.
"""

import pathlib

import numpy as np

TABLE = pathlib.Path(__file__).parents[1] / "jaxflow/solvers/staged/rock4.npz"
RIPPLE = 0.95  # |R| at most, away from zero: the damping is one minus this
LAST_UNDIVIDED = 16  # the longest method whose finishing stages carry all of w
EXTENDED = np.longdouble  # 64 bits of mantissa where there are; the table is rounded to 53
PI = EXTENDED("3.14159265358979323846264338327950288")

# The trees ., [.], [..], [[.]], [...], [.[.]], [[..]], [[[.]]], in this order everywhere.
GAMMA = np.array([1, 2, 3, 6, 4, 8, 12, 24], EXTENDED)


# ---------------------------------------------------------------- stability polynomial


def orthogonal(roots, s):
    """1 - α_j and β_j of p_{j+1} = (x - α_j) p_j - β_j p_{j-1}, by Stieltjes' procedure.

    `roots` = (A, B, A', B') puts the roots of w at x = 1 - (A ± iB)/s², 1 - (A' ± iB')/s².
    With s + 1 Gauss-Chebyshev nodes all the sums are the integrals. 1 - x is formed without
    cancellation, since the interesting things happen at distances of 1/s² from x = 1.
    """
    n = s - 4
    theta = (np.arange(s + 1).astype(EXTENDED) + EXTENDED(0.5)) * PI / (s + 1)
    t = 2 * np.sin(theta / 2) ** 2
    weight = quartic(roots, s, t) ** 2
    below, p = np.zeros_like(t), np.ones_like(t)
    alpha, beta = np.zeros(n, EXTENDED), np.zeros(n, EXTENDED)
    norm = previous = np.sum(weight * p * p)
    for j in range(n):
        alpha[j] = np.sum(weight * t * p * p) / norm
        beta[j] = norm / previous if j else 0
        below, p = p, (alpha[j] - t) * p - beta[j] * below
        previous, norm = norm, np.sum(weight * p * p)
    return alpha, beta


def quartic(roots, s, t):
    """w at x = 1 - t."""
    A, B, C, D = (EXTENDED(root) / s**2 for root in roots)
    return ((t - A) ** 2 + B**2) * ((t - C) ** 2 + D**2)


def taylor(parameters, alpha, beta, s):
    """R^(k)(0) for k = 1, ..., 4."""
    *roots, d, a = parameters
    shift = EXTENDED(a) / s**2  # a - 1
    below, p = np.zeros(5, EXTENDED), np.array([1, 0, 0, 0, 0], EXTENDED)
    for j in range(s - 4):
        raised = (alpha[j] + shift) * p - beta[j] * below
        raised[1:] += p[:-1]
        below, p = p / raised[0], raised / raised[0]
    for A, B in zip(roots[::2], roots[1::2]):
        u, v = shift + EXTENDED(A) / s**2, EXTENDED(B) / s**2
        p = np.convolve(p, np.array([u * u + v * v, 2 * u, 1], EXTENDED))[:5]
    factorial = np.array([1, 2, 6, 24], EXTENDED)
    return p[1:] / p[0] * factorial / (EXTENDED(d) * s**2) ** np.arange(1, 5)


def ripple(parameters, alpha, beta, s, theta):
    """R at x = cos(θ)."""
    *roots, _, a = parameters
    shift, t = EXTENDED(a) / s**2, 2 * np.sin(np.asarray(theta, EXTENDED) / 2) ** 2
    below, p, at_below, at = np.zeros_like(t), np.ones_like(t), EXTENDED(0), EXTENDED(1)
    for j in range(s - 4):
        scale = (alpha[j] + shift) * at - beta[j] * at_below
        below, p = p / scale, ((alpha[j] - t) * p - beta[j] * below) / scale
        at_below, at = at / scale, EXTENDED(1)
    return p * quartic(roots, s, t) / quartic(roots, s, -shift)


def equations(parameters, s):
    """Consistency of order four, and |R| = RIPPLE at both ends of the ripple."""
    alpha, beta = orthogonal(parameters[:4], s)
    theta = np.linspace(0, 1, 97) * min(14 / s, np.pi)
    value = np.abs(ripple(parameters, alpha, beta, s, theta))
    inner = value[1:-1]
    i = 1 + np.flatnonzero((inner >= value[:-2]) & (inner > value[2:]))[0]
    left, top, right = value[i - 1 : i + 2]
    step = (left - right) / (2 * (left - 2 * top + right)) * (theta[1] - theta[0])
    ends = np.abs(ripple(parameters, alpha, beta, s, [theta[i] + step, PI]))
    return np.concatenate([taylor(parameters, alpha, beta, s) - 1, ends - RIPPLE])


def solve(parameters, s):
    """Newton's method from a nearby guess, the Jacobian by central differences."""
    parameters = np.array(parameters, EXTENDED)
    for _ in range(12):
        residual = equations(parameters, s)
        if np.abs(residual).max() < 1e-14:
            break
        jacobian = np.zeros((6, 6))
        for k, step in enumerate(EXTENDED(1e-6) * np.abs(parameters)):
            change = np.where(np.arange(6) == k, step, EXTENDED(0))
            there = equations(parameters + change, s) - equations(parameters - change, s)
            jacobian[:, k] = there / (2 * step)
        parameters = parameters - np.linalg.solve(jacobian, residual.astype(float))
    # The quadratic interpolation of the maximum is good to 1e-10, which is plenty there.
    if np.abs(residual[:4]).max() > 1e-13 or np.abs(residual[4:]).max() > 1e-9:
        raise RuntimeError(f"no stability polynomial of degree {s}: {residual}")
    return parameters


def polynomials(stages):
    """The parameters (A, B, A', B', d/s², (a-1) s²) for each s, by continuation from 20."""
    known = {20: solve([2.784, 20.387, 15.347, 7.534, 0.17322, -1.1006], 20)}
    for s in sorted({*stages, *range(5, 20)}, key=lambda s: (s > 20, abs(s - 20))):
        if s not in known:
            # They are smooth in 1/s²: a line through two neighbours is close enough.
            p, q = (
                sorted(known, key=lambda r: abs(r - s))[:2] if len(known) > 1 else (20, 20)
            )
            share = (s**-2.0 - p**-2.0) / (q**-2.0 - p**-2.0) if p != q else 0.0
            known[s] = solve(known[p] + share * (known[q] - known[p]), s)
    return known


def recurrence(parameters, s):
    """mut_j and mu_j of the stages with polynomials P_j(x)/P_j(a)."""
    *roots, d, a = parameters
    alpha, beta = orthogonal(roots, s)
    shift, d = a / s**2, d * s**2
    mut, mu = np.zeros(s - 4, EXTENDED), np.zeros(s - 4, EXTENDED)
    at_below, at = EXTENDED(0), EXTENDED(1)
    for j in range(s - 4):
        scale = (alpha[j] + shift) * at - beta[j] * at_below
        mut[j], mu[j] = 1 / (d * scale), (alpha[j] + shift) / scale
        at_below, at = at / scale, EXTENDED(1)
    return mut.astype(float), mu.astype(float)


# ------------------------------------------------------------------------ Butcher series


def derivative(G):
    """The weights of h f(g) from those of g, G(∅) = 1 being left out."""
    one, two, bushy, tall = G[..., 0], G[..., 1], G[..., 2], G[..., 3]
    return np.stack([one**0, one, one**2, two, one**3, one * two, bushy, tall], -1)


def recurrence_weights(mut, mu):
    """The weights of g_0, g_1, ..., g_n."""
    G = np.zeros((len(mut) + 1, 8), EXTENDED)
    for j, (x, y) in enumerate(zip(mut.astype(EXTENDED), mu.astype(EXTENDED)), 1):
        G[j] = x * derivative(G[j - 1]) + y * G[j - 1] + (1 - y) * G[max(j - 2, 0)]
    return G


def compose(first, then):
    """The weights of one method followed by another."""
    a, a2, a3, a3t, a4, a4m, a4c, a4t = first
    b, b2, b3, b3t, b4, b4m, b4c, b4t = then
    return np.array(
        [
            a + b,
            a2 + b2 + b * a,
            a3 + b3 + 2 * b2 * a + b * a**2,
            a3t + b3t + b2 * a + b * a2,
            a4 + b4 + 3 * b3 * a + 3 * b2 * a**2 + b * a**3,
            a4m + b4m + b * a * a2 + b2 * (a2 + a**2) + (b3 + b3t) * a,
            a4c + b4c + b * a3 + b2 * a**2 + 2 * b3t * a,
            a4t + b4t + b * a3t + b2 * a2 + b3t * a,
        ]
    )


def remainder(first):
    """The method W such that `first`, then W, has the weights 1/γ of the exact flow."""
    W = np.zeros(8, EXTENDED)
    for k in range(8):  # composing is triangular: weight k only sees those before it
        W[k] = 1 / GAMMA[k] - compose(first, W)[k]
    return W


def finishing_weights(a, start):
    """The weights of h k_1, ..., h k_4."""
    K = np.zeros((4, 8))
    for i in range(4):
        K[i] = derivative(start + a[i] @ K)
    return K


# ---------------------------------------------------------------------- finishing method


def quadrature(c, W):
    """b with Σ b = W(.), Σ b c = W([.]), Σ b c² = W([..]), Σ b c³ = W([...])."""
    return np.linalg.solve(np.vander(c, increasing=True).T, W[[0, 1, 2, 4]])


def undivided(W, nodes=(0.95, 0.55)):
    """Four stages with all eight weights of W, as in the paper.

    c_2 and c_3, in units of Σ b, are free; these keep all coefficients below 1.2 of it and
    the error estimate even over the trees. c_4, near Σ b, then solves the last condition.
    """
    W = W.astype(float)

    def tableau(last):
        c = np.array([0, *nodes, last]) * W[0]
        b = quadrature(c, W)
        a = np.zeros((4, 4))
        # Σ b_i a_ij c_j and Σ b_i c_i a_ij c_j, for i = 3 and i = 4
        third, fourth = np.linalg.solve([[1, 1], [c[2], c[3]]], W[[3, 5]])
        a[2, 1] = third / (b[2] * c[1])
        # the latter again, and Σ b_i a_ij c_j²
        a[3, 1:3] = np.linalg.solve(
            [[c[1], c[2]], [c[1] ** 2, c[2] ** 2]], [fourth, W[6] - third * c[1]]
        )
        a[3] /= b[3]
        a[:, 0] = c - a.sum(1)
        return a, b, b[3] * a[3, 2] * a[2, 1] * c[1] - W[7]

    low, high = 1.0, 1.1
    f, g = tableau(low)[2], tableau(high)[2]
    for _ in range(50):  # secant
        if abs(g) < 1e-17 or f == g:
            break
        low, high, f = high, high - g * (high - low) / (g - f), g
        g = tableau(high)[2]
    a, b, residual = tableau(high)
    if abs(residual) > 1e-14:
        raise RuntimeError(f"no finishing method: {residual}")
    return a, b


def divided(W, nodes=(0.5, -0.3, 0.7)):
    """Four stages for a W with W([[.]]) = W([[..]]) = W([[[.]]]) = 0.

    b_3 a_32 + b_4 a_42 = 0 = a_43 gives the three zeros, and W([.[.]]) the size of a_32.
    """
    W = W.astype(float)
    c = np.array([0, *nodes]) * W[0]
    b = quadrature(c, W)
    a = np.zeros((4, 4))
    a[2, 1] = W[5] / (b[2] * c[1] * (c[2] - c[3]))
    a[3, 1] = -b[2] * a[2, 1] / b[3]
    a[:, 0] = c - a.sum(1)
    return a, b


def with_leading_stages(parameters, s, mut, mu):
    """The recurrence with the two stages for one quadratic factor of w in front.

    The factor is 1 + first z + second z². The stages are y + c h f(y) and then
    y + h (b_1 k_1 + b_2 k_2), which is the recurrence with mut = (c, b_2) and
    mu = (1, b_1/c). c is free for W([[..]]) = 0, which is linear in b_2 c² = second c.
    """
    A, B, _, _, d, a = parameters
    real, square = d * (A + a), (d * (A + a)) ** 2 + (d * B) ** 2
    first, second = 2 * real / square, 1 / square
    P = recurrence_weights(mut, mu)[-1]

    def forked(c):
        leading = np.array([first, second, second * c, 0, second * c**2, 0, 0, 0], EXTENDED)
        return remainder(compose(leading, P))[6]

    c = forked(EXTENDED(0)) / (forked(EXTENDED(0)) - forked(EXTENDED(1)))
    lead_mut, lead_mu = [c, second / c], [1, (first - second / c) / c]
    return np.array([*lead_mut, *mut], float), np.array([*lead_mu, *mu], float)


def error_weights(a, b, G, m, split):
    """Weights of h k_1, ..., h k_4, g_n - y and g_m - y that vanish up to three vertices.

    On the tall tree with four the estimate is `size`/24, so for y' = λy it starts with
    size (hλ)⁴/24. Where w is divided, k_3 and k_4 come as b_3 k_3 + b_4 k_4, in which the
    part that grows like l³ cancels.
    """
    G = G.astype(float)
    K = finishing_weights(a, G[-1])
    if split:
        vectors = np.stack([K[0], K[1], b[2] * K[2] + b[3] * K[3], G[-1], G[m]])
        size = 0.02
    else:
        vectors, size = np.stack([*K, G[-1]]), 0.15
    null = np.linalg.svd(vectors[:, :4].T)[2][-1]
    null *= size / 24 / (null @ vectors[:, 7])
    if split:
        return np.array([null[0], null[1], null[2] * b[2], null[2] * b[3], *null[3:]])
    return np.append(null, 0.0)


# ------------------------------------------------------------------------ what it is worth


def evaluate(member, z):
    """R, the polynomial of the estimate, and the amplification of rounding errors, at z.

    The last is Σ_j |∂y1/∂g_j| over all stages, by the adjoint of the recurrence.
    """
    mut, mu, a, b, error, m = (
        member[k] for k in ("mut", "mu", "a", "b", "error", "middle")
    )
    g = [np.ones_like(z)]
    for j, (x, y) in enumerate(zip(mut, mu)):
        g.append((x * z + y) * g[j] + (1 - y) * g[max(j - 1, 0)])
    zK = []
    for i in range(4):
        zK.append(z * (g[-1] + sum(a[i, j] * zK[j] for j in range(i))))
    R = g[-1] + sum(b[i] * zK[i] for i in range(4))
    E = sum(error[i] * zK[i] for i in range(4))
    E = E + error[4] * (g[-1] - 1) + error[5] * (g[m] - 1)
    adjoint, growth = [0] * 4, 1.0
    for i in reversed(range(4)):
        adjoint[i] = z * (b[i] + sum(a[k, i] * adjoint[k] for k in range(i + 1, 4)))
        growth = growth + np.abs(adjoint[i])
    last, after = 1 + sum(adjoint), np.zeros_like(z)
    growth = growth + np.abs(last)
    for j in reversed(range(1, len(mut))):
        last, after = (mut[j] * z + mu[j]) * last + after, (1 - mu[j]) * last
        growth = growth + np.abs(last)
    return R, E, growth


def interval(length, s):
    """Points in [-length, 0], thirty to each ripple and graded where R leaves one."""
    z = -length * np.sin(np.linspace(0, np.pi / 2, 30 * s)) ** 2
    return np.unique(np.concatenate([z, -np.geomspace(1e-3, min(length, 30), 400)]))


def build(s, parameters):
    """One member: a dictionary of its coefficients."""
    mut, mu = recurrence(parameters, s)
    split = s > LAST_UNDIVIDED
    if split:
        mut, mu = with_leading_stages(parameters, s, mut, mu)
    # The finishing method belongs to the rounded recurrence, and makes up for the rounding.
    G = recurrence_weights(mut, mu)
    W = remainder(G[-1])
    a, b = divided(W) if split else undivided(W)
    m = round(0.6 * len(mut)) if split else 0
    member = {"stages": len(mut) + 4, "mut": mut, "mu": mu, "a": a, "b": b, "middle": m}
    member["error"] = error_weights(a, b, G, m, split)
    length = float(parameters[4] * (2 * s**2 + parameters[5]))
    # Conservative: from 1e-4 inside the end, down to where it can be seen to hold.
    member["length"] = length * (1 - 1e-4)
    R, E, growth = evaluate(member, interval(member["length"], s))
    if np.abs(R).max() > 1 + 1e-12:
        raise RuntimeError(f"{s} stages are unstable: {np.abs(R).max()}")
    member["growth"] = growth.max()
    z = interval(member["length"], s)
    member["ripple"] = np.abs(R[z < -3]).max()
    member["estimate"] = np.abs(E).max()
    member["embedded"] = np.abs((R - E)[z < -0.5]).max()
    return member


def degrees():
    """The degrees s: one by one to thirty, then 7 % apart to about a thousand."""
    result = list(range(5, 31))
    while result[-1] < 980:
        result.append(round(1.07 * result[-1]))
    return result


def main() -> None:
    parameters = polynomials(degrees())
    members = [build(s, parameters[s]) for s in degrees()]
    print("stages  length/stages²  ripple  |estimate|  |embedded|  growth  |a,b|")
    for x in members:
        size = max(np.abs(x["a"]).max(), np.abs(x["b"]).max())
        share = x["length"] / x["stages"] ** 2
        print(
            f"{x['stages']:6d}  {share:14.4f}  {x['ripple']:6.3f}  {x['estimate']:10.2f}  "
            f"{x['embedded']:10.2f}  {x['growth']:6.0e}  {size:5.2f}"
        )
    # a longer method that reaches no further (the first divided ones) is of no use
    members = [
        x
        for k, x in enumerate(members)
        if all(x["length"] > y["length"] for y in members[:k])
    ]
    sizes = [len(x["mut"]) for x in members]
    np.savez_compressed(
        TABLE,
        stages=np.array([x["stages"] for x in members]),
        length=np.array([x["length"] for x in members]),
        first=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        middle=np.array([x["middle"] for x in members]),
        mut=np.concatenate([x["mut"] for x in members]),
        mu=np.concatenate([x["mu"] for x in members]),
        a=np.stack([x["a"] for x in members]),
        b=np.stack([x["b"] for x in members]),
        error=np.stack([x["error"] for x in members]),
        growth=np.array([x["growth"] for x in members]),
    )


if __name__ == "__main__":
    main()
