use super::*;
use crate::testing::{Authority, Leaf, mount};

const MEMBER: Leaf<'_> = Leaf { names: &["shop"], uris: &[], expired: false, client_only: false };

#[test]
fn new_files_are_taken_over_and_a_torn_pair_never_is() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("shop"));
    let first = authority.pem_of(&MEMBER);
    mount(folder.path(), &first);
    let source = Source::Directory(folder.path().to_owned());
    let certificates = Certificates::open(source, Usage::Server).expect("valid");
    let before = certificates.current();
    assert!(matches!(certificates.poll(), Poll::Unchanged));

    let second = authority.pem_of(&MEMBER);
    let mut torn = second.clone();
    torn.identity.as_mut().expect("a pair").key = first.identity.clone().expect("a pair").key;
    mount(folder.path(), &torn);
    let Poll::Refused(error) = certificates.poll() else { panic!("torn") };
    assert!(error.to_string().contains("does not belong"), "{error}");
    assert!(matches!(certificates.poll(), Poll::Unchanged), "reported once");
    assert!(certificates.is_refused());
    assert!(Arc::ptr_eq(&before, &certificates.current()));

    mount(folder.path(), &second);
    assert!(matches!(certificates.poll(), Poll::Replaced(_)));
    assert!(!certificates.is_refused());
    assert!(!Arc::ptr_eq(&before, &certificates.current()));
}

#[test]
fn files_that_vanish_leave_the_certificates_in_force() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("shop"));
    mount(folder.path(), &authority.pem_of(&MEMBER));
    let source = Source::Directory(folder.path().to_owned());
    let certificates = Certificates::open(source, Usage::Client).expect("valid");
    let before = certificates.current();
    std::fs::remove_file(folder.path().join("..data")).expect("removed");
    assert!(matches!(certificates.poll(), Poll::Refused(Error::Read { .. })));
    assert!(Arc::ptr_eq(&before, &certificates.current()));
}

#[test]
fn files_by_name_and_texts_are_sources_too() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("shop"));
    let pem = authority.pem_of(&MEMBER);
    mount(folder.path(), &pem);
    let path = |file: &str| folder.path().join(file);
    let identity = Some((path("tls.crt"), path("tls.key")));
    let files = Source::Files { ca: path("ca.crt"), identity };
    for source in [files, Source::Pem(pem)] {
        let certificates = Certificates::open(source, Usage::Client).expect("valid");
        assert!(certificates.current().not_after_s().is_some());
    }
    let missing = Source::Files { ca: path("no.crt"), identity: None };
    let error = Certificates::open(missing, Usage::Client).expect_err("missing").to_string();
    assert!(error.ends_with("no.crt cannot be read"), "{error}");
}
