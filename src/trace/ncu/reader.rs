//! Reads the output of `ncu --csv`, whatever page it printed.
//!
//! Long form: a row for each metric of each launch, and a row for each rule, whose fields follow the metric's. Wide form (`--page raw`): a row
//! for each launch, a column for each metric, a row of units under the header. Both may stand below the output of the profiled program.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::import::{Progress, ReadError, ReadErrorKind, ReadOptions};
use super::csv::{Lines, fields};
use super::number::{self, Reading, Style};
use super::{NcuImport, NcuKernel, NcuMetric, NcuReport, NcuRule, NcuValue, unit};
use crate::diagnostics::{Diagnostics, Severity, escape_control};

/// Rows between two calls of the progress function.
const ROWS_A_STEP: u64 = 4096;
/// Characters of foreign text quoted in a message.
const QUOTED: usize = 200;

/// What the tool says when the driver refuses the performance counters.
const NO_PERMISSION: &str = "ERR_NVGPUCTRPERM";

/// Columns that describe a launch; every other column of the wide form is a metric.
const LAUNCH_COLUMNS: [&str; 17] = [
    "ID",
    "Process ID",
    "Process Name",
    "Host Name",
    "Kernel Name",
    "Kernel Time",
    "Context",
    "Stream",
    "Block Size",
    "Grid Size",
    "Device",
    "CC",
    "Section Name",
    "Rule Name",
    "Rule Type",
    "Rule Description",
    "Invocations",
];

/// Reads the file at `path`.
///
/// # Errors
/// If it cannot be read, is no output of Nsight Compute, or holds nothing because the driver refused access to the counters.
pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<NcuImport, ReadError> {
    let failed = |error: io::Error| ReadError::new(path, ReadErrorKind::Io, error.to_string());
    let file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut reader = Reader::default();
    reader.report.file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut input = BufReader::with_capacity(1 << 16, file);
    let start = input.fill_buf().map_err(failed)?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        // `>` of Windows PowerShell writes UTF-16.
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(failed)?;
        reader.lines(path, options, total, Lines::new(Cursor::new(utf8(&bytes).into_bytes())))?;
    } else {
        if start.starts_with(&[0xEF, 0xBB, 0xBF]) {
            input.consume(3);
        }
        reader.lines(path, options, total, Lines::new(input))?;
    }
    reader.finish(path)
}

fn utf8(bytes: &[u8]) -> String {
    let little = bytes.starts_with(&[0xFF, 0xFE]);
    let units = bytes[2..].chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    });
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Where the columns of the current header are.
#[derive(Debug, Default)]
struct Header {
    columns: FxHashMap<String, usize>,
    /// Metrics of the wide form: column and name; empty in the long form.
    wide: Vec<(usize, Arc<str>)>,
    /// Units of the wide form, by position in `wide`, once their row was read.
    units: Vec<Unit>,
    /// Number of columns.
    width: usize,
    /// Counts headers: launch indices begin anew after each.
    number: usize,
}

#[derive(Debug, Clone)]
struct Unit {
    factor: f64,
    base: Arc<str>,
    known: bool,
}

/// A value that the rest of the file decides on.
struct Deferred {
    kernel: usize,
    metric: usize,
    english: f64,
    continental: f64,
}

/// Which launch a row belongs to.
#[derive(Hash, PartialEq, Eq)]
struct LaunchKey {
    header: usize,
    process: Arc<str>,
    id: Arc<str>,
    name: Arc<str>,
}

#[derive(Default)]
struct Reader {
    report: NcuReport,
    diagnostics: Diagnostics,
    header: Option<Header>,
    headers: usize,
    launches: FxHashMap<LaunchKey, usize>,
    /// The launch of the last row: rows of one stand together.
    current: usize,
    /// Metrics the current launch has already: (section, name).
    seen: FxHashSet<(Arc<str>, Arc<str>)>,
    texts: FxHashSet<Arc<str>>,
    units: FxHashMap<String, Unit>,
    deferred: Vec<Deferred>,
    english: u64,
    continental: u64,
    /// Whether any line comes from the tool.
    spoke: bool,
    refused: Option<String>,
    empty: bool,
}

