//! Attention over the cache: of one new position, and of a prompt.

use super::super::backend::GpuResult;
use super::super::launch::{self, DecodeAttention, PrefillAttention};
use super::Checks;
use super::comparison::{Comparison, E, Expected, INDEPENDENT};
use super::device::{Device, Operand};
use super::rows::{angles, rotated};

/// Heads, key/value heads, values of a head.
type Heads = (usize, usize, usize);

const LLAMA_8B: Heads = (32, 8, 128);
const QWEN2_HALF_B: Heads = (14, 2, 64);
const QWEN3_HALF_B: Heads = (16, 8, 128);
const PHI_3: Heads = (32, 32, 96);
const GEMMA_2: Heads = (8, 4, 256);

/// A case of either kernel.
#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    heads: Heads,
    /// Of the first query.
    position: usize,
    queries: usize,
    window: usize,
    /// Of decode.
    splits: u32,
    rotate: bool,
}

impl Shape {
    fn name(&self) -> String {
        let (heads, kv_heads, head_dim) = self.heads;
        let window = if self.window == 0 { String::new() } else { format!(", window {}", self.window) };
        let how = if self.splits == 0 {
            format!("{} queries", self.queries)
        } else {
            format!("splits {}, {}", self.splits, if self.rotate { "rotating" } else { "rotated" })
        };
        format!(
            "batch {}, heads {heads}/{kv_heads} of {head_dim}, position {}, {how}{window}",
            self.batch, self.position
        )
    }
}

pub(super) fn run(checks: &mut Checks<'_>) {
    let decode = |batch, heads, position, splits, window, rotate| Shape {
        batch,
        heads,
        position,
        queries: 1,
        window,
        splits,
        rotate,
    };
    let small = vec![
        decode(1, (8, 2, 128), 0, 1, 0, true),
        decode(2, (8, 2, 128), 150, 3, 0, true),
        decode(1, (8, 2, 128), 200, 5, 70, true),
        // As many splits as there may be, most of them without a position.
        decode(1, (8, 2, 128), 300, 64, 0, false),
        // Several tiles for each warp.
        decode(1, (8, 2, 128), 270, 1, 0, true),
        decode(1, (7, 1, 64), 333, 2, 0, true),
        decode(1, (4, 2, 256), 140, 1, 0, false),
        decode(1, (7, 1, 64), 63, 2, 0, true),
        decode(3, (7, 1, 64), 64, 2, 0, false),
        decode(1, (7, 1, 64), 130, 4, 1, true),
        decode(1, (2, 2, 96), 17, 1, 0, true),
        decode(2, (4, 2, 256), 75, 3, 33, true),
        decode(1, (16, 1, 64), 140, 2, 0, true),
        decode(1, (16, 1, 64), 15, 2, 0, false),
        decode(1, (3, 1, 32), 16, 1, 200, true),
    ];
    let full = vec![
        decode(1, LLAMA_8B, 0, 33, 0, true),
        decode(1, LLAMA_8B, 1, 33, 0, false),
        decode(1, LLAMA_8B, 4_095, 33, 0, true),
        decode(8, LLAMA_8B, 1_023, 5, 0, true),
        decode(1, LLAMA_8B, 3_000, 64, 1_024, true),
        decode(1, QWEN2_HALF_B, 777, 13, 0, true),
        decode(3, QWEN2_HALF_B, 64, 2, 0, false),
        decode(1, QWEN3_HALF_B, 2_047, 33, 0, true),
        decode(5, QWEN3_HALF_B, 15, 1, 0, true),
        decode(2, PHI_3, 500, 4, 0, true),
        decode(1, GEMMA_2, 1_500, 20, 512, true),
        decode(1, (16, 1, 64), 300, 7, 0, true),
        decode(1, (12, 1, 128), 300, 64, 0, true),
        decode(4, (5, 5, 80), 99, 2, 0, false),
    ];
    for shape in checks.pick(full, small) {
        checks.case("attention_decode", shape.name(), |device| decode_case(device, &shape));
    }
    let prefill = |batch, heads, position, queries, window| Shape {
        batch,
        heads,
        position,
        queries,
        window,
        splits: 0,
        rotate: false,
    };
    let small = vec![
        prefill(1, (2, 1, 64), 0, 1, 0),
        prefill(2, (2, 1, 64), 3, 67, 0),
        prefill(1, (6, 2, 64), 70, 5, 0),
        // More tiles than are fetched ahead.
        prefill(1, (2, 1, 64), 70, 140, 0),
        prefill(1, (2, 2, 128), 0, 65, 0),
        prefill(1, (1, 1, 128), 90, 66, 40),
        prefill(1, (1, 1, 64), 20, 130, 65),
        prefill(1, (1, 1, 96), 1, 33, 1),
        prefill(1, (2, 1, 256), 30, 35, 0),
    ];
    let full = vec![
        prefill(1, LLAMA_8B, 0, 512, 0),
        prefill(1, LLAMA_8B, 511, 129, 0),
        prefill(2, QWEN2_HALF_B, 0, 333, 0),
        prefill(1, QWEN2_HALF_B, 100, 1, 0),
        prefill(3, QWEN3_HALF_B, 7, 64, 0),
        prefill(1, PHI_3, 0, 190, 0),
        prefill(1, GEMMA_2, 200, 150, 128),
        prefill(1, (4, 2, 128), 1_000, 200, 300),
    ];
    for shape in checks.pick(full, small) {
        checks.case("attention_prefill", shape.name(), |device| prefill_case(device, &shape));
    }
}

