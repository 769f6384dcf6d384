//! The operator's program: parses the command line, then runs the operator or prints the CRDs.

use std::process::ExitCode;

use larder_operator::args::{Command, parse};
use larder_operator::{crd, run};
use larder_runtime::exit;

fn main() -> ExitCode {
    match parse(std::env::args_os()).map(|args| args.command) {
        Ok(Command::Run(args)) => run::run(&args),
        Ok(Command::Crd { output }) => print_crds(output.as_deref()),
        Err(code) => code,
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is the purpose of `crd`")]
fn print_crds(folder: Option<&std::path::Path>) -> ExitCode {
    let Some(folder) = folder else {
        print!("{}", crd::yaml());
        return ExitCode::from(exit::OK);
    };
    match crd::write(folder) {
        Ok(files) => {
            files.iter().for_each(|file| println!("{}", file.display()));
            ExitCode::from(exit::OK)
        }
        Err(error) => {
            eprintln!("larder-operator: {}", larder_operator::conditions::chain(&error));
            ExitCode::from(exit::FAILURE)
        }
    }
}
