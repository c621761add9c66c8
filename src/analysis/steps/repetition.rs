//! Steps as repetition tells them: what comes again at the same distance on the busiest stream of a process.

use std::sync::LazyLock;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::{Found, FoundStep, StepColumns, percent};
use crate::analysis::intervals::{length_ns, words};
use crate::trace::activity::{CopyKind, OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Steps in a process at least.
const LEAST_STEPS: usize = 4;
/// Operations of a step at least, unless it holds a whole graph.
const LEAST_OPS: u32 = 6;
/// Share of the stream that a distance must explain to count as a period.
const LEAST_COVERAGE: f64 = 0.3;
/// Share of operations that must lie in steps of the ordinary length.
const LEAST_REGULARITY: f64 = 0.5;
/// Distances that differ by no more than this share are one period.
const TOLERANCE: f64 = 0.02;
/// Processes looked at, those with the most work first.
const MOST_PROCESSES: usize = 64;
/// Confidence is multiplied by this where nothing marks a step but repetition itself.
const UNMARKED: f64 = 0.7;
/// A pause this many times the median step ends the search for the begin of the first step.
const LONG_PAUSE: i64 = 5;
/// A pause counts as the end of a step's work from this share of the longest typical pause on.
const NEARLY_LONGEST: f64 = 0.8;

/// Kernels an LLM runs once for each token, and not in each layer.
static ONCE_A_TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)arg_?max|sampl|multinomial|logits|embedding|greedy|penalt|get_rows")
        .expect("the pattern is a constant and tested")
});
/// The same words in the names of kernels that run in each layer.
static IN_EACH_LAYER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)moe|expert|gating|router|rotary|rope|upsample|downsample|resample|pos(itional)?_?embedding")
        .expect("the pattern is a constant and tested")
});

/// What can repeat: operations that are alike have one symbol.
struct Symbols {
    /// By symbol: what it is, in words.
    names: Vec<String>,
    /// By symbol: whether an LLM does it once a token.
    marks: Vec<bool>,
    graphs: Vec<bool>,
}

/// The operations of one stream by begin.
struct Sequence {
    ops: Vec<OpRef>,
    symbols: Vec<u32>,
}

/// How regularly one symbol comes again.
#[derive(Clone, Copy)]
struct Recurrence {
    count: u32,
    last: u32,
    /// The distance that most of its recurrences have, if most have one (Boyer and Moore's majority vote).
    distance: u32,
    votes: u32,
    /// Recurrences at that distance.
    regular: u32,
}

impl Recurrence {
    const NEW: Self = Self { count: 0, last: NO_ROW, distance: 0, votes: 0, regular: 0 };

    fn is_regular(&self) -> bool {
        self.count as usize >= LEAST_STEPS && self.distance > 0 && 5 * self.regular >= 3 * (self.count - 1)
    }
    /// Share of a stream of `len` operations that lies between recurrences at the ordinary distance.
    fn coverage(&self, len: usize) -> f64 {
        f64::from(self.regular) * f64::from(self.distance) / len.max(1) as f64
    }
}

fn close(a: u32, b: u32) -> bool {
    f64::from(a.abs_diff(b)) <= TOLERANCE * f64::from(a.max(b))
}

