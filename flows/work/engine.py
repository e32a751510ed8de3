"""The one module that knows Ray: the blocks of a wave through its stages, spread over actors."""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from swath.flows.work.code import LEFT_OUT, own_modules
from swath.flows.work.journal import LOADING, RESTING
from swath.flows.work.nodes import Needs
from swath.flows.work.stages import Cluster
from swath.flows.work.tally import Sums, Tally
from swath.flows.work.waiting import Patience, Standing
from swath.flows.work.wave import Watch, Work, read_block, stage_rows
from swath.flows.work.worker import Context, Stage, StageWorker, suspects_of
from swath.infra import logs, storage
from swath.infra.settings import settings
from swath.schemas import errors
from swath.schemas.errors import ConfigurationError, RunFailed, SwathError

Task = TypeVar("Task")
Answer = TypeVar("Answer")
NO_PROGRESS_SECONDS = 1800
NO_PROGRESS_ITEMS = 512
"""A block is the least progress that Ray sees; each of its items may take its time."""
POLL_SECONDS = 0.3
PROBE_SECONDS = 300
"""How long a node may take to say what it has: its first process may have to be started, and code be unpacked."""
KNOCK_SECONDS = 10
"""How long the head of a cluster may take to say whether it lets a driver in."""
ALL = Cluster(cpus=math.inf, gpus=math.inf, cores=0)
BLOCK = "block"
"""The column with the name of the block that rows belong to."""


def is_here(address: str) -> bool:
    """Whether the cluster is this machine alone: one of our own, or that of `swath up`."""
    return address == "local" or address.startswith("127.0.0.1:")


def start(address: str) -> bool:
    """Starts Ray in this machine (`local`), or joins the cluster at an address.

    False where this process has joined one already: then that one serves, and is not this caller's to `stop`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if is_here(address):
        # A cluster of one machine: nothing of ours listens beyond it. Ray takes 127.0.0.1 from nobody else.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USE_TLS"] = "0"  # the certificates of this environment are those of another cluster
    import ray

    if ray.is_initialized():
        return False
    if address != "local":
        _knock(address)
    if not is_here(address):
        _must_be_of(address)
    # `log_to_driver=False` leaves a thread that prints the death of every worker to standard output.
    ray._private.worker._worker_logs_enabled = False
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SWATH_LOG": os.environ.get("SWATH_LOG", "")}
    variables["MALLOC_ARENA_MAX"] = "1"  # an actor computes in one thread, whose own arena would not keep large arrays
    environment: dict[str, Any] = {"env_vars": {name: value for name, value in variables.items() if value}}
    if not is_here(address) and (modules := own_modules()):  # of an empty list Ray makes a TypeError on each node
        os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"  # what git leaves out of a package may be imported
        environment |= {"py_modules": [str(path) for path in modules], "excludes": list(LEFT_OUT)}
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "runtime_env": environment}
    if address == "local":
        cores = os.cpu_count() or 1
        options |= {"num_cpus": cores + 2, "include_dashboard": False, "object_store_memory": _store_bytes()}
    try:
        ray.init(address=address, **options)
    except Exception as error:  # a bare one is what Ray raises where its node is not up within 30 s
        if address == "local":
            raise RunFailed(
                f"Ray did not start on this machine ({str(error)[:200]}); where other work keeps it busy, "
                "`swath resume` later, or `--ray off`"
            ) from None
        raise ConfigurationError(
            f"no Ray cluster can be reached at {address!r} ({str(error)[:200]}); "
            "see `swath status`, or use `--ray local`"
        ) from None
    return True


def _knock(address: str) -> None:
    """Raises ConfigurationError where the head does not let this process in: Ray itself would wait for minutes."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.exceptions import AuthenticationError

    tls = os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
    try:
        with init_grpc_channel(address) as channel:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=KNOCK_SECONDS)
    except AuthenticationError:
        token = "this environment has none"
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAUTHENTICATED:
            raise ConfigurationError(
                f"the Ray head at {address} does not answer this process, which speaks {'TLS' if tls else 'no TLS'} "
                f"({str(error.details())[-200:]}); set RAY_USE_TLS and RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and "
                "RAY_TLS_CA_CERT as on the head (infra/tls)"
            ) from None
        token = "that of this environment is another" if os.environ["RAY_AUTH_MODE"] == "token" else "none was shown"
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"Ray is to speak TLS (RAY_USE_TLS), but its certificates cannot be read: {error}"
        ) from None
    else:
        return
    raise ConfigurationError(
        f"the Ray cluster at {address} asks for its token, and {token}: set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN_PATH to the file that holds it"
    )


