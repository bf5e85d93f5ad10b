"""Each repair of an upstream release works, is needed, and is off if it is not needed."""

import functools
import io
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import types
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import compared
import numpy as np
import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.runner import save_checkpoint
from mmengine.utils import ManagerMixin

from maskfeat_plugin import compat

OPERATORS, OPERATORS_OF_CPU, DRN, WEIGHTS_ONLY, DOWNLOADS, AVA_POOL, DECORD, YAML, MANAGER_LOCK, *_ = compat.ENTRIES
*_, MLFLOW_PICTURES, NEW_TRANSFORMERS, FILE_CLIENT = compat.ENTRIES


def run_python(code, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_each_entry_names_its_issue_and_versions():
    # make setup installs mmcv's operators as a distribution, which also works on the GPU
    unneeded = {OPERATORS.name, OPERATORS_OF_CPU.name} | (set() if DECORD.shows() else {DECORD.name})
    unneeded |= set() if NEW_TRANSFORMERS.is_needed() else {NEW_TRANSFORMERS.name}
    assert {e.name for e in compat.ENTRIES} - set(compat.active()) == unneeded
    for entry in compat.ENTRIES:
        assert entry.affected and entry.__doc__
        if entry not in (MANAGER_LOCK, NEW_TRANSFORMERS, FILE_CLIENT):  # no upstream issue was reported
            assert re.fullmatch(r"(open-mmlab|python|dmlc|yaml|opencv)/\w+#\d+", entry.issue)
            assert entry.__doc__.count("#") >= 1


def test_operators_are_chosen_by_the_device(monkeypatch):
    """A compiled mmcv without CUDA uses its own operators on the CPU, and torchvision's elsewhere, here on "meta"."""
    from mmcv.ops import roi_align

    from maskfeat_plugin.ops import mmcv_ops

    called = []
    compiled = types.ModuleType("mmcv._ext")
    for name in mmcv_ops.OPERATORS:
        monkeypatch.setattr(compiled, name, lambda *args, name=name, **kwargs: called.append(name), raising=False)
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    monkeypatch.setattr(sys.modules["mmcv"], "_ext", compiled, raising=False)
    monkeypatch.setattr(sys.modules["mmcv.ops.roi_align"], "ext_module", compiled)
    assert not OPERATORS_OF_CPU.is_active()
    OPERATORS_OF_CPU.apply()
    assert OPERATORS_OF_CPU.is_active()
    rois = torch.tensor([[0.0, 1.0, 1.0, 6.0, 6.0]])
    for device, expected in (("cpu", ["roi_align_forward", "roi_align_backward"]), ("meta", [])):
        called.clear()
        features = torch.ones(1, 2, 8, 8, device=device, requires_grad=True)
        out = roi_align(features, rois.to(device), 3)
        out.sum().backward()
        assert called == expected and out.shape == (1, 2, 3, 3) and features.grad.device.type == device


def test_mmaction_imports_with_the_plugin_and_only_then():
    alone = run_python("import mmaction.models")
    assert alone.returncode and "drn" in alone.stderr
    code = "import maskfeat_plugin; from mmaction.models import MViT, Recognizer3D; print('works')"
    assert run_python(code).stdout.strip().endswith("works")


def test_models_of_images_and_clips_stand_beside_new_transformers():
    """Only mmpretrain's and mmaction2's own language models are left out."""
    code = """
        import sys
        sys.path.append(sys.argv[1])
        from maskfeat_plugin import compat
        (entry,) = [entry for entry in compat.ENTRIES if "transformers" in entry.name]
        assert entry.is_needed() and entry.is_active()
        import mmaction.models, mmpretrain.models
        assert mmpretrain.models.VisionTransformer and mmaction.models.MViT
        try:
            mmpretrain.registry.MODELS.build(dict(type="mmpretrain.BlipCaption"))
        except ImportError as error:
            print(error)
    """
    done = run_python(textwrap.dedent(code), compared.FOLDER)
    assert "requires extra multi-modal dependencies" in done.stdout, done.stderr
    assert not NEW_TRANSFORMERS.is_active()


def test_the_missing_model_says_so_when_built():
    from mmaction.registry import MODELS

    with pytest.raises(ImportError, match="mmaction2#2714"):
        MODELS.build(dict(type="mmaction.DRN"))


def test_drn_is_left_alone_where_the_module_exists(tmp_path, monkeypatch):
    package = tmp_path / "mmaction" / "models" / "localizers" / "drn"
    package.mkdir(parents=True)
    (tmp_path / "mmaction" / "__init__.py").touch()
    (package / "drn.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mmaction", raising=False)
    assert not DRN.is_needed()


@pytest.mark.parametrize(
    "entry, other",
    [
        (DRN, "mmaction2"),
        (WEIGHTS_ONLY, "mmengine"),
        (DOWNLOADS, "mmengine"),
        (AVA_POOL, "mmaction2"),
        (MLFLOW_PICTURES, "mmengine"),
    ],
)
def test_other_versions_are_left_alone(entry, other, monkeypatch):
    real = compat.version
    monkeypatch.setattr(compat, "version", lambda name: "99.0" if name == other else real(name))
    assert not entry.is_needed()
    monkeypatch.undo()
    assert entry.is_needed() or entry.is_active()


def test_mmengine_checkpoints_load_with_weights_only(tmp_path):
    history = HistoryBuffer()
    for value in (1.0, 2.0, 4.0):
        history.update(value)
    checkpoint = dict(
        state_dict=dict(w=torch.ones(2)),
        message_hub=dict(log_scalars={"train/loss": history}, runtime_info=dict(iter=np.int64(3), lr=np.float64(0.1))),
        meta=dict(seed=1),
    )
    path = str(tmp_path / "checkpoint.pth")
    save_checkpoint(checkpoint, path)
    loaded = torch.load(path, weights_only=True)
    buffer = loaded["message_hub"]["log_scalars"]["train/loss"]
    assert buffer.mean() == pytest.approx(7 / 3) and buffer.current() == 4
    assert loaded["message_hub"]["runtime_info"]["iter"] == 3


def test_without_the_plugin_they_do_not(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(HistoryBuffer(), path)
    code = f"import torch\ntorch.load({str(path)!r}, weights_only=True)"
    done = run_python(code)
    assert done.returncode and "HistoryBuffer" in done.stderr


class Evil:
    """Object that runs a command when an unsafe loader unpickles it."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch PWNED",)),
        (getattr, (HistoryBuffer, "__init__")),
        (getattr, (HistoryBuffer, "register_statistics")),
        (getattr, (np.dtype, "__reduce__")),
    ],
    ids=["system", "init", "register", "dtype"],
)
def test_the_safety_stays_on(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    torch.save(dict(state_dict=Evil(call)), file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("plugin", [True, False])
def test_downloads_are_read_safely_with_the_plugin(plugin, tmp_path):
    victim = tmp_path / "victim"
    torch.save(dict(state_dict=Evil((os.system, (f"touch {victim}",)))), tmp_path / "evil.pth")
    torch.save(dict(state_dict=dict(w=torch.ones(2)), history=HistoryBuffer([0.5], [1])), tmp_path / "good.pth")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        lines = [
            f"import torch; torch.hub.set_dir({str(tmp_path / 'hub')!r})",
            "import maskfeat_plugin" if plugin else "",
            "from mmengine.runner.checkpoint import _load_checkpoint",
            f"print(_load_checkpoint('{url}/good.pth')['state_dict']['w'].sum().item())",
            f"_load_checkpoint('{url}/evil.pth')",
        ]
        done = run_python("\n".join(lines))
        server.shutdown()
    assert "2.0" in done.stdout
    assert victim.exists() != plugin  # without the plugin the command runs
    assert ("UnpicklingError" in done.stderr) == plugin


def test_torchs_default_is_not_changed():
    file = io.BytesIO()
    torch.save(Evil((os.getcwd, ())), file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file)


def test_applying_again_changes_nothing():
    finders, safe = len(sys.meta_path), len(torch.serialization.get_safe_globals())
    compat.apply()
    assert (len(sys.meta_path), len(torch.serialization.get_safe_globals())) == (finders, safe)


class NotMade(ManagerMixin):
    def __init__(self, name):
        raise RuntimeError(f"{name} is not made")


@pytest.mark.parametrize("get", [lambda: NotMade.get_instance("a"), NotMade.get_current_instance])
def test_a_failure_frees_the_managers_lock(get):
    """This also holds if making one object makes others. Another thread then gets the log."""
    with pytest.raises(RuntimeError, match="a is not made|at least once"):
        get()
    found = []
    thread = threading.Thread(target=lambda: found.append(MMLogger.get_current_instance()), daemon=True)
    thread.start()
    thread.join(10)
    assert found == [MMLogger.get_current_instance()]


def test_the_managers_lock_stays_held_without_the_repair():
    code = """
        import threading
        from mmengine.logging import MMLogger
        from mmengine.utils import ManagerMixin
        {}
        class NotMade(ManagerMixin):
            def __init__(self, name):
                raise RuntimeError
        try:
            NotMade.get_instance("a")
        except RuntimeError:
            pass
        thread = threading.Thread(target=MMLogger.get_current_instance, daemon=True)
        thread.start()
        thread.join(5)
        print(thread.is_alive())
    """
    for repair, waits in (("", "True"), ("import maskfeat_plugin", "False")):
        done = run_python(textwrap.dedent(code).format(repair))
        assert done.stdout.split() == [waits], done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_writes_the_metrics_of_a_test(rank, tmp_path):
    import torch.testing._internal.distributed.fake_pg  # noqa: F401 (a process group with only this process)

    runner = types.SimpleNamespace(
        log_processor=types.SimpleNamespace(get_log_after_epoch=lambda *args, **kwargs: (dict(loss=1.0), "loss: 1")),
        test_dataloader=[1],
        logger=MMLogger("metrics"),
        log_dir=str(tmp_path),
    )
    hook = LoggerHook()
    hook.json_log_path = "metrics.json"
    torch.distributed.init_process_group("fake", rank=rank, world_size=2, store=torch.distributed.HashStore())
    try:
        hook.after_test_epoch(runner)
    finally:
        torch.distributed.destroy_process_group()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"] * (rank == 0)
