"""The parts of a simulation from the tables of a study."""

import dataclasses
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._trained import with_trainable
from ..errors import InputError, JaxflowError
from ..networks import all_but, FeedForward, Initializations
from ..runs import Record, sliding_solver, Stepping
from ..saddles import starts_near_saddle
from ..stops import AbstractStop
from ..tasks import AbstractLoss, Task
from . import _parts as parts, _schema as schema
from ._faults import Source
from ._lines import Key
from ._makers import read_table

_DISTRIBUTION = ("initialization", "distribution")


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What parts are made with, beside their tables.

    Given the `source` of the study, to tell of faults; the `folder` in which its files are;
    and whether it may run code of its own (`allow_code`).
    """

    source: Source
    folder: pathlib.Path
    allow_code: bool
    dtype: Any

    def made(self, table: Any, key: Key, make: Callable, **given: Any) -> Any:
        """What a call makes of a table, whose keys are its arguments.

        Given arguments that are made already, or are not in the table.
        """
        arguments = {**table.given(), **given}
        for name in ("kind", "frozen"):
            arguments.pop(name, None)
        parameters = inspect.signature(make).parameters
        if "seed" in type(table).model_fields and "key" in parameters:
            arguments.pop("seed", None)
            arguments["key"] = jax.random.key(table.seed)
        if "dtype" in parameters:
            arguments["dtype"] = self.dtype
        with self.source.at(key, {"key": "seed"}):
            try:
                return make(**arguments)
            except (JaxflowError, ImportError):
                raise
            except Exception as error:  # of Equinox, optax and diffrax, which name no key
                told = f"what {make.__name__} refuses: {type(error).__name__}: {error}"
                raise self.source.fault(key, told, "arguments that it takes") from error

    # -- networks --

    def network(self, table: Any, key: Key, task: Task | None) -> eqx.Module:
        """A network; its sizes from those of the task where they are open."""
        made = self._whole_network(table, key, task)
        if table.frozen is None:
            return made
        with self.source.at((*key, "frozen"), {"names": "", "trainable": ""}):
            return with_trainable(made, all_but(made, *table.frozen))

    def _whole_network(self, table: Any, key: Key, task: Task | None) -> eqx.Module:
        if ":" in table.kind:
            return self._own_network(table, key)
        given = {
            name: self.activation(getattr(table, name), (*key, name))
            for name in ("activation", "final_activation")
            if getattr(table, name, None) is not None
        }
        if table.kind == "FeedForward":
            named = ("biases", "output_scale")
            more: Any = {name: getattr(table, name) for name in named}
            more |= {"key": jax.random.key(table.seed), "dtype": self.dtype}
            sizes = self._sizes(table, key, task)
            with self.source.at(key, {"key": "seed"}):
                return FeedForward(sizes, given["activation"], **more)
        return self.made(table, key, parts.NETWORKS[table.kind], **given)

    def activation(self, table: Any, key: Key) -> Callable:
        if isinstance(table, str):
            return getattr(jax.nn, table)
        return self.made(table, key, parts.LEAKY[table.kind])

    def _sizes(self, table: Any, key: Key, task: Task | None) -> list[int]:
        if table.sizes is not None:
            return table.sizes
        ends = {"in_size": table.in_size, "out_size": table.out_size}
        for name, size in ends.items():
            if size is None and task is None:
                raise self.source.fault(key, f"no {name}", "one, where no data tell it")
        if task is not None:
            ends["in_size"] = ends["in_size"] or int(np.prod(task.inputs.shape[1:]))
            ends["out_size"] = ends["out_size"] or _num_outputs(task)
        inside = [table.width] * (table.depth - 1)
        return [ends["in_size"], *inside, ends["out_size"]]

    def _own_network(self, table: Any, key: Key) -> eqx.Module:
        file, _, name = table.kind.partition(":")
        if not self.allow_code:
            found = f"{table.kind!r}, which is code of the study's"
            raise self.source.fault(
                (*key, "kind"), found, "--allow-code (allow_code=True), if you trust it"
            )
        path = self.folder / file
        try:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            spec.loader.exec_module(module)
            make = getattr(module, name)
            network = make(**table.arguments, key=jax.random.key(table.seed))
        except Exception as error:  # whatever the user's code raises
            found = f"{table.kind!r}, which fails: {type(error).__name__}: {error}"
            raise self.source.fault((*key, "kind"), found, "an Equinox module") from error
        if not isinstance(network, eqx.Module):
            raise self.source.fault((*key, "kind"), table.kind, "an Equinox module")
        return _of_type(network, self.dtype)

    # -- data --

    def loss(self, table: Any, key: Key) -> str | AbstractLoss | None:
        if table is None or isinstance(table, str):
            return table
        return self.made(table, key, parts.LOSSES[table.kind])

    def task(self, table: Any, key: Key, loss: str | AbstractLoss | None) -> Task:
        """The task of a table of data."""
        chosen: dict[str, Any] = {} if loss is None else {"loss": loss}
        own = {"values": self._task_of_values, "file": self._task_of_file}
        make = own.get(table.kind, self._task_of_maker)
        return make(table, key, chosen).astype(self.dtype)

    def tasks(
        self, table: Any, key: Key, loss: str | AbstractLoss | None
    ) -> tuple[Task, Task | None]:
        """The task of a table of data, and that of the samples that are held out."""
        task = self.task(table, key, loss)
        share = getattr(table, "held_out", 0)
        if not share:
            return task, None
        num = round(share * task.num_samples)
        if not 0 < num < task.num_samples:
            told = f"{share} of {task.num_samples} samples"
            raise self.source.fault((*key, "held_out"), told, "some samples of both kinds")
        order = np.random.default_rng(table.seed).permutation(task.num_samples)
        return task.subset(np.sort(order[num:])), task.subset(np.sort(order[:num]))

    def whole_task(self, task: Task, reduction: str, regularizer: Any) -> Task:
        """The task with its sum or mean, and with what its weights cost."""
        if reduction == "sum" and regularizer is None:
            return task
        given = {}
        if regularizer is not None:
            make = parts.REGULARIZERS[regularizer.kind]
            given["regularizer"] = self.made(regularizer, ("regularizer",), make)
        return Task(
            *(task.inputs, task.targets, task.loss),
            sample_weights=task.sample_weights,
            reduction=reduction,
            **given,
        ).astype(self.dtype)

    def _task_of_values(self, table: Any, key: Key, chosen: dict[str, Any]) -> Task:
        inputs: Any = table.inputs
        if not isinstance(inputs, list):
            make = parts.POINTS[inputs.kind]
            inputs = self.made(inputs, (*key, "inputs"), make)
        with self.source.at(key):
            inputs, targets = _array("inputs", inputs), table.targets
            if targets == "alternating":
                targets = [(-1.0) ** number for number in range(len(inputs))]
            return Task(inputs, _array("targets", targets), **chosen)

    def _task_of_maker(self, table: Any, key: Key, chosen: dict[str, Any]) -> Task:
        given = {}
        if (points := getattr(table, "inputs", None)) is not None:
            make = parts.POINTS[points.kind]
            given["inputs"] = self.made(points, (*key, "inputs"), make)
        if (teacher := getattr(table, "teacher", None)) is not None:
            like = Task(given["inputs"], np.zeros(len(given["inputs"])))
            given["teacher"] = self.network(teacher, (*key, "teacher"), like)
        return self.made(table, key, parts.DATA[table.kind], **given, **chosen)

    def _task_of_file(self, table: Any, key: Key, chosen: dict[str, Any]) -> Task:
        path = self.folder / pathlib.Path(table.path).expanduser()
        columns = lambda names: [names] if isinstance(names, str) else list(names)
        with self.source.at(key, {"file": "path", "columns": "inputs"}):
            inputs = read_table(path, columns(table.inputs))
        with self.source.at(key, {"file": "path", "columns": "targets"}):
            targets = read_table(path, columns(table.targets))
        given = dict(chosen)
        with self.source.at(key, {"file": "path", "columns": "sample_weights"}):
            if table.sample_weights is not None:
                given["sample_weights"] = read_table(path, [table.sample_weights])
        with self.source.at(key):
            return Task(inputs, targets, **given)

    # -- what members do --

    def equation(self, table: Any, key: Key) -> Any:
        given: dict[str, Any] = {}
        if (optimizer := getattr(table, "optimizer", None)) is not None:
            given["optimizer"] = self.optimizer(optimizer, (*key, "optimizer"))
        given |= self._scheduled("temperature", table, key)
        if (solver := getattr(table, "solver", None)) is not None:
            given["solver"] = schema.NOISY_SOLVERS[solver]()
        make = schema.EQUATIONS[table.kind]
        if table.kind == "gradient_descent" and table.batch_size is None:
            # Without batches there is nothing that a key is for.
            table = table.model_copy(update={"seed": 0})
            arguments = {**table.given(), **given}
            arguments.pop("kind"), arguments.pop("seed", None)
            with self.source.at(key):
                return make(**arguments)
        return self.made(table, key, make, **given)

    def optimizer(self, table: Any, key: Key) -> Any:
        given = self._scheduled("learning_rate", table, key)
        return self.made(table, key, schema.OPTIMIZERS[table.kind], **given)

    def _scheduled(self, name: str, table: Any, key: Key) -> dict[str, Any]:
        """An argument that a table says by a schedule, by its name; else nothing."""
        schedule = getattr(table, name, None)
        if (kind := getattr(schedule, "kind", None)) is None:
            return {}
        return {name: self.made(schedule, (*key, name), schema.SCHEDULES[kind])}

    def solver(self, name: str | None, key: Key, network: Any, task: Task) -> Any:
        if name is None or name == "auto":
            return name
        if name == "sliding":
            with self.source.at(key, {"network": ""}):
                import diffrax

                return sliding_solver(diffrax.Bosh3(), network, task)
        return schema.SOLVERS[name]()

    def stepping(self, table: Any, key: Key, network: Any, task: Task) -> Stepping | None:
        if table is None:
            return None
        given: dict[str, Any] = {}
        if table.solver is not None:
            given["solver"] = self.solver(table.solver, (*key, "solver"), network, task)
        if table.controller is not None:
            make = schema.CONTROLLERS[table.controller.kind]
            given["controller"] = self.made(table.controller, (*key, "controller"), make)
        return self.made(table, key, Stepping, **given)

    def record(self, table: Any, key: Key) -> Record | None:
        if table is None:
            return None
        functions = {name: schema.FUNCTIONS[name] for name in table.functions}
        return self.made(table, key, Record, functions=functions)

    def stops(self, table: Any) -> list[AbstractStop] | None:
        """The stop conditions; `None` for those of the equation."""
        if table is None:
            return None
        found = []
        for name, value in table.given().items():
            with self.source.at(("stop", name)):
                if hasattr(value, "given"):
                    found.append(schema.STOPS[name](**value.given()))
                else:
                    found.append(schema.STOPS[name](value))
        return found

    def networks(self, table: Any, network: eqx.Module, task: Task) -> Any:
        """The members before they are scaled, or an ensemble near a saddle."""
        if table.near_saddle is None:
            return self.initializations(table, network)
        key = ("initialization",)
        places = {"network": "", "key": "seed", "grown": "near_saddle.grown"}
        with self.source.at(key, places):
            return starts_near_saddle(
                network,
                task,
                table.num,
                grown=table.near_saddle.grown,
                scale=float(table.scale),
                key=jax.random.key(table.seed),
                progress=False,
            )

    def initializations(self, table: Any, network: eqx.Module) -> Initializations:
        given = {}
        key = ("initialization",)
        if table.distribution is not None:
            given["distribution"] = self._distribution(table.distribution)
        with self.source.at(key, {"network": "", "key": "seed"}):
            seed = jax.random.key(table.seed)
            return Initializations(network, table.num, key=seed, **given)

    def _distribution(self, table: Any, key: Key = _DISTRIBUTION) -> Any:
        if isinstance(table, str):
            return parts.DISTRIBUTIONS[table]()
        given = {}
        for name in ("of", "otherwise"):
            if (inner := getattr(table, name, None)) is not None:
                given[name] = self._distribution(inner, (*key, name))
        if (layers := getattr(table, "layers", None)) is not None:
            given["layers"] = {
                name: self._distribution(rule, (*key, "layers", name))
                for name, rule in layers.items()
            }
        return self.made(table, key, parts.DISTRIBUTIONS[table.kind], **given)


def _num_outputs(task: Task) -> int:
    """How many outputs a network has that learns these targets."""
    targets = task.targets
    if jnp.issubdtype(targets.dtype, jnp.integer):  # numbers of classes
        return int(jnp.max(targets)) + 1
    return int(np.prod(targets.shape[1:]))


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # of rows that differ
        raise InputError(name, "rows of different lengths", "one length") from error


def _of_type(network: eqx.Module, dtype: Any) -> eqx.Module:
    cast = lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf
    return jax.tree_util.tree_map(cast, network)
