//! Host clock behind the [`super::observer::Observer`] trait.
