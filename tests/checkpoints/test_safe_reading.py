"""Files that are refused, cut off, or no checkpoints: one clear error, and no code in them runs."""

import os
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from small_models import pretraining_state

from maskfeat_plugin.checkpoints import CheckpointError, UnsafeCheckpointError, read_checkpoint


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("writer", ["torch", "legacy", "pickle"])
def test_malicious_file_is_refused(writer, tmp_path):
    path, victim = tmp_path / "evil.pth", tmp_path / "victim"
    content = {"model_state": pretraining_state("vit"), "cfg": Malicious(victim)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"cfg": Malicious(victim)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(UnsafeCheckpointError) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value) and "refused" in str(error.value)
    if writer != "pickle":
        assert "system" in str(error.value)
    assert not victim.exists()
    # without protection the file does run its code, so this test can fail
    torch.load(path, weights_only=False) if writer != "pickle" else pickle.loads(path.read_bytes())
    assert victim.exists()


def test_checkpoints_of_mmengine_are_not_refused(save):
    """The statistics of a training are plain values."""
    content = {
        "state_dict": pretraining_state("vit"),
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer([0.5], [1])}},
    }
    assert read_checkpoint(save(content)).format.name == "maskfeat-vit"


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(zipped, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(pretraining_state("vit"), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for share in (0, 0.3, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match="cut.pth is not a checkpoint of torch.save, or is cut off"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("<html>404</html>", "is not a checkpoint"),
        ({"epoch": 3}, r"holds no weights: expected a state dict.*'epoch'"),
        ([1, 2], "holds no weights"),
        (torch.zeros(3), "holds no weights"),
    ],
)
def test_not_a_checkpoint(content, message, tmp_path):
    path = tmp_path / "other.pth"
    path.write_text(content) if isinstance(content, str) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_missing_files_and_odd_urls(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="is a directory"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="scheme 'petrel' is not supported"):
        read_checkpoint("petrel://bucket/model.pth")
