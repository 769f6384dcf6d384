//! Runs `go build` for one folder of `tools/`, under a lock, and shows its progress.
//!
//! It never changes a folder's go.mod or go.sum: with `-mod=readonly`, Go fails when they are out of
//! date.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::tool::{Tool, module_file};
use crate::{command, docker_archive::hex, workspace};

/// Usual paths of Go when it is not on the PATH.
const USUAL_GO: [&str; 2] = ["/usr/local/go/bin/go", "/usr/lib/go/bin/go"];

/// Interval between progress lines when standard error is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// Poll interval while another process builds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Builds the missing ones of `tools`, which are all in `folder`, and returns the paths of all.
pub(super) fn folder(folder: &str, tools: &[Tool]) -> Result<Vec<(Tool, PathBuf)>> {
    let (source, flags, output) = prepare(folder)?;
    let bin = output.join("bin");
    let paths: Vec<_> = tools.iter().map(|tool| (*tool, bin.join(tool.name()))).collect();
    let missing = || -> Vec<Tool> {
        paths.iter().filter(|(_, path)| !path.exists()).map(|(tool, _)| *tool).collect()
    };
    if missing().is_empty() {
        return Ok(paths);
    }
    fs::create_dir_all(&bin).with_context(|| format!("could not create {}", bin.display()))?;
    let lock = File::create(output.join("lock")).context("could not create the build's lock")?;
    lock_unless(&lock, || missing().is_empty())?;
    let missing = missing();
    if !missing.is_empty() {
        let unfinished = output.join("unfinished");
        fs::create_dir_all(&unfinished)?;
        go_build(&source, &flags, &unfinished, &missing)?;
        for tool in missing {
            fs::rename(unfinished.join(tool.built_as()), bin.join(tool.name()))
                .with_context(|| format!("go build did not create {}", tool.built_as()))?;
        }
        fs::remove_dir_all(&unfinished)?;
    }
    Ok(paths)
}

/// Waits for the lock, or until `done`: a caller that needs one program does not wait until another
/// process has built all.
fn lock_unless(lock: &File, done: impl Fn() -> bool) -> Result<()> {
    let mut reported = false;
    while !done() {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if !reported => {
                eprintln!("waiting for another process that builds tools");
                reported = true;
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL_INTERVAL),
            Err(TryLockError::Error(error)) => {
                return Err(error).context("could not lock the build");
            }
        }
    }
    Ok(())
}

/// The path of a program, whether it has been built or not.
pub(super) fn path(tool: Tool) -> Result<PathBuf> {
    Ok(prepare(tool.folder())?.2.join("bin").join(tool.name()))
}

/// A folder's sources, the flags of its build, and the folder for the results.
fn prepare(folder: &str) -> Result<(PathBuf, Vec<String>, PathBuf)> {
    let source = workspace::root().join("tools").join(folder);
    let flags = flags(folder, &fs::read_to_string(module_file(folder))?);
    let key = key(&source, &flags)?;
    let output = workspace::target().join("tools").join(format!("{folder}-{key}"));
    Ok((source, flags, output))
}

fn go_build(source: &Path, flags: &[String], into: &Path, tools: &[Tool]) -> Result<()> {
    let names = tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
    let mut go = Command::new(go()?);
    go.current_dir(source).env("CGO_ENABLED", "0").args(["build", "-v"]).args(flags);
    // With less garbage collection the compiler takes a tenth less time.
    if std::env::var_os("GOGC").is_none() {
        go.env("GOGC", "400");
    }
    // With a folder as output, Go names each program after its package.
    go.arg("-o").arg(into.join("")).args(tools.iter().map(|tool| tool.package()));
    go.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());

    let started = Instant::now();
    eprintln!("building {names} (once per version)");
    let mut child = go.spawn().context("could not start go")?;
    let lines = BufReader::new(child.stderr.take().expect("piped above")).lines();
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(120));
    let (mut packages, mut reported) = (0_u32, Instant::now());
    let mut last_lines = VecDeque::new();
    for line in lines {
        let line = line.context("could not read the output of go")?;
        if is_package(&line) {
            packages += 1;
            bar.set_message(format!("{packages} packages, {line}"));
        } else {
            bar.set_message(line.clone());
            last_lines.push_back(line);
            if last_lines.len() > 20 {
                last_lines.pop_front();
            }
        }
        if !std::io::stderr().is_terminal() && reported.elapsed() > PROGRESS_INTERVAL {
            eprintln!("  {packages} packages after {} s", started.elapsed().as_secs());
            reported = Instant::now();
        }
    }
    bar.finish_and_clear();
    let status = child.wait()?;
    if !status.success() {
        let output = Vec::from(last_lines).join("\n");
        bail!("go could not build {names} ({status}):\n{output}");
    }
    eprintln!("built {names} in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// `go build -v` prints one import path per line; every other message contains a blank.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.contains(' ')
}

