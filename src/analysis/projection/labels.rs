//! Names of ranges: one label for each, and one for all names of a family that differ in a counter only.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::trace::host::Ranges;
use crate::trace::strings::StringId;
use crate::trace::timeline::Timeline;

/// Names that differ in their digits only and are more than this become one label, with `#` for the digits. Layers and experts of a model are
/// fewer; steps, requests and operation ids of a long trace are more.
pub(super) const MAX_FAMILY: usize = 256;

/// Labels of (domain, name).
pub(super) struct Labels {
    pub(super) texts: Vec<String>,
    ids: FxHashMap<(StringId, StringId), u32>,
    /// Label of the last name looked up: neighbours often share it.
    last: Option<((StringId, StringId), u32)>,
}

impl Labels {
    pub(super) fn of(timeline: &Timeline) -> Self {
        let ranges = &timeline.ranges;
        let pairs = distinct_names(ranges);
        let mut families: FxHashMap<String, usize> = FxHashMap::default();
        for (_, name) in &pairs {
            if let Some(family) = family(timeline.text(*name)) {
                *families.entry(family).or_default() += 1;
            }
        }
        let mut texts: Vec<String> = Vec::new();
        let mut known: FxHashMap<String, u32> = FxHashMap::default();
        let mut ids = FxHashMap::default();
        for (domain, name) in pairs {
            let text = timeline.text(name);
            let short = match family(text) {
                Some(family) if families.get(&family).is_some_and(|count| *count > MAX_FAMILY) => family,
                _ => text.to_owned(),
            };
            let label = match timeline.text(domain) {
                "" => short,
                domain => format!("{domain}:{short}"),
            };
            let id = *known.entry(label).or_insert_with_key(|label| {
                texts.push(label.clone());
                (texts.len() - 1) as u32
            });
            ids.insert((domain, name), id);
        }
        Self { texts, ids, last: None }
    }

    pub(super) fn get(&mut self, domain: StringId, name: StringId) -> u32 {
        match self.last {
            Some((key, label)) if key == (domain, name) => label,
            _ => {
                let label = self.ids[&(domain, name)];
                self.last = Some(((domain, name), label));
                label
            }
        }
    }
}

/// Every (domain, name) in order of first appearance.
fn distinct_names(ranges: &Ranges) -> Vec<(StringId, StringId)> {
    let mut seen = FxHashSet::default();
    let mut pairs = Vec::new();
    for pair in ranges.domain.iter().copied().zip(ranges.name.iter().copied()) {
        if seen.insert(pair) {
            pairs.push(pair);
        }
    }
    pairs
}

/// `text` with `#` for every run of digits; `None` if it has no digit. Modules of PyTorch are never merged: their numbers are few and mean something.
fn family(text: &str) -> Option<String> {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) || text.starts_with("nn.Module: ") {
        return None;
    }
    let mut family = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_digit() {
            family.push(c);
        } else if !family.ends_with('#') {
            family.push('#');
        }
    }
    Some(family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::TimelineBuilder;

    fn labels_of(names: impl Iterator<Item = String>) -> Vec<String> {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let thread = b.thread(p, 1);
        for (at, name) in names.enumerate() {
            b.range(thread, &name, at as i64 * 10, Some(at as i64 * 10 + 5));
        }
        Labels::of(&b.finish()).texts
    }

    #[test]
    fn a_counter_in_a_name_makes_one_label_and_layers_keep_theirs() {
        let texts =
            labels_of((0..300).map(|step| format!("step {step} of 9")).chain((0..126).map(|l| format!("layers.{l}"))));
        assert_eq!(texts.len(), 1 + 126);
        assert_eq!((texts[0].as_str(), texts[1].as_str()), ("step # of #", "layers.0"));
    }

    #[test]
    fn modules_of_pytorch_are_never_merged() {
        assert_eq!(labels_of((0..600).map(|n| format!("nn.Module: Linear_{n}"))).len(), 600);
    }
}
