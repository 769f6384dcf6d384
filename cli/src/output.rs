//! What a verb reports, and how it is printed: text for people, or one envelope for programs.

use std::io::Write;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Failed;

/// The envelope, as `larder --help` describes it.
pub(crate) const ENVELOPE_HELP: &str = "\
With `-o json` or `-o yaml` a verb prints one envelope on standard output, failures included:
  verb      the verb, such as \"status\"
  exitCode  the exit code, as below
  result    what the verb found; left out when it failed
  error     {kind, reason, message, hint} when it failed; kind and reason are for programs
  notes     remarks that a table would have on standard error
Keys and values are text, or base64 where \"encoding\" or \"keyEncoding\" says so.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    #[value(alias = "text")]
    Table,
    /// The envelope that `larder --help` describes
    Json,
    /// The same envelope as YAML
    Yaml,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to print it
    #[arg(
        long = "output",
        short = 'o',
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    format: Format,
}

/// A form for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structured {
    Json,
    Yaml,
}

impl Output {
    pub(crate) fn structured(self) -> Option<Structured> {
        match self.format {
            Format::Table => None,
            Format::Json => Some(Structured::Json),
            Format::Yaml => Some(Structured::Yaml),
        }
    }
}

/// What a verb found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// For people, on standard output.
    pub(crate) text: Vec<u8>,
    /// For programs; nothing when the verb has printed its envelopes itself.
    pub(crate) result: Option<Value>,
    /// For people, on standard error.
    pub(crate) notes: Vec<String>,
    pub(crate) code: u8,
}

impl Report {
    pub(crate) fn new(text: impl Into<Vec<u8>>, result: Value) -> Self {
        Self { text: text.into(), result: Some(result), ..Self::default() }
    }

    /// A report of a verb that has printed everything already.
    pub(crate) fn printed(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// Prints the report in the form that was asked for.
    pub(crate) fn print(&self, verb: &str, form: Option<Structured>) -> anyhow::Result<()> {
        let Some(form) = form else {
            self.notes.iter().for_each(|line| note(line));
            return print(&self.text);
        };
        if self.result.is_none() {
            return Ok(());
        }
        let envelope = Envelope {
            verb,
            exit_code: self.code,
            result: self.result.as_ref(),
            error: None,
            notes: &self.notes,
        };
        print(envelope.text(form)?)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    verb: &'a str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorPart<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
}

#[derive(Serialize)]
struct ErrorPart<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Envelope<'_> {
    fn text(&self, form: Structured) -> anyhow::Result<String> {
        Ok(match form {
            Structured::Json => serde_json::to_string_pretty(self)? + "\n",
            // The marker separates the envelopes of a verb that prints several.
            Structured::Yaml => format!("---\n{}\n", serde_saphyr::to_string(self)?.trim_end()),
        })
    }
}

/// Prints a failure: a line for people, and the envelope where a program reads.
pub(crate) fn print_failure(verb: &str, form: Option<Structured>, failed: &Failed) -> ExitCode {
    note(&format!("larder: {}", failed.message));
    if let Some(hint) = failed.hint {
        note(&format!("hint: {hint}"));
    }
    if let Some(form) = form {
        print_error_envelope(verb, form, failed);
    }
    ExitCode::from(failed.code)
}

pub(crate) fn print_error_envelope(verb: &str, form: Structured, failed: &Failed) {
    let Failed { code, kind, reason, message, hint } = failed;
    let error = Some(ErrorPart { kind, reason: reason.as_deref(), message, hint: *hint });
    let envelope = Envelope { verb, exit_code: *code, result: None, error, notes: &[] };
    if let Ok(text) = envelope.text(form) {
        // The exit code still says that it failed.
        let _ = print(text);
    }
}

/// The verb's end as an exit code, after everything is printed.
pub(crate) fn finish(
    verb: &str,
    form: Option<Structured>,
    ended: anyhow::Result<Report>,
) -> ExitCode {
    let printed = ended.and_then(|report| report.print(verb, form).map(|()| report.code));
    match printed {
        Ok(code) => ExitCode::from(code),
        Err(error) => print_failure(verb, form, &Failed::from(&error)),
    }
}

/// Writes to standard output. A reader that left (`larder … | head`) is no failure.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}

/// Writes one line to standard error.
pub(crate) fn note(line: &str) {
    // Nothing is left to say it to when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Bytes as JSON holds them, and the encoding's name.
pub(crate) fn encoded(bytes: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (STANDARD.encode(bytes), "base64"),
    }
}

/// The form that the raw arguments ask for, for errors found before they are parsed.
pub(crate) fn requested(args: &[std::ffi::OsString]) -> Option<Structured> {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let mut forms = args.iter().enumerate().filter_map(|(at, arg)| {
        let value = match *arg {
            "-o" | "--output" => args.get(at + 1)?,
            arg => arg.strip_prefix("--output=").or_else(|| arg.strip_prefix("-o"))?,
        };
        match value.trim_start_matches('=') {
            "json" => Some(Structured::Json),
            "yaml" => Some(Structured::Yaml),
            _ => None,
        }
    });
    forms.next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_envelope_has_one_order_and_leaves_out_what_is_not_there() {
        let result = json!({"count": 1});
        let notes = vec!["one".to_owned()];
        let found = Envelope {
            verb: "hot",
            exit_code: 1,
            result: Some(&result),
            error: None,
            notes: &notes,
        };
        assert_eq!(
            found.text(Structured::Yaml).expect("plain data"),
            "---\nverb: hot\nexitCode: 1\nresult:\n  count: 1\nnotes:\n- one\n"
        );
        let error = ErrorPart { kind: "usage", reason: None, message: "no", hint: None };
        let failed =
            Envelope { verb: "", exit_code: 64, result: None, error: Some(error), notes: &[] };
        let text = failed.text(Structured::Json).expect("plain data");
        let compact: String = text.split_whitespace().collect();
        assert_eq!(compact, r#"{"verb":"","exitCode":64,"error":{"kind":"usage","message":"no"}}"#);
    }

    #[test]
    fn the_form_is_found_in_raw_arguments() {
        let asked = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(Into::into).collect();
            requested(&args)
        };
        assert_eq!(asked(&["get", "-o", "json"]), Some(Structured::Json));
        assert_eq!(asked(&["get", "--output=yaml"]), Some(Structured::Yaml));
        assert_eq!(asked(&["get", "-ojson", "x"]), Some(Structured::Json));
        assert_eq!(asked(&["get", "json", "-o"]), None);
    }

    #[test]
    fn bytes_that_are_not_text_become_base64() {
        assert_eq!(encoded(&[0xff, 0x00]), ("/wA=".to_owned(), "base64"));
        assert_eq!(encoded("ö".as_bytes()), ("ö".to_owned(), "utf-8"));
    }
}
