//! The process around the library: flags, logs, signals, exit codes.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser;
use larder_runtime::drain::Shutdown;
use larder_runtime::{exit, log};

use crate::app::{App, Options, Running};
use crate::args::Args;
use crate::config::{Config, Identity, Mode};

/// Runs a node until a signal stops it. An error in the flags or the configuration is printed as
/// one plain line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            return refuse(format_args!("{}; see --help", one_line(&error.to_string())));
        }
        Err(help) => {
            _ = help.print();
            return exit::OK.into();
        }
    };
    let config = match Config::read(&args.config, args.identity()) {
        Ok(config) => config,
        Err(error) => return refuse(error),
    };
    if args.check_config {
        return exit::OK.into();
    }
    if let Err(error) = log::init(args.log_format, &args.log) {
        return refuse(error);
    }
    match serve(config) {
        Ok(true) => exit::OK.into(),
        Ok(false) => exit::FAILURE.into(),
        Err(Failure::Configuration(error)) => refuse(format_args!("{error:#}")),
        Err(Failure::System(error)) => {
            tracing::error!(error = format!("{error:#}"), "node failed");
            exit::FAILURE.into()
        }
    }
}

enum Failure {
    /// A port in use, or an invalid address of a sidecar's member.
    Configuration(anyhow::Error),
    System(anyhow::Error),
}

fn serve(config: Config) -> Result<bool, Failure> {
    let system = |error: std::io::Error| Failure::System(error.into());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(system)?;
        let Identity { name, uid, .. } = config.identity.clone();
        let mode = if matches!(config.mode, Mode::Member(_)) { "member" } else { "sidecar" };
        let app = App::build(config, Options::default()).map_err(Failure::Configuration)?;
        let running = app.spawn().map_err(Failure::System)?;
        let addresses = running.addresses();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            mode, name, uid,
            grpc = %addresses.grpc,
            admin = %addresses.admin,
            "started"
        );
        Ok(run_until(shutdown.wait(), running).await)
    })
}

/// Drains the node after `shutdown`, or after the node failed. True if it neither failed nor had to
/// cut a request short.
async fn run_until(shutdown: impl Future<Output = ()>, running: Running) -> bool {
    let failed = tokio::select! {
        () = shutdown => false,
        () = running.failed() => true,
    };
    let clean = running.drain().await;
    tracing::info!(failed, clean, "stopped");
    clean && !failed
}

/// The first paragraph of clap's message, as one line.
fn one_line(text: &str) -> String {
    let paragraph = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    paragraph.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

#[expect(clippy::print_stderr, reason = "logging may not be initialised, and a person reads this")]
fn refuse(problem: impl Display) -> ExitCode {
    eprintln!("larder-node: {problem}");
    exit::BAD_CONFIGURATION.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Running {
        let app = App::build(Config::alone("demo", 1 << 20), Options::default());
        app.expect("free ports").spawn().expect("threads")
    }

    #[tokio::test]
    async fn the_panic_of_a_vital_task_ends_the_program_with_a_failure() {
        let (running, ready) = (alone(), alone());
        running.panic_in_background();
        assert!(!run_until(std::future::pending(), running).await);
        assert!(run_until(std::future::ready(()), ready).await, "a clean drain");
    }

    #[tokio::test]
    async fn a_node_is_not_ready_after_the_panic_of_a_vital_task() {
        let running = alone();
        let ready = running.ready().clone();
        assert!(ready.is_ready());
        running.panic_in_background();
        ready.closed().await;
        assert_eq!(ready.waiting_for(), ["a vital task panicked"]);
        running.drain().await;
    }

    #[test]
    fn a_missing_flag_is_named_in_one_line() {
        let error = Args::try_parse_from(["larder-node"]).expect_err("no file").to_string();
        let line = one_line(&error);
        assert!(line.contains("--config <FILE>") && !line.contains('\n'), "{line}");
    }
}
