//! Reads a Hugging Face checkpoint: `config.json` beside one safetensors file or several named by an index.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use serde_json::Value;

use super::convert::{self, Stored};
use super::safetensors::{self, TensorInfo};
use super::{Fallbacks, Finished, LoadError, Progress, check_presence, expected, map_file};
use crate::engine::tokenizer::TokenizerSource;
use crate::engine::weights::WeightMap;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A checkpoint whose configuration has been read and whose weight files are known.
pub(super) struct Checkpoint {
    directory: PathBuf,
    config: Value,
    files: Vec<PathBuf>,
    /// The index and which shard holds which tensor.
    index: Option<(PathBuf, BTreeMap<String, PathBuf>)>,
}

/// A tensor with the shard it lies in.
struct Located {
    shard: usize,
    info: TensorInfo,
}

impl Checkpoint {
    /// The checkpoint in `directory`, which has a `config.json`.
    pub(super) fn of_directory(directory: &Path) -> Result<Self, LoadError> {
        let config = read_json(&directory.join("config.json"))?;
        let directory = directory.to_owned();
        let index_path = directory.join(INDEX);
        if index_path.is_file() {
            let by_tensor = read_index(&index_path, &directory)?;
            let mut files: Vec<PathBuf> = by_tensor.values().cloned().collect();
            files.sort();
            files.dedup();
            if let Some(shard) = files.iter().find(|file| !file.is_file()) {
                return Err(LoadError::MissingShard { shard: shard.clone(), index: index_path });
            }
            return Ok(Self { directory, config, files, index: Some((index_path, by_tensor)) });
        }
        let single = directory.join(SINGLE);
        if !single.is_file() {
            return Err(LoadError::NoModel {
                path: directory,
                reason: format!("it has a `config.json`, but neither `{SINGLE}` nor `{INDEX}`"),
            });
        }
        Ok(Self { directory, config, files: vec![single], index: None })
    }

    /// The checkpoint of one `.safetensors` file with its `config.json` beside it.
    pub(super) fn of_file(file: &Path) -> Result<Self, LoadError> {
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        let config_path = directory.join("config.json");
        if !config_path.is_file() {
            return Err(LoadError::NoModel {
                path: file.to_owned(),
                reason: "there is no `config.json` beside it".to_owned(),
            });
        }
        Ok(Self { config: read_json(&config_path)?, directory, files: vec![file.to_owned()], index: None })
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }
    pub(super) fn into_config(self) -> Value {
        self.config
    }
    pub(super) fn architecture(&self) -> Result<Architecture, LoadError> {
        Architecture::from_hf_config(&self.config)
            .map_err(|error| LoadError::Config { path: self.directory.join("config.json"), reason: error.to_string() })
    }

    /// The tokenizer files beside the weights.
    pub(super) fn tokenizer(&self) -> Result<TokenizerSource, LoadError> {
        let path = self.directory.join("tokenizer.json");
        if !path.is_file() {
            return Ok(TokenizerSource::Missing(self.directory.clone()));
        }
        let optional = |name: &str| {
            let path = self.directory.join(name);
            if path.is_file() { read_json(&path).map(Some) } else { Ok(None) }
        };
        let tokenizer_config = optional("tokenizer_config.json")?;
        let generation = optional("generation_config.json")?;
        let eos_ids = generation
            .as_ref()
            .and_then(|generation| ids_of(&generation["eos_token_id"]))
            .or_else(|| ids_of(&self.config["eos_token_id"]))
            .unwrap_or_default();
        let template_file = self.directory.join("chat_template.jinja");
        let chat_template = if template_file.is_file() {
            Some(read_text(&template_file)?)
        } else {
            tokenizer_config.as_ref().and_then(|config| config["chat_template"].as_str()).map(str::to_owned)
        };
        Ok(TokenizerSource::Json { path, tokenizer_config, eos_ids, chat_template })
    }

    /// The weights, checked against `architecture` and held as `target` on `device`.
    pub(super) fn weights(
        &self,
        architecture: &Architecture,
        target: Option<Format>,
        device: &Device,
        progress: &mut Progress<'_>,
    ) -> Result<Finished, LoadError> {
        let mut notes = Vec::new();
        let maps = self.files.iter().map(|file| map_file(file)).collect::<Result<Vec<Mmap>, _>>()?;
        let mut by_name = self.locate(&maps)?;
        if architecture.tie_word_embeddings && by_name.remove("lm_head.weight").is_some() {
            notes.push("`lm_head.weight` was not read: the configuration ties it to the embedding".to_owned());
        }
        let wanted = expected::tensors(architecture);
        check_presence(
            &self.directory,
            &wanted,
            by_name.iter().map(|(name, located)| (name.as_str(), located.info.dims.as_slice())),
            &mut notes,
        )?;
        progress.expect(wanted.iter().map(|tensor| by_name[&tensor.name].info.data.len() as u64).sum());

        let mut weights = WeightMap::default();
        let mut fallbacks = Fallbacks::default();
        for tensor in wanted {
            let Located { shard, info } = &by_name[&tensor.name];
            let path = &self.files[*shard];
            let format = *info.storage.as_ref().map_err(|stored| LoadError::Storage {
                path: path.clone(),
                tensor: tensor.name.clone(),
                stored: stored.clone(),
            })?;
            fallbacks.record(target, &tensor.dims);
            let stored = Stored { format, dims: &tensor.dims, bytes: Cow::Borrowed(&maps[*shard][info.data.clone()]) };
            let weight = convert::weight(stored, target, device).map_err(LoadError::candle(format!(
                "cannot hold tensor `{}` of `{}`",
                tensor.name,
                path.display()
            )))?;
            progress.advance(info.data.len() as u64);
            weights.0.insert(tensor.name, weight);
        }
        notes.extend(fallbacks.notes());
        Ok(Finished { weights, notes })
    }

