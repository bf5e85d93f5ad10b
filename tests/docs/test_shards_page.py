"""Tests of the page on tar shards: its command writes the shards that its config trains on."""

from doc_blocks import ROOT, code_blocks, file_name, link_checkout, run_shell

PAGE = ROOT / "docs" / "shards.md"


def test_the_config_trains_on_the_shards_of_the_command(digits, tmp_path):
    project = link_checkout(tmp_path / "project")
    (project / "data").mkdir()
    (project / "data" / "moving_digits").symlink_to(digits / "data" / "moving_digits")
    blocks = code_blocks(PAGE)
    (write,) = [block.text for block in blocks if block.text.startswith("maskfeat shards")]
    said = run_shell(write.replace("--samples 1000", "--samples 2"), project)
    pattern = "data/my_shards/shard-{000000..000047}.tar"
    assert "96 samples in 48 shards" in said and f"ann_file='{pattern}'" in said
    (config,) = [block for block in blocks if block.language == "python" and file_name(block)]
    (named,) = [line for line in config.text.splitlines() if "ann_file=" in line]
    text = config.text.replace(named.split('"')[1], pattern)
    (project / file_name(config)).write_text(text)
    options = (
        "train_cfg.max_iters=1 train_dataloader.batch_size=4 default_hooks.checkpoint.interval=1 param_scheduler=None"
    )
    run_shell(f"python tools/train.py {file_name(config)} --work-dir out --cfg-options {options}", project)
    assert (project / "out" / "iter_1.pth").is_file()
