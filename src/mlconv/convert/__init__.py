"""Conversions: one file for each pair of formats, and the pipeline that proves what they made."""
