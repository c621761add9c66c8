//! Layers and modules of a model, from the names of the ranges around a kernel.
//!
//! Understood are dotted paths (`model.layers.12.self_attn`, `h.3.mlp`, `blk.3`), counters (`layer_12`, `layer 12`), the modules of PyTorch's profiler
//! (`nn.Module: LlamaDecoderLayer_3`), our own ranges ([`range_names`]), and any range of the user's inside a layer. Operators of the framework, Python functions and ranges of
//! libraries name no module. Of nested layers the outermost counts, of nested modules the innermost.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::Projection;
use crate::analysis::coverage::is_library_range;
use crate::instrument::range_names::{self, Meaning};
use crate::trace::host::RangeKind;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Modules and layers by path node of a [`Projection`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modules {
    /// Module names, the layer number taken out: `self_attn.q_proj`, `Qwen2Attention.Linear.2`, `(layer)` for a layer's own work.
    pub names: Vec<String>,
    /// By path node: row in `names` or `NO_ROW`.
    pub path_module: Vec<u32>,
    /// By path node: layer or `NO_ROW`.
    pub path_layer: Vec<u32>,
}

/// A name ending the part before the layer number, the number, and the rest.
static DOTTED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(?:^|[^a-z0-9])(?:(?:(?:decoder|encoder|transformer|hidden)?_?(?:layers?|blocks?)|blk)[._\-\[/ #:]*|h[.\[/])(\d{1,4})(?:\D(.*))?$",
    )
    .expect("the pattern is a constant and tested")
});
/// A numbered class that stands for a layer. `LayerNorm_3` and `SiLU_3` do not.
static LAYER_CLASS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:(?:Decoder|Encoder|Transformer)(?:Layer|Block)|[A-Za-z0-9]Block|^Block)_(\d{1,4})$")
        .expect("the pattern is a constant and tested")
});
/// Names that are modules even outside any layer.
static MODULE_WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)attn|attention|mlp|moe|expert|norm|embed|lm_?head|rope|rotary|qkv|[a-z]_proj|gate_up|feed_?forward|\bffn\b|sampler|logits|^[a-z_]\w*(\.\w+)+$",
    )
    .expect("the pattern is a constant and tested")
});

const TORCH: &str = "nn.Module: ";

/// What one range name tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    /// A layer, and the module inside it that the name goes on to.
    Layer(u32, Option<String>),
    /// A class of PyTorch and the number of the instance.
    Torch(String, u32),
    /// A module, in so many words.
    Module(String),
    /// Some range of the user's.
    User(String),
}

fn layer_in(name: &str) -> Option<(u32, Option<String>)> {
    let found = DOTTED.captures(name)?;
    let layer = found[1].parse().ok()?;
    let rest = found.get(2).map_or("", |rest| rest.as_str());
    Some((layer, clean(rest.trim_start_matches(['.', ']', '/', ':', ' ', '_', '-']))))
}

