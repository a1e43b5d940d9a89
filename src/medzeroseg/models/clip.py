"""One image-text model over open_clip's many."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.models import building, sources
from medzeroseg.models.capped_exp import CappedExp
from medzeroseg.models.dpfem import DPFEM
from medzeroseg.models.image_towers import ImageFeatures, PatchPath, SaliencyLayer, adapt_image_tower
from medzeroseg.models.image_transform import ImageTransform, ResizeMode, TrainImageTransform
from medzeroseg.models.patch_tower import PatchTower
from medzeroseg.models.text_towers import adapt_text_tower
from medzeroseg.models.tokenizer import Tokenizer
from medzeroseg.models.tower import Tower

#: CLIP's cap of the logit scale, "to prevent training instability" (Radford et al., ICML 2021, section 2.5)
MAX_LOGIT_SCALE = 100.0


class ImageTextModel(nn.Module):
    """A contrastive image-text model: BiomedCLIP, OpenAI CLIP, PMC-CLIP, or a small one trained from scratch.

    Args:
        name: One of

            - ``hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224``: from the hub, network once;
            - ``local-dir:/folder``: the same files in a folder, no network;
            - ``pmc-clip:/folder``: PMC-CLIP's published files (`medzeroseg.models.pmc_clip`);
            - ``small``: the packaged configuration, random weights, trains on two CPU cores;
            - a built-in name of open_clip, such as ``ViT-B-16`` with ``pretrained: openai``.
        pretrained: For built-in names: a tag of open_clip, a weight file, or None for random weights. For
            a file of OpenAI's weights name the model ``ViT-B-16-quickgelu``; the tag knows that by itself.
        image_size_px: Side of the square images; None for the model's own. Positions are interpolated.
        context_length: Tokens per caption, at most the model's own, which None means.
        init_logit_scale: Logit scale (1 / temperature) to start from, in (0, 100]; None for the model's own.
        resize_mode: ``shortest``, ``longest`` or ``squash`` for images that are not square
            (`ImageTransform`); None keeps the model's own policy, as a pretrained model should.
        freeze_image_layers: Freeze the first n layers of the image tower; the first is the patch embedding
            or stem. A `ContrastiveTask` has more to say on that (`tasks.TowerTuning`).
        dpfem: Makes the `DPFEM` on the patch grid from its channels and the joint dimension; the class itself
            will do. None for none. Embeddings and patch features are those of the model without it until it is trained.
            With a `patch_tower` each grid has one of its own [O]: that of the image tower gives to the embedding, that
            of the patch tower to the patch features. One for both would make each image pass the patch tower to be
            embedded, and the embeddings drift while windows alone are trained.
        patch_tower: Makes a tower of its own for patch features, from the joint dimension; `PatchTower` will do. A
            `losses.PresenceLoss` trains it. None: patch features are those of the image tower.
        patch_path: How patch features leave a vision transformer: ``tokens``, or ``value`` or ``value_value``
            (`value_attention`), which keep the last attention from mixing places. The embedding is the same.

    Raises:
        InputError: The model's files are missing or unusable.
        ValueError: An argument does not fit the model.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        image_size_px: int | None = None,
        context_length: int | None = None,
        init_logit_scale: float | None = None,
        resize_mode: ResizeMode | None = None,
        freeze_image_layers: int = 0,
        dpfem: Callable[[int, int], DPFEM] | None = None,
        patch_path: PatchPath = "tokens",
        patch_tower: Callable[[int], PatchTower] | None = None,
    ) -> None:
        """Build the model and load its weights."""
        super().__init__()
        if init_logit_scale is not None and not 0 < init_logit_scale <= MAX_LOGIT_SCALE:
            raise ValueError(f"init_logit_scale must be in (0, {MAX_LOGIT_SCALE:g}], not {init_logit_scale}")
        source = sources.resolve(name, pretrained)
        self.name = name
        #: what it was built from, without the weights
        self.source = replace(source, state=None)
        self.tokenizer: Tokenizer = building.build_tokenizer(source, context_length)
        self.clip = building.build_model(source, self.tokenizer, image_size_px)
        self.embedding_dim = int(source.model_cfg["embed_dim"])
        self._image_tower = adapt_image_tower(self.clip.visual, patch_path)
        self._text_tower = adapt_text_tower(self.clip.text, source.masks_padding)
        size = self.clip.visual.image_size
        self.image_size_px: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])
        stated = merge_preprocess_dict(asdict(PreprocessCfg()), source.preprocess_cfg)
        self._preprocess = PreprocessCfg(
            **(stated | {"size": self.image_size_px} | ({"resize_mode": resize_mode} if resize_mode else {}))
        )
        if init_logit_scale is not None:
            nn.init.constant_(self.clip.logit_scale, math.log(init_logit_scale))
        self._image_tower.freeze(freeze_image_layers)
        # last, so that the other parts draw the weights that they would draw without them
        self.patch_tower = None if patch_tower is None else patch_tower(self.embedding_dim)
        self.dpfem = None if dpfem is None else dpfem(self._image_tower.patch_channels, self.embedding_dim)
        self.patch_dpfem: DPFEM | None = None
        if dpfem is not None and self.patch_tower is not None:
            self.patch_dpfem = dpfem(self.patch_tower.num_features, self.embedding_dim)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed a batch of pairs.

        Args:
            images: ``(B, 3, H, W)``, as `image_transform` makes them.
            tokens: ``(B, L)``, long, as `tokenizer` makes them.

        Returns:
            Image and text embeddings, each ``(B, D)`` and L2-normalised, and the logit scale ``()``.
        """
        # the texts first: sorting them by length waits for the GPU, which has nothing to do yet then
        texts = self.encode_text(tokens)
        return self.encode_image(images), texts, self.logit_scale

    def encode_image(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` -> L2-normalised embeddings ``(B, D)``, float32 under autocast too."""
        return F.normalize(self.image_features(images).pooled.float(), dim=-1)

    def encode_image_and_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `encode_image` and `encode_patches` give, from one pass: ``(B, D)`` and ``(B, D, h, w)``."""
        if self.patch_tower is not None:
            return self.encode_image(images), self._patches_of(self.patch_tower, images)
        features = self._base_features(images)
        pooled, patches = features.pooled, self._image_tower.project(features.patches)
        if self.dpfem is not None:
            added = self._added(self.dpfem, features.patches)
            pooled, patches = pooled + added.mean(dim=(2, 3)), patches + added
        return F.normalize(pooled.float(), dim=-1), patches

    def encode_text(self, tokens: Tensor, whole: bool = False) -> Tensor:
        """Token ids ``(B, L)`` -> L2-normalised embeddings ``(B, D)``, float32 under autocast too.

        Padding is left out of the computation where that changes nothing; ``whole`` computes it, too, and then no step
        depends on the ids, as a traced graph needs.
        """
        longest = self._text_tower.max_length
        if tokens.ndim != 2 or tokens.shape[1] > longest:
            raise ValueError(f"tokens must be (B, L) with L at most {longest}, not {tuple(tokens.shape)}")
        if tokens.shape[0] == 0:  # `len` would fix the batch of a traced graph
            return torch.zeros(0, self.embedding_dim, device=tokens.device)
        encoded = self._text_tower.forward(tokens) if whole else self._text_tower.encode(tokens)
        return F.normalize(encoded.float(), dim=-1)

    def encode_patches(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` -> patch features in the joint space ``(B, D, h, w)``, not normalised.

        Those of the `patch_tower` where there is one. Else they take the pooled path's own norm and projection. Where
        that path averages (`small`), their mean is the embedding before normalisation; where it takes the class
        token or an attention pooling, they are what a patch would be mapped to, which pretraining never asked to
        mean anything.
        """
        if self.patch_tower is not None:
            return self._patches_of(self.patch_tower, images)
        return self.project_patches(self.image_features(images).patches)

    def image_features(self, images: Tensor) -> ImageFeatures:
        """Pooled embedding and unprojected patch grid from one pass through the image tower."""
        features = self._base_features(images)
        if self.dpfem is None:
            return features
        return replace(features, pooled=features.pooled + self._added(self.dpfem, features.patches).mean(dim=(2, 3)))

    def dense_features(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` -> features ``(B, D, h, w)`` that guide a CRF: how alike two places look.

        DPFEM's fused features, unscaled, where the model has them (on the patch tower's grid where there is one); else
        those of `encode_patches`.
        """
        if self.dpfem is None:
            return self.encode_patches(images)
        fused: Tensor
        if self.patch_tower is not None and self.patch_dpfem is not None:
            fused = self.patch_dpfem(self.patch_tower.grid_features(images))
        else:
            fused = self.dpfem(self._base_features(images).patches)
        return fused

    def _patches_of(self, tower: PatchTower, images: Tensor) -> Tensor:
        grid = tower.grid_features(images)
        projected = tower.project(grid)
        return projected if self.patch_dpfem is None else projected + self._added(self.patch_dpfem, grid)

    def _base_features(self, images: Tensor) -> ImageFeatures:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), not {tuple(images.shape)}")
        if self._image_tower.fixed_size and tuple(images.shape[2:]) != self.image_size_px:
            raise ValueError(
                f"images must be {self.image_size_px[0]} x {self.image_size_px[1]} pixels for {self.name}, "
                f"not {images.shape[2]} x {images.shape[3]}: use its image_transform or set image_size_px"
            )
        return self._image_tower.forward(images)

    def project_patches(self, patches: Tensor) -> Tensor:
        """Patch grid ``(B, C, h, w)`` of `image_features` -> joint space ``(B, D, h, w)``."""
        projected = self._image_tower.project(patches)
        return projected if self.dpfem is None else projected + self._added(self.dpfem, patches)

    @property
    def logit_scale(self) -> Tensor:
        """Exponential of the learned parameter, at most 100: ``()``. The cap lets gradients back down."""
        capped: Tensor = CappedExp.apply(self.clip.logit_scale, MAX_LOGIT_SCALE)
        return capped

    @property
    def preprocess(self) -> PreprocessCfg:
        """Size, mean, std, interpolation and resize mode of the images."""
        return self._preprocess

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of the patch grid at the model's image size."""
        return self._image_tower.grid(*self.image_size_px)

    @property
    def saliency_layers(self) -> tuple[SaliencyLayer, ...]:
        """Layers that saliency methods may hook, from shallow to deep, unsafe ones marked as such."""
        return self._image_tower.saliency_layers("clip.visual.")

    @property
    def signature(self) -> str:
        """The architecture in words and a fingerprint of all parameter names and shapes.

        Models with equal signatures can exchange weights.
        """
        shapes = ";".join(f"{key}:{tuple(value.shape)}" for key, value in sorted(self.state_dict().items()))
        image = type(getattr(self.clip.visual, "trunk", self.clip.visual)).__name__
        text = type(getattr(self.clip.text, "transformer", self.clip.text)).__name__
        million = sum(p.numel() for p in self.parameters()) / 1e6
        digest = hashlib.sha256(shapes.encode()).hexdigest()[:8]
        size = "x".join(str(side) for side in self.image_size_px)
        return f"{image} {size} + {text} -> {self.embedding_dim}, {million:.1f} M parameters [{digest}]"

    def image_transform(self, train: bool = False, size_px: int | None = None) -> ImageTransform | TrainImageTransform:
        """The callable from a PIL image to ``(3, H, W)``; see the two classes for what each does.

        Args:
            train: Whether it may be random.
            size_px: Side of another size than the model's own, for towers that take any.

        Raises:
            ValueError: The tower takes images of one size only, and this is another.
        """
        preprocess = self._preprocess
        if size_px is not None and (size_px, size_px) != self.image_size_px:
            if self._image_tower.fixed_size:
                raise ValueError(f"{self.name} takes images of {self.image_size_px[0]} pixels only, not {size_px}")
            preprocess = replace(preprocess, size=size_px)
        return TrainImageTransform(preprocess) if train else ImageTransform(preprocess)

    @property
    def towers(self) -> dict[str, Tower]:
        """`image` and `text`: their layers, and how they are computed in training."""
        return {"image": self._image_tower, "text": self._text_tower}

    @staticmethod
    def _added(dpfem: DPFEM, patches: Tensor) -> Tensor:
        """What DPFEM adds to the projected patches, and its mean to the embedding; exactly 0 before training."""
        added: Tensor = dpfem.scale[:, None, None] * dpfem(patches)
        return added