impl Reader {
    fn lines<R: BufRead>(
        &mut self,
        path: &Path,
        options: &ReadOptions<'_>,
        total: u64,
        mut lines: Lines<R>,
    ) -> Result<(), ReadError> {
        let mut rows = 0_u64;
        self.empty = true;
        while let Some(record) =
            lines.record().map_err(|error| ReadError::new(path, ReadErrorKind::Io, error.to_string()))?
        {
            rows += 1;
            if rows % ROWS_A_STEP == 1 {
                if (options.cancelled)() {
                    return Err(ReadError::interrupted(path));
                }
                (options.progress)(Progress { done: lines.bytes, total });
            }
            self.empty &= record.trim().is_empty();
            self.record(&record);
        }
        Ok(())
    }

    fn record(&mut self, record: &str) {
        if let Some(message) = record.trim_start().strip_prefix("==") {
            return self.message(message);
        }
        if record.contains("Kernel Name") && self.begin(record) {
            return;
        }
        let Some(header) = self.header.take() else { return };
        self.header = Some(if header.wide.is_empty() { self.long(header, record) } else { self.wide(header, record) });
    }

    /// `PROF== text`, `WARNING== text`, `ERROR== text`.
    fn message(&mut self, message: &str) {
        let Some((kind, text)) = message.split_once("==") else { return };
        let text = text.trim();
        let severity = match kind.trim() {
            "PROF" => {
                self.spoke = true;
                return;
            }
            "WARNING" => Severity::Warn,
            "ERROR" => Severity::Error,
            _ => return,
        };
        self.spoke = true;
        let quoted = quote(text);
        if text.contains(NO_PERMISSION) {
            self.refused.get_or_insert_with(|| quoted.clone());
        }
        if text.contains("No kernels were profiled") {
            return;
        }
        let code = if severity == Severity::Error { "ncu_error" } else { "ncu_warning" };
        self.diagnostics.note(code, severity, format!("Nsight Compute says: {quoted}"));
    }

