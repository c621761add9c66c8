//! Placeholder until the kernels are in.
