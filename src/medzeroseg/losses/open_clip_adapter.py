"""Any loss of the family where open_clip's training loop expects one of its own."""

from __future__ import annotations

from torch import Tensor, nn

from medzeroseg.losses.base import ContrastiveLoss


class OpenClipAdapter(nn.Module):
    """Gives a :class:`ContrastiveLoss` the call signature of ``open_clip.loss.ClipLoss``.

    ``open_clip_train.train.train_one_epoch(model, data, loss, ...)`` calls
    ``loss(image_features=..., text_features=..., logit_scale=..., output_dict=True)`` and adds up what the
    dictionary holds. The value is the sum of both directions, twice ``ClipLoss``'s scale. open_clip's
    checkpoints leave out the loss: save ``adapter.state_dict()`` beside them where the difficulty adapts or a
    schedule runs.

    Captions have no ids in open_clip's batches, so ``duplicate_texts`` must be ``keep``. Candidates of other
    ranks are gathered by the loss itself, whatever ``--local-loss`` and ``--gather-with-grad`` say.

    Args:
        loss: the loss to use.

    Raises:
        ValueError: for a loss that ignores duplicates.
    """

    def __init__(self, loss: ContrastiveLoss) -> None:
        super().__init__()
        if loss.duplicate_texts != "keep":
            raise ValueError("open_clip's batches hold no text_ids: build the loss with duplicate_texts='keep'")
        self.loss = loss

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Compute the loss.

        Args:
            image_features: ``(M, D)``, rows of unit length.
            text_features: ``(M, D)``, rows of unit length.
            logit_scale: 1 / temperature, one element.
            logit_bias: accepted from models that have one; a bias common to all logits would cancel, so it is
                an error.
            output_dict: return ``{"contrastive_loss": value}`` instead of the value.

        Raises:
            ValueError: for a model with a logit bias, such as SigLIP's.
        """
        if logit_bias is not None:
            raise ValueError("the model has a logit_bias (SigLIP); this family of losses uses none")
        value: Tensor = self.loss(image_features, text_features, logit_scale)
        return {"contrastive_loss": value} if output_dict else value
