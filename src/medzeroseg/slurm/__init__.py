"""Slurm: the batch file of a training, its submission, and what a running job asks of the cluster."""

from medzeroseg.slurm.job import in_job, requeue_job, wait_for_the_end, was_requeued
from medzeroseg.slurm.script import TablesJob, TrainingJob

__all__ = ["TablesJob", "TrainingJob", "in_job", "requeue_job", "wait_for_the_end", "was_requeued"]