def _must_be_of(address: str) -> None:
    """Raises ConfigurationError where this machine runs no node: Ray would look for one for a minute."""
    import psutil

    if any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        return
    raise ConfigurationError(
        f"this machine runs no node of the Ray cluster at {address}, and only from one can a run be driven; give the "
        f"command on the head, or send it there: `ray job submit --address http://{address.rpartition(':')[0]}:8265 "
        f"--working-dir . -- swath run ... --ray {address}`"
    )


def address() -> str:
    """Where the head of the cluster is that this process has joined."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def stop() -> None:
    """Leaves the cluster, ending it where this process started it."""
    import psutil
    import ray

    begun = psutil.Process().children(recursive=True)
    with suppress(Exception):
        ray.shutdown()
    for process in begun:
        # One that is caught in its own end would outlive its raylet, at the cost of a core, until somebody looks.
        with suppress(psutil.Error):
            command = process.cmdline()
            if command and (command[0].startswith("ray::") or "default_worker.py" in " ".join(command)):
                process.kill()


def cluster(address: str, useful: Cluster = ALL) -> Cluster:
    """What the machines offer, and such as would come if it were asked for (`SWATH_CLUSTER_CPUS`), of which no more is
    counted than is `useful`; a machine of one's own is not started for this."""
    import psutil

    cores = os.cpu_count() or 1
    if address == "local":
        return Cluster(cpus=cores + 2, gpus=_gpus(), cores=psutil.cpu_count() or cores)
    start(address)
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    limits = settings()
    cpus = max(total.get("CPU", 0), min(limits.cluster_cpus, useful.cpus))
    gpus = max(total.get("GPU", 0), min(limits.cluster_gpus, useful.gpus))
    local = len(nodes) == 1 and nodes[0]["NodeManagerAddress"] in ("127.0.0.1", "localhost")
    return Cluster(cpus=cpus, gpus=gpus, cores=cores if local else int(cpus))


