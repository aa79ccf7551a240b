from collections import Counter

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from ihdm.unet import Attention, UNet, level_embedding


def small(**changes):
    sizes = {"image_channels": 3, "channels": 8, "multipliers": (1, 2), "res_blocks": 1}
    return UNet(**(sizes | {"attention_levels": (1,), "groups": 4} | changes))


@pytest.mark.parametrize("resample", ["pool", "conv"])
def test_output_has_the_shape_of_the_input_and_starts_at_zero(resample):
    network = small(resample=resample)
    u = torch.rand(2, 3, 8, 12)
    assert torch.equal(network(u, torch.tensor([1, 5])), torch.zeros_like(u))


def test_every_parameter_learns_and_the_level_matters():
    torch.manual_seed(0)
    network = small(dropout=0.0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    u, k = torch.rand(2, 3, 8, 8), torch.tensor([1, 5])
    network(u, k).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0]
    # A constant that is added to all keys changes no attention weight.
    assert all(name.endswith("qkv.bias") for name in idle)
    assert not torch.allclose(network(u, k), network(u, k + 1))


def test_copies_widen_the_input_alone():
    network = small(copies=3)
    assert network(torch.rand(2, 9, 8, 8), torch.tensor([1, 5])).shape == (2, 3, 8, 8)


def test_resample_is_one_of_two():
    with pytest.raises(ValueError, match="'pool' or 'conv', not 'bilinear'"):
        small(resample="bilinear")


def test_embedding_is_cosines_then_sines():
    embedded = level_embedding(torch.tensor([0.0, 7.5]), 6)
    rates = 10000.0 ** (-np.arange(3) / 3)
    expected = np.concatenate([np.cos(7.5 * rates), np.sin(7.5 * rates)])
    assert np.allclose(embedded[1], expected, atol=1e-6)
    assert embedded[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_checkpointing_activations_changes_no_output_and_no_gradient():
    u, k = torch.rand(2, 1, 8, 8), torch.tensor([1, 3])
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = small(image_channels=1, activation_checkpointing=checkpointing)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        output = network(u, k)
        output.square().sum().backward()
        found.append([output, *(p.grad for p in network.parameters())])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def called(function, *arguments):
    """The names of the operations that a function calls, below autograd."""

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
            found.append(operation.overloadpacket.__name__)
            return operation(*arguments, **(keywords or {}))

    found = []
    with Names():
        function(*arguments)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_reaches_a_fused_kernel(dtype):
    attention = Attention(16, 2).to(dtype)
    names = called(attention, torch.rand(2, 16, 4, 4, dtype=dtype))
    assert "_scaled_dot_product_flash_attention_for_cpu" in names
    assert "bmm" not in names
    assert "_softmax" not in names


def kept_for_backward(device):
    """Bytes by type that a network keeps for its backward pass in bfloat16, by a device's rules."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode(), torch.device(device):
        network = UNet(1, 32, (1, 2), 1, (), groups=2, dropout=0.0)
        # Attention, whose kernels differ between devices, is left out.
        network.middle[1] = torch.nn.Identity()
        inputs, levels = torch.zeros(64, 1, 16, 16), torch.ones(64)
        # torch.autocast switches itself off for a device that is not there.
        before = torch.get_autocast_dtype(device)
        torch.set_autocast_dtype(device, torch.bfloat16)
        torch.set_autocast_enabled(device, True)
        torch.autocast_increment_nesting()
        try:
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                network(inputs, levels)
        finally:
            torch.autocast_decrement_nesting()
            torch.clear_autocast_cache()
            torch.set_autocast_enabled(device, False)
            torch.set_autocast_dtype(device, before)
    sizes = Counter()
    for tensor in kept.values():
        sizes[tensor.dtype] += tensor.untyped_storage().nbytes()
    return sizes


def test_both_kinds_of_device_keep_the_same_memory():
    cpu, cuda = map(kept_for_backward, ("cpu", "cuda"))
    assert cuda[torch.bfloat16] == pytest.approx(cpu[torch.bfloat16], rel=0.01)
    # Inputs, parameters and statistics, which are small.
    assert cuda[torch.float32] < 0.1 * cuda[torch.bfloat16]
