//! Settings: composed from groups and overrides, typed, with the origin of every value.
