//! The engine against truths it did not write: candle-transformers' modules, a small f64 reference, llama.cpp's answers, and the analytic
//! model's closed forms.

mod candle_modules;
mod fixture;
mod formats;
mod fused;
mod generation;
mod gpu;
mod greedy;
mod random;
mod reference;
mod spans;
