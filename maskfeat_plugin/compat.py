"""Repairs of upstream releases that the plugin needs: the only module that patches others.

Each entry names the upstream issue and the versions it is for, and does nothing where the
installed release does not show the fault. ``import maskfeat_plugin`` applies them; :func:`active`
lists those in force.
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

__all__ = ["ENTRIES", "Entry", "active", "apply"]


class Entry(ABC):
    """One repair of an upstream release.

    Attributes:
        name: Short name, as :func:`active` lists it.
        issue: The upstream issue or Python's, ``owner/repository#number``; None where none is known.
        affected: Distribution name -> affected versions. All of them have to match.
    """

    name: str
    issue: str | None
    affected: dict[str, str]

    def is_needed(self) -> bool:
        """Whether the installed versions are affected and the fault shows."""
        return all(_installed(*item) for item in self.affected.items()) and self.shows()

    @abstractmethod
    def shows(self) -> bool:
        """Whether the fault itself is there, whatever the version says."""

    @abstractmethod
    def is_active(self) -> bool:
        """Whether the repair is in force in this process."""

    @abstractmethod
    def apply(self) -> None:
        """Put the repair in force. Called at most once, and only where :meth:`is_needed`."""


_HOW_TO_INSTALL = {
    "mmcv": "Run pip install 'maskfeat_plugin[mmcv-lite]', which compiles nothing, or build an mmcv with operators",
    "mmaction": "Run pip install --no-deps 'mmaction2>=1.2.0,<1.3'",
}
"""Packages that pip does not install by itself: there are two of mmcv, and mmaction2 asks for decord everywhere."""


def apply() -> None:
    """Apply every entry that the installed releases need. Calling it again changes nothing.

    Raises:
        ModuleNotFoundError: mmcv or mmaction2 is not installed; the text says how to install it.
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
    """Names of the entries in force in this process."""
    return [entry.name for entry in ENTRIES if entry.is_active()]


def _installed(distribution: str, versions: str) -> bool:
    try:
        found = version(distribution)
    except PackageNotFoundError:
        return False
    return SpecifierSet(versions).contains(found, prereleases=True)