/// Steps of every process whose work repeats.
pub(super) fn find(timeline: &Timeline, evidence: &mut Vec<String>) -> Found {
    let mut found = Found { of: StepColumns::outside(timeline), ..Found::default() };
    let mut work = vec![0_u64; timeline.streams.len()];
    let mut ops = vec![0_u64; timeline.streams.len()];
    for (kind, rows) in [(OpKind::Kernel, timeline.kernels.len()), (OpKind::Graph, timeline.graphs.len())] {
        for row in 0..rows {
            let op = OpRef::new(kind, row);
            let stream = timeline.op_stream(op);
            work[stream] = work[stream].saturating_add(length_ns(timeline.op_start_ns(op), timeline.op_end_ns(op)));
            ops[stream] += 1;
        }
    }
    // The busiest stream of each process.
    let mut busiest: FxHashMap<u32, usize> = FxHashMap::default();
    for (row, stream) in timeline.streams.iter().enumerate().filter(|(row, _)| ops[*row] > 0) {
        let best = busiest.entry(stream.process).or_insert(row);
        if work[row] > work[*best] {
            *best = row;
        }
    }
    let mut streams: Vec<usize> = busiest.into_values().collect();
    streams.sort_by_key(|stream| (std::cmp::Reverse(work[*stream]), *stream));
    streams.truncate(MOST_PROCESSES);
    if streams.is_empty() {
        evidence.push("no repetition: there are no kernels".to_owned());
        return found;
    }
    let symbols = Symbols::of(timeline);
    let (mut weighted, mut weight) = (0.0, 0.0);
    let mut marked = true;
    for stream in &streams {
        let sequence = symbols.1.sequence(timeline, *stream);
        let Some(cut) = Cut::of(timeline, &symbols.0, &sequence) else { continue };
        let before = found.steps.len();
        cut.apply(timeline, *stream, &sequence, &mut found);
        if found.steps.len() == before {
            continue;
        }
        weighted += cut.regularity * work[*stream] as f64;
        weight += work[*stream] as f64;
        marked &= cut.marked;
        if evidence.len() < 12 {
            evidence.push(cut.words(timeline, *stream, found.steps.len() - before));
        }
    }
    if found.steps.is_empty() {
        evidence.push("no sequence of operations on the busiest streams repeats regularly".to_owned());
        return found;
    }
    found.marked = marked;
    let all: u64 = streams.iter().map(|stream| work[*stream]).sum();
    // Processes without steps count against the rest.
    found.regularity = weighted / (all as f64).max(weight).max(1.0) * if marked { 1.0 } else { UNMARKED };
    found
}

/// Symbols of operations that are not kernels, by what tells them apart.
struct Alphabet {
    graphs: FxHashMap<u32, u32>,
    copies: FxHashMap<(u8, u64), u32>,
    memsets: FxHashMap<u64, u32>,
}

impl Symbols {
    fn of(timeline: &Timeline) -> (Self, Alphabet) {
        let mut symbols = Self { names: Vec::new(), marks: Vec::new(), graphs: Vec::new() };
        for name in &timeline.kernel_names {
            let (demangled, short) = (timeline.text(name.demangled), timeline.text(name.short));
            let marks = (ONCE_A_TOKEN.is_match(demangled) || ONCE_A_TOKEN.is_match(short))
                && !IN_EACH_LAYER.is_match(demangled)
                && !IN_EACH_LAYER.is_match(short);
            symbols.add(format!("kernel `{}`", short.chars().take(80).collect::<String>()), marks, false);
        }
        let mut alphabet =
            Alphabet { graphs: FxHashMap::default(), copies: FxHashMap::default(), memsets: FxHashMap::default() };
        for executable in &timeline.graphs.executable {
            alphabet
                .graphs
                .entry(*executable)
                .or_insert_with(|| symbols.add(format!("graph {executable}"), false, true));
        }
        let copies = &timeline.copies;
        for (kind, bytes) in copies.kind.iter().zip(&copies.bytes) {
            alphabet.copies.entry((kind.0, *bytes)).or_insert_with(|| {
                let to_host = *kind == CopyKind::DEVICE_TO_HOST;
                symbols.add(format!("copy {} of {bytes} bytes", kind.label()), to_host, false)
            });
        }
        for bytes in &timeline.memsets.bytes {
            alphabet
                .memsets
                .entry(*bytes)
                .or_insert_with(|| symbols.add(format!("set of {bytes} bytes"), false, false));
        }
        (symbols, alphabet)
    }
    fn add(&mut self, name: String, marks: bool, graph: bool) -> u32 {
        self.names.push(name);
        self.marks.push(marks);
        self.graphs.push(graph);
        (self.names.len() - 1) as u32
    }
}

impl Alphabet {
    fn sequence(&self, timeline: &Timeline, stream: usize) -> Sequence {
        let mut sequence = Sequence { ops: Vec::new(), symbols: Vec::new() };
        for op in timeline.ops_by_start() {
            if timeline.op_stream(op) != stream {
                continue;
            }
            let row = op.row();
            let symbol = match op.kind() {
                OpKind::Kernel => timeline.kernels.name[row],
                OpKind::Graph => self.graphs[&timeline.graphs.executable[row]],
                OpKind::Copy => self.copies[&(timeline.copies.kind[row].0, timeline.copies.bytes[row])],
                OpKind::Memset => self.memsets[&timeline.memsets.bytes[row]],
            };
            sequence.ops.push(op);
            sequence.symbols.push(symbol);
        }
        sequence
    }
}

