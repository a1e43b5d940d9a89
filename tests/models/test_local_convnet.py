import pytest
import timm
import torch

from medzeroseg.models import LocalConvNet


def test_a_position_sees_only_its_neighbourhood() -> None:
    torch.manual_seed(0)
    trunk = timm.create_model("local_convnet_small")
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    features = trunk.forward_features(image)
    assert features.shape == (1, 128, 16, 16)
    features[0, :, 8, 8].square().sum().backward()
    seen = (image.grad.abs().sum(dim=1)[0] > 0).nonzero()
    centre = 8 * trunk.stride_px + trunk.stride_px / 2
    reach = (seen - centre).abs().max().item()
    # half a position, then two positions of the grid a block: 8 + 2 * (16 + 3 * 8 + 4) pixels
    assert 48 < reach <= 96


def test_timm_knows_it_and_there_are_no_pretrained_weights() -> None:
    assert timm.is_model("local_convnet_small")
    assert isinstance(timm.create_model("local_convnet_small", num_classes=5), LocalConvNet)
    with pytest.raises(ValueError, match="no pretrained weights"):
        timm.create_model("local_convnet_small", pretrained=True)


def test_classifier_and_pooling() -> None:
    trunk = LocalConvNet(widths=(8, 16), depths=(1, 1), strides=(4, 2), num_classes=5)
    assert trunk(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    trunk.reset_classifier(0, global_pool="")
    assert trunk(torch.randn(2, 3, 32, 32)).shape == (2, 16, 4, 4)
    with pytest.raises(ValueError, match="global_pool"):
        trunk.reset_classifier(0, global_pool="max")
    with pytest.raises(ValueError, match="equally long"):
        LocalConvNet(widths=(8,), depths=(1, 1))


def test_one_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    trunk = LocalConvNet().train()
    images = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(trunk(images)[:1], trunk(images[:1]), atol=1e-6, rtol=1e-5)
