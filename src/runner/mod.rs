//! Runs work repeatedly and turns it into rows, and rows into a summary.
//!
//! Prints nothing and writes no file: rows and events go to the caller as they come.

pub mod ab;
pub mod analyze;
pub mod assemble;
pub mod assumptions;
pub mod cases;
pub mod gpu;
pub mod load;
pub mod order;
pub mod process;
pub mod quality;
pub mod stage1;
pub mod stage2;
pub mod summary;
pub mod sweep;
pub mod telemetry;
pub mod timer;
pub mod traced;
