//! Subjects as a file: what a comparison was made of, and a baseline kept for later.
//!
//! A stored subject has all its values, so that a comparison with it is as good as one with the run itself, and nothing else of the run: it is small
//! enough to be kept in a repository.

use serde::{Deserialize, Serialize};

use super::result::{Attribution, QualityRow};
use super::settings::CompareSettings;
use super::subject::Subject;

/// Version of [`StoredBaseline`] and [`StoredComparison`].
pub const STORED_SCHEMA_VERSION: u32 = 1;

/// The key that tells the file of a baseline from other JSON.
pub const BASELINE_KEY: &str = "perfprof_baseline";

/// A subject kept for later comparisons (`runs tag RUN NAME --store FILE`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredBaseline {
    /// [`STORED_SCHEMA_VERSION`].
    #[serde(rename = "perfprof_baseline")]
    pub version: u32,
    /// The subject.
    pub subject: Subject,
}

/// What a comparison was made of (`subjects.json`): enough to judge it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredComparison {
    /// [`STORED_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The subjects, baseline first.
    pub subjects: Vec<Subject>,
    /// Where the differences come from: traces are not kept, so it cannot be made again.
    pub attribution: Vec<Attribution>,
    /// Quality of the predictions, where runs measured it.
    pub quality: Vec<QualityRow>,
    /// Settings but for the gate.
    pub settings: CompareSettings,
    /// Rules of the gate as written.
    pub fail_on: Vec<String>,
    /// Exit 0 even if INVALID.
    pub allow_invalid: bool,
}

/// Why a stored baseline cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It was written by a later perfprof.
    #[error("`{file}` is a baseline of version {found}, newer than this perfprof knows ({STORED_SCHEMA_VERSION})")]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        found: u64,
    },
    /// It is damaged.
    #[error("`{file}` is no baseline: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Where and what.
        reason: String,
    },
}

/// The baseline in `bytes`, the content of `file`; `None` where it is some other document.
///
/// # Errors
/// If it says that it is a baseline, and is newer or damaged.
pub fn read_baseline(file: &str, bytes: &[u8]) -> Option<Result<Subject, StoredError>> {
    let malformed = |reason: String| StoredError::Malformed { file: file.to_owned(), reason };
    // The key stands first in what this tool writes: other documents, which may be huge, are not parsed for it.
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
    if !head.contains(BASELINE_KEY) {
        return None;
    }
    let value: serde_json::Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return Some(Err(malformed(error.to_string()))),
    };
    match value.get(BASELINE_KEY).and_then(serde_json::Value::as_u64) {
        Some(found) if found > u64::from(STORED_SCHEMA_VERSION) => {
            return Some(Err(StoredError::Newer { file: file.to_owned(), found }));
        }
        Some(_) => {}
        None => return Some(Err(malformed(format!("`{BASELINE_KEY}` is no version")))),
    }
    let stored: Result<StoredBaseline, _> = serde_path_to_error::deserialize(value);
    Some(match stored {
        Ok(stored) => match torn(&stored.subject) {
            None => Ok(stored.subject),
            Some(reason) => Err(malformed(reason)),
        },
        Err(error) => Err(malformed(format!("{}: {}", error.path(), error.inner()))),
    })
}

/// What does not go together in a subject that came from a file.
fn torn(subject: &Subject) -> Option<String> {
    subject.measures.iter().find_map(|measure| {
        let n = measure.values.len();
        let fits = measure.runs.len() == n && (measure.blocks.is_empty() || measure.blocks.len() == n);
        (!fits).then(|| {
            format!(
                "`{}` has {n} values, but {} runs and {} blocks",
                measure.name,
                measure.runs.len(),
                measure.blocks.len()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::subject::{MeasureValues, Outcomes, SubjectKind};
    use crate::diagnostics::Validity;

    fn subject() -> Subject {
        Subject {
            label: "base".to_owned(),
            kind: SubjectKind::Stage1,
            tool: "perfprof".to_owned(),
            run_ids: vec!["20260101-000000-0000".to_owned()],
            files: Vec::new(),
            facts: BTreeMap::from([("model".to_owned(), Some("m".to_owned())), ("gpu".to_owned(), None)]),
            measures: vec![MeasureValues {
                case: None,
                name: "tpot_ms".to_owned(),
                unit: "ms".to_owned(),
                values: vec![1.0, 0.1 + 0.2],
                runs: vec![0, 1],
                blocks: Vec::new(),
                reported: None,
            }],
            operators: Vec::new(),
            outcomes: Outcomes { ok: 2, ..Outcomes::default() },
            validity: Validity::from_reasons(Vec::new()),
            price_usd_per_hour: None,
            power_w: None,
            diagnostics: Vec::new(),
        }
    }

    fn text(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value =
            serde_json::to_value(StoredBaseline { version: STORED_SCHEMA_VERSION, subject: subject() }).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn a_baseline_comes_back_bit_for_bit() {
        assert_eq!(read_baseline("b.json", &text(|_| {})).unwrap().unwrap(), subject());
    }

    #[test]
    fn other_documents_are_none_and_damaged_ones_name_the_place() {
        assert!(read_baseline("b.json", b"{\"benchmarks\": []}").is_none());
        let newer = read_baseline("b.json", &text(|value| value[BASELINE_KEY] = 9.into())).unwrap().unwrap_err();
        assert!(newer.to_string().contains("version 9"), "{newer}");
        let wrong =
            read_baseline("b.json", &text(|value| value["subject"]["measures"][0]["values"] = "x".into())).unwrap();
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("subject.measures[0].values"), "{wrong}");
        let short =
            read_baseline("b.json", &text(|value| value["subject"]["measures"][0]["runs"] = serde_json::json!([0])));
        assert!(short.unwrap().unwrap_err().to_string().contains("2 values, but 1 runs"));
        let torn = text(|_| {});
        assert!(read_baseline("b.json", &torn[..torn.len() - 5]).unwrap().is_err());
    }
}
