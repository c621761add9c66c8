//! The kernels against f64 references written from the formats' definitions, for every kernel set of the machine.

use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::engine::threads::ThreadPool;

const FORMATS: [Format; 6] = [Format::Q4_0, Format::Q4_1, Format::Q8_0, Format::F32, Format::F16, Format::BF16];
/// One rounding of f32.
const EPSILON: f64 = 5.960_464_477_539_063e-8;

/// A random matrix in the file's format. Scales span a few powers of two.
fn matrix(format: Format, rows: usize, cols: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let half = |rng: &mut StdRng, low: f32, high: f32| f16::from_f32(rng.random_range(low..high)).to_le_bytes();
    match format {
        Format::F32 => (0..rows * cols).for_each(|_| bytes.extend(rng.random_range(-1.0f32..1.0).to_le_bytes())),
        Format::F16 => (0..rows * cols).for_each(|_| bytes.extend(half(rng, -1.0, 1.0))),
        Format::BF16 => {
            (0..rows * cols).for_each(|_| bytes.extend(bf16::from_f32(rng.random_range(-1.0f32..1.0)).to_le_bytes()));
        }
        _ => {
            for _ in 0..rows * cols / BLOCK {
                bytes.extend(half(rng, 0.001, 0.02));
                if format == Format::Q4_1 {
                    bytes.extend(half(rng, -0.2, 0.05));
                }
                let values = if format == Format::Q8_0 { 32 } else { 16 };
                bytes.extend((0..values).map(|_| rng.random::<u8>()));
            }
        }
    }
    bytes
}

/// (scale, stored integer, minimum) of every weight, as `ggml-quants.c` defines the formats; dense weights are their own integer.
fn weights(format: Format, bytes: &[u8]) -> Vec<[f64; 3]> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f64();
    let (_, size) = format.block();
    let mut out = Vec::new();
    for block in bytes.chunks_exact(size) {
        match format {
            Format::F32 => out.push([1.0, f64::from(f32::from_le_bytes(block.try_into().unwrap())), 0.0]),
            Format::F16 => out.push([1.0, half(block), 0.0]),
            Format::BF16 => out.push([1.0, bf16::from_le_bytes([block[0], block[1]]).to_f64(), 0.0]),
            Format::Q8_0 => out.extend(block[2..].iter().map(|q| [half(block), f64::from(*q as i8), 0.0])),
            Format::Q4_0 | Format::Q4_1 => {
                let (start, shift, minimum) =
                    if format == Format::Q4_0 { (2, 8.0, 0.0) } else { (4, 0.0, half(&block[2..])) };
                let nibbles = block[start..].iter().map(|q| q & 15).chain(block[start..].iter().map(|q| q >> 4));
                out.extend(nibbles.map(|q| [half(block), f64::from(q) - shift, minimum]));
            }
            other => panic!("{other}"),
        }
    }
    out
}

fn activations(rows: usize, cols: usize, rng: &mut StdRng) -> Vec<f32> {
    (0..rows * cols).map(|_| rng.random_range(-1.0f32..1.0).powi(3) * 4.0).collect()
}

#[expect(clippy::too_many_arguments, reason = "a product of given shape")]
fn product(
    kernels: Kernels,
    format: Format,
    rows: usize,
    cols: usize,
    bytes: &[u8],
    x: &[f32],
    tokens: usize,
    threads: usize,
) -> Vec<f32> {
    let pool = ThreadPool::new(threads).unwrap();
    let packed = PackedMatrix::pack(kernels, format, rows, cols, bytes, &pool).unwrap();
    assert_eq!((packed.rows(), packed.cols(), packed.format()), (rows, cols, format));
    let mut acts = PackedActivations::new();
    acts.fill(kernels, format, x, tokens, cols, &pool);
    let mut out = vec![f32::NAN; rows * tokens];
    matmul(&pool, &packed, &acts, &mut out, rows);
    out
}

/// What the activations are after packing, by the definition of the form chosen, and whether that is the form for tiles.
fn rounded(kernels: Kernels, format: Format, x: &[f32], tokens: usize, cols: usize) -> (Vec<f64>, bool) {
    let pool = ThreadPool::new(1).unwrap();
    let mut acts = PackedActivations::new();
    acts.fill(kernels, format, x, tokens, cols, &pool);
    if matches!(acts.form, activations::Form::Blocks { .. }) {
        let blocks = acts.headers.iter().zip(acts.quants.chunks_exact(BLOCK));
        return (blocks.flat_map(|(h, q)| q.iter().map(|q| f64::from(h.scale) * f64::from(*q))).collect(), false);
    }
    if acts.form == activations::Form::Bf16Pairs {
        return (x.iter().map(|x| bf16::from_f32(*x).to_f64()).collect(), true);
    }
    (x.iter().copied().map(f64::from).collect(), false)
}

