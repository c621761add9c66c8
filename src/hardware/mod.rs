//! The machine: what it is, what it can do at the most, and what else it was doing meanwhile.
