"""Watched layers: hooks, counters and tracers see the same of this package's backbones as of the parents."""

import copy
import functools
from collections import Counter

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from model_pairs import MASKED, PAIRS, assert_near, built, encode, inputs, mask_of, pair, take_fast_paths, tensors
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.tensorboard import SummaryWriter

of_each_pair = pytest.mark.parametrize("name", PAIRS)
of_each_masked = pytest.mark.parametrize("name", MASKED)


@pytest.fixture(autouse=True)
def fast_paths_of_any_size(monkeypatch):
    take_fast_paths(monkeypatch)


class Calls:
    """Counter of the calls of all modules, which also notes the sizes that hooks get."""

    def __init__(self, model):
        self.forward, self.before, self.backward = {}, Counter(), {}
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda m, args, name=name: self.before.update([name]))
            module.register_forward_hook(lambda m, args, out, name=name: self.note(self.forward, name, args, out))
            module.register_full_backward_hook(lambda m, to, of, name=name: self.note(self.backward, name, to, of))

    def note(self, calls, name, *values):
        calls.setdefault(name, []).append([tuple(t.shape) for t in tensors(values)])


@of_each_pair
def test_hooks_of_all_modules_fire_as_in_the_parent(name):
    ours, theirs = pair(name)
    seen, expected = Calls(ours), Calls(theirs)
    for model in (ours, theirs):
        sum(t.sum() for t in tensors(model(inputs(name).requires_grad_()))).backward()
    modules = len(list(theirs.named_modules()))
    assert len(expected.backward) >= modules / 2 and len(expected.forward) >= modules * 2 / 3
    assert (seen.before, seen.forward, seen.backward) == (expected.before, expected.forward, expected.backward)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@of_each_masked
def test_a_hook_of_one_module_fires_and_changes_nothing_else(name, masked):
    """Test each hook alone, because the other layers then take their fast paths."""
    model = copy.deepcopy(built(name, 0))
    calls = Calls(everything := copy.deepcopy(model))
    expected = encode(everything, name, masked)
    sum(t.sum() for t in tensors(expected)).backward()
    assert len(calls.forward) >= len(list(model.named_modules())) * 2 / 3
    for path, module in model.named_modules():
        fired = []
        with (
            module.register_forward_pre_hook(lambda m, args, fired=fired: fired.append("before")),
            module.register_full_backward_hook(lambda m, to, of, fired=fired: fired.append("backward")),
        ):
            out = encode(model, name, masked)
            sum(t.sum() for t in tensors(out)).backward()
        assert fired.count("before") == calls.before[path], path
        assert fired.count("backward") == len(calls.backward.get(path, [])), path
        assert_near(out, expected)


@of_each_masked
def test_global_hooks(name):
    model = copy.deepcopy(built(name, 0))
    ran, backward = set(), set()
    handles = [
        register_module_forward_hook(lambda module, args, out: ran.add(module)),
        register_module_full_backward_hook(lambda module, to, of: backward.add(module)),
    ]
    try:
        sum(t.sum() for t in tensors(encode(model, name, masked=True))).backward()
    finally:
        for handle in handles:
            handle.remove()
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            assert module in ran and module in backward, path


@of_each_pair
def test_dynamic_quantization(name):
    ours, theirs = (quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8) for model in pair(name))
    quantized = [
        [path for path, module in model.named_modules() if "quantized" in type(module).__module__]
        for model in (ours, theirs)
    ]
    assert quantized[0] == quantized[1] and len(quantized[0]) >= 6
    assert_near(ours(inputs(name)), theirs(inputs(name)), bound=0.1)


def flops_of_modules(model, x):
    """Count operations as thop does: by forward hooks on layers of exactly these types."""
    total = []

    def count(module, args, out):
        width = module.in_features if isinstance(module, nn.Linear) else module.weight[0].numel()
        total.append(out.numel() * width)

    for module in model.modules():
        if type(module) in (nn.Linear, nn.Conv2d, nn.Conv3d):
            module.register_forward_hook(count)
    model(x)
    return sum(total)


def flops_of_operations(model, x):
    with FlopCounterMode(display=False) as counter:
        sum(t.sum() for t in tensors(model(x))).backward()
    return counter.get_total_flops()


def flops_by_tracing(model, x):
    """Count operations with mmengine's analysis, which is fvcore's."""
    found = get_model_complexity_info(model, input_shape=tuple(x.shape[1:]), show_table=False, show_arch=False)
    return found["flops"]


@pytest.mark.parametrize("count", [flops_of_modules, flops_of_operations, flops_by_tracing])
@of_each_pair
def test_flops_are_those_of_the_parent(name, count):
    ours, theirs = (count(model, inputs(name)) for model in pair(name))
    assert ours == pytest.approx(theirs, rel=0.01) and ours > 1e5


class Operations(TorchDispatchMode):
    """Mode that lists all operations, as users' tools do."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@of_each_pair
def test_modes_see_the_parents_products(name):
    seen = []
    for model in pair(name):
        with Operations() as operations, torch.no_grad():
            model(inputs(name))
        products = Counter(n for n in operations.names if "mm" in n or "conv" in n or "attention" in n)
        seen.append(products)
    assert seen[0] == seen[1] and seen[0].total() > 10


@of_each_pair
def test_tracing_and_export(name, tmp_path):
    ours, theirs = pair(name)
    expected = theirs(inputs(name))
    assert_near(torch.jit.trace(ours, inputs(name))(inputs(name)), expected)
    program = torch.export.export(ours, (inputs(name),), strict=False)
    assert_near(program.module()(inputs(name)), expected)
    layers = {path for node in program.graph.nodes for path, _ in (node.meta.get("nn_module_stack") or {}).values()}
    linear = [path for path, module in ours.named_modules() if isinstance(module, nn.Linear)]
    assert set(linear) <= layers
    with SummaryWriter(tmp_path) as writer:
        writer.add_graph(ours, inputs(name))
    (file,) = tmp_path.iterdir()
    assert b"qkv" in file.read_bytes()


@of_each_masked
def test_tracing_with_a_mask(name):
    model = copy.deepcopy(built(name, 0))
    traced = torch.jit.trace(model, (inputs(name), mask_of(name)))
    assert_near(traced(inputs(name), mask_of(name)), model(inputs(name), mask_of(name)))


@of_each_pair
def test_functional_calls_and_transforms(name):
    ours, theirs = pair(name)
    parameters = {key: value.detach() * 1.1 for key, value in theirs.named_parameters()}

    def loss(model, parameters):
        return sum(t.sum() for t in tensors(torch.func.functional_call(model, parameters, (inputs(name),))))

    assert_near(loss(ours, parameters), loss(theirs, parameters))
    gradients = [torch.func.grad(functools.partial(loss, model))(parameters) for model in (ours, theirs)]
    scale = max(g.abs().max() for g in gradients[1].values())
    for key, gradient in gradients[1].items():
        assert (gradients[0][key] - gradient).abs().max() <= 1e-4 * scale, key


@pytest.mark.parametrize("name", [name for name in PAIRS if "mvit" in name])  # ViT's attention has none in torch
def test_forward_derivatives(name):
    x = inputs(name)
    results = [torch.func.jvp(lambda x, model=model: tensors(model(x))[0], (x,), (x,)) for model in pair(name)]
    assert_near(*results)