fn go() -> Result<PathBuf> {
    let usual = || USUAL_GO.iter().map(PathBuf::from).find(|file| file.is_file());
    command::find("go").or_else(usual).context(
        "Go is missing: install 1.21 or newer from https://go.dev/dl \
         (Debian: apt-get install -t bookworm-backports golang-go)",
    )
}

/// The flags of `go build`. Kubernetes gets its version from the linker.
fn flags(folder: &str, module: &str) -> Vec<String> {
    let mut link = String::from("-s -w");
    if let Some(version) =
        version_of(module, "k8s.io/kubernetes").filter(|_| folder == "kubernetes")
    {
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("0"));
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [
                ("gitVersion", version),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
            ] {
                link += &format!(" -X {package}.{name}={value}");
            }
        }
    }
    // The linker drops debug information (`-s -w`); not generating it saves an eighth of the time. Without
    // inlining another sixth is saved. etcd keeps it: its program is in a published image.
    let compiler = match folder {
        "etcd" => "-gcflags=all=-dwarf=false",
        _ => "-gcflags=all=-dwarf=false -l",
    };
    ["-trimpath", "-buildvcs=false", "-mod=readonly", compiler, "-ldflags"]
        .map(String::from)
        .into_iter()
        .chain([link])
        .collect()
}

/// The version that a go.mod requires of a module.
fn version_of<'a>(module: &'a str, name: &str) -> Option<&'a str> {
    module.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        (words.next() == Some(name)).then(|| words.next())?
    })
}

/// A hash of everything that the programs depend on: the module's files, its Go code, the flags.
fn key(source: &Path, flags: &[String]) -> Result<String> {
    let mut files = Vec::new();
    go_files(source, &mut files).with_context(|| format!("could not read {}", source.display()))?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(source).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hash.update(fs::read(&file)?);
    }
    hash.update(flags.join("\n"));
    Ok(hex(&hash.finalize())[..12].to_owned())
}

fn go_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            go_files(&path, files)?;
        } else if name == "go.mod"
            || name == "go.sum"
            || path.extension().is_some_and(|end| end == "go")
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn kubernetes_is_linked_with_the_version_that_its_module_requires() {
        let module = "module x\n\nrequire (\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n";
        assert_eq!(version_of(module, "k8s.io/kubernetes"), Some("v1.34.4"));
        let flags = flags("kubernetes", module).join(" ");
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitMinor=34"), "{flags}");
    }

    #[test]
    fn only_programs_that_are_published_are_inlined() {
        let without_inlining =
            |folder: &str| flags(folder, "").iter().any(|flag| flag.ends_with(" -l"));
        assert!(without_inlining("kubernetes"));
        assert!(!without_inlining("etcd"));
    }

    #[test]
    fn the_key_follows_the_sums_and_the_flags() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("go.mod"), "module x").expect("written");
        fs::write(folder.path().join("go.sum"), "a").expect("written");
        fs::write(folder.path().join("README.md"), "a").expect("written");
        let of = |flag: &str| key(folder.path(), &[flag.to_owned()]).expect("a key");
        let first = of("x");
        fs::write(folder.path().join("README.md"), "b").expect("written");
        assert_eq!(first, of("x"), "documentation is not part of a build");
        assert_ne!(first, of("y"));
        fs::write(folder.path().join("go.sum"), "b").expect("written");
        assert_ne!(first, of("x"));
    }

    #[test]
    fn waiting_ends_when_another_process_has_built_the_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || File::create(folder.path().join("lock")).expect("a lock");
        let (other, own) = (open(), open());
        other.lock().expect("free");
        let polls = Cell::new(0);
        lock_unless(&own, || polls.replace(polls.get() + 1) == 2).expect("it is built");
        own.try_lock().expect_err("the other still builds");
        drop(other);
        lock_unless(&own, || false).expect("free");
    }

    #[test]
    fn packages_are_distinguished_from_messages() {
        assert!(is_package("k8s.io/api/core/v1"));
        assert!(!is_package("go: downloading k8s.io/api v0.34.4"));
        assert!(!is_package(""));
    }
}
