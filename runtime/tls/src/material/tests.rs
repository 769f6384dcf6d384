use super::*;
use crate::testing::{Authority, Leaf, NOT_AFTER_S};

const MEMBER: Leaf<'_> = Leaf {
    names: &["shop.prod.svc"],
    uris: &["larder://prod/shop/member"],
    expired: false,
    client_only: false,
};

fn check(pem: &Pem, usage: Usage) -> Result<Material, String> {
    Material::new(pem, "/tls", usage, UnixTime::now()).map_err(|error| error.to_string())
}

fn refusal(pem: &Pem) -> String {
    check(pem, Usage::Server).expect_err("refused")
}

#[test]
fn a_valid_pair_is_usable_with_its_expiry_and_its_names() {
    let authority = Authority::new("shop");
    let material = check(&authority.pem_of(&MEMBER), Usage::Server).expect("valid");
    assert_eq!(material.not_after_s(), Some(NOT_AFTER_S));
    assert_eq!(material.authority_not_after_s(), NOT_AFTER_S);
    assert_eq!(material.uri_names(), ["larder://prod/shop/member"]);

    let anonymous = Pem { ca: authority.pem().into(), identity: None };
    assert_eq!(check(&anonymous, Usage::Client).expect("valid").not_after_s(), None);
    assert_eq!(refusal(&anonymous), "/tls/tls.crt: a certificate is needed as well as authorities");
}

#[test]
fn a_torn_pair_is_refused() {
    let authority = Authority::new("shop");
    let (mut torn, other) = (authority.pem_of(&MEMBER), authority.issue(&MEMBER));
    torn.identity.as_mut().expect("a pair").key = other.key;
    assert_eq!(refusal(&torn), "/tls/tls.key: the private key does not belong to the certificate");
}

#[test]
fn what_has_expired_is_refused_with_the_date() {
    let authority = Authority::new("shop");
    let expired = authority.pem_of(&Leaf { expired: true, ..MEMBER });
    let text = refusal(&expired);
    assert!(text.starts_with("/tls/tls.crt: the certificate expired on "), "{text}");
    assert!(text.contains("2020"), "{text}");

    let old = Authority::expired("old");
    let text = refusal(&old.pem_of(&MEMBER));
    assert!(
        text.starts_with("/tls/ca.crt: every authority has expired, the last one on "),
        "{text}"
    );
    assert!(text.contains("2020"), "{text}");
}

#[test]
fn a_certificate_of_an_expired_authority_is_refused_although_another_is_valid() {
    let (old, new) = (Authority::expired("old"), Authority::new("new"));
    let both = [old.pem(), new.pem()].concat().into_bytes();
    let of_old = Pem { ca: both.clone(), identity: Some(old.issue(&MEMBER)) };
    assert_eq!(refusal(&of_old), "/tls/tls.crt: no authority of ca.crt signed the certificate");
    let of_new = Pem { ca: both, identity: Some(new.issue(&MEMBER)) };
    check(&of_new, Usage::Server).expect("valid");
}

#[test]
fn a_pair_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new("shop"), Authority::new("other"));
    let pem = Pem { ca: authority.pem().into(), identity: Some(other.issue(&MEMBER)) };
    assert_eq!(refusal(&pem), "/tls/tls.crt: no authority of ca.crt signed the certificate");
}

#[test]
fn a_pair_alone_need_not_be_signed_by_the_authority_of_the_server() {
    let (authority, other) = (Authority::new("shop"), Authority::new("other"));
    let mut pem = Pem { ca: authority.pem().into(), identity: Some(other.issue(&MEMBER)) };
    let check = |pem: &Pem| Material::check_pair(pem, "/tls", UnixTime::now());
    check(&pem).expect("valid");
    pem.identity.as_mut().expect("a pair").key = other.issue(&MEMBER).key;
    check(&pem).expect_err("torn");
    pem.identity = Some(other.issue(&Leaf { expired: true, ..MEMBER }));
    check(&pem).expect_err("expired");
}

#[test]
fn a_certificate_for_clients_is_not_one_for_servers() {
    let authority = Authority::new("shop");
    let pem = authority.pem_of(&Leaf { client_only: true, ..MEMBER });
    check(&pem, Usage::Client).expect("valid");
    let text = refusal(&pem);
    assert!(text.contains("tls.crt: the certificate may not be used to serve"), "{text}");
}

#[test]
fn what_is_not_pem_is_named_and_not_quoted() {
    let authority = Authority::new("shop");
    let valid = authority.pem_of(&MEMBER);
    let mut no_key = valid.clone();
    no_key.identity.as_mut().expect("a pair").key = b"secret".to_vec();
    assert_eq!(refusal(&no_key), "/tls/tls.key: it contains no private key in PEM form");
    let mut no_certificate = valid.clone();
    no_certificate.identity.as_mut().expect("a pair").certificate = b"text".to_vec();
    let expected = "/tls/tls.crt: it contains no certificate in PEM form";
    assert_eq!(refusal(&no_certificate), expected);
    let no_authority = Pem { ca: Vec::new(), ..valid };
    assert_eq!(refusal(&no_authority), "/tls/ca.crt: it contains no certificate in PEM form");
}
