//! Two observers as one.

use super::observer::{Observer, Span};

/// Tells both observers of every span, the outer one first at the begin and last at the end: what `outer` costs is then not booked by `inner`.
///
/// The types are known at compile time: who observes with one observer passes that one, and pays nothing for this.
#[derive(Debug)]
pub struct Both<'a, A: ?Sized, B: ?Sized> {
    outer: &'a mut A,
    inner: &'a mut B,
}

impl<'a, A: Observer + ?Sized, B: Observer + ?Sized> Both<'a, A, B> {
    /// Both of them. An observer that wants no operators is told of them all the same where the other wants them; it knows what to leave out.
    pub fn new(outer: &'a mut A, inner: &'a mut B) -> Self {
        Self { outer, inner }
    }
}

impl<A: Observer + ?Sized, B: Observer + ?Sized> Observer for Both<'_, A, B> {
    fn wants_operators(&self) -> bool {
        self.outer.wants_operators() || self.inner.wants_operators()
    }
    fn separates_operators(&self) -> bool {
        self.outer.separates_operators() || self.inner.separates_operators()
    }
    fn begin(&mut self, span: Span) {
        self.outer.begin(span);
        self.inner.begin(span);
    }
    fn end(&mut self) {
        self.inner.end();
        self.outer.end();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::instrument::observer::Phase;

    struct Named<'a> {
        name: &'static str,
        operators: bool,
        log: &'a RefCell<Vec<String>>,
    }

    impl Observer for Named<'_> {
        fn wants_operators(&self) -> bool {
            self.operators
        }
        fn begin(&mut self, span: Span) {
            self.log.borrow_mut().push(format!("{} begins {span:?}", self.name));
        }
        fn end(&mut self) {
            self.log.borrow_mut().push(format!("{} ends", self.name));
        }
    }

    #[test]
    fn the_outer_one_is_around_the_inner_and_either_may_want_operators() {
        let log = RefCell::default();
        for (outer, inner, both) in [(false, false, false), (true, false, true), (false, true, true)] {
            let mut a = Named { name: "outer", operators: outer, log: &log };
            let mut b = Named { name: "inner", operators: inner, log: &log };
            assert_eq!(Both::new(&mut a, &mut b).wants_operators(), both);
        }
        let mut a = Named { name: "outer", operators: false, log: &log };
        let mut b = Named { name: "inner", operators: false, log: &log };
        let mut both = Both::new(&mut a, &mut b);
        both.begin(Span::Phase(Phase::Decode, 3));
        both.end();
        assert_eq!(
            log.into_inner(),
            ["outer begins Phase(Decode, 3)", "inner begins Phase(Decode, 3)", "inner ends", "outer ends"]
        );
    }
}
