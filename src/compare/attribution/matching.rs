//! Which operations of one trace stand for which of the other, within one phase.
//!
//! 1. The representative steps of the two sides are aligned ([`super::align`]): operations are paired by module, class, name and place. Each
//!    pair of roles, with the grid, is a row.
//! 2. An operation without a counterpart at its place joins the row of its own role where the other side has that role too (its count changed, or it
//!    moved), else it is gone or new.
//! 3. In every step the n-th call of a role takes the row of the n-th call of that role in the representative step. What is beyond it, and what is
//!    in no representative step, goes by its role.
//! 4. Rows of modules that one side runs fused become one ([`super::families`]).

use rustc_hash::FxHashMap;

use super::align::{Token, UNKNOWN, align};
use super::families::{Family, family};
use super::profile::{PhaseKind, Piece, Profile, Role};

/// More grids than this of one role within a step are not told apart.
const MOST_SHAPES: usize = 4;
/// No row.
const NONE: u32 = u32::MAX;

/// Roles on both sides by common numbers.
pub(super) struct Common {
    /// By side and role: number of (module, class, name).
    role: [Vec<u32>; 2],
    module: [Vec<u32>; 2],
    class: [Vec<u32>; 2],
    name: [Vec<u32>; 2],
    family: [Vec<Option<Family>>; 2],
}

impl Common {
    /// Numbers the roles of both sides; the numbers do not depend on which side is which.
    pub(super) fn of(sides: [&[Role]; 2]) -> Self {
        let numbered = |key: &dyn Fn(&Role) -> String| {
            let mut all: Vec<String> = sides.iter().flat_map(|roles| roles.iter().map(key)).collect();
            all.sort_unstable();
            all.dedup();
            let rows: FxHashMap<&str, u32> =
                all.iter().enumerate().map(|(row, key)| (key.as_str(), row as u32)).collect();
            sides.map(|roles| roles.iter().map(|role| rows[key(role).as_str()]).collect::<Vec<u32>>())
        };
        let module_text = |role: &Role| role.module.as_ref().map_or(String::new(), |module| format!("m{module}"));
        let module = numbered(&module_text);
        let known = sides.map(|roles| roles.iter().map(|role| role.module.is_some()).collect::<Vec<bool>>());
        let module = [0, 1].map(|side| {
            let numbers = module[side].iter().zip(&known[side]);
            numbers.map(|(number, known)| if *known { *number } else { UNKNOWN }).collect()
        });
        Self {
            role: numbered(&|role| format!("{}\u{0}{}\u{0}{}", module_text(role), role.class, role.normal)),
            module,
            class: numbered(&|role| role.class.to_owned()),
            name: numbered(&|role| role.normal.clone()),
            family: sides.map(|roles| roles.iter().map(|role| role.module.as_deref().and_then(family)).collect()),
        }
    }
}

/// Roles of one row on one side, in the order they were met, with their grid where it tells rows apart.
type Half = Vec<(u32, u64)>;

/// How the two halves of a row found each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By the alignment.
    Place,
    /// By module, class and name alone.
    Role,
    /// One side runs as one what the other runs in parts.
    Fused,
}

/// A row of one phase.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Baseline and candidate; empty where it has none.
    pub(super) halves: [Half; 2],
    pub(super) how: How,
    /// The only layer it is of, where that stands out.
    pub(super) layer: Option<u32>,
}

/// The rows of one phase and the way from an operation to its row.
pub(super) struct Matching {
    pub(super) rows: Vec<Row>,
    /// By side and role: rows of its calls in the representative step.
    slots: [Vec<Vec<u32>>; 2],
    /// By side and role: row of all other calls.
    otherwise: [Vec<u32>; 2],
    /// By row: a layer whose calls have another row; empty if there is none.
    apart: Vec<Option<(u32, u32)>>,
    /// False where the steps were too long to align.
    pub(super) aligned: bool,
}

impl Matching {
    /// Row of a piece of `profile`, which is `side`.
    pub(super) fn row(&self, side: usize, profile: &Profile<'_>, piece: Piece) -> usize {
        let slots = &self.slots[side][piece.role as usize];
        let row = slots.get(piece.nth()).copied().unwrap_or(self.otherwise[side][piece.role as usize]);
        match self.apart.get(row as usize) {
            Some(Some((layer, own))) if profile.layer(piece.op) == Some(*layer) => *own as usize,
            _ => row as usize,
        }
    }

    /// Gives `layer` of `row` a row of its own.
    pub(super) fn part(&mut self, row: usize, layer: u32) {
        let own = self.rows.len() as u32;
        self.rows.push(Row { layer: Some(layer), ..self.rows[row].clone() });
        self.apart.resize(self.rows.len(), None);
        self.apart[row] = Some((layer, own));
    }