    /// Every tensor of the checkpoint under its own name, in one dense format (`None`: that of the first matrix).
    ///
    /// For candle's modules, which know their own names and shapes. Index buffers in integer types are left out.
    pub(super) fn dense_tensors(
        &self,
        target: Option<Format>,
        device: &Device,
        progress: &mut Progress<'_>,
    ) -> Result<(HashMap<String, Tensor>, Format), LoadError> {
        let maps = self.files.iter().map(|file| map_file(file)).collect::<Result<Vec<Mmap>, _>>()?;
        let located = self.locate(&maps)?;
        let first = located
            .values()
            .find(|located| located.info.dims.len() > 1)
            .and_then(|located| located.info.storage.clone().ok());
        let format = target.or(first).unwrap_or(Format::F32);
        let Some(dtype) = convert::dtype_of(format) else {
            let reason = "candle's own modules take f32, f16 and bf16 from safetensors".to_owned();
            return Err(LoadError::Target { format, reason });
        };
        progress.expect(located.values().map(|located| located.info.data.len() as u64).sum());
        let mut tensors = HashMap::new();
        for (name, Located { shard, info }) in located {
            let bytes = &maps[shard][info.data.clone()];
            progress.advance(bytes.len() as u64);
            let stored = match info.storage {
                Ok(stored) => stored,
                Err(integer) if integer.starts_with(['I', 'U']) || integer == "BOOL" => continue,
                Err(stored) => {
                    return Err(LoadError::Storage { path: self.files[shard].clone(), tensor: name, stored });
                }
            };
            let stored = Stored { format: stored, dims: &info.dims, bytes: Cow::Borrowed(bytes) };
            let tensor = convert::dense(stored, dtype, device).map_err(LoadError::candle(format!(
                "cannot hold tensor `{name}` of `{}`",
                self.files[shard].display()
            )))?;
            tensors.insert(name, tensor);
        }
        Ok((tensors, format))
    }

    /// Every tensor of every shard; with an index, exactly those that it lists.
    fn locate(&self, maps: &[Mmap]) -> Result<BTreeMap<String, Located>, LoadError> {
        let mut by_name: BTreeMap<String, Located> = BTreeMap::new();
        for (shard, (path, map)) in self.files.iter().zip(maps).enumerate() {
            let damaged = |offset, reason| LoadError::Damaged { path: path.clone(), offset, reason };
            for info in safetensors::parse(map).map_err(|error| damaged(error.offset, error.reason))? {
                if let Some((_, by_tensor)) = &self.index
                    && by_tensor.get(&info.name) != Some(path)
                {
                    continue;
                }
                by_name.insert(info.name.clone(), Located { shard, info });
            }
        }
        if let Some((index, by_tensor)) = &self.index
            && let Some((tensor, shard)) = by_tensor.iter().find(|(tensor, _)| !by_name.contains_key(*tensor))
        {
            return Err(LoadError::NotInShard { tensor: tensor.clone(), shard: shard.clone(), index: index.clone() });
        }
        Ok(by_name)
    }
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })
}

fn read_json(path: &Path) -> Result<Value, LoadError> {
    // serde_json's message ends in line and column.
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| LoadError::Config { path: path.to_owned(), reason: error.to_string() })
}

fn read_index(path: &Path, directory: &Path) -> Result<BTreeMap<String, PathBuf>, LoadError> {
    let wrong = |reason: String| LoadError::Config { path: path.to_owned(), reason };
    let index = read_json(path)?;
    let Some(map) = index["weight_map"].as_object().filter(|map| !map.is_empty()) else {
        return Err(wrong("`weight_map` is missing or empty".to_owned()));
    };
    map.iter()
        .map(|(tensor, shard)| {
            // A plain file name only: an index from elsewhere must not reach outside its directory.
            let name = shard.as_str().filter(|name| Path::new(name).file_name() == Some(std::ffi::OsStr::new(name)));
            let name = name.ok_or_else(|| wrong(format!("`weight_map.{tensor}` is {shard}, a file name is needed")))?;
            Ok((tensor.clone(), directory.join(name)))
        })
        .collect()
}

/// One id or a list of them.
fn ids_of(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().map(id).collect(),
        single => id(single).map(|id| vec![id]),
    }
}
