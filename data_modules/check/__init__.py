"""Checks a dataset before it is trained on: everything that is found, at once, case by case."""

from data_modules.check.command import add_data_arguments, run_check

__all__ = ["add_data_arguments", "run_check"]
