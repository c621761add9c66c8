//! A decoder in f64, one position at a time with plain loops: slow, obvious, and sharing no code with the engine.
//!
//! Formulas are those of Hugging Face's `modeling_llama.py` (`rotate_half`, RMS norm in the model's order) and, for the window,
//! `sliding_window_overlay` of `masking_utils.py`: a query sees key j if j > i − window.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use perfprof::estimate::architecture::{Architecture, RopeScaling};

use super::fixture::Tensors;

struct Matrix {
    values: Vec<f64>,
    columns: usize,
}

impl Matrix {
    fn of(tensors: &Tensors, name: &str) -> Self {
        let tensor = &tensors[name];
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
        Self { values, columns: *tensor.dims().last().unwrap() }
    }
    fn times(&self, x: &[f64]) -> Vec<f64> {
        self.values.chunks_exact(self.columns).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }
    fn row(&self, index: u32) -> Vec<f64> {
        let first = index as usize * self.columns;
        self.values[first..first + self.columns].to_vec()
    }
}

fn add(a: &mut [f64], b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, weight)| x / (mean + eps).sqrt() * weight).collect()
}

fn rotate(head: &mut [f64], position: usize, architecture: &Architecture) {
    let half = head.len() / 2;
    let factor = match architecture.rope.scaling {
        None => 1.0,
        Some(RopeScaling::Linear { factor }) => factor,
        Some(_) => unimplemented!("other scalings are held against candle's modules"),
    };
    for pair in 0..half {
        let frequency = architecture.rope.theta.powf(-2.0 * pair as f64 / head.len() as f64) / factor;
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let (a, b) = (head[pair], head[pair + half]);
        head[pair] = a * cos - b * sin;
        head[pair + half] = b * cos + a * sin;
    }
}

/// Logits at every position of one sequence. `stored` is what becomes of a value that is kept in the KV cache.
pub(super) fn logits(
    architecture: &Architecture,
    tensors: &Tensors,
    ids: &[u32],
    stored: impl Fn(f64) -> f64,
) -> Vec<Vec<f64>> {
    let get = |name: String| Matrix::of(tensors, &name);
    let vector = |name: String| Matrix::of(tensors, &name).values;
    let head_dim = architecture.head_dim;
    let eps = architecture.rms_norm_eps;
    let embedding = get("model.embed_tokens.weight".into());
    let mut stream: Vec<Vec<f64>> = ids.iter().map(|id| embedding.row(*id)).collect();
    for layer in 0..architecture.num_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let project = |part: &str, x: &[f64], bias: bool| {
            let mut y = get(name(&format!("self_attn.{part}_proj.weight"))).times(x);
            if bias {
                add(&mut y, &vector(name(&format!("self_attn.{part}_proj.bias"))));
            }
            y
        };
        let input_norm = vector(name("input_layernorm.weight"));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = rms_norm(x, &input_norm, eps);
            let heads = |part: &str| {
                let y = project(part, &x, architecture.qkv_bias);
                let heads = y.chunks_exact(head_dim).map(|head| {
                    let mut head = head.to_vec();
                    if part != "v" {
                        if architecture.qk_norm {
                            head = rms_norm(&head, &vector(name(&format!("self_attn.{part}_norm.weight"))), eps);
                        }
                        rotate(&mut head, position, architecture);
                    }
                    if part != "q" {
                        for value in &mut head {
                            *value = stored(*value);
                        }
                    }
                    head
                });
                heads.collect::<Vec<_>>()
            };
            queries.push(heads("q"));
            keys.push(heads("k"));
            values.push(heads("v"));
        }
        let group = architecture.num_heads / architecture.num_kv_heads;
        for (position, x) in stream.iter_mut().enumerate() {
            let mut attended = Vec::new();
            for (head, query) in queries[position].iter().enumerate() {
                let seen = (0..=position).filter(|key| architecture.sliding_window.is_none_or(|w| key + w > position));
                let scores: Vec<(usize, f64)> = seen
                    .map(|key| {
                        let dot: f64 = query.iter().zip(&keys[key][head / group]).map(|(q, k)| q * k).sum();
                        (key, (dot / (head_dim as f64).sqrt()).exp())
                    })
                    .collect();
                let total: f64 = scores.iter().map(|(_, score)| score).sum();
                let mut sum = vec![0.0; head_dim];
                for (key, score) in scores {
                    for (sum, value) in sum.iter_mut().zip(&values[key][head / group]) {
                        *sum += score / total * value;
                    }
                }
                attended.extend(sum);
            }
            add(x, &project("o", &attended, architecture.o_bias));
            let normed = rms_norm(x, &vector(name("post_attention_layernorm.weight")), eps);
            let gate = get(name("mlp.gate_proj.weight")).times(&normed);
            let up = get(name("mlp.up_proj.weight")).times(&normed);
            let activated: Vec<f64> = gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(x, &get(name("mlp.down_proj.weight")).times(&activated));
        }
    }
    let head = if architecture.tie_word_embeddings { embedding } else { get("lm_head.weight".into()) };
    let norm = vector("model.norm.weight".into());
    stream.iter().map(|x| head.times(&rms_norm(x, &norm, eps))).collect()
}