fn cases() -> impl Iterator<Item = (Kernels, Format)> {
    Kernels::available().into_iter().flat_map(|kernels| FORMATS.into_iter().map(move |format| (kernels, format)))
}

/// Checks a product against f64 on the rounded operands (to the roundings of f32) and against f64 on the unrounded ones (to the theory of
/// the rounding: half a scale for 8 bits, 2⁻⁸ of each value for bf16).
fn check(kernels: Kernels, format: Format, rows: usize, cols: usize, tokens: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let bytes = matrix(format, rows, cols, &mut rng);
    let x = activations(tokens, cols, &mut rng);
    let out = product(kernels, format, rows, cols, &bytes, &x, tokens, 2);
    let w = weights(format, &bytes);
    let (q, tiles) = rounded(kernels, format, &x, tokens, cols);
    for token in 0..tokens {
        let (x, q) = (&x[token * cols..(token + 1) * cols], &q[token * cols..(token + 1) * cols]);
        for row in 0..rows {
            let w = &w[row * cols..(row + 1) * cols];
            let value = f64::from(out[token * rows + row]);
            let (mut exact, mut magnitude, mut true_product, mut rounding) = (0.0, 0.0f64, 0.0, 0.0);
            let mut largest_product = 0.0f64;
            for ((w, q), x) in w.chunks(BLOCK).zip(q.chunks(BLOCK)).zip(x.chunks(BLOCK)) {
                let largest = x.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
                for ((w, q), x) in w.iter().zip(q).zip(x) {
                    let weight = w[0] * w[1] + w[2];
                    let x = f64::from(*x);
                    exact += if tiles { bf16::from_f64(weight).to_f64() } else { weight } * q;
                    magnitude += (w[0] * w[1] * q).abs() + (w[2] * q).abs();
                    largest_product = largest_product.max((weight * q).abs());
                    true_product += weight * x;
                    rounding += weight.abs()
                        * match (tiles, format.is_quantized()) {
                            (true, true) => x.abs() * (2.0 * 2f64.powi(-8) + 2f64.powi(-16)),
                            (true, false) => x.abs() * 2f64.powi(-8),
                            (false, true) => largest / 127.0 * 0.5 * (1.0 + 4e-6),
                            (false, false) => 0.0,
                        };
                }
            }
            // A chain of `cols` additions at most; blocks of 8 bits are exact inside and add three roundings each.
            let additions = if format.is_quantized() && !tiles { 4 * cols / BLOCK } else { 2 * cols };
            let f32_error = (additions as f64 + 4.0) * EPSILON * magnitude + 1e-30;
            // A weight of q4_1 is rounded to f32 before it is rounded to bf16, which may tip a tie.
            let ties = if tiles && format == Format::Q4_1 { 2.0 * 2f64.powi(-7) * largest_product } else { 0.0 };
            assert!(
                (value - exact).abs() <= f32_error + ties,
                "{kernels} {format} {rows}x{cols} token {token} row {row}: {value} instead of {exact}, allowed {f32_error}"
            );
            assert!(
                (value - true_product).abs() <= rounding + f32_error,
                "{kernels} {format} {rows}x{cols} token {token} row {row}: {value} is not near {true_product}"
            );
        }
    }
}

#[test]
fn products_are_exact_on_rounded_activations_and_near_the_true_ones() {
    for (kernels, format) in cases() {
        for (rows, cols, tokens) in
            [(1, 32, 1), (16, 64, 1), (33, 96, 2), (70, 160, 7), (48, 576, 26), (17, 32, 50), (64, 96, 79)]
        {
            check(kernels, format, rows, cols, tokens, 7);
        }
    }
}

