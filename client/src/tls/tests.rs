use larder_tls::testing::{Authority, Leaf};

use super::*;
use crate::Client;

fn tls(uris: &[&str]) -> Tls {
    let leaf = Leaf { uris, client_only: true, ..Leaf::default() };
    let pem = Authority::new("shop").pem_of(&leaf);
    let identity = pem.identity.map(|identity| (identity.certificate, identity.key));
    Tls::pem(pem.ca, identity)
}

fn name(tls: &Tls, endpoint: &str) -> Result<String, String> {
    let endpoints = [endpoint.parse().expect("an endpoint")];
    let name = server_name(tls, &tls.open().expect("valid"), &endpoints);
    name.map(|name| name.to_str().into_owned()).map_err(|error| error.to_string())
}

#[test]
fn the_name_to_check_is_the_given_one_or_that_of_the_cluster_or_of_the_endpoint() {
    let of_shop = tls(&["larder://prod/shop/client/checkout"]);
    assert_eq!(name(&of_shop, "10.0.0.1"), Ok("shop.prod.svc".into()));
    assert_eq!(name(&of_shop.server_name("other.svc"), "10.0.0.1"), Ok("other.svc".into()));
    let nameless = tls(&[]);
    assert_eq!(name(&nameless, "cache.internal:7600"), Ok("cache.internal".into()));
    let error = name(&nameless, "10.0.0.1").expect_err("no name");
    assert!(error.contains("such as shop.prod.svc"), "{error}");
}

#[test]
fn schemes_and_certificates_must_not_contradict_each_other() {
    let build = |endpoint: &str| {
        let tls = tls(&["larder://prod/shop/client/checkout"]);
        Client::builder().members([endpoint]).tls(tls).build().map(|_| ())
    };
    for endpoint in ["https://shop", "shop", "127.0.0.1:7600"] {
        build(endpoint).expect("over TLS");
    }
    let error = build("http://shop").expect_err("plain text").to_string();
    let expected = "http://shop:7600: there are certificates: use https:// or no scheme";
    assert_eq!(error, expected);
}

#[test]
fn certificates_that_cannot_be_used_are_an_error_of_the_builder() {
    let missing = Tls::directory("/no/such/folder");
    let error = Client::builder().members(["shop"]).tls(missing).build().expect_err("missing");
    let text = error.to_string();
    assert!(text.starts_with("/no/such/folder/ca.crt cannot be read: "), "{text}");
}
