"""A small tower for patch features alone, which learns where named structures are."""

from torch import Tensor, nn

from medzeroseg.models.local_convnet import LocalConvNet


class PatchTower(nn.Module):
    """`LocalConvNet` on a fine grid and a linear map to the joint space.

    Apart from the tower of the embedding: what tells captions apart and what tells places apart pull one small trunk in
    two directions, and retrieval loses most of what it had (docs/localisation.md).

    Args:
        embedding_dim: D, dimension of the joint space.
        widths: See `LocalConvNet`, for this and the next three.
        depths: Blocks of each stage.
        strides: Steps between the grids; their product is the patch's side in pixels.
        kernel_size: Side of the depthwise kernels.

    Shapes:
        images ``(B, 3, H, W)`` -> patch features ``(B, D, h, w)``, not normalised, with ``h = H / prod(strides)``.
    """

    def __init__(
        self,
        embedding_dim: int,
        widths: tuple[int, ...] = (32, 64, 128),
        depths: tuple[int, ...] = (1, 2, 1),
        strides: tuple[int, ...] = (4, 2, 1),
        kernel_size: int = 5,
    ) -> None:
        """Build the tower with random weights."""
        super().__init__()
        self.trunk = LocalConvNet(widths, depths, strides, kernel_size)
        self.head = nn.Conv2d(self.trunk.num_features, embedding_dim, 1)

    @property
    def num_features(self) -> int:
        """C, the channels of `grid_features`."""
        return self.trunk.num_features

    def grid_features(self, images: Tensor) -> Tensor:
        """What the trunk sees, before the joint space: ``(B, C, h, w)``."""
        return self.trunk.forward_features(images)

    def project(self, features: Tensor) -> Tensor:
        """Grid features ``(B, C, h, w)`` -> joint space ``(B, D, h, w)``."""
        projected: Tensor = self.head(features)
        return projected

    def forward(self, images: Tensor) -> Tensor:
        """Patch features of a batch."""
        return self.project(self.grid_features(images))