/// q, k or v of one head at one position, with what each value may be off by (root of the sum of squares matters).
struct Query {
    values: Vec<f64>,
    is_rounded: bool,
}

/// Attention of one query over keys and values, one per visible position.
///
/// Tensor cores add 16 products at a time and cut off what does not fit f32: 2 e of the sum so far, always towards zero. A score is `head_dim / 16`
/// such steps, and where the kernel rotates q its values are rounded to 16 bits (independent). A score that is off by δ makes its weight off by δ,
/// relatively, and moves the result by that share of its distance to the value. Weights may be rounded to 16 bits ahead of the product with V
/// (independent) while their sum is not, and that product is a step for every 16 positions, of a sum that grows: e each.
fn attend(device: &Device<'_>, query: &Query, keys: &[&[f64]], values: &[&[f64]], scale: f64) -> Vec<Expected> {
    let mut scores = Vec::with_capacity(keys.len());
    for key in keys {
        let (mut sum, mut size, mut square) = (0.0, 0.0, 0.0);
        for (q, k) in query.values.iter().zip(*key) {
            let product = q * k;
            sum += product;
            size += product.abs();
            square += product * product;
        }
        let rounded = if query.is_rounded { INDEPENDENT * device.u() * f64::sqrt(square) } else { 0.0 };
        // The product with the scale, the difference to the maximum and the exponential itself.
        let steps = query.values.len() as f64 / 16.0;
        let summed = (4.0 + 2.0 * steps) * E * size;
        scores.push((sum * scale, scale * (rounded + summed) + 4.0 * E * (sum * scale).abs() + 8.0 * E));
    }
    let top = scores.iter().fold(f64::NEG_INFINITY, |top, (score, _)| top.max(*score));
    let total: f64 = scores.iter().map(|(score, _)| (score - top).exp()).sum();
    let shares: Vec<(f64, f64)> = scores.iter().map(|(score, error)| ((score - top).exp() / total, *error)).collect();
    let width = values.first().map_or(0, |value| value.len());
    let mut results = Vec::with_capacity(width);
    for d in 0..width {
        let value: f64 = shares.iter().zip(values).map(|((share, _), value)| share * value[d]).sum();
        let (mut moved, mut size, mut square) = (0.0, 0.0, 0.0);
        for ((share, error), v) in shares.iter().zip(values) {
            // Nearly the same for positions that share a query, so added up and not as independent.
            moved += share * error * (v[d] - value).abs();
            size += share * v[d].abs();
            square += (share * v[d]) * (share * v[d]);
        }
        let rounded = INDEPENDENT * device.u() * square.sqrt();
        let summed = (16.0 + keys.len() as f64 / 16.0) * E * size;
        results.push(device.rounded(value, moved + rounded + summed));
    }
    results
}

