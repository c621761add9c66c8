//! Times the unchanged Llama models of candle-transformers on a GGUF file and prints one JSON line.
//!
//! It must stay as plain as candle's own examples: whatever is tuned here stops being the baseline.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::gguf_file::{self, Content};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama};
use candle_transformers::models::quantized_llama::ModelWeights;

const USAGE: &str = "\
Usage: stock-candle --model FILE.gguf --format q4_1|q8_0|f32|bf16 [--prompt 128] [--new 64] [--repeats 3] [--warmup 1]
                    [--threads N] [--ids 1,2,3]

Block formats run candle-transformers' `quantized_llama`, dense ones its `llama` on the dequantized weights. A file in another
block format is requantized in memory first. `--ids` gives the prompt's token ids instead of synthetic ones.";

/// The command line.
struct Options {
    model: String,
    format: Format,
    prompt: usize,
    new: usize,
    repeats: usize,
    warmup: usize,
    threads: Option<usize>,
    ids: Option<Vec<u32>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Quantized(GgmlDType),
    Dense(DType),
}

impl Format {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "q4_1" => Self::Quantized(GgmlDType::Q4_1),
            "q8_0" => Self::Quantized(GgmlDType::Q8_0),
            "f32" => Self::Dense(DType::F32),
            "bf16" => Self::Dense(DType::BF16),
            _ => bail!("--format: `{text}` is none of q4_1, q8_0, f32, bf16"),
        })
    }

    fn name(self) -> String {
        match self {
            Self::Quantized(dtype) => format!("{dtype:?}").to_lowercase(),
            Self::Dense(dtype) => dtype.as_str().to_owned(),
        }
    }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let (mut model, mut format, mut ids, mut threads) = (None, None, None, None);
        let (mut prompt, mut new, mut repeats, mut warmup) = (128, 64, 3, 1);
        while let Some(flag) = words.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let value = words.next().with_context(|| format!("{flag} needs a value"))?;
            let count = || value.parse::<usize>().with_context(|| format!("{flag}: `{value}` is not a count"));
            match flag.as_str() {
                "--model" => model = Some(value),
                "--format" => format = Some(Format::parse(&value)?),
                "--prompt" => prompt = count()?,
                "--new" => new = count()?,
                "--repeats" => repeats = count()?,
                "--warmup" => warmup = count()?,
                "--threads" => threads = Some(count()?),
                "--ids" => {
                    ids = Some(value.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>().context("--ids")?)
                }
                _ => bail!("unknown option `{flag}`"),
            }
        }
        ensure!(prompt > 0 && new > 0 && repeats > 0, "--prompt, --new and --repeats must be at least 1");
        Ok(Some(Self {
            model: model.context("--model is missing")?,
            format: format.context("--format is missing")?,
            prompt,
            new,
            repeats,
            warmup,
            threads,
            ids,
        }))
    }
}

/// The two kinds of model behind the one call that is timed.
enum Model {
    Quantized(ModelWeights),
    Dense { llama: Llama, config: Config, dtype: DType, cache: Cache },
}

impl Model {
    fn reset(&mut self, device: &Device) -> Result<()> {
        match self {
            Self::Quantized(weights) => weights.clear_kv_cache(),
            Self::Dense { config, dtype, cache, .. } => *cache = Cache::new(true, *dtype, config, device)?,
        }
        Ok(())
    }

