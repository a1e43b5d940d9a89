"""`make paper`: every run behind the publication's tables and figures, in order, and one report over them."""