/// Caches `[batch, kv_heads, capacity, head_dim]` with values below `filled` and NaN from there on.
fn caches(
    device: &mut Device<'_>,
    batch: usize,
    heads: Heads,
    capacity: usize,
    filled: usize,
) -> GpuResult<[Operand; 2]> {
    let (_, kv_heads, head_dim) = heads;
    let mut cache = |size: f64| {
        let values: Vec<f64> = (0..batch * kv_heads * capacity * head_dim)
            .map(|i| if i / head_dim % capacity < filled { device.random.symmetric() * size } else { f64::NAN })
            .collect();
        device.halves(values)
    };
    Ok([cache(3.0)?, cache(1.0)?])
}

fn first_visible(position: usize, window: usize) -> usize {
    if window == 0 { 0 } else { (position + 1).saturating_sub(window) }
}

fn decode_case(device: &mut Device<'_>, shape: &Shape) -> GpuResult<Comparison> {
    let &Shape { batch, heads: (heads, kv_heads, head_dim), position, window, splits, rotate, .. } = shape;
    let group = heads / kv_heads;
    let capacity = position + 3;
    let stride = (heads + 2 * kv_heads) * head_dim;
    let qkv = device.random_halves(batch * stride, 2.0)?;
    let (cos, sin) = angles(capacity, head_dim);
    let (cos, sin) = (device.f32s(cos)?, device.f32s(sin)?);
    let filled = if rotate { position } else { position + 1 };
    let [k_cache, v_cache] = caches(device, batch, shape.heads, capacity, filled)?;
    let position_buffer = device.u32s(&[position as u32])?;
    let partial_bytes =
        launch::attention_partial_bytes(batch as u32, kv_heads as u32, splits, group as u32, head_dim as u32);
    let partials = device.output(partial_bytes as usize)?;
    let counters = device.u32s(&vec![0; batch * kv_heads])?;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut comparison = Comparison::default();

    let (keys, values) = (k_cache.values.clone(), v_cache.values.clone());
    let half = head_dim / 2;
    let turned = |sequence: usize, head: usize| {
        let at = position * half;
        let head = &qkv.values[sequence * stride + head * head_dim..][..head_dim];
        rotated(head, &cos.values[at..at + half], &sin.values[at..at + half])
    };
    let expected: Vec<Expected> = (0..batch * heads)
        .flat_map(|row| {
            let (sequence, head) = (row / heads, row % heads);
            let kv_head = head / group;
            let at = |position: usize| ((sequence * kv_heads + kv_head) * capacity + position) * head_dim;
            let visible = first_visible(position, window)..position;
            let mut k: Vec<&[f64]> = visible.clone().map(|i| &keys[at(i)..at(i + 1)]).collect();
            let mut v: Vec<&[f64]> = visible.map(|i| &values[at(i)..at(i + 1)]).collect();
            let plain = |head: usize| &qkv.values[sequence * stride + head * head_dim..][..head_dim];
            let new_k: Vec<f64>;
            let query = if rotate {
                new_k = turned(sequence, heads + kv_head).into_iter().map(|(value, _)| value).collect();
                k.push(&new_k);
                v.push(plain(heads + kv_heads + kv_head));
                Query { values: turned(sequence, head).into_iter().map(|(value, _)| value).collect(), is_rounded: true }
            } else {
                k.push(&keys[at(position)..at(position + 1)]);
                v.push(&values[at(position)..at(position + 1)]);
                Query { values: plain(head).to_vec(), is_rounded: false }
            };
            attend(device, &query, &k, &v, f64::from(scale))
        })
        .collect();

    // Twice: the counters must be left as they were found, and a second step at the same position must give the same.
    for _ in 0..2 {
        let out = device.output(batch * heads * head_dim * 2)?;
        let call = DecodeAttention {
            out: out.address(),
            qkv: qkv.address(),
            stride: stride as u32,
            cos: cos.address(),
            sin: sin.address(),
            k_cache: k_cache.address(),
            v_cache: v_cache.address(),
            position: position_buffer.address(),
            partials: partials.address(),
            counters: counters.address(),
            splits,
            batch: batch as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            capacity: capacity as u32,
            window: window as u32,
            scale,
            rotate,
        };
        launch::attention_decode(device.backend, device.half, &call)?;
        let got = device.read_halves(&out, &mut comparison)?;
        comparison.values(&got, expected.iter().copied());
        let left = device.download_u32s(&counters)?;
        comparison.demand(left.iter().all(|count| *count == 0), "the counters are not left at zero");
        device.read(&partials, &mut comparison)?;
    }

    let (k_got, v_got) = (device.download_halves(&k_cache.buffer)?, device.download_halves(&v_cache.buffer)?);
    for head in 0..batch * kv_heads {
        for at in 0..capacity {
            let first = (head * capacity + at) * head_dim;
            if rotate && at == position {
                let (sequence, kv_head) = (head / kv_heads, head % kv_heads);
                let new = turned(sequence, heads + kv_head);
                let new = new.into_iter().map(|(value, size)| device.rounded(value, 3.0 * E * size));
                comparison.values(&k_got[first..][..head_dim], new);
                let v = &qkv.values[sequence * stride + (heads + kv_heads + kv_head) * head_dim..][..head_dim];
                comparison.values(&v_got[first..][..head_dim], v.iter().map(|value| Expected::exact(*value)));
            } else {
                for i in first..first + head_dim {
                    comparison.unchanged(k_got[i], keys[i]);
                    comparison.unchanged(v_got[i], values[i]);
                }
            }
        }
    }
    Ok(comparison)
}

