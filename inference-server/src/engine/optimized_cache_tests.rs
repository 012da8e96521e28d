//! What is stored is found, what is damaged is not, and the folder stays within its bounds.

use proptest::prelude::*;

use super::*;

fn key(digest: &str) -> Key {
    Key::new(Parts {
        digest,
        runtime: "1.32.0 build",
        cpu: "x86_64 avx2 fma",
        provider: ExecutionProvider::Cpu,
        level: GraphOptimization::All,
    })
}

fn cache(bytes_max: u64) -> (tempfile::TempDir, OptimizedCache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = OptimizedCache::new(folder.path().join("made"), bytes_max).unwrap();
    (folder, cache)
}

/// Files in the folder.
fn count(cache: &OptimizedCache) -> usize {
    fs::read_dir(&cache.folder).unwrap().count()
}

#[test]
fn each_part_makes_another_key() {
    let parts = Parts {
        digest: "a",
        runtime: "b",
        cpu: "c",
        provider: ExecutionProvider::Cpu,
        level: GraphOptimization::All,
    };
    let others = [
        Parts { digest: "x", ..parts },
        Parts { runtime: "x", ..parts },
        Parts { cpu: "x", ..parts },
        Parts {
            provider: ExecutionProvider::Cuda,
            ..parts
        },
        Parts {
            level: GraphOptimization::Basic,
            ..parts
        },
        // The same text, divided otherwise.
        Parts {
            digest: "ab",
            runtime: "",
            ..parts
        },
    ];
    for other in others {
        assert_ne!(Key::new(other), Key::new(parts), "{other:?}");
    }
    assert_eq!(Key::new(parts), Key::new(parts));
}

#[test]
fn features_are_read_on_either_architecture() {
    let x86 = "processor\t: 0\nflags\t\t: sse avx2 fma\n\nprocessor\t: 1\nflags\t\t: sse\n";
    assert!(features_of(x86).ends_with(" avx2 fma sse"));
    assert!(features_of("Features\t: fp asimd\n").ends_with(" asimd fp"));
    assert!(!cpu_features().is_empty());
}

#[test]
fn damage_and_mistaken_identity_are_noticed_and_repaired() {
    let (_folder, cache) = cache(1 << 20);
    let ours = key("ours");
    assert!(cache.load(&ours).is_none());
    cache.store(&ours, b"model").unwrap();
    assert_eq!(cache.load(&ours).unwrap().model(), b"model");
    assert!(cache.load(&key("other")).is_none());
    let path = cache.path(&ours);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(cache.load(&ours).is_none(), "cut after {length} bytes");
    }
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.load(&ours).is_none(), "byte {index}");
    }
    // Somebody else's entry under our name.
    cache.store(&key("other"), b"other").unwrap();
    fs::rename(cache.path(&key("other")), &path).unwrap();
    assert!(cache.load(&ours).is_none());
    cache.store(&ours, b"model").unwrap();
    assert_eq!(cache.load(&ours).unwrap().model(), b"model");
    assert_eq!(count(&cache), 1, "nothing half-written is left");
}

#[test]
fn the_least_recently_used_makes_room() {
    let entry = HEADER_BYTES as u64 + 100;
    let (_folder, cache) = cache(2 * entry);
    let age = |name: &str, seconds: u64| {
        let file = File::options().write(true).open(cache.path(&key(name))).unwrap();
        let then = clock::wall() - Duration::from_secs(seconds);
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
    };
    cache.store(&key("a"), &[0; 100]).unwrap();
    cache.store(&key("b"), &[0; 100]).unwrap();
    age("a", 20);
    age("b", 10);
    // Used: now the youngest.
    assert!(cache.load(&key("a")).is_some());
    cache.store(&key("c"), &[0; 100]).unwrap();
    let there: Vec<bool> = ["a", "b", "c"]
        .iter()
        .map(|name| cache.load(&key(name)).is_some())
        .collect();
    assert_eq!(there, [true, false, true]);
    // Too large for the whole cache: refused, and nothing is thrown out for it.
    assert!(cache.store(&key("d"), &[0; 500]).is_err());
    assert_eq!(count(&cache), 2);
    // What a dead process left is cleared away, what a living one writes is not.
    let old = cache.folder.join("x.1-1.part");
    fs::write(&old, b"").unwrap();
    fs::write(cache.folder.join("y.1-1.part"), b"").unwrap();
    let then = clock::wall() - PART_AGE_MAX * 2;
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_times(FileTimes::new().set_modified(then))
        .unwrap();
    cache.store(&key("c"), &[0; 100]).unwrap();
    assert!(!old.exists() && count(&cache) == 3);
}

proptest! {
    #[test]
    fn any_model_comes_back_as_it_was_and_the_folder_stays_small(
        models in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..12),
    ) {
        let (_folder, cache) = cache(5000);
        for (index, model) in models.iter().enumerate() {
            let key = key(&index.to_string());
            cache.store(&key, model).unwrap();
            let found = cache.load(&key);
            prop_assert_eq!(found.as_ref().map(Entry::model), Some(model.as_slice()));
            let total: u64 = fs::read_dir(&cache.folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            prop_assert!(total <= 5000);
        }
    }
}
