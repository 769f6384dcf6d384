//! Logs on standard error: text for people, JSON for log collectors.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the variants are the accepted names")]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("unknown log format {other:?}: use text or json")),
        }
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the docs would")]
pub enum Error {
    #[error("log filter {filter:?} is invalid, expected a list such as info,larder_node=debug")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is already initialized")]
    AlreadyInitialized(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging for the whole process. `filter` is a list such as `info,larder_node=debug`.
///
/// # Errors
/// The filter is invalid, or logging is already initialized.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    init_to(format, filter, std::io::stderr)
}

/// As [`init`], with the lines written by `writer`, one write a line. Colours follow standard
/// error.
///
/// # Errors
/// As [`init`].
pub fn init_to<W>(format: Format, filter: &str, writer: W) -> Result<(), Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer);
    let result = match format {
        Format::Text => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(Error::AlreadyInitialized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_parses_from_its_name() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("text".parse(), Ok(Format::Text));
        assert!("xml".parse::<Format>().expect_err("unknown").contains("text or json"));
    }

    #[test]
    fn the_error_names_an_invalid_filter() {
        let error = init(Format::Text, "larder=loud").expect_err("no such level");
        let expected = "log filter \"larder=loud\" is invalid, \
                        expected a list such as info,larder_node=debug";
        assert_eq!(error.to_string(), expected);
    }
}