#[test]
fn dense_widths_need_not_be_even() {
    for (kernels, format) in cases().filter(|(_, format)| !format.is_quantized()) {
        for cols in [1, 2, 31, 77] {
            check(kernels, format, 35, cols, 5, 3);
            check(kernels, format, 35, cols, 37, 3);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape_gives_the_product(rows in 1usize..90, blocks in 1usize..6, tokens in 1usize..40, which in 0usize..6, seed: u64) {
        for kernels in Kernels::available() {
            check(kernels, FORMATS[which], rows, blocks * BLOCK, tokens, seed);
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let mut rng = StdRng::seed_from_u64(1);
    let (rows, cols, tokens) = (321, 96, 61);
    for (kernels, format) in cases() {
        let bytes = matrix(format, rows, cols, &mut rng);
        let x = activations(tokens, cols, &mut rng);
        let bits = |threads| {
            product(kernels, format, rows, cols, &bytes, &x, tokens, threads)
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        let one = bits(1);
        for threads in [2, 3, 7] {
            assert_eq!(bits(threads), one, "{kernels} {format} {threads} threads");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_how_many_are_multiplied_with_it() {
    let mut rng = StdRng::seed_from_u64(2);
    let (rows, cols, tokens) = (40, 128, 65);
    for (kernels, format) in cases() {
        let bytes = matrix(format, rows, cols, &mut rng);
        let x = activations(tokens, cols, &mut rng);
        let some = |tokens: std::ops::Range<usize>| {
            let x = &x[tokens.start * cols..tokens.end * cols];
            product(kernels, format, rows, cols, &bytes, x, tokens.len(), 1)
        };
        let part = |of: &[f32], tokens: std::ops::Range<usize>| of[tokens.start * rows..tokens.end * rows].to_vec();
        // Up to 23 rows, and from 24 on: between them the tile unit may take over, with another rounding.
        let few = some(0..23);
        for range in [0..1, 5..7, 20..23, 3..16] {
            assert_eq!(some(range.clone()), part(&few, range), "{kernels} {format}");
        }
        let many = some(0..65);
        for range in [0..24, 1..34, 2..50, 41..65] {
            assert_eq!(some(range.clone()), part(&many, range), "{kernels} {format}");
        }
    }
}

#[test]
fn all_vector_sets_give_the_same_bits_for_quantized_weights() {
    let mut rng = StdRng::seed_from_u64(8);
    let (rows, cols) = (50, 160);
    for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
        let bytes = matrix(format, rows, cols, &mut rng);
        for tokens in [1, 13, 23] {
            let x = activations(tokens, cols, &mut rng);
            let sets = Kernels::available().into_iter().filter(|kernels| *kernels != Kernels::Portable);
            let results: Vec<_> = sets.map(|set| product(set, format, rows, cols, &bytes, &x, tokens, 1)).collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{format} {tokens}");
        }
    }
}

#[test]
fn values_that_are_not_finite_reach_every_result_of_their_row_and_no_other() {
    let mut rng = StdRng::seed_from_u64(3);
    let (rows, cols) = (37, 96);
    for ((kernels, format), tokens) in cases().flat_map(|case| [(case, 15), (case, 40)]) {
        let bytes = matrix(format, rows, cols, &mut rng);
        let mut x = activations(tokens, cols, &mut rng);
        x[4 * cols + 40] = f32::NAN;
        x[9 * cols] = f32::INFINITY;
        x[14 * cols + 95] = f32::NEG_INFINITY;
        let out = product(kernels, format, rows, cols, &bytes, &x, tokens, 2);
        for (token, row) in out.chunks_exact(rows).enumerate() {
            match token {
                4 => assert!(row.iter().all(|value| value.is_nan()), "{kernels} {format}"),
                9 | 14 => assert!(row.iter().all(|value| !value.is_finite()), "{kernels} {format}"),
                _ => assert!(row.iter().all(|value| value.is_finite()), "{kernels} {format} {token}"),
            }
        }
    }
}

#[test]
fn zeros_give_zero_and_huge_or_tiny_values_their_product() {
    let mut rng = StdRng::seed_from_u64(4);
    let (rows, cols) = (33, 64);
    for ((kernels, format), tokens) in cases().flat_map(|case| [(case, 20), (case, 40)]) {
        let bytes = matrix(format, rows, cols, &mut rng);
        let zero = product(kernels, format, rows, cols, &bytes, &vec![0.0; tokens * cols], tokens, 2);
        assert!(zero.iter().all(|value| *value == 0.0), "{kernels} {format}");
        let x = activations(tokens, cols, &mut rng);
        let plain = product(kernels, format, rows, cols, &bytes, &x, tokens, 2);
        for power in [-90, -60, 60, 110, 118] {
            // A power of two scales every rounding with it, so that only the order of additions can differ.
            let factor = 2f32.powi(power);
            let scaled: Vec<f32> = x.iter().map(|x| x * factor).collect();
            let out = product(kernels, format, rows, cols, &bytes, &scaled, tokens, 2);
            let largest = plain.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (out, plain) in out.iter().zip(&plain) {
                assert!((out / factor - plain).abs() <= 1e-5 * largest, "{kernels} {format} 2^{power}: {out} {plain}");
            }
        }
    }
}

#[test]
fn gate_and_up_in_one_product_give_silu_of_the_one_times_the_other() {
    let mut rng = StdRng::seed_from_u64(5);
    for (kernels, format) in cases() {
        for (rows, cols, tokens) in [(16, 64, 1), (45, 96, 3), (32, 64, 50)] {
            let (gate, up) = (matrix(format, rows, cols, &mut rng), matrix(format, rows, cols, &mut rng));
            let x = activations(tokens, cols, &mut rng);
            let pool = ThreadPool::new(3).unwrap();
            let packed = PackedMatrix::pack_gate_up(kernels, format, rows, cols, &gate, &up, &pool).unwrap();
            let mut acts = PackedActivations::new();
            acts.fill(kernels, format, &x, tokens, cols, &pool);
            let stride = rows + 3;
            let mut out = vec![-7.0; tokens * stride];
            matmul_silu_mul(&pool, &packed, &acts, &mut out, stride);
            let gate = product(kernels, format, rows, cols, &gate, &x, tokens, 1);
            let up = product(kernels, format, rows, cols, &up, &x, tokens, 1);
            for (token, out) in out.chunks_exact(stride).enumerate() {
                for row in 0..rows {
                    let (gate, up) = (f64::from(gate[token * rows + row]), f64::from(up[token * rows + row]));
                    let expected = gate / (1.0 + (-gate).exp()) * up;
                    let error = (f64::from(out[row]) - expected).abs();
                    assert!(
                        error <= 1e-6 * (gate * up).abs() + 1e-12,
                        "{kernels} {format}: {} not {expected}",
                        out[row]
                    );
                }
                assert!(out[rows..].iter().all(|value| *value == -7.0), "values between the rows are not touched");
            }
        }
    }
}

#[test]
fn matrices_below_each_other_give_what_each_gives_alone() {
    let mut rng = StdRng::seed_from_u64(6);
    for (kernels, format) in cases() {
        let (cols, tokens) = (64, 14);
        let parts =
            [matrix(format, 24, cols, &mut rng), matrix(format, 8, cols, &mut rng), matrix(format, 9, cols, &mut rng)];
        let x = activations(tokens, cols, &mut rng);
        let pool = ThreadPool::new(2).unwrap();
        let rows = [24, 8, 9];
        let list: Vec<(usize, &[u8])> = rows.iter().copied().zip(parts.iter().map(Vec::as_slice)).collect();
        let packed = PackedMatrix::pack_rows(kernels, format, &list, cols, &pool).unwrap();
        let mut acts = PackedActivations::new();
        acts.fill(kernels, format, &x, tokens, cols, &pool);
        let mut out = vec![0.0; tokens * 41];
        matmul(&pool, &packed, &acts, &mut out, 41);
        let mut first = 0;
        for (rows, part) in list {
            let alone = product(kernels, format, rows, cols, part, &x, tokens, 1);
            for token in 0..tokens {
                assert_eq!(out[token * 41 + first..token * 41 + first + rows], alone[token * rows..(token + 1) * rows]);
            }
            first += rows;
        }
    }
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let pool = ThreadPool::new(1).unwrap();
    let pack = |format, rows, cols, len| {
        PackedMatrix::pack(Kernels::detect(), format, rows, cols, &vec![0; len], &pool).is_some()
    };
    assert!(pack(Format::Q4_0, 2, 64, 72));
    assert!(!pack(Format::Q4_0, 2, 64, 71), "a length that does not fit the shape");
    assert!(!pack(Format::Q4_0, 2, 48, 54), "a width that is no whole number of blocks");
    assert!(!pack(Format::Q4K, 1, 256, 144), "a format without kernels");
    assert!(!pack(Format::F32, 0, 4, 0), "no rows");
    assert!(!pack(Format::F32, usize::MAX, 4, 0), "a size beyond memory");
}
