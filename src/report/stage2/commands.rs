//! `commands.md` and the table of commands.

use super::model::Stage2Report;
use super::words;
use crate::record::stage2::CommandRecord;
use crate::report::escape::{cut, markdown, one_line};
use crate::report::number::{UNKNOWN, digits};
use crate::report::table::{Cell, Table};

/// How a command ended, in words.
fn ended(command: &CommandRecord) -> String {
    match (command.state.as_str(), command.exit_code, command.signal) {
        ("ended", Some(code), _) => format!("exit code {code}"),
        ("ended", None, Some(signal)) => format!("signal {signal}"),
        (state, _, _) => state.replace('_', " "),
    }
}

/// The command as a shell would take it.
fn line(command: &CommandRecord) -> String {
    command.environment.iter().chain(&command.argv).map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Every command.
pub(super) fn table(report: &Stage2Report<'_>) -> Table {
    let mut table = Table::new(&["Command", "Version", "Began", "#Took", "Ended", "Log"]);
    for command in report.commands {
        let mut purpose = Cell::text(&command.purpose);
        purpose.full = Some(cut(&one_line(&line(command)), 20_000));
        table.push(vec![
            purpose,
            Cell::text(command.version.as_deref().unwrap_or(UNKNOWN)),
            Cell::text(&command.started_at),
            command.took_s.map_or_else(|| Cell::maybe(None), |s| Cell::number(format!("{} s", digits(s)), s)),
            Cell::text(&ended(command)),
            Cell::text(&command.stderr),
        ]);
    }
    table
}

/// `commands.md`: what to type to do the same by hand.
pub(super) fn commands_md(report: &Stage2Report<'_>) -> String {
    let mut text = format!("# Commands of {}\n\n", markdown(&words::title(report)));
    if report.commands.is_empty() {
        text.push_str("No command was run.\n");
        return text;
    }
    text.push_str(&table(report).markdown());
    text.push_str("\n\nPaths are relative to where perfprof was started, logs to the run.\n\n");
    for command in report.commands {
        text.push_str(&format!("## {}\n\n", markdown(&cut(&one_line(&command.purpose), 200))));
        // A fence longer than any run of back-ticks in it.
        let line = one_line(&line(command));
        let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        text.push_str(&format!("{fence}sh\n{line}\n{fence}\n\n"));
        text.push_str(&format!(
            "{}; stdout in {}, stderr in {}.\n\n",
            markdown(&ended(command)),
            markdown(&command.stdout),
            markdown(&command.stderr)
        ));
    }
    text.push_str(&format!("Run {}, made {}.\n", markdown(&report.metrics.run_id), markdown(report.generated_at)));
    text
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--launch-skip"), "--launch-skip");
        assert_eq!(quoted("regex:^k\\(float \\*\\)$"), "'regex:^k\\(float \\*\\)$'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
