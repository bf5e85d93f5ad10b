"""Repairs of upstream releases that the plugin needs. No other module patches other projects.

Each entry names the upstream issue and the affected versions. It does nothing if the installed release does not have
the fault. ``import maskfeat_plugin`` applies the entries; :func:`active` lists the applied ones.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import io
import logging
import multiprocessing
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from packaging.specifiers import SpecifierSet

from maskfeat_plugin import downloads
from maskfeat_plugin.errors import describe
from maskfeat_plugin.storage import PREFIXES, FsspecBackend

__all__ = ["ENTRIES", "Entry", "active", "apply"]


class Entry(ABC):
    """A repair of an upstream release.

    Attributes:
        name: Short name, as :func:`active` lists it.
        issue: Issue of the upstream project or of Python, ``owner/repository#number``; None if none is known.
        affected: Distribution name -> affected versions. All of them have to match.
    """

    name: str
    issue: str | None
    affected: dict[str, str]

    def is_needed(self) -> bool:
        """Check whether the installed versions are affected and have the fault."""
        return all(_installed(*item) for item in self.affected.items()) and self.shows()

    @abstractmethod
    def shows(self) -> bool:
        """Check whether the fault itself is present, independently of the version."""

    @abstractmethod
    def is_active(self) -> bool:
        """Check whether the repair is applied in this process."""

    @abstractmethod
    def apply(self) -> None:
        """Apply the repair. Called at most once, and only if :meth:`is_needed` returns True."""


_HOW_TO_INSTALL = {
    "mmcv": "Run pip install 'maskfeat_plugin[mmcv-lite]', which compiles nothing, or build an mmcv with operators",
    "mmaction": "Run pip install --no-deps 'mmaction2>=1.2.0,<1.3'",
}
"""Packages that users install themselves: mmcv comes in two distributions, and mmaction2 requires decord everywhere."""


def apply() -> None:
    """Apply every entry that the installed releases need. Calling it again changes nothing.

    Raises:
        ModuleNotFoundError: If mmcv or mmaction2 is not installed; the text says how to install it.
    """
    for package, advice in _HOW_TO_INSTALL.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # a folder without an __init__.py has no origin
            text = f"maskfeat_plugin: the package {package} is not installed. {advice}; see docs/installation.md."
            raise ModuleNotFoundError(text, name=package)
    for entry in ENTRIES:
        if not entry.is_active() and entry.is_needed():
            entry.apply()


def active() -> list[str]:
    """Return the names of the entries that are applied in this process."""
    return [entry.name for entry in ENTRIES if entry.is_active()]


def _installed(distribution: str, versions: str) -> bool:
    try:
        found = version(distribution)
    except PackageNotFoundError:
        return False
    return SpecifierSet(versions).contains(found, prereleases=True)


class MissingDRN(Entry):
    """Repair of mmaction2 1.2.0 as released on PyPI, which cannot import its own models.

    ``mmaction.models.localizers`` imports ``.drn.drn``, but the released package lacks that module
    (open-mmlab/mmaction2#2714). A finder at the end of ``sys.meta_path`` supplies the module with a ``DRN`` class that
    raises an error when it is constructed. Python asks this finder only if the real module was not found. All other
    models then work.
    """

    name = "mmaction2-drn"
    issue = "open-mmlab/mmaction2#2714"
    affected = {"mmaction2": "==1.2.0"}

    def shows(self) -> bool:
        # The top-level spec alone: looking up a submodule would import mmaction.
        spec = importlib.util.find_spec("mmaction")
        if spec is None:
            return False
        folders = [Path(p, "models", "localizers") for p in spec.submodule_search_locations or ()]
        return not any((folder / "drn" / "drn.py").is_file() for folder in folders)

    def is_active(self) -> bool:
        return any(isinstance(finder, _DRNFinder) for finder in sys.meta_path)

    def apply(self) -> None:
        sys.meta_path.append(_DRNFinder())


class _DRNFinder(MetaPathFinder, Loader):
    """Finder and loader of the two modules that :class:`MissingDRN` supplies."""

    _PACKAGE = "mmaction.models.localizers.drn"
    _MODULE = f"{_PACKAGE}.drn"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (self._PACKAGE, self._MODULE):
            return None
        return ModuleSpec(fullname, self, origin="maskfeat_plugin.compat", is_package=fullname == self._PACKAGE)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ != self._MODULE:
            return
        from mmaction.registry import MODELS
        from torch import nn

        class DRN(nn.Module):
            """Placeholder for the model that the installed mmaction2 lacks."""

            def __init__(self, *args: object, **kwargs: object) -> None:
                raise ImportError(
                    "DRN: the released mmaction2 1.2.0 does not contain this model (open-mmlab/mmaction2#2714). "
                    "Install mmaction2 from its repository to use it."
                )

        DRN.__module__ = self._MODULE
        MODELS.register_module(module=DRN)
        setattr(module, "DRN", DRN)  # noqa: B010 - a type checker knows no DRN in the module


class WeightsOnlyCheckpoints(Entry):
    """Repair for torch >= 2.6, which refuses to load the checkpoints that mmengine <= 0.10.7 writes.

    The default of ``torch.load`` is now ``weights_only=True``. mmengine's checkpoints contain mmengine's
    ``HistoryBuffer`` and numpy values, which this default refuses (open-mmlab/mmengine#1655). The repair adds exactly
    these types to the list of allowed ones and keeps the default. ``HistoryBuffer`` pickles its statistics methods as
    ``getattr(HistoryBuffer, name)``. The real ``getattr`` would let a file reach any attribute of an allowed class, so
    the name ``getattr`` in a checkpoint is resolved to :func:`_history_buffer_method`.
    """

    name = "mmengine-weights-only"
    issue = "open-mmlab/mmengine#1655"
    affected = {"torch": ">=2.6", "mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from pickle import UnpicklingError

        import torch
        from mmengine.logging import HistoryBuffer

        file = io.BytesIO()
        torch.save(HistoryBuffer(), file)
        file.seek(0)
        try:
            torch.load(file, weights_only=True)
        except UnpicklingError:
            return True
        return False

    def is_active(self) -> bool:
        import torch

        return _GETATTR in torch.serialization.get_safe_globals()

    def apply(self) -> None:
        import torch

        torch.serialization.add_safe_globals(_mmengine_checkpoint_globals())


def _history_buffer_method(owner: type, name: str) -> Callable:
    """Return a statistics method of ``HistoryBuffer``. Replaces ``getattr`` in checkpoints, refuses anything else."""
    from pickle import UnpicklingError

    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise UnpicklingError(f"the checkpoint asks for getattr({owner!r}, {name!r}), which is refused")
    return getattr(HistoryBuffer, name)


_GETATTR = (_history_buffer_method, "builtins.getattr")


def _mmengine_checkpoint_globals() -> list:
    """Return the types in mmengine's checkpoints other than tensors, for ``add_safe_globals``."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    # numpy 2 renamed this module. Allow both names, because files contain the name of the numpy that wrote them.
    multiarray = importlib.import_module(np.ndarray(0).__reduce__()[0].__module__)
    functions = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for core in ("core", "_core")
    ]
    # Booleans and numbers only: no object and no structured arrays.
    dtypes = sorted({type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"}, key=repr)
    return [HistoryBuffer, _GETATTR, np.ndarray, np.dtype, *functions, *dtypes]


class WeightsOnlyDownloads(Entry):
    """Repair of mmengine <= 0.10.7, which loads downloaded checkpoints as unrestricted pickles.

    mmengine calls ``torch.hub.load_state_dict_from_url``. That function kept ``weights_only=False`` when ``torch.load``
    changed its default (open-mmlab/mmengine#1655). A checkpoint given as a URL, ``open-mmlab://`` or ``torchvision://``
    can therefore run code, while the same file on the disk cannot. torch also names a downloaded file by the last part
    of its URL, so it takes ``a/epoch_300.pth`` for ``b/epoch_300.pth``, and it does not notice an incomplete download.
    The repair replaces ``load_url``, mmengine's name for that function, by a function that uses
    :func:`maskfeat_plugin.downloads.fetch` and ``weights_only=True``.
    """

    name = "mmengine-weights-only-downloads"
    issue = "open-mmlab/mmengine#1655"
    affected = {"torch": ">=2.1", "mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        import torch
        from mmengine.runner import checkpoint

        return checkpoint.load_url is torch.hub.load_state_dict_from_url

    def is_active(self) -> bool:
        from mmengine.runner import checkpoint

        return getattr(checkpoint.load_url, "keywords", {}).get("weights_only") is True

    def apply(self) -> None:
        from mmengine.runner import checkpoint

        checkpoint.load_url = functools.partial(_load_url, weights_only=True)


def _load_url(
    url: str, model_dir: str | None = None, map_location: Any = None, weights_only: bool = True, **_: object
) -> Any:
    """Download and load a file as ``torch.hub.load_state_dict_from_url`` does, which still handles a given folder."""
    import torch

    if model_dir is not None or not url.startswith(("http://", "https://")):
        return torch.hub.load_state_dict_from_url(url, model_dir, map_location, weights_only=weights_only)

    def read(path: Path) -> None:
        try:
            torch.load(path, map_location="cpu", weights_only=weights_only)
        except Exception as error:  # a damaged file can raise any error
            raise downloads.DownloadError(f"{url} cannot be read and is not used: {describe(error)}") from error

    return torch.load(downloads.fetch(url, read)[0], map_location=map_location, weights_only=weights_only)


class AVAPool(Entry):
    """Repair of mmaction2 <= 1.2.0, which leaves the 32 processes of AVA's metric to the garbage collector.

    ``ava_eval`` neither closes nor terminates its pool. Python terminates the pool later, in the last thread that holds
    a reference to it. If that is a thread of the pool itself, it waits for itself forever. The processes then stay
    until training ends and keep the memory and the open pipes that they inherited. python/cpython#82682 says not to
    rely on the garbage collector here. The repair replaces ``multiprocessing`` in the module of ``ava_eval``: its
    ``Pool`` has at most one process per processor, and the processes end with ``map``.
    """

    name = "mmaction2-ava-pool"
    issue = "python/cpython#82682"
    affected = {"mmaction2": "<=1.2.0"}

    def shows(self) -> bool:
        from mmaction.evaluation.functional import ava_utils

        return ava_utils.multiprocessing is multiprocessing

    def is_active(self) -> bool:
        ava_utils = sys.modules.get("mmaction.evaluation.functional.ava_utils")
        return ava_utils is not None and ava_utils.multiprocessing.Pool is _OneMapPool

    def apply(self) -> None:
        from mmaction.evaluation.functional import ava_utils

        ava_utils.multiprocessing = SimpleNamespace(Pool=_OneMapPool)


class _OneMapPool:
    """Pool of processes with the only method of ``multiprocessing.Pool`` that ``ava_eval`` uses, :meth:`map`."""

    def __init__(self, processes: int) -> None:
        self._processes = min(processes, os.cpu_count() or 1)

    def map(self, function: Callable, items: Sequence) -> list:
        chunksize = max(len(items) // (4 * self._processes), 1)
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(self._processes, multiprocessing.get_context(method)) as executor:
            return list(executor.map(function, items, chunksize=chunksize))


class MissingOperators(Entry):
    """Repair of mmcv-lite, which has ``mmcv.ops`` but not the compiled module behind it (open-mmlab/mmcv#204).

    :mod:`maskfeat_plugin.ops.mmcv_ops` replaces ``mmcv._ext``. The repair is not needed if the distribution in
    ``projects/mmcv_ops`` is installed, because it puts that module into mmcv's folder.
    """

    name = "mmcv-operators"
    issue = "open-mmlab/mmcv#204"
    affected = {"mmcv-lite": ">=2.1.0,<2.2"}

    def shows(self) -> bool:
        return importlib.util.find_spec("mmcv._ext") is None

    def is_active(self) -> bool:
        return any(isinstance(finder, _OperatorsFinder) for finder in sys.meta_path)

    def apply(self) -> None:
        sys.meta_path.append(_OperatorsFinder())


class _OperatorsFinder(MetaPathFinder):
    """Finder of the module that :class:`MissingOperators` supplies."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "mmcv._ext":
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("ops") / "mmcv_ops.py")


class OperatorsOfCPU(Entry):
    """Repair of an mmcv 2.1 that was compiled without CUDA and therefore fails on the GPU at the first NMS.

    The upstream issue is open-mmlab/mmdetection#11530.
    Tensors on the CPU are still processed by the compiled operators. Tensors on other devices are processed by
    :mod:`maskfeat_plugin.ops.mmcv_ops`, which runs on any device that torchvision supports.
    """

    name = "mmcv-operators-of-cpu"
    issue = "open-mmlab/mmdetection#11530"
    affected = {"mmcv": ">=2.1.0,<2.2"}

    def shows(self) -> bool:
        import torch

        if not torch.cuda.is_available():
            return False
        try:
            from mmcv import _ext
        except ImportError:  # a broken mmcv, which `maskfeat doctor` reports
            return False
        return _ext.get_compiling_cuda_version() == "not available"

    def is_active(self) -> bool:
        nms = getattr(sys.modules.get("mmcv._ext"), "nms", None)
        return isinstance(nms, functools.partial) and nms.func is _choose_by_device

    def apply(self) -> None:
        from mmcv import _ext

        from .ops import mmcv_ops

        for name in mmcv_ops.OPERATORS:
            setattr(_ext, name, functools.partial(_choose_by_device, getattr(_ext, name), getattr(mmcv_ops, name)))


def _choose_by_device(on_cpu: Callable, elsewhere: Callable, *args: Any, **kwargs: object) -> object:
    """Call one of two operators, chosen by the device of the first argument, which is a tensor."""
    return (on_cpu if args[0].device.type == "cpu" else elsewhere)(*args, **kwargs)


class MissingDecord(Entry):
    """Replacement for decord, the library with which mmaction2 <= 1.2.0 reads videos.

    decord has no wheel for aarch64 and Apple silicon (dmlc/decord#297). If decord is not installed, ``DecordInit``
    opens videos with :class:`~maskfeat_plugin.datasets.VideoReader`, ``DecordDecode`` takes the frames from that
    reader, and ``ActionVisualizer`` reads files with it. In both modes of ``DecordDecode`` the frames are exactly the
    requested ones. ``DecordInit`` reports the other reader once in the log of a training.
    """

    name = "mmaction2-decord"
    issue = "dmlc/decord#297"
    affected = {"mmaction2": "<=1.2.0"}

    def shows(self) -> bool:
        return importlib.util.find_spec("decord") is None

    def is_active(self) -> bool:
        loading = sys.modules.get("mmaction.datasets.transforms.loading")
        return loading is not None and loading.DecordInit._get_video_reader is _open_video

    def apply(self) -> None:
        from mmaction.datasets.transforms import DecordDecode, DecordInit
        from mmaction.visualization import ActionVisualizer

        DecordInit.__init__ = _naming_its_reader(DecordInit.__init__)
        DecordInit._get_video_reader = _open_video
        DecordDecode._decord_load_frames = _read_frames
        ActionVisualizer._load_video = _reading_files(ActionVisualizer._load_video)


def _naming_its_reader(init: Callable) -> Callable:
    @functools.wraps(init)
    def wrapper(self: Any, *args: object, **kwargs: object) -> None:
        from mmengine.logging import print_log

        from .datasets.transforms import OpenVideo

        init(self, *args, **kwargs)
        if isinstance(self, OpenVideo):
            return
        # The opener is pickled with the transform, so a spawned worker imports this package when it unpickles it.
        self.opener = OpenVideo(self.io_backend, self.num_threads, **self.kwargs)
        if multiprocessing.parent_process() is None:
            # mmengine shows the same warning once in each log
            text = "decord is not installed: maskfeat_plugin reads the videos with PyAV."
            print_log(text, "current", logging.WARNING)

    return wrapper


def _open_video(self: Any, filename: str) -> object:
    return self.opener._get_video_reader(filename)


def _read_frames(self: object, container: Any, frame_inds: Sequence[int]) -> list:
    return container.read(frame_inds)


def _reading_files(load: Callable) -> Callable:
    @functools.wraps(load)
    def wrapper(self: object, video: object, *args: object, **kwargs: object) -> list:
        from .datasets import VideoReader

        if isinstance(video, str) and os.path.isfile(video):
            reader = VideoReader(video, video)
            video = [frame[..., ::-1] for frame in reader.stream(range(len(reader)))]
        return load(self, video, *args, **kwargs)

    return wrapper


class AnyObjectInYAML(Entry):
    """Repair of mmengine's YAML loader, which can build any Python object: reading a config can run a command.

    ``!!python/object/apply:os.system`` in a config, or in its ``_base_``, calls that function. PyYAML's ``Loader`` does
    so intentionally (yaml/pyyaml#900). The repair registers another reader for ``.yaml`` and ``.yml`` in mmengine's
    list of file formats. Writing is unchanged.
    """

    name = "mmengine-plain-yaml"
    issue = "yaml/pyyaml#900"
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.fileio import load

        try:
            return load(io.StringIO("!!python/object/apply:builtins.len [[]]"), file_format="yaml") == 0
        except Exception:
            return False

    def is_active(self) -> bool:
        from mmengine.fileio.handlers import file_handlers

        from .plain_yaml import PlainYamlHandler

        return isinstance(file_handlers["yaml"], PlainYamlHandler)

    def apply(self) -> None:
        from mmengine.fileio import register_handler

        from .plain_yaml import PlainYamlHandler

        register_handler(["yaml", "yml"])(PlainYamlHandler)


class HeldManagerLock(Entry):
    """Repair of mmengine <= 0.10.7, which never frees a lock if building a logger, visualizer or scope fails.

    ``ManagerMixin`` frees its lock only if nothing fails. The thread of the failure can continue, for example a
    notebook after a wrong config. Every other thread, for example one that reads samples, then waits forever at its
    first log message.
    """

    name = "mmengine-manager-lock"
    issue = None
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.utils import ManagerMixin

        return not self.is_active() and "finally" not in inspect.getsource(ManagerMixin.get_instance)

    def is_active(self) -> bool:
        manager = getattr(sys.modules.get("mmengine.utils.manager"), "ManagerMixin", None)
        return manager is not None and hasattr(manager.get_instance, "__wrapped__")

    def apply(self) -> None:
        from mmengine.utils import ManagerMixin

        for name in ("get_instance", "get_current_instance"):
            setattr(ManagerMixin, name, classmethod(_freeing_lock(getattr(ManagerMixin, name).__func__)))


def _freeing_lock(get: Callable) -> Callable:
    """Wrap a method of ``ManagerMixin`` so that it frees its lock after an error.

    All errors of the method occur while it holds the lock.
    """

    @functools.wraps(get)
    def wrapper(cls: type, *args: object, **kwargs: object) -> object:
        from mmengine.utils import manager

        try:
            return get(cls, *args, **kwargs)
        except BaseException:
            manager._lock.release()
            raise

    return wrapper


class LostCurves(Entry):
    """Repair of mmengine <= 0.10.7, which loses pictures on a full disk silently and ends a training for its curves.

    ``LocalVisBackend`` writes pictures with ``cv2.imwrite``, which reports no error (opencv/opencv#25969). It can write
    half a line to ``scalars.json``; the error of the file system then ends the training, and so does TensorBoard's.
    With the repair both backends warn once in the log that curves or pictures are lost, and training continues; see
    :mod:`maskfeat_plugin.curve_files`. TensorBoard's writer is replaced at its first use.
    """

    name = "mmengine-lost-curves"
    issue = "opencv/opencv#25969"
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.visualization import LocalVisBackend

        return "imwrite" in LocalVisBackend.add_image.__wrapped__.__code__.co_names

    def is_active(self) -> bool:
        from mmengine.visualization import LocalVisBackend

        from .curve_files import append_record

        return LocalVisBackend._dump is append_record

    def apply(self) -> None:
        from mmengine.visualization import LocalVisBackend, TensorboardVisBackend
        from mmengine.visualization.vis_backend import force_init_env

        from .curve_files import add_config, add_image, append_record, going_on

        LocalVisBackend._dump = append_record
        LocalVisBackend.add_image = force_init_env(add_image)
        LocalVisBackend.add_config = force_init_env(add_config)
        TensorboardVisBackend._init_env = _with_whole_records(TensorboardVisBackend._init_env)
        for backend in (LocalVisBackend, TensorboardVisBackend):
            for method in ("add_config", "add_image", "add_scalar", "add_scalars", "close"):
                setattr(backend, method, going_on(getattr(backend, method)))


def _with_whole_records(init: Callable) -> Callable:
    @functools.wraps(init)
    def wrapper(self: object) -> None:
        with suppress(ImportError):  # mmengine reports a missing TensorBoard
            from tensorboard.summary.writer import event_file_writer

            from .tensorboard_records import WholeRecordWriter

            event_file_writer.RecordWriter = WholeRecordWriter
        init(self)

    return wrapper


class MetricsOfEveryProcess(Entry):
    """Repair of mmengine <= 0.10.7, in which all processes of a test write their metrics to the same file at once.

    The metrics contain times, which differ between processes, and so do the lengths of the texts. The end of a longer
    text can remain behind a shorter one, and then the file is not valid JSON. open-mmlab/mmengine#124 repaired the same
    fault for the scalars of a training. With this repair only the first process writes.
    """

    name = "mmengine-metrics-of-every-process"
    issue = "open-mmlab/mmengine#124"
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.hooks import LoggerHook

        return not hasattr(LoggerHook.after_test_epoch, "__wrapped__")

    def is_active(self) -> bool:
        from mmengine.hooks import logger_hook

        return hasattr(logger_hook.dump, "__wrapped__")

    def apply(self) -> None:
        from mmengine.dist import master_only
        from mmengine.hooks import logger_hook

        logger_hook.dump = master_only(logger_hook.dump)


class ConfigsOfOtherPackages(Entry):
    """Repair of mmengine <= 0.10.7, which finds ``_base_ = "package::config"`` only in OpenMMLab's own packages.

    The documentation of mmengine promises this form for every package, and open-mmlab/mmengine#1410 asks for it. The
    repair adds ``maskfeat_plugin::``. It does not set a default scope: our configs name the scope of each component.
    """

    name = "mmengine-configs-of-other-packages"
    issue = "open-mmlab/mmengine#1410"
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.config.utils import MODULE2PACKAGE

        return "maskfeat_plugin" not in MODULE2PACKAGE

    def is_active(self) -> bool:
        from mmengine.config import Config

        return hasattr(Config._get_cfg_path, "__wrapped__")

    def apply(self) -> None:
        from mmengine.config import Config

        from maskfeat_cli.config_files import PREFIX
        from maskfeat_cli.named_configs import describe_unknown, find_config

        find = Config._get_cfg_path

        @functools.wraps(find)
        def find_ours_too(cfg_path: str, filename: str) -> tuple[str, str | None]:
            if not cfg_path.startswith(PREFIX):
                return find(cfg_path, filename)
            path = find_config(cfg_path)
            if path is None:
                raise FileNotFoundError(describe_unknown(cfg_path))
            return str(path), None

        Config._get_cfg_path = staticmethod(find_ours_too)


class PicturesWithoutEnding(Entry):
    """Repair of mmengine <= 0.10.7, which uses a picture's name as its file name in MLflow (open-mmlab/mmengine#1681).

    Visualizers give pictures names without an ending. Pillow then cannot choose a format, and the training ends. With
    the repair such a picture gets the name that ``LocalVisBackend`` uses: the name, the step and ``.png``.
    """

    name = "mmengine-mlflow-pictures"
    issue = "open-mmlab/mmengine#1681"
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        from mmengine.visualization import MLflowVisBackend

        return not any(".png" in str(part) for part in MLflowVisBackend.add_image.__wrapped__.__code__.co_consts)

    def is_active(self) -> bool:
        backends = sys.modules.get("mmengine.visualization.vis_backend")
        return backends is not None and backends.MLflowVisBackend.add_image.__wrapped__ is _add_png

    def apply(self) -> None:
        from mmengine.visualization import MLflowVisBackend
        from mmengine.visualization.vis_backend import force_init_env

        MLflowVisBackend.add_image = force_init_env(_add_png)


def _add_png(self: Any, name: str, image: Any, step: int = 0, **_: object) -> None:
    """Log a picture to MLflow. Replaces ``MLflowVisBackend.add_image``."""
    has_ending = name.lower().endswith((".png", ".jpg", ".jpeg", ".webp"))
    self._mlflow.log_image(image, name if has_ending else f"{name}_{step}.png")


class NewTransformers(Entry):
    """Repair of mmpretrain and mmaction2 <= 1.2.0, which cannot be imported beside transformers >= 4.56.

    Their language models import ``apply_chunking_to_forward`` from ``transformers.modeling_utils``, which no longer has
    this function since 4.56. Both packages leave these models out if transformers is not installed. The repair makes
    them do so here too. Building one of these models then raises an error that names its requirements.
    """

    name = "openmmlab-new-transformers"
    issue = None
    affected = {"mmpretrain": "<=1.2.0", "mmaction2": "<=1.2.0", "transformers": ">=4.56"}
    _modules = ("mmpretrain.utils.dependency", "mmaction.utils.dependency")

    def shows(self) -> bool:
        spec = importlib.util.find_spec("transformers")  # importing it would take seconds
        if spec is None or spec.origin is None:
            return False
        file = Path(spec.origin).with_name("modeling_utils.py")
        return file.is_file() and "apply_chunking_to_forward" not in file.read_text(encoding="utf-8")

    def is_active(self) -> bool:
        loaded = [sys.modules.get(name) for name in self._modules]
        without = all(module is not None and not module.WITH_MULTIMODAL for module in loaded)
        return without and all(_installed(*item) for item in self.affected.items())

    def apply(self) -> None:
        for name in self._modules:
            importlib.import_module(name).WITH_MULTIMODAL = False  # type: ignore[attr-defined]


class PrefixesOfFileClient(Entry):
    """Repair of mmengine's ``FileClient``, whose prefixes keep their first backend.

    ``FileClient.register_backend(..., prefixes="s3", force=True)`` forgets to store the new backend. The checkpoint
    hook builds a ``FileClient`` from the prefix of its folder, so ``s3://`` needs the package of petrel.
    """

    name = "mmengine-file-client-prefixes"
    issue = None
    affected = {"mmengine": "<=0.10.7"}

    def shows(self) -> bool:
        return not self.is_active()

    def is_active(self) -> bool:
        from mmengine.fileio import FileClient

        return all(FileClient._prefix_to_backends.get(prefix) is FsspecBackend for prefix in PREFIXES)

    def apply(self) -> None:
        from mmengine.fileio import FileClient

        FileClient._prefix_to_backends.update(dict.fromkeys(PREFIXES, FsspecBackend))


ENTRIES: tuple[Entry, ...] = (
    MissingOperators(),
    OperatorsOfCPU(),
    MissingDRN(),
    WeightsOnlyCheckpoints(),
    WeightsOnlyDownloads(),
    AVAPool(),
    MissingDecord(),
    AnyObjectInYAML(),
    HeldManagerLock(),
    LostCurves(),
    MetricsOfEveryProcess(),
    ConfigsOfOtherPackages(),
    PicturesWithoutEnding(),
    NewTransformers(),
    PrefixesOfFileClient(),
)
