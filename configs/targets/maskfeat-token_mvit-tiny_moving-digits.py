"""MaskFeat on clips of MovingDigits: a tiny MViT predicts discrete tokens; no labels.

The tokenizer is a tiny version of DALL-E's encoder with random weights.
"""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/targets/demo_token.py"]

model = _base_.token
