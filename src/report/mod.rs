//! Renders values it is given; runs and parses nothing.
