//! The reports of a stage1 run, from values to text.
