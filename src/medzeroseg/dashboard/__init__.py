"""What TensorBoard shows of runs beside their curves: charts in groups, and runs compared by their settings."""

from medzeroseg.dashboard.comparison import compared_metrics, compared_settings, write_comparison
from medzeroseg.dashboard.layout import LAYOUT
from medzeroseg.dashboard.writers import tensorboards

__all__ = ["LAYOUT", "compared_metrics", "compared_settings", "tensorboards", "write_comparison"]