    /// The layer that was taken out of `row`.
    pub(super) fn without(&self, row: usize) -> Option<u32> {
        self.apart.get(row).copied().flatten().map(|(layer, _)| layer)
    }
}

struct Builder<'a> {
    sides: [&'a Profile<'a>; 2],
    common: &'a Common,
    /// By side and role: calls in the phase.
    calls: [&'a [u64]; 2],
    /// Modules are spelt in the same way on both sides.
    modules_agree: bool,
    rows: Vec<Row>,
    known: FxHashMap<[Option<(u32, u64)>; 2], u32>,
}

/// Matches the operations of a phase; `phase` is its row on each side, `None` where a side has no such phase.
pub(super) fn matching(
    sides: [&Profile<'_>; 2],
    common: &Common,
    phase: [Option<usize>; 2],
    calls: [&[u64]; 2],
) -> Matching {
    let mut builder = Builder {
        sides,
        common,
        calls,
        modules_agree: modules_agree(common, calls),
        rows: Vec::new(),
        known: FxHashMap::default(),
    };
    let steps = [0, 1].map(|side| builder.representative(side, phase[side]));
    let tokens = [0, 1].map(|side| builder.tokens(side, &steps[side]));
    let pairs = align(&tokens[0], &tokens[1]);
    let aligned = pairs.is_some();
    let mut slots = [0, 1].map(|side| vec![Vec::new(); sides[side].roles.len()]);
    let mut otherwise = [0, 1].map(|side| vec![NONE; sides[side].roles.len()]);
    if let Some(pairs) = pairs {
        let half = |side: usize, row: usize| (steps[side][row].role, tokens[side][row].shape);
        let mut row_of: [Vec<u32>; 2] = [0, 1].map(|side| vec![NONE; steps[side].len()]);
        for pair in &pairs {
            if let (Some(a), Some(b)) = *pair {
                let row = builder.row([Some(half(0, a)), Some(half(1, b))], How::Place);
                (row_of[0][a], row_of[1][b]) = (row, row);
            }
        }
        for (a, b) in pairs {
            let alone = match (a, b) {
                (Some(a), None) => Some((0, a)),
                (None, Some(b)) => Some((1, b)),
                _ => None,
            };
            if let Some((side, at)) = alone {
                let (role, shape) = half(side, at);
                row_of[side][at] = builder.by_role(side, role, shape);
            }
        }
        for side in [0, 1] {
            for (piece, row) in steps[side].iter().zip(&row_of[side]) {
                slots[side][piece.role as usize].push(*row);
            }
        }
    }
    for side in [0, 1] {
        for (role, row) in otherwise[side].iter_mut().enumerate() {
            if calls[side][role] > 0 {
                *row = builder.by_role(side, role as u32, 0);
            }
        }
    }
    let map = fuse(&mut builder, &steps);
    for row in slots.iter_mut().flatten().flatten().chain(otherwise.iter_mut().flatten()) {
        if *row != NONE {
            *row = map[*row as usize];
        }
    }
    Matching { rows: builder.rows, slots, otherwise, apart: Vec::new(), aligned }
}

/// Whether any module is known by one name on both sides.
fn modules_agree(common: &Common, calls: [&[u64]; 2]) -> bool {
    let modules = |side: usize| {
        let numbers = common.module[side].iter().zip(calls[side]);
        numbers.filter(|(module, calls)| **module != UNKNOWN && **calls > 0).map(|(module, _)| *module)
    };
    let mut of_baseline: Vec<u32> = modules(0).collect();
    of_baseline.sort_unstable();
    modules(1).any(|module| of_baseline.binary_search(&module).is_ok())
}

impl Builder<'_> {
    fn representative(&self, side: usize, phase: Option<usize>) -> Vec<Piece> {
        let profile = self.sides[side];
        let Some(phase) = phase else { return Vec::new() };
        // Outside of steps there is no order that comes again.
        let ordered =
            profile.phases[phase].kind == PhaseKind::Steps || !profile.has_steps() && profile.units.len() == 1;
        match profile.representative(phase) {
            Some(unit) if ordered => profile.calls_of(unit).copied().collect(),
            _ => Vec::new(),
        }
    }

    fn tokens(&self, side: usize, step: &[Piece]) -> Vec<Token> {
        let profile = self.sides[side];
        let mut shapes: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
        for piece in step {
            let of_role = shapes.entry(piece.role).or_default();
            let shape = profile.shape(piece.op);
            if of_role.len() <= MOST_SHAPES && !of_role.contains(&shape) {
                of_role.push(shape);
            }
        }
        step.iter()
            .map(|piece| {
                let role = piece.role as usize;
                let told_apart = shapes[&piece.role].len() <= MOST_SHAPES;
                Token {
                    role: self.common.role[side][role],
                    module: if self.modules_agree { self.common.module[side][role] } else { UNKNOWN },
                    family: self.common.family[side][role].map_or(UNKNOWN, Family::number),
                    class: self.common.class[side][role],
                    name: self.common.name[side][role],
                    shape: if told_apart { profile.shape(piece.op) } else { 0 },
                }
            })
            .collect()
    }

    fn row(&mut self, key: [Option<(u32, u64)>; 2], how: How) -> u32 {
        *self.known.entry(key).or_insert_with(|| {
            self.rows.push(Row { halves: key.map(|half| half.into_iter().collect()), how, layer: None });
            (self.rows.len() - 1) as u32
        })
    }

    /// Whether two roles are the same thing but for what is not known of them.
    fn same(&self, side: usize, role: u32, other: u32) -> bool {
        let (role, other) = (role as usize, other as usize);
        if self.common.role[side][role] == self.common.role[1 - side][other] {
            return true;
        }
        let unknown = !self.modules_agree
            || self.common.module[side][role] == UNKNOWN
            || self.common.module[1 - side][other] == UNKNOWN;
        unknown
            && self.common.class[side][role] == self.common.class[1 - side][other]
            && self.common.name[side][role] == self.common.name[1 - side][other]
    }

    /// Row of an operation that has no counterpart at its place.
    fn by_role(&mut self, side: usize, role: u32, shape: u64) -> u32 {
        // A row that has the role on both sides, preferably of this grid; then any row in which the role stands for itself.
        let mut best: Option<(u8, u32)> = None;
        for (row, known) in self.rows.iter().enumerate() {
            let (Some(mine), Some(other)) = (known.halves[side].first(), known.halves[1 - side].first()) else {
                continue;
            };
            if mine.0 == role && self.same(side, role, other.0) {
                let exact = self.common.role[side][role as usize] == self.common.role[1 - side][other.0 as usize];
                let rank = u8::from(exact) * 2 + u8::from(mine.1 == shape || other.1 == shape);
                if best.is_none_or(|(best, _)| rank > best) {
                    best = Some((rank, row as u32));
                }
            }
        }
        if let Some((_, row)) = best {
            return row;
        }
        let others = 0..self.calls[1 - side].len() as u32;
        let counterpart = others
            .filter(|other| self.calls[1 - side][*other as usize] > 0 && self.same(side, role, *other))
            .max_by_key(|other| self.common.role[side][role as usize] == self.common.role[1 - side][*other as usize]);
        let mut key = [None, None];
        key[side] = Some((role, 0));
        key[1 - side] = counterpart.map(|other| (other, 0));
        self.row(key, How::Role)
    }
}

