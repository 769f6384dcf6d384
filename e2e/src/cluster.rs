//! The throw-away Kubernetes that `cargo xtask kube up` creates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::poll;
use crate::process;

/// The cluster, as described by the file that `LARDER_E2E_ENV` names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    #[serde(rename = "insideKubeconfig")]
    kubeconfig: PathBuf,
    /// Folders with programs of the cluster's own versions.
    #[serde(default)]
    tools: PathBuf,
    /// Address of the first node; the tests run in its network.
    dns: String,
}

impl Cluster {
    /// The cluster that the environment names.
    ///
    /// # Panics
    /// When there is none, with the command that creates it.
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

    /// Address of the first node. Servers that listen here are reachable from every pod.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.dns
    }

    /// A stock program (kubectl, helm, grpcurl) with this cluster's kubeconfig.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let folders: Vec<PathBuf> = std::env::split_paths(&self.tools).collect();
        let mut command = Command::new(process::find(name, &folders, name));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs `kubectl` and returns its output.
    ///
    /// # Errors
    /// The output of kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        process::output(self.program("kubectl").args(arguments))
    }

    /// As [`Self::kubectl`], for what must succeed.
    ///
    /// # Panics
    /// With the output of kubectl.
    pub fn must(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|e| panic!("kubectl {arguments:?}: {e}"))
    }

    /// `kubectl apply` of YAML to a namespace.
    ///
    /// # Errors
    /// The output of kubectl.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<String, String> {
        self.apply_with(&["--namespace", namespace], yaml)
    }

    fn apply_with(&self, flags: &[&str], yaml: &str) -> Result<String, String> {
        let mut command = self.program("kubectl");
        command.args(["apply", "--filename", "-"]).args(flags);
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

    /// `kubectl get`, as JSON.
    ///
    /// # Errors
    /// The output of kubectl.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// One field of an object, as text.
    ///
    /// # Errors
    /// When the object or the field is missing.
    pub fn field(&self, arguments: &[&str], pointer: &str) -> Result<String, String> {
        match self.json(arguments)?.pointer(pointer) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
            None => Err(format!("{arguments:?} has no {pointer}")),
        }
    }

    /// Creates namespaces that enforce the `restricted` Pod Security standard, and waits for their
    /// service accounts, without which the API server refuses pods. Namespaces that exist stay.
    ///
    /// # Panics
    /// When one cannot be created.
    pub fn create_namespaces(&self, names: &[String], label: Option<(&str, &str)>) {
        let label = label.map(|(key, value)| format!("    {key}: \"{value}\"\n"));
        let label = label.unwrap_or_default();
        let manifests = names.iter().map(|name| {
            format!(
                "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
                 pod-security.kubernetes.io/enforce: restricted\n{label}"
            )
        });
        self.apply_with(&[], &manifests.collect::<String>()).expect("namespaces can be created");
        poll::until("the default service accounts", Duration::from_secs(30), || {
            let query = ["get", "serviceaccounts", "--all-namespaces", "--output"];
            let output = "jsonpath={range .items[?(@.metadata.name==\"default\")]}\
                          {.metadata.namespace} {end}";
            let list = self.kubectl(&[&query[..], &[output]].concat())?;
            let exist: Vec<&str> = list.split_whitespace().collect();
            let missing = names.iter().find(|name| !exist.contains(&name.as_str()));
            missing.map_or(Ok(()), |name| Err(format!("none in {name}")))
        });
    }

    /// One condition of an object's current generation.
    ///
    /// # Errors
    /// While the condition is missing or reports an older generation.
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
            Err(format!("{kind} reports an older generation: {condition:?}"))
        }
    }

    /// Waits until a condition is True and returns how long that took.
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

    /// Pods that are Ready and not being deleted.
    ///
    /// # Errors
    /// The output of kubectl.
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
    /// Machine-readable reason.
    #[serde(default)]
    pub reason: String,
    /// Human-readable reason.
    #[serde(default)]
    pub message: String,
    /// Generation of the object that the condition describes.
    pub observed_generation: Option<i64>,
}

/// A pod that is Ready and not being deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Tells a pod from its successor of the same name.
    pub uid: String,
    /// IP address.
    pub address: String,
    /// Name of its Kubernetes node.
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
        let deleting = pod.pointer("/metadata/deletionTimestamp").is_some();
        (ready && !deleting).then_some(())?;
        Some(Self {
            name: text("/metadata/name")?,
            uid: text("/metadata/uid")?,
            address: text("/status/podIP")?,
            node: text("/spec/nodeName")?,
            restarts: pod.pointer("/status/containerStatuses/0/restartCount")?.as_i64()?,
        })
    }
}

/// Reads a file of the repository.
///
/// # Panics
/// When it does not exist.
#[must_use]
pub fn repository_file(path: &str) -> String {
    let file = repository().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The repository's root.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}
