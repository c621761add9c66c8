//! STUB
#![allow(missing_docs, unused_variables)]
use crate::estimate::format::Format;
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightFormat {
    Half,
    Q8_0,
    Q4_0,
    Q4_1,
}
pub fn native(f: Format) -> Option<WeightFormat> {
    None
}
#[derive(Default)]
pub struct Planes {
    pub quants: Vec<u8>,
    pub scales: Vec<u8>,
    pub mins: Vec<u8>,
}
impl Planes {
    pub fn append(&mut self, f: WeightFormat, blocks: &[u8]) {}
}
