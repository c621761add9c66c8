//! What the server says of itself while it is tested.

pub mod prometheus;
pub mod scrape;
