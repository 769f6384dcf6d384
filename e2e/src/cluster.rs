//! The throw-away Kubernetes, as `cargo xtask kube up` leaves it, and what is done to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::poll;
use crate::process;

/// How the cluster is found: the file that `LARDER_E2E_ENV` names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    kubeconfig: PathBuf,
    /// Programs of the cluster's own versions.
    #[serde(default)]
    tools: PathBuf,
    /// Address of the first node, in whose network the tests run.
    dns: String,
}

impl Cluster {
    /// The cluster that the environment names.
    ///
    /// # Panics
    /// Without one, saying how to get it.
    #[must_use]
    pub fn from_environment() -> Self {
        let file = std::env::var_os("LARDER_E2E_ENV")
            .expect("LARDER_E2E_ENV is not set: run `cargo xtask test --only kubernetes`");
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask kube up`", file.display()));
        let mut cluster: Self = serde_json::from_str(&text).expect("written by xtask");
        if let Some(tools) = std::env::var_os("LARDER_E2E_TOOLS") {
            cluster.tools = tools.into();
        }
        cluster
    }

    /// Address of the first node: what listens here is reachable from every pod.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.dns
    }

    /// A stock program (kubectl, helm, grpcurl) that talks to this cluster.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let folders: Vec<PathBuf> = std::env::split_paths(&self.tools).collect();
        let mut command = Command::new(process::find(name, &folders, name));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// `kubectl` to its end.
    ///
    /// # Errors
    /// What kubectl wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        process::output(self.program("kubectl").args(arguments))
    }

    /// `kubectl` that has to work.
    ///
    /// # Panics
    /// With what kubectl wrote.
    pub fn must(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|e| panic!("kubectl {arguments:?}: {e}"))
    }

    /// Applies YAML to a namespace, as a user with a file does.
    ///
    /// # Errors
    /// What kubectl wrote.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<String, String> {
        let mut command = self.program("kubectl");
        command.args(["apply", "--namespace", namespace, "--filename", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut stdin = child.stdin.take().expect("piped above");
        stdin.write_all(yaml.as_bytes()).map_err(|e| e.to_string())?;
        drop(stdin);
        let done = child.wait_with_output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&done.stdout);
        let error = String::from_utf8_lossy(&done.stderr);
        if done.status.success() { Ok(text.into_owned()) } else { Err(error.into_owned()) }
    }

    /// An object, or objects of a kind, as JSON.
    ///
    /// # Errors
    /// What kubectl wrote.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// One text out of an object.
    ///
    /// # Errors
    /// When the object or the field is not there.
    pub fn field(&self, arguments: &[&str], pointer: &str) -> Result<String, String> {
        match self.json(arguments)?.pointer(pointer) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
            None => Err(format!("{arguments:?} has no {pointer}")),
        }
    }

    /// Makes a namespace in which the `restricted` Pod Security standard is enforced, and waits
    /// for its service account, without which no pod is admitted.
    pub fn namespace(&self, name: &str) {
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        );
        self.apply(name, &manifest).expect("a namespace can be made");
        poll::until("the default service account", Duration::from_secs(30), || {
            self.kubectl(&["get", "serviceaccount", "default", "--namespace", name])
        });
    }

    /// Status, reason and message of one condition, when it speaks of the object's newest
    /// generation.
    ///
    /// # Errors
    /// While the condition is missing or old.
    pub fn condition(
        &self,
        namespace: &str,
        object: &str,
        kind: &str,
    ) -> Result<Condition, String> {
        let object = self.json(&["--namespace", namespace, object])?;
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let found = conditions
            .and_then(|list| list.iter().find(|c| c["type"] == kind))
            .ok_or_else(|| format!("no condition {kind} yet"))?;
        let condition: Condition =
            serde_json::from_value(found.clone()).map_err(|e| e.to_string())?;
        if condition.observed_generation == generation {
            Ok(condition)
        } else {
            Err(format!("{kind} speaks of an older generation: {condition:?}"))
        }
    }

    /// Waits until a condition is True and gives the time it took.
    ///
    /// # Panics
    /// After `limit`.
    pub fn wait_true(
        &self,
        namespace: &str,
        object: &str,
        kind: &str,
        limit: Duration,
    ) -> Duration {
        let what = format!("{object} in {namespace} {kind}");
        poll::until(&what, limit, || {
            let condition = self.condition(namespace, object, kind)?;
            if condition.status == "True" { Ok(()) } else { Err(format!("{condition:?}")) }
        })
        .1
    }

    /// Name, address and uid of every running pod that a selector finds.
    ///
    /// # Errors
    /// What kubectl wrote.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, String> {
        let list = self.json(&["pods", "--namespace", namespace, "--selector", selector])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(Pod::read).collect())
    }
}

/// A condition of an object's status.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    #[serde(default)]
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// Generation of the object that was looked at.
    pub observed_generation: Option<i64>,
}

/// A running pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid: another one is another pod.
    pub uid: String,
    /// Its address.
    pub address: String,
    /// The node on which it runs.
    pub node: String,
    /// Restarts of its first container.
    pub restarts: i64,
}

impl Pod {
    fn read(pod: &Value) -> Option<Self> {
        let text = |pointer: &str| pod.pointer(pointer)?.as_str().map(str::to_owned);
        let ready = pod
            .pointer("/status/conditions")?
            .as_array()?
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        let leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        (ready && !leaving).then_some(())?;
        Some(Self {
            name: text("/metadata/name")?,
            uid: text("/metadata/uid")?,
            address: text("/status/podIP")?,
            node: text("/spec/nodeName")?,
            restarts: pod.pointer("/status/containerStatuses/0/restartCount")?.as_i64()?,
        })
    }
}

/// A file of the repository, for tests that use what users are given.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn repository_file(path: &str) -> String {
    let file = repository().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The repository's root.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}
