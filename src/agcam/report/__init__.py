"""The report: one self-contained HTML file of a run, a benchmark or explained photographs."""
