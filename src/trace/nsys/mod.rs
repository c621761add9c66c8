//! Reads and writes the SQLite exports of NVIDIA Nsight Systems.

pub mod writer;