    fn forward(&mut self, ids: &[u32], position: usize, device: &Device) -> Result<u32> {
        let input = Tensor::new(ids, device)?.unsqueeze(0)?;
        let logits = match self {
            Self::Quantized(weights) => weights.forward(&input, position)?,
            Self::Dense { llama, cache, .. } => llama.forward(&input, position, cache)?,
        };
        Ok(logits.squeeze(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?)
    }
}

fn main() -> Result<()> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    if let Some(threads) = options.threads {
        // SAFETY: nothing has started a thread yet; candle reads the variable at its first parallel operation.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    }
    let device = Device::Cpu;
    let load_start = Instant::now();
    let (mut model, vocabulary) = load(&options, &device)?;
    let load_s = load_start.elapsed().as_secs_f64();

    let prompt: Vec<u32> = match &options.ids {
        Some(ids) => ids.clone(),
        // Any fixed ids do: the work depends on their number alone. The factor is prime, so that they spread over the table.
        None => (0..options.prompt).map(|i| (i * 7919 % vocabulary) as u32).collect(),
    };
    let (mut prefill, mut decode, mut generated) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..options.warmup + options.repeats {
        model.reset(&device)?;
        generated.clear();
        let start = Instant::now();
        let mut token = model.forward(&prompt, 0, &device)?;
        let prefill_s = start.elapsed().as_secs_f64();
        generated.push(token);
        let start = Instant::now();
        for step in 0..options.new {
            token = model.forward(&[token], prompt.len() + step, &device)?;
            generated.push(token);
        }
        let decode_s = start.elapsed().as_secs_f64();
        if repeat >= options.warmup {
            prefill.push(prompt.len() as f64 / prefill_s);
            decode.push(options.new as f64 / decode_s);
        }
    }
    let line = serde_json::json!({
        "engine": "stock-candle",
        "version": "0.11.1",
        "format": options.format.name(),
        "prompt": prompt.len(),
        "new": options.new,
        "threads": candle_core::utils::get_num_threads(),
        "repeats": options.repeats,
        "native_build": cfg!(target_feature = "avx512f"),
        "load_s": load_s,
        "prefill_tok_per_s": prefill,
        "decode_tok_per_s": decode,
        "ids": generated,
    });
    println!("{line}");
    Ok(())
}

/// Reads the file as the wanted kind of model; also returns the size of its vocabulary.
fn load(options: &Options, device: &Device) -> Result<(Model, usize)> {
    let file = File::open(&options.model).with_context(|| format!("--model {}", options.model))?;
    let mut reader = BufReader::new(file);
    let content = Content::read(&mut reader).with_context(|| options.model.clone())?;
    let info = |name: &str| content.tensor_infos.get(name).with_context(|| format!("no tensor `{name}`"));
    let vocabulary = info("token_embd.weight")?.shape.dims()[0];
    let stored = info("blk.0.attn_q.weight")?.ggml_dtype;
    let model = match options.format {
        Format::Quantized(wanted) if stored == wanted => {
            Model::Quantized(ModelWeights::from_gguf(content, &mut reader, device)?)
        }
        Format::Quantized(wanted) => {
            let mut memory = Cursor::new(requantized(&content, &mut reader, wanted, device)?);
            let content = Content::read(&mut memory)?;
            Model::Quantized(ModelWeights::from_gguf(content, &mut memory, device)?)
        }
        Format::Dense(dtype) => dense(&content, &mut reader, dtype, device)?,
    };
    Ok((model, vocabulary))
}

/// The same file with every matrix in the format `wanted`.
fn requantized(
    content: &Content,
    reader: &mut (impl Read + Seek),
    wanted: GgmlDType,
    device: &Device,
) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, info) in &content.tensor_infos {
        let mut tensor = content.tensor(reader, name, device)?;
        if info.shape.rank() == 2 && info.ggml_dtype != wanted {
            tensor = QTensor::quantize(&tensor.dequantize(device)?, wanted)?;
        }
        tensors.push((name.as_str(), tensor));
    }
    let metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut memory = Cursor::new(Vec::new());
    gguf_file::write(&mut memory, &metadata, &named)?;
    Ok(memory.into_inner())
}

/// The dense model: every tensor dequantized to `dtype` and renamed to its name in the Hugging Face checkpoint.
fn dense(content: &Content, reader: &mut (impl Read + Seek), dtype: DType, device: &Device) -> Result<Model> {
    let number = |key: &str| -> Result<usize> {
        let key = format!("llama.{key}");
        Ok(content.metadata.get(&key).with_context(|| format!("no metadata `{key}`"))?.to_u32()? as usize)
    };
    let real = |key: &str| -> Result<f32> {
        let key = format!("llama.{key}");
        Ok(content.metadata.get(&key).with_context(|| format!("no metadata `{key}`"))?.to_f32()?)
    };
    let heads = number("attention.head_count")?;
    let kv_heads = number("attention.head_count_kv")?;
    let config = Config {
        hidden_size: number("embedding_length")?,
        intermediate_size: number("feed_forward_length")?,
        vocab_size: content.tensor_infos["token_embd.weight"].shape.dims()[0],
        num_hidden_layers: number("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(real("attention.layer_norm_rms_epsilon")?),
        rope_theta: real("rope.freq_base")?,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: number("context_length")?,
        tie_word_embeddings: !content.tensor_infos.contains_key("output.weight"),
    };
    let mut tensors = HashMap::new();
    for name in content.tensor_infos.keys() {
        let mut tensor = content.tensor(reader, name, device)?.dequantize(device)?;
        if name.ends_with("attn_q.weight") {
            tensor = unpermute(&tensor, heads)?;
        } else if name.ends_with("attn_k.weight") {
            tensor = unpermute(&tensor, kv_heads)?;
        }
        tensors.insert(checkpoint_name(name)?, tensor.to_dtype(dtype)?);
    }
    let llama = Llama::load(VarBuilder::from_tensors(tensors, dtype, device), &config)?;
    let cache = Cache::new(true, dtype, &config, device)?;
    Ok(Model::Dense { llama, config, dtype, cache })
}

/// GGUF stores the rows of Q and K for interleaved rotary pairs; `llama` rotates halves.
fn unpermute(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, columns) = tensor.dims2()?;
    Ok(tensor
        .reshape((heads, rows / heads / 2, 2, columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, columns))?)
}

fn checkpoint_name(gguf: &str) -> Result<String> {
    let top = match gguf {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(name) = top {
        return Ok(name.to_owned());
    }
    let (layer, part) = gguf
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
        .with_context(|| format!("unknown tensor `{gguf}`"))?;
    let module = match part {
        "attn_norm.weight" => "input_layernorm",
        "attn_q.weight" => "self_attn.q_proj",
        "attn_k.weight" => "self_attn.k_proj",
        "attn_v.weight" => "self_attn.v_proj",
        "attn_output.weight" => "self_attn.o_proj",
        "ffn_norm.weight" => "post_attention_layernorm",
        "ffn_gate.weight" => "mlp.gate_proj",
        "ffn_up.weight" => "mlp.up_proj",
        "ffn_down.weight" => "mlp.down_proj",
        _ => bail!("unknown tensor `{gguf}`"),
    };
    Ok(format!("model.layers.{layer}.{module}.weight"))
}
