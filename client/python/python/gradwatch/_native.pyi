"""The native client. Addresses are those of CPU tensors which the caller keeps alive until the call returns. Mistakes in a
call raise ValueError, calls of a closed run RuntimeError."""

from typing import TypeAlias, final

__version__: str
DEFAULT_SERVER: str

class PanicException(BaseException):
    """A mistake of ours in native code."""

# Address and number of values of a contiguous float32 tensor.
Values: TypeAlias = tuple[int, int]
# Address, number of values and dtype ("f32" or "f64") of a contiguous tensor.
Reals: TypeAlias = tuple[int, int, str]
# Atom, key of the tensor's name, flat index of the first value, address, count, dtype ("f32", "f64", "f16", "bf16").
Piece: TypeAlias = tuple[int, int, int, int, int, str]

def tensor_key(name: str) -> int: ...
def column_signs(dim: int, seed: int) -> bytes:
    """dim int8 of 1 or -1."""

def chunk_rotations(dim: int, seed: int, key: int, first: int, count: int) -> bytes:
    """count int32: the rotation of each chunk, or its bitwise complement where the chunk's sign is -."""

def new_launch(run_id: str | None = None) -> str:
    """`run_id/attempt_id/started_at_us`: what every process of a launch is told."""

@final
class Sketches:
    """The sketches of atoms (disjoint sets of tensors that are in the same groups), which add up to those of groups."""

    def __new__(cls, dim: int, seed: int, atoms: int, groups: list[tuple[str, list[int]]]) -> Sketches: ...
    def clear(self) -> None: ...
    def add(self, pieces: list[Piece]) -> None: ...
    def add_blocks(
        self, atom: int, key: int, offset: int, stride: int, length: int, address: int, count: int, dtype: str
    ) -> None:
        """Blocks of `length` values, one behind the other in memory, `stride` values apart in the whole tensor."""

    def load(self, address: int, count: int) -> None:
        """Adds atoms * dim float64."""

    def group(self, index: int) -> bytes:
        """One group's sketch: dim float64."""

def check_activation(name: str) -> None:
    """Raises ValueError for an activation that the learning cell does not know."""

def window_positions(total: int) -> list[int]:
    """Where the cascade's windows of 4,096 entries start in a gradient of `total` entries."""

@final
class Snapshot:
    """What is sent of one layer. It owns what it holds: tensors may change once it is made."""

    @staticmethod
    def cascade(layer: str, tensors: list[Values]) -> Snapshot:
        """The whole gradient, with its windows."""

    @staticmethod
    def cascade_windows(layer: str, windows: Values) -> Snapshot:
        """Windows alone, 4,096 values each, at `window_positions`."""

    @staticmethod
    def curvature(layer: str, sigma: list[float], curvature: list[float]) -> Snapshot: ...
    @staticmethod
    def dead_directions(
        layer: str, width: int, activations: Reals, gradients: Reals, batch: str, gauge: list[list[float]]
    ) -> Snapshot:
        """Both are decomposed on a thread beside, in time that grows as n * width ** 2."""

    @staticmethod
    def learning_cell(
        layer: str, width: int, outer: Values, inner: Values, probe: tuple[Values, Values] | None = None
    ) -> Snapshot:
        """Rows of more than 1,024 values are sketched to as many."""

    def ready(self) -> bool:
        """Whether its frame need not wait any longer: it is computed, or has taken 60 s. Never waits."""

    def is_computing(self) -> bool:
        """Whether a thread still works on it. It cannot be sent as long as that is so."""

    def wait(self) -> None:
        """Waits until it is computed, 5 s at most."""

@final
class Run:
    @staticmethod
    def open(
        *,
        server: str,
        token: str | None,
        project: str,
        name: str,
        labels: list[tuple[str, str]],
        config_json: str,
        launch: str,
        shard: tuple[int, int],
        resumes: tuple[str | None, int] | None,
        groups: list[tuple[str, list[tuple[str, int]]]],
        layers: list[tuple[str, str, int, str, int]],
        windows: list[int],
        sketch_dim: int,
        seed: int,
        encoding: str,
        update_interval: int,
        buffer_bytes: int | None,
        close_timeout: float,
        spool_dir: str | None,
        offline: bool,
    ) -> Run:
        """Layers are (name, instrument, width or 0, activation or "", every). `resumes` is an attempt and its step; without an
        attempt, the run's newest, or nothing where there is no such run yet."""

    @property
    def run_id(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...
    def is_due(self, group: str, step: int) -> bool: ...
    def snapshot_due(self, instrument: str, layer: str, step: int) -> bool: ...
    def submit(
        self,
        step: int,
        *,
        phase: int,
        learning_rate: float | None,
        weight_decay: float | None,
        group_rates: list[tuple[str, float | None, float | None]],
        scalars: list[tuple[str, float]],
        sketches: Sketches | None,
        snapshots: list[Snapshot],
        happened: list[str],
    ) -> None: ...
    def set_base(self, step: int, sketches: Sketches) -> None: ...
    def rewind_to(self, step: int) -> None: ...
    def change_update_interval(self, step: int, steps: int) -> None:
        """From step on a row comes every so many steps: a new attempt that resumes this one, and needs its base set."""

    def change_groups(self, step: int, groups: list[tuple[str, list[tuple[str, int]]]]) -> None:
        """The same with other groups."""

    def status(self) -> dict[str, int | bool | None]: ...
    def problem(self) -> str | None: ...
    def close(self, outcome: str, timeout: float | None = None) -> dict[str, int | bool | str]:
        """Waits at most `timeout` seconds, or as long as the run was opened with; a signal ends the waiting only. Gives what
        became of the frames: submitted, settled, dropped, rejected, spooled (on disk), undelivered; whether that is all as
        it should be (complete), and the same in words."""

    def abandon(self, timeout: float) -> None:
        """Delivers what is left, for so many seconds at most, and says nothing of the job's end."""