fn prefill_case(device: &mut Device<'_>, shape: &Shape) -> GpuResult<Comparison> {
    let &Shape { batch, heads: (heads, kv_heads, head_dim), position, queries, window, .. } = shape;
    let group = heads / kv_heads;
    let capacity = position + queries + 2;
    let stride = (heads + 2 * kv_heads) * head_dim;
    let qkv = device.random_halves(batch * queries * stride, 2.0)?;
    let [k_cache, v_cache] = caches(device, batch, shape.heads, capacity, position + queries)?;
    let position_buffer = device.u32s(&[position as u32])?;
    let out = device.output(batch * queries * heads * head_dim * 2)?;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let call = PrefillAttention {
        out: out.address(),
        qkv: qkv.address(),
        stride: stride as u32,
        k_cache: k_cache.address(),
        v_cache: v_cache.address(),
        position: position_buffer.address(),
        batch: batch as u32,
        queries: queries as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        capacity: capacity as u32,
        window: window as u32,
        scale,
    };
    launch::attention_prefill(device.backend, device.half, &call)?;
    let mut comparison = Comparison::default();
    let got = device.read_halves(&out, &mut comparison)?;
    for row in 0..batch * queries {
        let (sequence, at) = (row / queries, position + row % queries);
        for head in 0..heads {
            let first = (sequence * kv_heads + head / group) * capacity;
            let visible = first_visible(at, window)..=at;
            let of = |cache: &'_ Operand, i: usize| {
                let start = (first + i) * head_dim;
                start..start + head_dim.min(cache.values.len() - start)
            };
            let k: Vec<&[f64]> = visible.clone().map(|i| &k_cache.values[of(&k_cache, i)]).collect();
            let v: Vec<&[f64]> = visible.map(|i| &v_cache.values[of(&v_cache, i)]).collect();
            let query = &qkv.values[row * stride + head * head_dim..][..head_dim];
            let query = Query { values: query.to_vec(), is_rounded: false };
            let expected = attend(device, &query, &k, &v, f64::from(scale));
            comparison.values(&got[(row * heads + head) * head_dim..][..head_dim], expected);
        }
    }
    Ok(comparison)
}
