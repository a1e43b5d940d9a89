import torch

from medzeroseg.saliency import normalise_maps, resize_maps


def test_each_map_fills_the_range():
    maps = torch.randn(3, 2, 5, 6) * torch.tensor([1e-6, 1e6])[None, :, None, None]
    found = normalise_maps(maps)
    assert torch.equal(found.amin((2, 3)), torch.zeros(3, 2))
    assert torch.equal(found.amax((2, 3)), torch.ones(3, 2))
    torch.testing.assert_close(found, normalise_maps(7 * maps + 0.0))


def test_a_constant_map_finds_nothing():
    assert torch.equal(normalise_maps(torch.full((1, 1, 3, 3), 4.0)), torch.zeros(1, 1, 3, 3))


def test_resizing_keeps_the_mean_and_the_place():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 1
    large = resize_maps(maps, (32, 32))[0, 0]
    row, column = divmod(int(large.argmax()), 32)
    assert 8 <= row < 16
    assert 16 <= column < 24
    torch.testing.assert_close(large.mean(), maps.mean())
