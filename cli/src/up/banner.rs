//! What `up` prints when the members serve, with commands to copy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::members::Addresses;
use crate::connect::DEFAULT_ENDPOINT;
use crate::output::Report;
use crate::table::{left, table};
use crate::text::plural;

/// The whole text. `watched` is the name of the file whose edits are applied.
pub(super) fn started(cluster: &Cluster, watched: Option<&str>) -> Report {
    let names: Vec<&str> = cluster.plan.groups.iter().map(|g| g.name.as_str()).collect();
    let commands = commands(cluster);
    let mut text = format!(
        "cluster {}: {} serve, groups: {}\n\n{}registry: {} (etcd's gRPC API)\n",
        cluster.plan.cluster,
        plural(cluster.plan.members, "member"),
        if names.is_empty() { "none".into() } else { names.join(", ") },
        members(cluster),
        cluster.registry,
    );
    for line in cluster.databases.lines() {
        text += &format!("\n{line}\n");
    }
    if !commands.is_empty() {
        text += "\nTry, from another terminal:\n";
        text.extend(commands.iter().map(|command| format!("  {command}\n")));
    }
    if let Some(file) = watched {
        text += &format!("\nAn edit of {file} is applied at once; --watch=false turns that off.\n");
    }
    let result = json!({
        "cluster": cluster.plan.cluster, "registry": cluster.registry, "groups": names,
        "members": members_json(cluster), "commands": commands, "watched": watched,
    });
    Report::new(text + "\nCtrl-C stops.\n", result)
}

fn members(cluster: &Cluster) -> String {
    let rows = cluster.members.addresses().map(|m| {
        let (http, admin) = (format!("http://{}", m.http), format!("http://{}/metrics", m.admin));
        vec![m.name.clone(), m.grpc.to_string(), http, admin]
    });
    let columns = [left("MEMBER"), left("GRPC"), left("HTTP"), left("METRICS")];
    // Addresses are copied, so they are never wrapped.
    table(&columns, rows.collect(), None)
}

fn members_json(cluster: &Cluster) -> Vec<Value> {
    let one = |m: &Addresses| {
        json!({
            "name": m.name, "grpc": m.grpc.to_string(), "http": format!("http://{}", m.http),
            "metrics": format!("http://{}/metrics", m.admin),
        })
    };
    cluster.members.addresses().map(one).collect()
}

fn commands(cluster: &Cluster) -> Vec<String> {
    let example = cluster.databases.example(&cluster.plan);
    let (Some(first), Some((group, key))) = (cluster.members.addresses().next(), example) else {
        return Vec::new();
    };
    vec![
        get(&first.grpc, group, key),
        format!("curl 'http://{}/api?group={group}&key={key}'", first.http),
    ]
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