/// Makes rows of fused modules one; the new row of each old one.
fn fuse(builder: &mut Builder<'_>, steps: &[Vec<Piece>; 2]) -> Vec<u32> {
    let common = builder.common;
    let mut families: FxHashMap<Family, Vec<usize>> = FxHashMap::default();
    for (row, known) in builder.rows.iter().enumerate() {
        let of = |side: usize| known.halves[side].first().map(|(role, _)| *role as usize);
        let family_of = |side: usize| of(side).and_then(|role| common.family[side][role]);
        let Some(family) = family_of(0).or(family_of(1)) else { continue };
        let stays = match (of(0), of(1)) {
            (Some(a), Some(b)) => common.module[0][a] == common.module[1][b] || family_of(0) != family_of(1),
            _ => false,
        };
        if !stays {
            families.entry(family).or_default().push(row);
        }
    }
    let mut into: Vec<usize> = (0..builder.rows.len()).collect();
    if builder.modules_agree {
        for rows in families.values() {
            let has = |side: usize| rows.iter().any(|row| !builder.rows[*row].halves[side].is_empty());
            if rows.len() > 1 && has(0) && has(1) {
                rows[1..].iter().for_each(|row| into[*row] = rows[0]);
            }
        }
    }
    let mut map = vec![NONE; into.len()];
    let old = std::mem::take(&mut builder.rows);
    for (row, known) in old.into_iter().enumerate() {
        let target = into[row];
        if target == row {
            map[row] = builder.rows.len() as u32;
            builder.rows.push(known);
            continue;
        }
        // The first of a family comes before the others.
        map[row] = map[target];
        let merged = &mut builder.rows[map[target] as usize];
        merged.how = How::Fused;
        for side in [0, 1] {
            for half in &known.halves[side] {
                if !merged.halves[side].contains(half) {
                    merged.halves[side].push(*half);
                }
            }
        }
    }
    for row in builder.rows.iter_mut().filter(|row| row.how == How::Fused) {
        for (half, step) in row.halves.iter_mut().zip(steps) {
            half.sort_by_key(|(role, _)| step.iter().position(|piece| piece.role == *role));
        }
    }
    map
}
