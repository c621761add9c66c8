//! The order of the repeats of a case.

/// What a repeat records beside its measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepeatKind {
    /// Nothing: the headline measures come from these.
    Plain,
    /// Operator spans.
    Spans,
    /// Device activity, by the built-in tracer, and our own ranges.
    Traced,
}

/// The kinds in turn.
///
/// Blocks of one of each kind while there are any, each second block reversed (ABBA), so that a drift of the machine falls on all kinds alike.
pub fn interleave(plain: u32, spans: u32, traced: u32) -> Vec<RepeatKind> {
    let mut left = [(RepeatKind::Plain, plain), (RepeatKind::Spans, spans), (RepeatKind::Traced, traced)];
    let mut order = Vec::with_capacity((plain + spans + traced) as usize);
    let mut reversed = false;
    loop {
        let mut block: Vec<RepeatKind> = Vec::with_capacity(left.len());
        for (kind, count) in &mut left {
            if *count > 0 {
                *count -= 1;
                block.push(*kind);
            }
        }
        if block.is_empty() {
            return order;
        }
        if reversed {
            block.reverse();
        }
        reversed = !reversed;
        order.extend(block);
    }
}

#[cfg(test)]
mod tests {
    use super::RepeatKind::{Plain, Spans, Traced};
    use super::*;

    #[test]
    fn repeats_alternate_and_blocks_are_mirrored() {
        assert_eq!(interleave(2, 2, 0), [Plain, Spans, Spans, Plain]);
        assert_eq!(interleave(2, 0, 2), [Plain, Traced, Traced, Plain]);
        assert_eq!(interleave(3, 1, 0), [Plain, Spans, Plain, Plain]);
        assert_eq!(interleave(2, 2, 2), [Plain, Spans, Traced, Traced, Spans, Plain]);
        assert_eq!(interleave(2, 0, 0), [Plain, Plain]);
        assert!(interleave(0, 0, 0).is_empty());
        let uneven = interleave(1, 0, 3);
        assert_eq!(uneven.iter().filter(|kind| **kind == Traced).count(), 3);
    }
}