/// Up to the first character that begins details; `None` if nothing is left.
fn clean(name: &str) -> Option<String> {
    let end = name.find([',', ';', '(', '{', '\'', '"']).unwrap_or(name.len());
    let name = name[..end].trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn told(label: &str, kind: RangeKind) -> Told {
    match kind {
        RangeKind::Operator => return Told::Nothing,
        RangeKind::Python => {
            let Some(class) = label.strip_prefix(TORCH) else { return Told::Nothing };
            return match class.rsplit_once('_').and_then(|(class, n)| Some((class, n.parse().ok()?))) {
                Some((class, instance)) => Told::Torch(class.to_owned(), instance),
                None => Told::Torch(class.to_owned(), 0),
            };
        }
        _ => {}
    }
    match range_names::meaning(label) {
        Some(Meaning::Layer(layer)) => return Told::Layer(layer, None),
        Some(Meaning::Module(path)) => return Told::Module(path.to_owned()),
        Some(Meaning::Around | Meaning::Step(_)) => return Told::Nothing,
        None => {}
    }
    if is_library_range(label) || label.contains("op_id = ") {
        return Told::Nothing;
    }
    // vLLM's layer-wise ranges are dictionaries: {'Module': 'model.layers.0.self_attn', …}.
    let name = label.split_once("'Module': '").and_then(|(_, rest)| rest.split('\'').next()).unwrap_or(label);
    match layer_in(name) {
        Some((layer, module)) => Told::Layer(layer, module),
        None => clean(name).map_or(Told::Nothing, Told::User),
    }
}

/// Modules and layers that the range names of `projection` tell.
pub fn modules(timeline: &Timeline, projection: &Projection) -> Modules {
    let paths = &projection.paths;
    let mut kinds: Vec<Option<RangeKind>> = vec![None; paths.len()];
    for (row, path) in projection.path.iter().enumerate() {
        if let Some(kind) = kinds.get_mut(*path as usize) {
            kind.get_or_insert(timeline.ranges.kind[row]);
        }
    }
    let told: Vec<Told> = (0..paths.len())
        .map(|path| kinds[path].map_or(Told::Nothing, |kind| told(projection.label(path), kind)))
        .collect();
    let torch = TorchFamilies::new(projection, &told);
    let mut modules =
        Modules { names: Vec::new(), path_module: vec![NO_ROW; paths.len()], path_layer: vec![NO_ROW; paths.len()] };
    let mut ids: FxHashMap<String, u32> = FxHashMap::default();
    for path in 0..paths.len() {
        let parent = paths[path].parent;
        let (mut layer, mut module) = match parent {
            NO_ROW => (NO_ROW, NO_ROW),
            parent => (modules.path_layer[parent as usize], modules.path_module[parent as usize]),
        };
        let name = match &told[path] {
            Told::Nothing => None,
            Told::Layer(number, inner) => {
                let first = layer == NO_ROW;
                if first {
                    layer = *number;
                }
                inner.clone().or_else(|| first.then(|| "(layer)".to_owned()))
            }
            Told::Torch(class, instance) => {
                let whole = format!("{class}_{instance}");
                match LAYER_CLASS.captures(&whole) {
                    Some(found) if layer == NO_ROW => {
                        layer = found[1].parse().unwrap_or(NO_ROW);
                        Some("(layer)".to_owned())
                    }
                    _ => Some(torch.name(path, class, *instance)),
                }
            }
            Told::Module(name) => Some(name.clone()),
            Told::User(name) => (layer != NO_ROW || MODULE_WORD.is_match(name)).then(|| name.clone()),
        };
        if let Some(name) = name {
            module = *ids.entry(name).or_insert_with_key(|name| {
                modules.names.push(name.clone());
                (modules.names.len() - 1) as u32
            });
        }
        modules.path_layer[path] = layer;
        modules.path_module[path] = module;
    }
    modules
}

/// Which modules of PyTorch stand below which, so that the third `Linear` of an attention is told from the first.
struct TorchFamilies {
    /// By path: the nearest module above.
    above: Vec<u32>,
    /// (module above, class) → instances.
    members: FxHashMap<(u32, String), BTreeSet<u32>>,
    /// By path: class, if it may stand in the names of its members.
    prefix: Vec<Option<String>>,
}

impl TorchFamilies {
    fn new(projection: &Projection, told: &[Told]) -> Self {
        let mut above = vec![NO_ROW; told.len()];
        let mut members: FxHashMap<(u32, String), BTreeSet<u32>> = FxHashMap::default();
        let mut prefix = vec![None; told.len()];
        for path in 0..told.len() {
            let parent = projection.paths[path].parent;
            if parent != NO_ROW {
                let is_module = matches!(told[parent as usize], Told::Torch(..));
                above[path] = if is_module { parent } else { above[parent as usize] };
            }
            if let Told::Torch(class, instance) = &told[path] {
                members.entry((above[path], class.clone())).or_default().insert(*instance);
                let is_layer = LAYER_CLASS.is_match(&format!("{class}_{instance}"));
                prefix[path] = (!is_layer && !class.ends_with("Model")).then(|| class.clone());
            }
        }
        Self { above, members, prefix }
    }
    /// `Class`, `Class.2` for the third of its class, `Above.Class.2` below another module.
    fn name(&self, path: usize, class: &str, instance: u32) -> String {
        let above = self.above[path];
        let siblings = self.members.get(&(above, class.to_owned()));
        let rank = siblings.map_or(0, |siblings| siblings.range(..instance).count());
        let number =
            if siblings.is_some_and(|siblings| siblings.len() > 1) { format!(".{rank}") } else { String::new() };
        match self.prefix.get(above as usize).and_then(Option::as_ref) {
            Some(prefix) => format!("{prefix}.{class}{number}"),
            None => format!("{class}{number}"),
        }
    }
}

impl Modules {
    /// The path that says most about kernel `row`: where it was captured into a graph if that is known and inside a layer or module, else where
    /// it was launched.
    fn path_of_kernel(&self, timeline: &Timeline, projection: &Projection, row: usize) -> Option<usize> {
        let path_of = |range: usize| {
            let path = projection.path[range];
            (path != NO_ROW).then_some(path as usize)
        };
        let captured = projection.kernel_capture_range(timeline, row).and_then(path_of);
        if let Some(path) = captured
            && (self.path_module[path] != NO_ROW || self.path_layer[path] != NO_ROW)
        {
            return Some(path);
        }
        let range = projection.kernel_range[row];
        if range == NO_ROW { captured } else { path_of(range as usize) }
    }
    /// Row in `names` of the module of kernel `row`.
    pub fn module_of_kernel(&self, timeline: &Timeline, projection: &Projection, row: usize) -> Option<usize> {
        let module = self.path_module[self.path_of_kernel(timeline, projection, row)?];
        (module != NO_ROW).then_some(module as usize)
    }
    /// Layer of kernel `row`.
    pub fn layer_of_kernel(&self, timeline: &Timeline, projection: &Projection, row: usize) -> Option<u32> {
        let layer = self.path_layer[self.path_of_kernel(timeline, projection, row)?];
        (layer != NO_ROW).then_some(layer)
    }
    /// True if no range names a module or a layer.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.path_layer.iter().all(|layer| *layer == NO_ROW)
    }
}

