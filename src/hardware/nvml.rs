//! What a graphics processor did over time.
