//! The NVTX calls.

use std::ffi::CString;
use std::sync::OnceLock;

use nvtx::Domain;
use nvtx::domain::{Category, LocalRange, RegisteredString};
use rustc_hash::FxHashMap;

use super::super::range_names::{DOMAIN, RangeCategory, RangeName, SUBMITTING_THREAD};

/// A domain lives as long as the process: tools keep referring to it after the last range.
fn domain() -> &'static Domain {
    static CREATED: OnceLock<&'static Domain> = OnceLock::new();
    CREATED.get_or_init(|| Box::leak(Box::new(Domain::new(c_string(DOMAIN)))))
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("the names of ranges hold no zero byte")
}

/// Pushes and pops ranges of our domain. Each string is registered once, when it is first needed or before.
#[derive(Debug)]
pub(super) struct Emitter {
    domain: &'static Domain,
    categories: [Category<'static>; RangeCategory::ALL.len()],
    strings: FxHashMap<RangeName, RegisteredString<'static>>,
    /// Registered beforehand and by number, since they are met most often.
    layers: Vec<RegisteredString<'static>>,
    open: Vec<LocalRange<'static>>,
}

impl Emitter {
    pub(super) fn new(layers: u32) -> Self {
        let domain = domain();
        name_this_thread();
        let register = |name: RangeName| domain.register_string(c_string(&name.text()));
        Self {
            domain,
            categories: RangeCategory::ALL.map(|category| domain.register_category(c_string(category.name()))),
            strings: FxHashMap::default(),
            layers: (0..layers).map(|layer| register(RangeName::Layer(layer))).collect(),
            open: Vec::with_capacity(8),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, name: RangeName, payload: Option<u32>) {
        let domain = self.domain;
        let known = match name {
            RangeName::Layer(layer) => self.layers.get(layer as usize).copied(),
            _ => None,
        };
        let string = known.unwrap_or_else(|| {
            *self.strings.entry(name).or_insert_with(|| domain.register_string(c_string(&name.text())))
        });
        let attributes =
            domain.event_attributes_builder().message(string).category(self.categories[name.category() as usize]);
        let attributes = match payload {
            Some(number) => attributes.payload(u64::from(number)),
            None => attributes,
        };
        self.open.push(domain.local_range(attributes.build()));
    }

    #[inline]
    pub(super) fn pop(&mut self) {
        // The range ends where it is dropped.
        drop(self.open.pop());
    }
}

/// The name of the calling thread, as tools show it.
fn name_this_thread() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes nothing and cannot fail.
        let thread = unsafe { libc::gettid() };
        nvtx::name_thread(thread.cast_unsigned(), c_string(SUBMITTING_THREAD));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = SUBMITTING_THREAD;
}
