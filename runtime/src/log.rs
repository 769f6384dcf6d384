//! Log lines on standard error: text for people, JSON for collectors.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
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

/// The filter or the subscriber was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read; for example `info,larder_node=debug` can.
    #[error("log filter {filter:?} cannot be read")]
    Filter {
        /// What was given.
        filter: String,
        /// Why not.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs were set up before.
    #[error("logs were set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging for the whole process. `filter` is a list such as `info,larder_node=debug`.
///
/// # Errors
/// A filter that cannot be read, or a second call.
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
    result.map_err(Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("text".parse(), Ok(Format::Text));
        assert!("xml".parse::<Format>().expect_err("unknown").contains("text or json"));
    }

    #[test]
    fn a_bad_filter_is_named_in_the_error() {
        let error = init(Format::Text, "larder=loud").expect_err("no such level");
        assert_eq!(error.to_string(), "log filter \"larder=loud\" cannot be read");
    }
}