/// Recurrence of each of `symbols` below `distinct`.
fn recurrences(symbols: &[u32], distinct: usize) -> Vec<Recurrence> {
    let mut all = vec![Recurrence::NEW; distinct];
    for (at, symbol) in symbols.iter().enumerate() {
        let one = &mut all[*symbol as usize];
        if one.last != NO_ROW {
            let distance = at as u32 - one.last;
            if one.votes == 0 {
                (one.distance, one.votes) = (distance, 1);
            } else if close(one.distance, distance) {
                one.votes += 1;
            } else {
                one.votes -= 1;
            }
        }
        one.count += 1;
        one.last = at as u32;
    }
    for one in &mut all {
        one.last = NO_ROW;
    }
    for (at, symbol) in symbols.iter().enumerate() {
        let one = &mut all[*symbol as usize];
        if one.last != NO_ROW {
            one.regular += u32::from(close(one.distance, at as u32 - one.last));
        }
        one.last = at as u32;
    }
    all
}

/// Where a stream is cut into steps.
struct Cut {
    /// Operations of an ordinary step.
    period: u32,
    /// Position of the last operation of each step.
    ends: Vec<u32>,
    /// What ends each step, in words.
    anchor: String,
    /// What comes once in each step and tells of an LLM.
    marker: Option<String>,
    /// Share of the operations between the first and the last cut that lie in steps of the ordinary length.
    regularity: f64,
    /// Median pause after the cut.
    pause_ns: u64,
    marked: bool,
}

impl Cut {
    fn of(timeline: &Timeline, symbols: &Symbols, sequence: &Sequence) -> Option<Self> {
        let single = recurrences(&sequence.symbols, symbols.names.len());
        let own = |symbol: u32| symbol;
        if let Some(cut) = Self::among(timeline, symbols, sequence, &sequence.symbols, &single, &own, true) {
            return Some(cut);
        }
        // What comes twice in a step comes once in its surroundings: the same with four operations in a row as one symbol.
        let (grams, last_of) = grams(&sequence.symbols);
        let several = recurrences(&grams, last_of.len());
        let ends_with = |gram: u32| last_of[gram as usize];
        Self::among(timeline, symbols, sequence, &grams, &several, &ends_with, true)
            .or_else(|| Self::among(timeline, symbols, sequence, &sequence.symbols, &single, &own, false))
            .or_else(|| Self::among(timeline, symbols, sequence, &grams, &several, &ends_with, false))
    }

