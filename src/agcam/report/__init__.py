"""The report: one self-contained HTML file of a run, a benchmark, an audit or explained photographs."""
