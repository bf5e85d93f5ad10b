"""MaskFeat on clips of MovingDigits: a tiny MViT predicts discrete tokens; no labels.

The tokenizer stands in for DALL-E's: its encoder, tiny, with random weights.
"""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/targets/demo_token.py"]

model = _base_.token