    /// The best cut at one of `tokens`; `base` gives the symbol that a token ends with.
    fn among(
        timeline: &Timeline,
        symbols: &Symbols,
        sequence: &Sequence,
        tokens: &[u32],
        all: &[Recurrence],
        base: &dyn Fn(u32) -> u32,
        marked: bool,
    ) -> Option<Self> {
        let len = tokens.len();
        let whole_graphs = symbols.graphs.contains(&true);
        let regular: Vec<u32> = (0..all.len() as u32)
            .filter(|token| {
                let one = &all[*token as usize];
                one.is_regular() && one.coverage(len) >= LEAST_COVERAGE && (whole_graphs || one.distance >= LEAST_OPS)
            })
            .collect();
        let marks = |token: u32| symbols.marks[base(token) as usize];
        let graph = |token: u32| symbols.graphs[base(token) as usize];
        let shortest = |pick: &dyn Fn(u32) -> bool| {
            regular.iter().copied().filter(|token| pick(*token)).map(|token| all[token as usize].distance).min()
        };
        let period = if marked {
            shortest(&marks).or_else(|| shortest(&graph))?
        } else {
            // Layers repeat inside steps: the longest period that explains nearly as much as the best.
            let best = regular.iter().map(|token| all[*token as usize].coverage(len)).fold(0.0, f64::max);
            regular
                .iter()
                .map(|token| &all[*token as usize])
                .filter(|one| one.coverage(len) >= 0.9 * best && one.count >= 8)
                .map(|one| one.distance)
                .max()?
        };
        let level: Vec<u32> =
            regular.iter().copied().filter(|token| close(all[*token as usize].distance, period)).collect();
        let marker = level
            .iter()
            .copied()
            .filter(|token| marks(*token))
            .max_by_key(|token| (all[*token as usize].count, std::cmp::Reverse(*token)))
            .or_else(|| level.iter().copied().find(|token| graph(*token)));
        // Of what comes in (nearly) every step, what is followed by the longest pause ends it. A marker knows how many steps there are.
        let most = match marker {
            Some(marker) => all[marker as usize].count,
            None => level.iter().map(|token| all[*token as usize].count).max()?,
        };
        let candidates: Vec<u32> = level
            .iter()
            .copied()
            .filter(|token| {
                let count = f64::from(all[*token as usize].count);
                count >= 0.99 * f64::from(most) - 1.0 && count <= 1.01 * f64::from(most) + 1.0
            })
            .collect();
        let (anchor, pause_ns) = longest_pause(timeline, sequence, tokens, &candidates, all.len(), marker)?;
        let ends: Vec<u32> = (0..len as u32).filter(|at| tokens[*at as usize] == anchor).collect();
        let mut ordinary = 0_u64;
        for pair in ends.windows(2) {
            if close(pair[1] - pair[0], period) {
                ordinary += u64::from(pair[1] - pair[0]);
            }
        }
        // Copies alone, as of weights being loaded, are no steps.
        let within = &sequence.ops[*ends.first()? as usize..=*ends.last()? as usize];
        let computing = within.iter().filter(|op| matches!(op.kind(), OpKind::Kernel | OpKind::Graph)).count();
        if 2 * computing < within.len() {
            return None;
        }
        let between = u64::from(ends.last()? - ends.first()?);
        let regularity = if between > 0 { ordinary as f64 / between as f64 } else { 0.0 };
        (ends.len() >= LEAST_STEPS && regularity >= LEAST_REGULARITY).then(|| Self {
            period,
            ends,
            anchor: symbols.names[base(anchor) as usize].clone(),
            marker: marker.map(|token| symbols.names[base(token) as usize].clone()),
            regularity,
            pause_ns,
            marked: marker.is_some(),
        })
    }

    fn words(&self, timeline: &Timeline, stream: usize, steps: usize) -> String {
        let row = &timeline.streams[stream];
        let pid = timeline.processes.get(row.process as usize).map_or(0, |process| process.pid);
        let marker = match &self.marker {
            Some(marker) if *marker != self.anchor => format!(", {marker} comes once in each"),
            Some(_) => String::new(),
            None => ", and nothing in them tells of a token".to_owned(),
        };
        format!(
            "process {pid}, stream {}: {steps} sequences, ordinarily of {} operations ({} of all), each ended by {} and a pause of {} in the median{marker}",
            row.stream,
            self.period,
            percent(self.regularity),
            self.anchor,
            words(self.pause_ns)
        )
    }

    /// Gives the operations of the process their steps.
    fn apply(&self, timeline: &Timeline, stream: usize, sequence: &Sequence, found: &mut Found) {
        let process = timeline.streams[stream].process;
        let first_step = found.steps.len() as u32;
        let mut begins: Vec<i64> = Vec::with_capacity(self.ends.len());
        let median = self.median_ns(timeline, sequence);
        let mut from = self.first_begin(timeline, sequence, median);
        for end in &self.ends {
            let end = *end as usize;
            begins.push(timeline.op_start_ns(sequence.ops[from]));
            let step = found.steps.len() as u32;
            for op in &sequence.ops[from..=end] {
                found.of.set(*op, step);
            }
            found.steps.push(FoundStep { phase: None, process, host_ns: None });
            from = end + 1;
        }
        let last_end = self.ends.last().map_or(i64::MIN, |end| timeline.op_end_ns(sequence.ops[*end as usize]));
        // Other streams of the process go by time.
        if timeline.streams.iter().filter(|other| other.process == process).count() > 1 {
            let mut step = 0_usize;
            for op in timeline.ops_by_start() {
                let row = timeline.op_stream(op);
                if row == stream || timeline.streams[row].process != process {
                    continue;
                }
                let start = timeline.op_start_ns(op);
                while step + 1 < begins.len() && begins[step + 1] <= start {
                    step += 1;
                }
                if start >= begins[0] && start < last_end {
                    found.of.set(op, first_step + step as u32);
                }
            }
        }
    }

