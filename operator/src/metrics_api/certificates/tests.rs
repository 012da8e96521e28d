//! Ten lives of a CA in simulated time: whichever certificate a replica serves, the published bundle verifies it.

use super::*;

const LIVES: Lifetimes = Lifetimes {
    ca: Duration::from_secs(60),
    serving: Duration::from_secs(15),
    propagation: Duration::from_secs(5),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn names() -> Vec<String> {
    vec!["metrics.tidewright-system.svc".to_owned()]
}

fn step(current: Option<&Material>, published: bool, second: i64) -> Option<Material> {
    next_step(current, published, &names(), &LIVES, at(second)).unwrap()
}

/// Whether a client that trusts `bundle` accepts `serving`.
fn verifies(bundle: &str, serving: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .unwrap();
    let certificate = CertificateDer::from_pem_slice(serving.as_bytes()).unwrap();
    let name = ServerName::try_from("metrics.tidewright-system.svc").unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
    rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, &certificate, &[], &name, &[], time)
        .is_ok()
}

#[test]
fn ten_cas_later_every_replica_has_always_been_trusted() {
    let mut material = step(None, false, 0).unwrap();
    let mut published = material.bundle();
    // A replica that reads the Secret late, by up to five seconds.
    let mut late = material.serving.certificate.clone();
    let mut cas = std::collections::BTreeSet::from([material.ca.certificate.clone()]);
    let mut servings = std::collections::BTreeSet::from([material.serving.certificate.clone()]);
    for second in 1..450 {
        if let Some(next) = step(Some(&material), published == material.bundle(), second) {
            material = next;
        }
        // The APIService is written a second after the Secret.
        if second % 2 == 0 {
            published = material.bundle();
        }
        if second % 5 == 0 {
            late.clone_from(&material.serving.certificate);
        }
        cas.insert(material.ca.certificate.clone());
        servings.insert(material.serving.certificate.clone());
        assert!(
            verifies(&published, &material.serving.certificate, at(second)),
            "the leader at {second}"
        );
        assert!(verifies(&published, &late, at(second)), "a late replica at {second}");
    }
    assert!(cas.len() >= 10, "{} CAs", cas.len());
    assert!(servings.len() >= 30, "{} serving certificates", servings.len());
}

#[test]
fn a_new_ca_is_not_used_before_it_is_published() {
    let first = step(None, true, 0).unwrap();
    let with_next = step(Some(&first), true, 41).unwrap();
    assert!(with_next.next_ca.is_some());
    assert_eq!(with_next.ca, first.ca);
    let unpublished = step(Some(&with_next), false, 50);
    assert!(unpublished.is_none_or(|material| material.ca == first.ca && material.next_published.is_none()));
    let noted = step(Some(&with_next), true, 50).unwrap();
    assert_eq!((noted.next_published, &noted.ca), (Some(at(50)), &first.ca));
    let waiting = step(Some(&noted), true, 54);
    assert!(waiting.is_none_or(|material| material.ca == first.ca));
    let switched = step(Some(&noted), true, 55).unwrap();
    assert_eq!(Some(switched.ca), with_next.next_ca);
    assert_eq!(switched.previous_ca, Some(first.ca.certificate));
}

#[test]
fn nothing_is_written_while_nothing_is_due() {
    let first = step(None, true, 0).unwrap();
    for second in 1..9 {
        assert_eq!(step(Some(&first), true, second), None, "{second}");
    }
    assert!(step(Some(&first), true, 11).is_some(), "the serving certificate is due");
}

#[test]
fn what_is_stored_is_read_again_and_anything_broken_starts_anew() {
    let mut material = step(None, true, 0).unwrap();
    material = step(Some(&material), true, 41).unwrap();
    material = step(Some(&material), true, 42).unwrap();
    assert_eq!(Material::from_data(&material.to_data()), Some(material.clone()));
    for key in ["current-ca.crt", "current-ca.key", "tls.crt", "tls.key"] {
        for broken in [None, Some("nonsense")] {
            let mut data = material.to_data();
            data.remove(key);
            if let Some(text) = broken {
                data.insert(key.to_owned(), text.into());
            }
            assert_eq!(Material::from_data(&data), None, "{key}");
        }
    }
    let expired = step(Some(&material), true, 61).unwrap();
    assert_ne!(expired.ca, material.ca, "after its end a CA is replaced at once");
}

#[test]
fn a_service_of_another_name_gets_a_certificate_for_it() {
    let first = step(None, true, 0).unwrap();
    let renamed = ["metrics.elsewhere.svc".to_owned()];
    let next = next_step(Some(&first), true, &renamed, &LIVES, at(1)).unwrap().unwrap();
    assert_eq!(next.ca, first.ca, "the bundle stays");
    assert!(is_good(&next, &renamed, at(1)) && !is_good(&next, &names(), at(1)));
    assert_eq!(next_step(Some(&next), true, &renamed, &LIVES, at(2)).unwrap(), None);
}

#[test]
fn a_publication_in_the_future_is_dated_anew() {
    let first = step(None, true, 0).unwrap();
    let mut ahead = step(Some(&first), true, 41).unwrap();
    ahead.next_published = Some(at(1_000_000));
    let dated = step(Some(&ahead), true, 42).unwrap();
    assert_eq!(dated.next_published, Some(at(42)));
    assert_eq!(dated.ca, first.ca);
}

#[test]
fn parts_that_do_not_belong_together_are_made_anew() {
    let first = step(None, true, 0).unwrap();
    let other = step(None, true, 1).unwrap();
    let mut foreign_key = first.clone();
    foreign_key.serving.key.clone_from(&other.serving.key);
    let mut foreign_certificate = first.clone();
    foreign_certificate.serving = other.serving.clone();
    for broken in [foreign_key, foreign_certificate] {
        let healed = step(Some(&broken), true, 2).unwrap();
        assert_eq!(healed.ca, first.ca, "the CA is good, and trusted already");
        assert!(is_good(&healed, &names(), at(2)));
        assert_eq!(step(Some(&healed), true, 3), None);
    }
    let mut foreign_ca_key = first.clone();
    foreign_ca_key.ca.key.clone_from(&other.ca.key);
    foreign_ca_key.serving = other.serving;
    let healed = step(Some(&foreign_ca_key), true, 2).unwrap();
    assert_ne!(healed.ca, first.ca, "nothing good can be signed by it");
    assert!(is_good(&healed, &names(), at(2)));
}
