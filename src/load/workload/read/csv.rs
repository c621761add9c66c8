//! Traces in CSV: BurstGPT and the Azure LLM inference traces.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::super::error::WorkloadError;
use super::record::{Asked, Record, SourceTurn};
use super::{Format, Sink};

/// Names of columns, in lower case: when, tokens of the prompt, tokens of the answer.
const BURSTGPT: [&str; 3] = ["timestamp", "request tokens", "response tokens"];
const AZURE: [&str; 3] = ["timestamp", "contexttokens", "generatedtokens"];
/// More tokens than this are a mistake of the file.
const MOST_TOKENS: u64 = 1 << 24;

/// Reads `text`, whose first line must name the columns.
pub(super) fn read(text: &str, sink: &mut Sink) -> Result<(), WorkloadError> {
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).trim(::csv::Trim::All).from_reader(text.as_bytes());
    let headers: Vec<String> = match reader.headers() {
        Ok(headers) => headers.iter().map(str::to_owned).collect(),
        Err(error) => return Err(sink.error(1, error.to_string())),
    };
    let columns = |names: [&str; 3]| -> Option<[usize; 3]> {
        let at = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
        Some([at(names[0])?, at(names[1])?, at(names[2])?])
    };
    let (format, columns) = match (columns(BURSTGPT), columns(AZURE)) {
        (Some(columns), _) => (Format::BurstGpt, columns),
        (None, Some(columns)) => (Format::Azure, columns),
        (None, None) => {
            let message = "this is none of the known formats: JSON or JSON lines with `prompt`, `messages` or `conversations`, or a trace with lengths";
            return Err(sink.error(1, message));
        }
    };
    let mut row = ::csv::StringRecord::new();
    while !sink.is_full() {
        match reader.read_record(&mut row) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let line = error.position().map_or(1, ::csv::Position::line);
                sink.bad(line, error.to_string())?;
                continue;
            }
        }
        let line = row.position().map_or(1, ::csv::Position::line);
        match record(format, &row, &headers, columns) {
            // A request without an answer is one that failed when the trace was recorded.
            Ok((_, 0)) => sink.leave_out("requests that failed when the trace was recorded"),
            Ok((mut record, _)) => {
                record.line = line;
                sink.push(format, record)?;
            }
            Err(message) => sink.bad(line, message)?,
        }
    }
    Ok(())
}

/// A row, and the tokens of its answer.
fn record(
    format: Format,
    row: &::csv::StringRecord,
    headers: &[String],
    [when, input, output]: [usize; 3],
) -> Result<(Record, u64), String> {
    let cell = |column: usize| row.get(column).unwrap_or("");
    let tokens = |column: usize| -> Result<u64, String> {
        let text = cell(column);
        // Some exports write whole numbers as `12.0`.
        let number = text
            .parse::<f64>()
            .ok()
            .filter(|number| number.fract() == 0.0 && (0.0..=MOST_TOKENS as f64).contains(number));
        number
            .map(|number| number as u64)
            .ok_or_else(|| format!("`{}` is `{text:.40}`: expected a number of tokens", headers[column]))
    };
    let at_ns = match format {
        Format::BurstGpt => seconds(cell(when)),
        _ => date_time(cell(when)),
    };
    let at_ns = at_ns.ok_or_else(|| {
        format!(
            "`{}` is `{:.40}`: expected {}",
            headers[when],
            cell(when),
            match format {
                Format::BurstGpt => "seconds",
                _ => "a date and a time",
            }
        )
    })?;
    let (input, output) = (tokens(input)?, tokens(output)?);
    let turn = SourceTurn {
        max_tokens: u32::try_from(output).ok().filter(|tokens| *tokens > 0),
        ..SourceTurn::new(Asked::Made { tokens: (input as u32).max(1), blocks: Vec::new() })
    };
    Ok((Record { at_ns: Some(at_ns), ..Record::of(vec![turn], 0) }, output))
}

/// Seconds, as nanoseconds.
fn seconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..1e10).contains(&seconds).then(|| (seconds * 1e9).round() as u64)
}

/// `2023-11-16 18:17:03.9799600`, with or without an offset from UTC, as nanoseconds after 1970.
fn date_time(text: &str) -> Option<u64> {
    let zoned = text.parse::<Timestamp>().ok();
    let timestamp = match zoned {
        Some(timestamp) => timestamp,
        None => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    u64::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{ReadOptions, parse};
    use super::*;

    fn times_and_lengths(text: &str) -> Vec<(u64, u32, Option<u32>)> {
        let loaded = parse(Path::new("trace.csv"), text.as_bytes(), ReadOptions::default()).unwrap();
        let lengths = |record: &Record| match &record.turns[0] {
            SourceTurn { asked: Asked::Made { tokens, .. }, max_tokens, .. } => (*tokens, *max_tokens),
            other => panic!("{other:?}"),
        };
        loaded.records.iter().map(|record| (record.at_ns.unwrap(), lengths(record).0, lengths(record).1)).collect()
    }

    #[test]
    fn burstgpt_has_seconds_and_leaves_out_what_failed() {
        let text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45.5,ChatGPT,1087,0,1087,API log\n118,GPT-4,417,276,693,Conversation log\n";
        assert_eq!(times_and_lengths(text), [(5_000_000_000, 472, Some(18)), (118_000_000_000, 417, Some(276))]);
        let loaded = parse(Path::new("x"), text.as_bytes(), ReadOptions::default()).unwrap();
        assert_eq!(loaded.notes, ["1 requests that failed when the trace was recorded were left out"]);
        // The later release has more columns, and whole numbers written as fractions.
        let later = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n1.25,7,0.5,GPT-4,30.0,4.0,34.0,API log\n";
        assert_eq!(times_and_lengths(later), [(1_250_000_000, 30, Some(4))]);
    }

    #[test]
    fn azure_has_date_times_to_a_fraction_of_a_microsecond() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n";
        let rows = times_and_lengths(text);
        assert_eq!(rows[1].0 - rows[0].0, 52_000_000);
        assert_eq!((rows[0].1, rows[0].2), (4808, Some(10)));
        // 2024's has an offset.
        let later = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 01:00:00+01:00,1,5\n";
        let rows = times_and_lengths(later);
        assert_eq!(rows[0].0 - rows[1].0, 9_930_000);
    }
}