def execute(work: Work, watch: Watch | None = None, tell: Callable[[str], None] | None = None) -> None:
    """Every block through the stages into staged Parquet; a second call does only what is missing. `tell` hears what
    is waited for where nothing moves.

    Raises RunFailed where the engine gave up, and what storage raises; nothing is published either way.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    todo = work.todo()
    if not todo:
        return
    if work.context.needs:
        _check_nodes(work.context.needs)
    _forget_deaths(work)
    context = DataContext.get_current()
    context.target_max_block_size = 2 << 30  # a block goes from stage to stage as a whole: never split
    slowest = work.context.limits.seconds * NO_PROGRESS_ITEMS
    context.execution_no_progress_timeout_s = max(NO_PROGRESS_SECONDS, slowest)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what is wrong is told by `_failure`
    with (
        Patience(partial(_standing, work), tell or (lambda _: None), _end_workers) as patience,
        _tally(watch, patience.moved) as tally,
    ):
        dataset: ray.data.Dataset = ray.data.from_items(
            [{BLOCK: block} for block in todo], override_num_blocks=len(todo)
        )
        for pool in work.pools:
            wants = pool.stage.resources
            dataset = dataset.map_batches(
                RayWorker,
                fn_constructor_args=(pool.stage, work.context, work.rows, tally),
                batch_size=None,
                batch_format="pyarrow",
                zero_copy_batch=True,
                num_cpus=wants.cpus,
                num_gpus=wants.gpus or None,
                compute=ActorPoolStrategy(min_size=pool.workers, max_size=max(pool.workers, pool.most)),
            )
        failure: SwathError | None = None
        try:
            for _ in dataset.iter_internal_ref_bundles():
                pass  # the last stage has staged the rows; what comes out is the names of their blocks
        except (ray.exceptions.RayError, RuntimeError, TimeoutError, OSError) as error:
            failure = RunFailed(f"{patience.gave_up}; `swath resume` goes on") if patience.gave_up else _failure(error)
        # Ray ends actors when nobody refers to them any more, and the frames of an error, or of a cycle, do: they
        # would keep the CPUs that the next wave waits for.
        del dataset
        gc.collect()
        if failure is not None:
            _end_workers()
            raise failure


_FIT: set[tuple[Needs, str]] = set()
"""What nodes have been found to have, by their ids."""


def _check_nodes(needs: Needs) -> None:
    """Raises ConfigurationError where a node that may be given work lacks something; those that come later look
    themselves."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    gone = (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError)
    probe: Any = ray.remote(num_cpus=0)(_lacking)
    asked: dict[tuple[str, str], Any] = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        name, works = node["NodeID"], {"CPU", "GPU"} & node["Resources"].keys()
        if node["Alive"] and works and (needs, name) not in _FIT:
            there = NodeAffinitySchedulingStrategy(name, soft=False)
            asked[name, node["NodeManagerAddress"]] = probe.options(scheduling_strategy=there).remote(needs)
    for (name, address), answer in asked.items():
        try:
            lacking = ray.get(answer, timeout=PROBE_SECONDS)
        except gone:
            continue
        except ray.exceptions.GetTimeoutError:
            lacking = f"has not answered for {PROBE_SECONDS} s (`ray status` and its logs say why)"
        except ray.exceptions.RayError as error:
            reason = str(_failure(error)).removeprefix("the engine stopped: ")
            lacking = f"cannot run swath ({reason}): give every machine of the cluster the same image or package"
        if lacking:
            raise ConfigurationError(f"node {address} {lacking}")
        _FIT.add((needs, name))


def _lacking(needs: Needs) -> str | None:
    return needs.lacking()


def in_order(function: Callable[[Task], Answer], tasks: Iterable[Task], ahead: int) -> Iterator[Answer]:
    """What a function answers to each of the tasks, in their order, worked out all over the cluster; so many of them at
    most are in work, or wait to be taken, at once. Raises what the function raises."""
    import ray

    remote: Any = ray.remote(function)
    waiting: deque[Any] = deque()

    def first() -> Answer:
        try:
            answer: Answer = ray.get(waiting.popleft())
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise _failure(error) from None
        return answer

    for task in tasks:
        waiting.append(remote.remote(task))
        if len(waiting) >= ahead:
            yield first()
    while waiting:
        yield first()


class RayWorker:
    """A stage in an actor of Ray Data, under a sidecar. Its first takes names of blocks, its last gives them back."""

    def __init__(self, stage: Stage, context: Context, rows: str, tally: Any) -> None:
        logs.to_standard_error()
        if context.needs and (lacking := context.needs.lacking()):
            raise RunFailed(f"node {_own_address()} {lacking}")
        node = "" if tally is None else _own_address()
        progress = (lambda *update: tally.add.remote(node, *update)) if tally is not None else None
        self.stage, self.rows = stage, rows
        self.worker = StageWorker(stage, context, watched=True, progress=progress)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.concat_tables([self._one(block, batch) for block in batch.column(BLOCK).unique().to_pylist()])

    def _one(self, block: str, batch: pa.Table) -> pa.Table:
        clock = self.worker.clock
        if self.stage.first:
            with clock.at("store"):
                items = read_block(block)
        else:
            items = batch.filter(pc.field(BLOCK) == block).drop_columns([BLOCK])
        rows = self.worker(items)
        if self.stage.last:
            with clock.at("store"):
                stage_rows(self.rows, block, rows)
            result = pa.table({BLOCK: [block]})
        else:
            result = rows.append_column(BLOCK, pa.array([block] * len(rows)))
        self.worker.done()
        return result


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


