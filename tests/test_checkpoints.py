import pytest
import torch

from ihdm import weights
from ihdm.heat import HeatEquation
from ihdm.pipeline import checkpoints, published
from ihdm.processes import InverseHeat
from ihdm.project import ProjectError
from ihdm.unet import UNet
from tests.conftest import REFERENCE

PUBLISHED = REFERENCE / "checkpoint_tiny.pth"


def tiny(**changes):
    sizes = {"image_channels": 3, "channels": 32, "multipliers": (1, 2), "res_blocks": 1}
    return UNet(**(sizes | {"attention_levels": (1,), "resample": "conv"} | changes)).eval()


@pytest.mark.parametrize("weights", ["raw", "ema"])
@torch.no_grad()
def test_published_weights_give_the_published_outputs(reference, weights):
    arrays = reference("unet_tiny.npz")
    network = published.load(PUBLISHED, tiny(), ema=weights == "ema")
    output = network(arrays["images"], arrays["level"])
    assert (output - arrays[f"output_{weights}"]).abs().max() < 1e-4


@torch.no_grad()
def test_published_weights_give_the_published_loss(reference):
    arrays = reference("unet_tiny.npz")
    network = published.load(PUBLISHED, tiny())
    ihdm = InverseHeat(HeatEquation(16, 16, arrays["sigma_blur"]), arrays["sigma"].item())
    loss = ihdm.loss(network, arrays["images"], arrays["level"], arrays["noise"])
    assert torch.allclose(loss, arrays["loss_ema"], rtol=1e-4)


def test_a_published_checkpoint_that_does_not_fit_is_named():
    with pytest.raises(ProjectError, match=r"input_blocks\.3\.0\.in_layers\.2\.weight has shape"):
        published.load(PUBLISHED, tiny(multipliers=(1, 3)))
    with pytest.raises(ProjectError, match="the network has 124 parameters"):
        published.load(PUBLISHED, tiny(resample="pool"))


def test_a_file_that_is_no_published_checkpoint_is_named(tmp_path):
    for name, content in (("other.pth", {"weights": 1}), ("list.pth", [1])):
        torch.save(content, tmp_path / name)
        with pytest.raises(ProjectError, match=f"{name} is not laid out"):
            published.load(tmp_path / name, tiny())
    (tmp_path / "torn.pth").write_bytes(PUBLISHED.read_bytes()[:1000])
    with pytest.raises(ProjectError, match=r"torn\.pth cannot be read"):
        published.load(tmp_path / "torn.pth", tiny())
    with pytest.raises(ProjectError, match="does not exist"):
        published.load(tmp_path / "none.pth", tiny())


def test_weights_survive_a_file_and_a_wrong_or_damaged_one_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    network = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    weights.save(path, network)
    again = weights.load(path, torch.nn.Conv2d(2, 3, 3))
    assert torch.equal(again.weight, network.weight)
    with pytest.raises(ProjectError, match="does not fit the network"):
        weights.load(path, torch.nn.Conv2d(2, 4, 3))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ProjectError, match="is damaged"):
        weights.load(path, torch.nn.Conv2d(2, 3, 3))
    with pytest.raises(ProjectError, match="does not exist"):
        weights.load(tmp_path / "none", network)


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-1000]], ids=["flip", "cut"])
def test_a_damaged_state_is_passed_over_and_old_ones_are_pruned(tmp_path, damage):
    for step in (10, 20, 30):
        newest = checkpoints.save_state(tmp_path, step, {"step": step, "x": torch.ones(3)})
    assert len(list(checkpoints.states(tmp_path))) == 2
    assert checkpoints.newest_state(tmp_path)["step"] == 30
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match="step-00000030.*is damaged"):
        assert checkpoints.newest_state(tmp_path)["step"] == 20


def test_no_state_is_none(tmp_path):
    assert checkpoints.newest_state(tmp_path) is None
