//! The cluster's certificates, made with openssl 3: one authority signs all of them.
//!
//! The list of certificates is data ([`certificates`]); only [`make`] writes files. The keys are
//! removed with the cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::plan::{DOMAIN, FIRST_SERVICE, Plan};
use crate::command;

/// A certificate to create; its files are `<file>.crt` and `<file>.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Stem of its file names.
    pub(crate) file: String,
    /// Common name: the Kubernetes user.
    pub(crate) name: String,
    /// Organization: the Kubernetes group.
    pub(crate) group: &'static str,
    /// Subject alternative names in openssl's notation; empty for a client.
    pub(crate) serves: Vec<String>,
}

/// Every certificate except the authority's.
pub(crate) fn certificates(plan: &Plan) -> Vec<Certificate> {
    let client = |file: &str, name: &str, group| Certificate {
        file: file.into(),
        name: name.into(),
        group,
        serves: vec![],
    };
    let mut all = vec![
        client("admin", "larder:admin", "system:masters"),
        client("apiserver-kubelet", "larder:apiserver", "system:masters"),
        client("controller-manager", "system:kube-controller-manager", ""),
        client("scheduler", "system:kube-scheduler", ""),
        client("proxy", "system:kube-proxy", ""),
        client("coredns", "larder:coredns", ""),
        client("local-provisioner", "larder:local-provisioner", ""),
        // Never used for TLS: its key signs the tokens of service accounts.
        client("service-accounts", "larder:service-accounts", ""),
    ];
    let mut serves: Vec<String> =
        ["", ".default", ".default.svc"].map(|end| format!("DNS:kubernetes{end}")).to_vec();
    serves.push(format!("DNS:kubernetes.default.svc.{DOMAIN}"));
    for address in [FIRST_SERVICE.to_string(), plan.first().address().to_string()] {
        serves.push(format!("IP:{address}"));
    }
    serves.push("IP:127.0.0.1".into());
    all.push(Certificate {
        file: "apiserver".into(),
        name: "kube-apiserver".into(),
        group: "",
        serves,
    });
    for node in &plan.nodes {
        all.push(Certificate {
            file: format!("kubelet-{}", node.name()),
            name: format!("system:node:{}", node.name()),
            group: "system:nodes",
            serves: vec![format!("DNS:{}", node.name()), format!("IP:{}", node.address())],
        });
    }
    all
}

/// openssl's configuration file for one certificate.
pub(crate) fn request(certificate: &Certificate, authority: bool) -> String {
    let mut text = String::from("[req]\nprompt=no\ndistinguished_name=who\nx509_extensions=what\n");
    text += "[who]\n";
    if !certificate.group.is_empty() {
        text += &format!("O={}\n", certificate.group);
    }
    text += &format!("CN={}\n[what]\n", certificate.name);
    if authority {
        return text
            + "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
                       subjectKeyIdentifier=hash\n";
    }
    text += "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
    if certificate.serves.is_empty() {
        text += "extendedKeyUsage=clientAuth\n";
    } else {
        text += "extendedKeyUsage=clientAuth,serverAuth\n";
        text += &format!("subjectAltName={}\n", certificate.serves.join(","));
    }
    text
}

/// Creates the authority and every certificate.
///
/// # Errors
/// The output of openssl.
pub(crate) fn make(plan: &Plan, folder: &Path) -> Result<()> {
    let authority =
        Certificate { file: "ca".into(), name: "larder-kube".into(), ..Certificate::default() };
    issue(&authority, folder, true)?;
    for certificate in certificates(plan) {
        issue(&certificate, folder, false)?;
    }
    Ok(())
}

fn issue(certificate: &Certificate, folder: &Path, authority: bool) -> Result<()> {
    let file = &certificate.file;
    let settings = folder.join(format!("{file}.cnf"));
    fs::write(&settings, request(certificate, authority))
        .context("write openssl's configuration")?;
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args(["req", "-x509", "-nodes", "-days", "3650"]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"]);
    openssl.arg(&settings);
    openssl.args(["-keyout", &format!("{file}.key"), "-out", &format!("{file}.crt")]);
    if !authority {
        openssl.args(["-CA", "ca.crt", "-CAkey", "ca.key"]);
    }
    command::output(&mut openssl)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_certificate_names_its_node_and_address() {
        let all = certificates(&Plan::new(2));
        let kubelet = all.iter().find(|each| each.file == "kubelet-node2").expect("node 2's");
        let text = request(kubelet, false);
        assert!(text.contains("O=system:nodes\nCN=system:node:node2\n"), "{text}");
        assert!(text.contains("subjectAltName=DNS:node2,IP:10.87.0.2\n"), "{text}");
    }

    #[test]
    fn a_client_certificate_is_not_valid_for_servers() {
        let all = certificates(&Plan::new(1));
        let admin = all.iter().find(|each| each.file == "admin").expect("the admin's");
        let text = request(admin, false);
        assert!(text.contains("CA:FALSE") && !text.contains("serverAuth"), "{text}");
        assert!(!text.contains("subjectAltName"), "{text}");
    }

    #[test]
    fn openssl_verifies_the_certificates_it_made() {
        let folder = tempfile::tempdir().expect("a folder");
        make(&Plan::new(1), folder.path()).expect("made");
        for file in ["admin.crt", "apiserver.crt", "kubelet-node1.crt"] {
            let mut verify = Command::new("openssl");
            verify.current_dir(folder.path()).args(["verify", "-CAfile", "ca.crt", file]);
            command::output(&mut verify).expect("signed by the authority");
        }
    }
}