@contextmanager
def _tally(watch: Watch | None, moved: Callable[[], None]) -> Iterator[Any]:
    """An actor that sums the workers' progress, and a thread that hands the sums on; `moved` is called with them."""
    import ray

    if watch is None:
        yield None
        return
    tally: Any = ray.remote(num_cpus=0)(Tally).remote()
    done = threading.Event()

    def hand_on() -> None:
        sums: dict[tuple[str, str], Sums] = ray.get(tally.take.remote(), timeout=10)
        for (stage, node), (items, rejects, spent, some, blocks) in sums.items():
            moved()
            watch(stage, items, rejects, spent, some, node, blocks)

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            with suppress(Exception):  # the next poll, or the end of the run, says more
                hand_on()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield tally
        with suppress(Exception):
            hand_on()
    finally:
        done.set()
        thread.join(timeout=10)
        ray.kill(tally)


def _standing(work: Work) -> Standing:
    """Whether the wave has workers, and what it waits for."""
    import ray

    wanted = sum(pool.workers for pool in work.pools)
    here = sum(state == "ALIVE" for state in _workers().values())
    if here:
        return Standing(True, f"{here} of {wanted} workers are there, and none of them has finished a block since")
    cpus = sum(pool.workers * pool.stage.resources.cpus for pool in work.pools)
    free, total = ray.available_resources(), ray.cluster_resources()  # type: ignore[no-untyped-call]
    text = f"{wanted} workers want {cpus:g} CPUs, and {free.get('CPU', 0):g} of {total.get('CPU', 0):g} are free"
    if gpus := sum(pool.workers * pool.stage.resources.gpus for pool in work.pools):
        text += f"; they want {gpus:g} GPUs, and {free.get('GPU', 0):g} of {total.get('GPU', 0):g} are free"
    return Standing(False, f"{text} (`ray status` tells who has the others)")


def _workers() -> dict[str, str]:
    """The states of this driver's workers that are not dead, by Ray's id."""
    import ray
    from ray._private.state import actors

    job: Any = ray._private.worker.global_worker.current_job_id
    mine = ((name, one) for name, one in actors(job_id=job).items() if RayWorker.__name__ in one["ActorClassName"])
    return {name: one["State"] for name, one in mine if one["State"] != "DEAD"}


def _end_workers() -> None:
    """Ends this driver's workers at once: Ray lets each do the blocks it was given first, which may take for ever."""
    import ray

    worker: Any = ray._private.worker.global_worker
    for name in _workers():
        with suppress(Exception):  # it has ended by now
            worker.core_worker.kill_actor(ray.ActorID.from_hex(name), True)


def _failure(error: BaseException) -> SwathError:
    """What a worker raised, found in Ray's account of it, in which causes come first and each ends with its line."""
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    if isinstance(error, OutOfDiskError | ObjectStoreFullError):
        return RunFailed(
            "Ray has no room for what goes from one stage to the next: its object store is full, and so is the disk it "
            "spills to; free some space there, or start Ray with more `--object-store-memory` or another "
            "`--object-spilling-directory`, then `swath resume`"
        )
    causes = str(error).split("\nThe above exception was the direct cause")
    ends = [part.strip().splitlines()[-1].strip() for part in causes if part.strip()]
    for end in ends:
        kind, _, text = end.partition(": ")
        found = getattr(errors, kind.removeprefix(f"{errors.__name__}."), None)
        if isinstance(found, type) and issubclass(found, SwathError):
            return found(text[:1000])
    what = next((end for end in reversed(ends[:-1] or ends) if ": " in end), type(error).__name__)
    return RunFailed(f"the engine stopped: {what}"[:1000])


def _forget_deaths(work: Work) -> None:
    """Deaths that no item had part in are counted anew by each driver: what was wrong may have been put right."""
    for pool in work.pools:
        folder = suspects_of(pool.stage, work.context)
        for name in storage.list_names(folder):
            if name.startswith((LOADING, RESTING)):
                storage.delete(storage.join(folder, name))


def _store_bytes() -> int:
    """Only small things cross the object store, so it gets little; Ray's default takes a third of the memory."""
    import psutil

    return int(min(1 << 30, psutil.virtual_memory().total // 8))


def _gpus() -> float:
    from pathlib import Path

    return float(len(list(Path("/dev").glob("nvidia[0-9]*"))))
