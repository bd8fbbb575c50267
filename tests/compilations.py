"""What JAX compiles meanwhile."""

import contextlib

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_MOVES_DATA = "jit(stage)"  # what `jnp.asarray` of a NumPy array compiles


@contextlib.contextmanager
def compilations():
    """A list that grows with the name of every program that JAX compiles inside."""
    found = []

    def listen(event, duration, *, fun_name="", **details):
        if event == _COMPILED and fun_name != _MOVES_DATA:
            found.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
