//! What is sent: conversations with their lengths, from a file or made up.
//!
//! `read` turns a file into records, `recipe` chooses among them and puts them in order, `make` and `fit` make the texts. Everything depends on the
//! settings, the files, the tokenizer and the seed alone, so that the same of them give the same bytes; [`item::Dataset::sha256`] says whether they did.

pub mod builtin;
pub mod counter;
mod digest;
pub mod error;
mod fit;
pub mod generate;
pub mod item;
pub mod lengths;
mod make;
pub mod read;
pub mod recipe;
#[cfg(test)]
mod recipe_tests;
pub mod write;

use self::counter::Counter;
use self::error::WorkloadError;
use self::item::Dataset;
use self::recipe::Recipe;
use crate::config::schema::load::LoadConfig;

/// The dataset of a load test.
///
/// `requests_needed` is how many conversations the run may begin at most: no more are made or kept. 0 if nobody knows.
///
/// # Errors
/// If the dataset cannot be read or made, with file and line where there is one.
pub fn build(
    config: &LoadConfig,
    tokenizer: Option<&dyn Counter>,
    requests_needed: u64,
) -> Result<Dataset, WorkloadError> {
    recipe::prepare(&Recipe::of(config), tokenizer, requests_needed).map(|prepared| prepared.dataset)
}