#[cfg(test)]
mod tests {
    use super::super::project;
    use super::*;
    use crate::trace::builder::TimelineBuilder;

    /// One kernel inside nested ranges `names`; (layer, module) of it.
    fn told_by(kind: RangeKind, names: &[&str]) -> (Option<u32>, Option<String>) {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let thread = b.thread(p, 1);
        let device = b.device(0);
        let stream = b.stream(p, device, 7);
        for (depth, name) in names.iter().enumerate() {
            b.range_of(kind, thread, "", name, depth as i64, Some(100 - depth as i64));
        }
        b.call(thread, "cudaLaunchKernel", 50, 51, 1);
        b.kernel(stream, "k", 60, 70, 1);
        let t = b.finish();
        let projection = project(&t);
        let modules = modules(&t, &projection);
        let module = modules.module_of_kernel(&t, &projection, 0).map(|module| modules.names[module].clone());
        (modules.layer_of_kernel(&t, &projection, 0), module)
    }

    fn nvtx(names: &[&str]) -> (Option<u32>, Option<String>) {
        told_by(RangeKind::PushPop, names)
    }

    fn some(layer: u32, module: &str) -> (Option<u32>, Option<String>) {
        (Some(layer), Some(module.to_owned()))
    }

    #[test]
    fn layers_and_modules_are_read_from_the_ways_they_are_written() {
        assert_eq!(nvtx(&["model.layers.12.self_attn.q_proj"]), some(12, "self_attn.q_proj"));
        assert_eq!(nvtx(&["layers.12"]), some(12, "(layer)"));
        assert_eq!(nvtx(&["decode", "layer_7", "mlp"]), some(7, "mlp"));
        assert_eq!(nvtx(&["layer.31", "attn"]), some(31, "attn"));
        assert_eq!(nvtx(&["transformer.h.3.mlp"]), some(3, "mlp"));
        assert_eq!(nvtx(&["blk.5.ffn_down"]), some(5, "ffn_down"));
        assert_eq!(nvtx(&["Layer 4"]), some(4, "(layer)"));
        assert_eq!(nvtx(&["{'Module': 'model.layers.9.mlp', 'TrainableParams': 3}"]), some(9, "mlp"));
        assert_eq!(nvtx(&["lm_head"]), (None, Some("lm_head".to_owned())));
    }

    #[test]
    fn our_own_ranges_name_layers_and_modules_without_their_domain() {
        let own = |names: &[&str]| {
            let labels: Vec<String> = names.iter().map(|name| format!("perfprof:{name}")).collect();
            nvtx(&labels.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(own(&["request", "decode"]), (None, None));
        assert_eq!(own(&["request", "decode", "layers.3"]), some(3, "(layer)"));
        assert_eq!(own(&["decode", "layers.3", "self_attn", "self_attn.q_proj"]), some(3, "self_attn.q_proj"));
        assert_eq!(own(&["decode", "norm"]), (None, Some("norm".to_owned())));
    }

    #[test]
    fn what_names_no_module_is_not_taken_for_one() {
        assert_eq!(nvtx(&["request"]), (None, None));
        assert_eq!(nvtx(&["NVIDIA H100 80GB"]), (None, None));
        assert_eq!(nvtx(&["layer.3", "cub::DeviceReduce::Sum"]), some(3, "(layer)"));
        assert_eq!(told_by(RangeKind::Operator, &["aten::layer_norm"]), (None, None));
        assert_eq!(told_by(RangeKind::Python, &["torch/nn/modules/module.py(1736): _call_impl"]), (None, None));
        assert_eq!(nvtx(&["LayerNorm_25"]).0, None);
    }

    #[test]
    fn modules_of_pytorch_take_their_layer_from_the_class_around_them() {
        let names = ["nn.Module: LlamaForCausalLM_0", "nn.Module: LlamaModel_0", "nn.Module: LlamaDecoderLayer_3"];
        assert_eq!(told_by(RangeKind::Python, &names), some(3, "(layer)"));
        let inside: Vec<&str> = names.into_iter().chain(["nn.Module: LlamaMLP_3", "nn.Module: Linear_25"]).collect();
        assert_eq!(told_by(RangeKind::Python, &inside), some(3, "LlamaMLP.Linear"));
        let experts: Vec<&str> = names.into_iter().chain(["nn.Module: SparseMoeBlock_1"]).collect();
        assert_eq!(told_by(RangeKind::Python, &experts), some(3, "SparseMoeBlock"));
        assert_eq!(told_by(RangeKind::Python, &["nn.Module: LayerNorm_25"]), (None, Some("LayerNorm".to_owned())));
    }
}
