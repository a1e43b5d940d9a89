"""Which curves stand in one chart."""

MULTILINE = "Multiline"
"""TensorBoard's name of a chart with several curves."""

LAYOUT: dict[str, dict[str, tuple[str, list[str]]]] = {
    "Retrieval": {
        "top-1 among all, %": (MULTILINE, [r"val/i2t_top1$", r"val/t2i_top1$"]),
        "top-5 among all, %": (MULTILINE, [r"val/i2t_top5$", r"val/t2i_top5$"]),
        "top-1 of 50, %": (MULTILINE, [r"val/i2t_top1_of50$", r"val/t2i_top1_of50$"]),
    },
    "Loss": {
        "loss": (MULTILINE, [r"train/loss$", r"val/loss$"]),
        "window loss": (MULTILINE, [r"train/window_loss$"]),
        "lambda": (MULTILINE, [r"train/lambda_image_to_text$", r"train/lambda_text_to_image$"]),
        "share of hard negatives": (MULTILINE, [r"train/hard_fraction$"]),
        "effective negatives": (MULTILINE, [r"train/effective_negatives$"]),
        "logit scale": (MULTILINE, [r"train/logit_scale$"]),
        "gradient norm, before clipping": (MULTILINE, [r"train/grad_norm$"]),
    },
    "Segmentation": {
        "DSC of the validation, %": (MULTILINE, [r"val/dsc"]),
    },
    "System": {
        "samples per second": (MULTILINE, [r"train/samples_per_s$"]),
        "share of time waiting for data": (MULTILINE, [r"train/data_wait$"]),
        "memory of rank 0, GiB": (MULTILINE, [r"train/memory_gib$", r"train/gpu_memory_gib$"]),
        "learning rate": (MULTILINE, [r"lr-"]),
    },
}
"""Group -> chart -> its kind and the patterns of its tags: TensorBoard's "Custom scalars" tab."""
