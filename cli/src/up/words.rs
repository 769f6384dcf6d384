//! Pure but for the path of this program: what `up` tells when the members serve.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::databases::Databases;
use super::plan::Plan;
use crate::connect::DEFAULT_ENDPOINT;
use crate::output::table;

/// Where one member listens.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) name: String,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The whole text.
pub(super) fn started(
    plan: &Plan,
    databases: &Databases,
    registry: &str,
    members: &[Addresses],
) -> String {
    let rows: Vec<Vec<String>> = members
        .iter()
        .map(|m| {
            let (http, admin) =
                (format!("http://{}", m.http), format!("http://{}/metrics", m.admin));
            vec![m.name.clone(), m.grpc.to_string(), http, admin]
        })
        .collect();
    let names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
    let mut text = format!(
        "cluster {}: {} members serve, groups: {}\n\n{}registry: {registry} (etcd's gRPC API)\n",
        plan.cluster,
        members.len(),
        if names.is_empty() { "none".into() } else { names.join(", ") },
        table(&["MEMBER", "GRPC", "HTTP", "METRICS"], &rows),
    );
    for line in databases.lines() {
        text += &format!("\n{line}\n");
    }
    if let (Some(first), Some((group, key))) = (members.first(), databases.example(plan)) {
        text += &format!("\nTry, from another terminal:\n  {}\n", get(&first.grpc, group, key));
        text += &format!("  curl 'http://{}/api?group={group}&key={key}'\n", first.http);
    }
    text + "\nCtrl-C stops.\n"
}

fn get(address: &SocketAddr, group: &str, key: &str) -> String {
    let address = address.to_string();
    let endpoint = match address == DEFAULT_ENDPOINT {
        true => String::new(),
        false => format!(" --endpoint {address}"),
    };
    format!("{} get {group} {key}{endpoint}", program())
}

/// How to call this program from the folder in which it runs.
fn program() -> String {
    let Ok(program) = std::env::current_exe() else { return "larder".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|d| d.join("larder")).find(|p| p.is_file());
    if first.is_some_and(|p| same(&p, &program)) {
        return "larder".into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let short = program.strip_prefix(&here).map(Path::to_owned).unwrap_or(program);
    quoted(&short)
}

fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| -> Option<PathBuf> { path.canonicalize().ok() };
    whole(a).is_some() && whole(a) == whole(b)
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_a_shell_takes_them() {
        assert_eq!(quoted(Path::new("target/debug/larder")), "target/debug/larder");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
