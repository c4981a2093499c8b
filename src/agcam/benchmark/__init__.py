"""Methods side by side on a data set: localization, faithfulness, sanity and cost, with intervals and controls."""