    /// Takes a header; false if the record is none.
    fn begin(&mut self, record: &str) -> bool {
        let names = fields(record);
        if !names.iter().any(|name| name == "Kernel Name") {
            return false;
        }
        let long = names.iter().any(|name| name == "Metric Name");
        let mut header = Header { width: names.len(), number: self.headers, ..Header::default() };
        self.headers += 1;
        for (column, name) in names.iter().enumerate() {
            let name = name.trim();
            if !long && !name.is_empty() && !LAUNCH_COLUMNS.contains(&name) {
                header.wide.push((column, self.text(name)));
            }
            header.columns.entry(name.to_owned()).or_insert(column);
        }
        if !long && header.wide.is_empty() {
            return false;
        }
        self.spoke = true;
        self.header = Some(header);
        true
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    fn unit(&mut self, text: &str) -> Unit {
        if let Some(unit) = self.units.get(text) {
            return unit.clone();
        }
        let scale = unit::parse(text);
        let unit = Unit { factor: scale.factor, base: self.text(&scale.base), known: scale.known };
        self.units.insert(text.to_owned(), unit.clone());
        unit
    }

    /// A record that is no row: the profiled program wrote it, or the file is damaged.
    fn stray(&mut self, record: &str) {
        if !record.trim().is_empty() {
            let text = format!("{} is no row of the table; the profiled program may have written it", quote(record));
            self.diagnostics.note("ncu_lines_ignored", Severity::Info, text);
        }
    }

    fn long(&mut self, header: Header, record: &str) -> Header {
        let row = Row { header: &header, fields: fields(record) };
        // Rows of metrics end before the columns of rules, hence are shorter than the header.
        let id = row.get("ID");
        if id.parse::<u64>().is_err() || !row.fits() || row.get("Kernel Name").is_empty() {
            self.stray(record);
            return header;
        }
        let kernel = self.launch(&row);
        let section = self.text(row.get("Section Name"));
        let name = row.get("Metric Name");
        if !name.is_empty() {
            let (name, unit) = (self.text(name), self.unit(row.get("Metric Unit")));
            self.metric(kernel, section, name, &unit, row.get("Metric Value"));
        } else if !row.get("Rule Name").is_empty() {
            let speedup_kind = row.get("Estimated Speedup Type");
            let rule = NcuRule {
                section,
                name: self.text(row.get("Rule Name")),
                kind: self.text(row.get("Rule Type")),
                description: self.text(row.get("Rule Description")),
                speedup_kind: (!speedup_kind.is_empty()).then(|| self.text(speedup_kind)),
                speedup_percent: match number::read(row.get("Estimated Speedup")) {
                    Reading::Plain(value) | Reading::Certain(value, _) => Some(value),
                    // A speed-up has few digits: three after one separator are decimals.
                    Reading::Ambiguous { english, continental } => Some(english.min(continental)),
                    Reading::Missing | Reading::Text => None,
                },
            };
            if !self.report.kernels[kernel].rules.contains(&rule) {
                self.report.kernels[kernel].rules.push(rule);
            }
        }
        header
    }

    fn wide(&mut self, mut header: Header, record: &str) -> Header {
        let row = Row { header: &header, fields: fields(record) };
        let name = row.get("Kernel Name");
        if name.is_empty() && header.units.is_empty() && row.fields.len() >= header.width && row.fits() {
            let texts: Vec<String> =
                header.wide.iter().map(|(column, _)| row.fields.get(*column).cloned().unwrap_or_default()).collect();
            header.units = texts.iter().map(|text| self.unit(text)).collect();
            return header;
        }
        let has_id = header.columns.contains_key("ID");
        if name.is_empty()
            || row.fields.len() < header.width
            || !row.fits()
            || (has_id && row.get("ID").parse::<u64>().is_err())
        {
            self.stray(record);
            return header;
        }
        let kernel = self.launch(&row);
        let section = self.text("");
        let without = self.unit("");
        for (index, (column, name)) in header.wide.iter().enumerate() {
            let unit = header.units.get(index).unwrap_or(&without).clone();
            let value = row.fields.get(*column).map_or("", String::as_str);
            self.metric(kernel, Arc::clone(&section), Arc::clone(name), &unit, value);
        }
        header
    }

    /// The launch a row belongs to, new or known.
    fn launch(&mut self, row: &Row<'_>) -> usize {
        let name = self.text(row.get("Kernel Name"));
        let wide = !row.header.wide.is_empty();
        let count = self.report.kernels.len();
        let id = row.get("ID");
        let key = LaunchKey {
            header: row.header.number,
            process: self.text(row.get("Process ID")),
            // A row of the wide form without an index is a launch of its own.
            id: if wide && id.is_empty() { self.text(&format!("row {count}")) } else { self.text(id) },
            name: Arc::clone(&name),
        };
        if let Some(known) = self.launches.get(&key) {
            return *known;
        }
        let process_name = self.text(row.get("Process Name"));
        self.report.kernels.push(NcuKernel {
            launch_id: id.parse().unwrap_or(count as u64),
            process: row.get("Process ID").parse().ok(),
            process_name,
            name,
            context: row.get("Context").parse().ok(),
            stream: row.get("Stream").parse().ok(),
            device: row.get("Device").parse().ok(),
            compute_capability: row
                .get("CC")
                .split_once('.')
                .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?))),
            grid: extent(row.get("Grid Size")),
            block: extent(row.get("Block Size")),
            metrics: Vec::new(),
            rules: Vec::new(),
        });
        self.launches.insert(key, count);
        count
    }

    fn metric(&mut self, kernel: usize, section: Arc<str>, name: Arc<str>, unit: &Unit, text: &str) {
        if kernel != self.current {
            self.current = kernel;
            self.seen.clear();
            let known = &self.report.kernels[kernel].metrics;
            self.seen.extend(known.iter().map(|metric| (Arc::clone(&metric.section), Arc::clone(&metric.name))));
        }
        if !self.seen.insert((Arc::clone(&section), Arc::clone(&name))) {
            let text = format!(
                "metric `{}` of launch {} stands twice; the first counts",
                name, self.report.kernels[kernel].launch_id
            );
            self.diagnostics.note("ncu_repeated_metric", Severity::Info, text);
            return;
        }
        let mut value = NcuValue { value: None, unit: Arc::clone(&unit.base), text: None };
        let mut deferred = None;
        match number::read(text) {
            // What overflows in base units is no measurement.
            Reading::Plain(number) => value.value = Some(number * unit.factor).filter(|value| value.is_finite()),
            Reading::Certain(number, style) => {
                match style {
                    Style::English => self.english += 1,
                    Style::Continental => self.continental += 1,
                }
                value.value = Some(number * unit.factor).filter(|value| value.is_finite());
            }
            Reading::Ambiguous { english, continental } => {
                deferred = Some((english * unit.factor, continental * unit.factor));
                value.text = Some(self.text(text));
            }
            Reading::Missing => {}
            Reading::Text => value.text = Some(self.text(text)),
        }
        if !unit.known && (value.value.is_some() || deferred.is_some()) {
            let text = format!("`{name}` is in `{}`, which is not converted", escape_control(&unit.base));
            self.diagnostics.note("ncu_unknown_unit", Severity::Info, text);
        }
        if let Some((english, continental)) = deferred {
            let metric = self.report.kernels[kernel].metrics.len();
            self.deferred.push(Deferred { kernel, metric, english, continental });
        }
        self.report.kernels[kernel].metrics.push(NcuMetric { section, name, value });
    }

    fn finish(mut self, path: &Path) -> Result<NcuImport, ReadError> {
        for deferred in std::mem::take(&mut self.deferred) {
            let metric = &mut self.report.kernels[deferred.kernel].metrics[deferred.metric];
            let chosen = match (self.english, self.continental) {
                (_, 0) => deferred.english,
                (0, _) => deferred.continental,
                _ => {
                    let text = metric.value.text.as_deref().unwrap_or_default();
                    let text = format!(
                        "`{text}` of `{}` may be {} or {}, and the file writes numbers both ways",
                        metric.name, deferred.english, deferred.continental
                    );
                    self.diagnostics.note("ncu_ambiguous_number", Severity::DataLoss, text);
                    continue;
                }
            };
            metric.value.value = Some(chosen);
            metric.value.text = None;
        }
        if self.report.kernels.is_empty() {
            self.nothing(path)?;
        }
        Ok(NcuImport { report: self.report, diagnostics: self.diagnostics.into_vec() })
    }

    /// No kernel was read: says why.
    fn nothing(&mut self, path: &Path) -> Result<(), ReadError> {
        if let Some(text) = &self.refused {
            return Err(ReadError::new(path, ReadErrorKind::Tool, format!("Nsight Compute was refused: {text}"))
                .hint("let the driver give performance counters to all users: set the option NVreg_RestrictProfilingToAdminUsers=0 of the nvidia kernel module and reload it")
                .hint("or run ncu as root; in a container, add the capability SYS_ADMIN")
                .hint("see https://developer.nvidia.com/ERR_NVGPUCTRPERM"));
        }
        if !self.spoke {
            let detail = if self.empty {
                "it is empty"
            } else {
                "it is no output of `ncu --csv`: no header with `Kernel Name` and no line of the tool"
            };
            return Err(ReadError::new(path, ReadErrorKind::NotATrace, detail)
                .hint("write one with `ncu --csv --page details --import FILE.ncu-rep > FILE.csv`"));
        }
        let text = "no kernel was profiled: the filters (--kernel-name, --launch-skip, --nvtx-include, --target-processes) matched none, or the program launched none";
        self.diagnostics.note("ncu_no_kernels", Severity::Error, text);
        Ok(())
    }
}

/// A row and what its columns mean.
struct Row<'a> {
    header: &'a Header,
    fields: Vec<String>,
}

impl Row<'_> {
    /// Whether the row has at most the columns of the header; a comma at the end makes one more, which is empty.
    fn fits(&self) -> bool {
        let width = self.header.width;
        self.fields.len() <= width || (self.fields.len() == width + 1 && self.fields[width].trim().is_empty())
    }
    /// The field of a column; empty if the header has no such column or the row ends before it.
    fn get(&self, column: &str) -> &str {
        self.header.columns.get(column).and_then(|column| self.fields.get(*column)).map_or("", |field| field.trim())
    }
}

/// `(1344, 1, 1)`
fn extent(text: &str) -> Option<[u32; 3]> {
    let mut parts =
        text.trim().strip_prefix('(')?.strip_suffix(')')?.split([',', ';', 'x']).map(|part| part.trim().parse().ok());
    let extent = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(extent)
}

/// Foreign text, safe to print and not too long.
fn quote(text: &str) -> String {
    let text = escape_control(text.trim());
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
