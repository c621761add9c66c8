//! What is sent: conversations with their lengths, from a file or made up.

pub mod item;