    /// Median time from cut to cut, ns.
    fn median_ns(&self, timeline: &Timeline, sequence: &Sequence) -> i64 {
        let mut times: Vec<i64> = self
            .ends
            .windows(2)
            .map(|pair| {
                let end = |at: u32| timeline.op_end_ns(sequence.ops[at as usize]);
                end(pair[1]).saturating_sub(end(pair[0]))
            })
            .collect();
        let middle = times.len() / 2;
        if times.is_empty() { 0 } else { *times.select_nth_unstable(middle).1 }
    }

    /// Where the first step begins: after a long pause, or after the copies that put weights in place; not more than a few ordinary steps back.
    fn first_begin(&self, timeline: &Timeline, sequence: &Sequence, median_ns: i64) -> usize {
        let end = self.ends.first().map_or(0, |end| *end as usize);
        let mut begin = end;
        while begin > 0 {
            let pause =
                timeline.op_start_ns(sequence.ops[begin]).saturating_sub(timeline.op_end_ns(sequence.ops[begin - 1]));
            if pause > median_ns.saturating_mul(LONG_PAUSE) || end - begin > 8 * self.period as usize {
                break;
            }
            begin -= 1;
        }
        while begin < end && matches!(sequence.ops[begin].kind(), OpKind::Copy | OpKind::Memset) {
            begin += 1;
        }
        begin
    }
}

/// Of `candidates`, the token whose end is followed by the longest pause in the median, a marker where it is nearly as long; and that pause.
fn longest_pause(
    timeline: &Timeline,
    sequence: &Sequence,
    tokens: &[u32],
    candidates: &[u32],
    distinct: usize,
    marker: Option<u32>,
) -> Option<(u32, u64)> {
    /// Pauses looked at for each candidate.
    const SAMPLE: usize = 256;
    let mut place = vec![NO_ROW; distinct];
    for (row, token) in candidates.iter().enumerate() {
        place[*token as usize] = row as u32;
    }
    let mut pauses: Vec<Vec<u64>> = vec![Vec::new(); candidates.len()];
    for at in 0..tokens.len().saturating_sub(1) {
        let row = place[tokens[at] as usize];
        if row != NO_ROW && pauses[row as usize].len() < SAMPLE {
            let (end, next) = (timeline.op_end_ns(sequence.ops[at]), timeline.op_start_ns(sequence.ops[at + 1]));
            pauses[row as usize].push(length_ns(end, next));
        }
    }
    let medians: Vec<u64> = pauses
        .iter_mut()
        .map(|pauses| {
            let middle = pauses.len() / 2;
            if pauses.is_empty() { 0 } else { *pauses.select_nth_unstable(middle).1 }
        })
        .collect();
    let longest = medians.iter().copied().max()?;
    let by_marker = candidates.iter().position(|token| Some(*token) == marker);
    let row = by_marker
        .filter(|row| medians[*row] as f64 >= NEARLY_LONGEST * longest as f64 && longest > 0)
        .or_else(|| medians.iter().position(|pause| *pause == longest))?;
    Some((candidates[row], medians[row]))
}

/// Every operation with the three before it as one token, and the symbol each token ends with. Rare ones beyond a bound share the last token, which
/// then is not regular.
fn grams(symbols: &[u32]) -> (Vec<u32>, Vec<u32>) {
    const MOST: usize = 1 << 18;
    let mut ids: FxHashMap<[u32; 4], u32> = FxHashMap::default();
    let mut last_of: Vec<u32> = Vec::new();
    let mut overflow = None;
    let mut tokens = Vec::with_capacity(symbols.len());
    for at in 0..symbols.len() {
        let back = |by: usize| at.checked_sub(by).map_or(NO_ROW, |at| symbols[at]);
        let key = [back(3), back(2), back(1), symbols[at]];
        let token = match ids.get(&key) {
            Some(token) => *token,
            None if last_of.len() < MOST => {
                last_of.push(symbols[at]);
                ids.insert(key, (last_of.len() - 1) as u32);
                (last_of.len() - 1) as u32
            }
            None => *overflow.get_or_insert_with(|| {
                last_of.push(symbols[at]);
                (last_of.len() - 1) as u32
            }),
        };
        tokens.push(token);
    }
    (tokens, last_of)
}