class MissingDRN(Entry):
    """mmaction2 1.2.0 of the package registry cannot import its own models.

    ``mmaction.models.localizers`` imports ``.drn.drn``, which the released package lacks
    (open-mmlab/mmaction2#2714). A finder at the end of ``sys.meta_path``, asked only after the real
    module was not found, supplies it with a ``DRN`` that raises on construction. Every other model
    then works.
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
    """Finds and makes the two modules that :class:`MissingDRN` supplies."""

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
            """Stands for the model that the installed mmaction2 lacks."""

            def __init__(self, *args: object, **kwargs: object) -> None:
                raise ImportError(
                    "DRN is missing from the released mmaction2 1.2.0 (open-mmlab/mmaction2#2714); "
                    "install mmaction2 from its repository to use it."
                )

        DRN.__module__ = self._MODULE
        MODELS.register_module(module=DRN)
        setattr(module, "DRN", DRN)  # noqa: B010 - a type checker knows no DRN in the module


class WeightsOnlyCheckpoints(Entry):
    """torch >= 2.6 refuses to resume the checkpoints that mmengine <= 0.10.7 writes.

    ``torch.load`` now defaults to ``weights_only=True``, and mmengine's checkpoints hold its
    ``HistoryBuffer`` and numpy values (open-mmlab/mmengine#1655). Exactly these are allow-listed;
    the default stays as it is. ``HistoryBuffer`` pickles its statistics methods as
    ``getattr(HistoryBuffer, name)``. ``getattr`` would let a file reach any attribute of an
    allowed class, so in a checkpoint its name stands for :func:`_history_buffer_method`.
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
    """Stand-in for ``getattr`` in checkpoints: the statistics of ``HistoryBuffer``, no more."""
    from pickle import UnpicklingError

    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise UnpicklingError(f"the checkpoint asks for getattr({owner!r}, {name!r}), refused")
    return getattr(HistoryBuffer, name)


_GETATTR = (_history_buffer_method, "builtins.getattr")


def _mmengine_checkpoint_globals() -> list:
    """What mmengine's checkpoints hold beside tensors, for ``add_safe_globals``."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    # numpy 2 moved this module; files of either numpy name it their own way.
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
    """mmengine <= 0.10.7 unpickles whatever it downloads.

    It calls ``torch.hub.load_state_dict_from_url``, which kept ``weights_only=False`` when ``torch.load`` changed its
    default (open-mmlab/mmengine#1655), so that a checkpoint given as a URL, ``open-mmlab://`` or ``torchvision://`` can
    run code, where the same file on the disk cannot. torch keeps what it downloads under the last part of the URL, so
    that ``a/epoch_300.pth`` is taken for ``b/epoch_300.pth``, and does not see that a download was cut off. mmengine's
    name for that function, ``load_url``, is given :func:`maskfeat_plugin.downloads.fetch` and ``weights_only=True``.
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
    """Download and load as ``torch.hub.load_state_dict_from_url`` does; a folder of the caller's own is left to it."""
    import torch

    if model_dir is not None or not url.startswith(("http://", "https://")):
        return torch.hub.load_state_dict_from_url(url, model_dir, map_location, weights_only=weights_only)

    def read(path: Path) -> None:
        try:
            torch.load(path, map_location="cpu", weights_only=weights_only)
        except Exception as error:  # whatever damage does to it
            raise downloads.DownloadError(f"{url} is not used, for it cannot be read: {describe(error)}") from error

    return torch.load(downloads.fetch(url, read)[0], map_location=map_location, weights_only=weights_only)


class AVAPool(Entry):
    """mmaction2 <= 1.2.0 leaves the 32 processes of AVA's metric to the garbage collector.

    ``ava_eval`` neither closes nor ends its pool. Python then ends it in the thread that was the last to hold it; where
    that is one of the pool's own, it waits for itself for ever, and the processes stay until training ends, with the
    memory and open pipes that they inherited (python/cpython#82682 says not to rely on it). What ``ava_eval``
    knows as ``multiprocessing`` is given a ``Pool`` whose processes end with ``map``, not more of them than processors.
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
    """What ``ava_eval`` uses of ``multiprocessing.Pool``."""

    def __init__(self, processes: int) -> None:
        self._processes = min(processes, os.cpu_count() or 1)

    def map(self, function: Callable, items: Sequence) -> list:
        chunksize = max(len(items) // (4 * self._processes), 1)
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(self._processes, multiprocessing.get_context(method)) as executor:
            return list(executor.map(function, items, chunksize=chunksize))


class MissingOperators(Entry):
    """mmcv-lite has ``mmcv.ops`` but not the compiled module that it calls (open-mmlab/mmcv#204).

    :mod:`maskfeat_plugin.ops.mmcv_ops` takes the place of ``mmcv._ext``. It is not needed where the distribution
    in ``projects/mmcv_ops`` is installed, which puts that module into mmcv's folder.
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
    """Finds the module that :class:`MissingOperators` supplies."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "mmcv._ext":
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("ops") / "mmcv_ops.py")


class OperatorsOfCPU(Entry):
    """An mmcv 2.1 that was compiled without CUDA fails on the GPU at the first NMS (open-mmlab/mmdetection#11530).

    Tensors on a CPU go to the compiled operators as before. Tensors elsewhere go to
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
        except ImportError:  # broken, which the doctor tells
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
    """Call one of two operators, by the device of the first argument, a tensor."""
    return (on_cpu if args[0].device.type == "cpu" else elsewhere)(*args, **kwargs)


class MissingDecord(Entry):
    """mmaction2 <= 1.2.0 reads videos with decord, which has no wheel for aarch64 and Apple silicon (dmlc/decord#297).

    Where decord is not installed, ``DecordInit`` opens a video with :class:`~maskfeat_plugin.datasets.VideoReader`,
    ``DecordDecode`` takes the frames from it, in both of its modes the ones that are asked for, and
    ``ActionVisualizer`` reads a file by it. ``DecordInit`` says so, once in the log of a training.
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
        # It is pickled with the transform: a worker that is spawned imports this package to read it.
        self.opener = OpenVideo(self.io_backend, self.num_threads, **self.kwargs)
        if multiprocessing.parent_process() is None:
            # mmengine shows a warning once in each log
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
    """mmengine reads YAML with a loader that makes any Python object: reading a config can run a command.

    ``!!python/object/apply:os.system`` in a config, or in a ``_base_`` of it, is a call (yaml/pyyaml#900: so is
    PyYAML's ``Loader`` by design). mmengine's own registration of file formats replaces the reader for ``.yaml`` and
    ``.yml``; writing stays as it is.
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
    """mmengine <= 0.10.7 keeps a lock for ever when a logger, visualizer or scope cannot be made.

    ``ManagerMixin`` frees its lock only where nothing fails. The thread in which it failed may go on, for example a
    notebook after a wrong config; every other thread, for example one that reads samples, then waits for ever at its
    first message in the log.
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
    """Wrap a method of ``ManagerMixin``, all of whose errors arise between taking its lock and freeing it."""

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
    """mmengine <= 0.10.7 loses pictures on a full disk without a word, and a training ends for its curves.

    ``LocalVisBackend`` writes pictures by ``cv2.imwrite``, which tells nothing (opencv/opencv#25969), and half a line
    to ``scalars.json``; the error of the file system then ends the training, as TensorBoard's does. Both backends
    say in the log, once, what is lost, and go on; see :mod:`maskfeat_plugin.curve_files`. TensorBoard's writer is
    exchanged when it is first used.
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
        with suppress(ImportError):  # mmengine says so
            from tensorboard.summary.writer import event_file_writer

            from .tensorboard_records import WholeRecordWriter

            event_file_writer.RecordWriter = WholeRecordWriter
        init(self)

    return wrapper


class MetricsOfEveryProcess(Entry):
    """mmengine <= 0.10.7 lets all processes of a test write their metrics to one file at once.

    The times among them differ, and so do the lengths: of a longer text the end may stay behind a shorter one, and then
    the file is no JSON. open-mmlab/mmengine#124 mended this for the scalars of a training. Here too the first process
    alone writes.
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
    """mmengine <= 0.10.7 finds ``_base_ = "package::config"`` in a fixed list of OpenMMLab's packages alone.

    open-mmlab/mmengine#1410 asks for the form that its documentation promises to every package. Here
    ``maskfeat_plugin::`` is added. It is no scope: our configs name the scope of each component themselves.
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
    """mmengine <= 0.10.7 gives MLflow the name of a picture as its file (open-mmlab/mmengine#1681).

    Visualizers name a picture without an ending, so that Pillow knows no format for it and the training ends. Here such
    a picture gets the name that mmengine's ``LocalVisBackend`` gives it: the name, the step and ``.png``.
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
    """Give a picture to MLflow; in the place of ``MLflowVisBackend.add_image``."""
    has_ending = name.lower().endswith((".png", ".jpg", ".jpeg", ".webp"))
    self._mlflow.log_image(image, name if has_ending else f"{name}_{step}.png")


class NewTransformers(Entry):
    """mmpretrain and mmaction2 <= 1.2.0 cannot be imported beside transformers >= 4.56.

    Their language models take ``apply_chunking_to_forward`` from ``transformers.modeling_utils``, which lacks it since
    then. Both leave these models out where transformers is not installed, and so they do here; whoever builds one is
    told what it needs.
    """

    name = "openmmlab-new-transformers"
    issue = None
    affected = {"mmpretrain": "<=1.2.0", "mmaction2": "<=1.2.0", "transformers": ">=4.56"}
    _modules = ("mmpretrain.utils.dependency", "mmaction.utils.dependency")

    def shows(self) -> bool:
        spec = importlib.util.find_spec("transformers")  # not imported: that takes seconds
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
)
