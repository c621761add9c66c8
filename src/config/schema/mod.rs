//! The typed settings of each command, and what every key means.
//!
//! A file per part; unknown keys are refused in all of them. No defaults live here: `configs/config.yaml` names every key with
//! its default, so that there is one place to read them.

pub mod choice;
pub mod keys;
pub mod load;
pub mod load_text;
pub mod model;
pub mod stage1;
pub mod stage2;
pub mod study;
